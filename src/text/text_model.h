// TextModel: everything about a model that concerns text: tokenizer, chat template, special tokens.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "format/weight_source.h"

namespace pagemill {

class Tokenizer;
class ChatTemplate;

/// Immutable once made; safe from any thread.
class TextModel {
 public:
  /// From a model file's own metadata (vocabulary, merges, special tokens, chat template). `template_override` replaces
  /// the file's template where not empty. Errors name the file and the key.
  static Result<std::shared_ptr<const TextModel>> from_source(const WeightSource& source, std::string template_override = {});
  ~TextModel();

  const Tokenizer& tokenizer() const;
  /// Null where the model has none: then only plain completions are possible.
  const ChatTemplate* chat_template() const;
  /// Tokens that end an answer: end of sequence, end of turn, end of message.
  const std::vector<int32_t>& stop_tokens() const;

  /// Messages → prompt ids, the look-alike rule applied: text of users, tools and documents never becomes a special token.
  Result<std::vector<int32_t>> render_chat(const json::array& messages, const json::array& tools, const json::object& arguments,
                                           bool add_generation_prompt, bool continue_final_message = false) const;

 private:
  struct State;
  explicit TextModel(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// What TextModel::stop_tokens() will be, from the file alone: for who starts an engine while the tokenizer is still being made.
Result<std::vector<int32_t>> read_stop_tokens(const WeightSource& source);

}  // namespace pagemill
