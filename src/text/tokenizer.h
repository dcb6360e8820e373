// Tokenizer: text ↔ token ids, with the ids of Hugging Face's tokenizers.
//
// Two ways in. encode() takes text as data: nothing in it becomes a special token, whatever it looks like. encode_rendered()
// takes the output of a chat template and finds special tokens in it; the data a template was given has gone through shield(),
// so only the template's own words can be special.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/vocabulary.h"

// A handle of the Rust library (rust/include/pagemill_text.h).
struct PmtTokenizer;

namespace pagemill {

enum class TokenKind : uint8_t {
  normal,
  user_defined,  // matched before merging, printed as it is
  control,       // steers the model, not printed
  byte,          // stands for one byte, spelled <0x0A>
  unused,
};

/// Which look-alikes shield() breaks up.
enum class Shield { all_added, control_only };

/// Immutable once made; safe from any thread.
class Tokenizer {
 public:
  /// Errors name the key of the vocabulary that is wrong.
  static Result<Tokenizer> from_vocabulary(const Vocabulary& vocabulary);
  /// From the text of a tokenizer.json; `special` comes from the files beside it.
  static Result<Tokenizer> from_json(std::string_view tokenizer_json, SpecialTokens special);

  /// Ids of a text as data. Bytes that are not UTF-8 read as U+FFFD. At most limits::kTextBytes.
  Result<std::vector<int32_t>> encode(std::string_view text) const;
  /// The same between the tokens that a plain prompt starts and ends with, if the model wants them.
  Result<std::vector<int32_t>> encode_prompt(std::string_view text) const;
  /// Ids of a template's output: special tokens are found, the marks of shield() removed.
  Result<std::vector<int32_t>> encode_rendered(std::string_view text) const;
  /// `text` for use in a template, with everything broken up that looks like an added token or that neighbouring text could
  /// complete to one. An error if it holds U+FDD0, the mark, or is not UTF-8.
  Result<std::string> shield(std::string_view text, Shield which) const;

  /// The text of `ids`; control tokens print nothing unless `with_control`. Broken UTF-8 becomes U+FFFD.
  std::string decode(const std::vector<int32_t>& ids, bool with_control = false) const;

  int32_t vocabulary_size() const { return static_cast<int32_t>(kinds_.size()); }
  bool valid(int32_t id) const { return id >= 0 && id < vocabulary_size(); }
  /// What the token prints, not necessarily whole characters; empty for an id outside the vocabulary. Lives as long as this.
  std::string_view token_bytes(int32_t id) const;
  TokenKind kind(int32_t id) const { return valid(id) ? kinds_[id] : TokenKind::unused; }
  bool is_control(int32_t id) const { return kind(id) == TokenKind::control; }
  /// Control and user-defined tokens.
  const std::vector<int32_t>& added_tokens() const { return added_; }
  const SpecialTokens& special() const { return special_; }
  /// The first space of a decoded text stems from the tokenizer, not from the text.
  bool drops_leading_space() const { return drops_leading_space_; }

  const PmtTokenizer* handle() const { return handle_.get(); }

 private:
  struct Free {
    void operator()(PmtTokenizer* handle) const;
  };
  Tokenizer(PmtTokenizer* handle, SpecialTokens special, bool drops_leading_space);

  std::unique_ptr<PmtTokenizer, Free> handle_;
  SpecialTokens special_;
  bool drops_leading_space_ = false;
  std::vector<TokenKind> kinds_;  // [vocabulary]
  std::vector<int32_t> added_;
};

}  // namespace pagemill
