#include "text/text_model.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <optional>

#include "base/limits.h"
#include "base/log.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

/// Control tokens that end an answer whatever the file says about them, as files often name only one.
constexpr std::array<std::string_view, 8> kAnswerEnds = {
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "</s>"};

/// A prompt may be this much longer than what goes into it: four times, plus a template's own words.
constexpr size_t kOutputFactor = 4;
constexpr size_t kOutputBytesMin = 1u << 20;

int64_t local_time_s() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return static_cast<int64_t>(now) + local.tm_gmtoff;
}

std::vector<int32_t> find_stop_tokens(const Vocabulary& vocabulary) {
  constexpr int64_t kControl = 3;  // of GGUF's token types
  const SpecialTokens& special = vocabulary.special;
  std::vector<int32_t> stop;
  for (const auto& id : {special.eos, special.end_of_turn, special.end_of_message}) {
    if (id) stop.push_back(*id);
  }
  for (size_t id = 0; id < vocabulary.types.size(); ++id) {
    if (vocabulary.types[id] == kControl && std::ranges::count(kAnswerEnds, vocabulary.tokens[id]) > 0) stop.push_back(static_cast<int32_t>(id));
  }
  std::ranges::sort(stop);
  stop.erase(std::ranges::unique(stop).begin(), stop.end());
  return stop;
}

/// What templates know as bos_token and so on: a JSON object.
Result<std::string> special_texts(const WeightSource& source, const Tokenizer& tokenizer) {
  struct Role {
    const char* name;
    const char* key;
    std::optional<int32_t> id;
  };
  const SpecialTokens& special = tokenizer.special();
  const std::array<Role, 4> roles = {{{"bos_token", "tokenizer.ggml.bos_token_id", special.bos},
                                      {"eos_token", "tokenizer.ggml.eos_token_id", special.eos},
                                      {"unk_token", "tokenizer.ggml.unknown_token_id", special.unknown},
                                      {"pad_token", "tokenizer.ggml.padding_token_id", special.padding}}};
  json::object texts;
  for (const auto& [name, key, id] : roles) {
    if (!id) continue;
    const std::string_view text = tokenizer.token_bytes(*id);
    if (!valid_utf8(text)) {
      return fail(ErrorCode::invalid_file, fmt::format("{}: {} is {}, a token that is not UTF-8 text", source.name(), key, *id), key);
    }
    texts[name] = text;
  }
  return json::serialize(texts);
}

}  // namespace

struct TextModel::State {
  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat_template;
  std::vector<int32_t> stop_tokens;
  std::string special_tokens;  // JSON object: bos_token, eos_token, …
};

TextModel::TextModel(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextModel::~TextModel() = default;

Result<std::shared_ptr<const TextModel>> TextModel::from_source(const WeightSource& source, std::string template_override) {
  PM_ASSIGN(const Vocabulary vocabulary, read_vocabulary(source));
  if (vocabulary.model == "gpt2" && vocabulary.pre_tokenizer.empty()) {
    log_warning("{}: tokenizer.ggml.pre is missing; splitting text by the default rule, which may not be the model's",
                source.name());
  }
  auto tokenizer = Tokenizer::from_vocabulary(vocabulary);
  if (!tokenizer) return tl::unexpected(std::move(tokenizer).error().within(source.name()));
  State state{std::move(*tokenizer), std::nullopt, {}, {}};
  state.stop_tokens = find_stop_tokens(vocabulary);

  PM_ASSIGN(const auto own_template, source.string("tokenizer.chat_template"));
  const bool overridden = !template_override.empty();
  if (overridden || own_template) {
    auto compiled = ChatTemplate::compile(overridden ? template_override : *own_template);
    if (!compiled) {
      const char* where = overridden ? "chat template given" : "tokenizer.chat_template";
      return tl::unexpected(std::move(compiled).error().within(fmt::format("{}: {}", source.name(), where)));
    }
    state.chat_template = std::move(*compiled);
  }

  if (state.chat_template && source.find_metadata("tokenizer.ggml.token_type") == nullptr) {
    log_warning("{}: tokenizer.ggml.token_type is missing; only the tokens with a role (bos, eos, eot, eom) are control tokens, "
                "and the chat template's other marks are read as plain text",
                source.name());
  }
  PM_ASSIGN(state.special_tokens, special_texts(source, state.tokenizer));
  return std::shared_ptr<const TextModel>(new TextModel(std::make_unique<State>(std::move(state))));
}

const Tokenizer& TextModel::tokenizer() const { return state_->tokenizer; }

const ChatTemplate* TextModel::chat_template() const {
  return state_->chat_template ? &*state_->chat_template : nullptr;
}

const std::vector<int32_t>& TextModel::stop_tokens() const { return state_->stop_tokens; }

Result<std::vector<int32_t>> read_stop_tokens(const WeightSource& source) {
  PM_ASSIGN(const Vocabulary vocabulary, read_vocabulary(source));
  return find_stop_tokens(vocabulary);
}

Result<std::vector<int32_t>> TextModel::render_chat(const json::array& messages, const json::array& tools,
                                                    const json::object& arguments, bool add_generation_prompt,
                                                    bool continue_final_message) const {
  if (!state_->chat_template) {
    return fail(ErrorCode::unsupported, "This model has no chat template: give one, or use plain completions.", "messages");
  }
  json::object variables;
  std::string documents;
  for (const auto& [name, value] : arguments) {
    if (name == "documents") {
      documents = json::serialize(value);
    } else {
      variables[name] = value;
    }
  }
  const std::string messages_text = json::serialize(messages);
  const std::string tools_text = tools.empty() ? std::string() : json::serialize(tools);
  const std::string variables_text = json::serialize(variables);

  TemplateInput input;
  input.messages = messages_text;
  input.tools = tools_text;
  input.documents = documents;
  input.special_tokens = state_->special_tokens;
  input.variables = variables_text;
  input.add_generation_prompt = add_generation_prompt;
  input.continue_final_message = continue_final_message;
  input.local_time_s = local_time_s();
  input.output_bytes_max = kOutputBytesMin + kOutputFactor * (messages_text.size() + tools_text.size() + documents.size());
  input.shield = &state_->tokenizer;
  PM_ASSIGN(const std::string prompt, state_->chat_template->render(input));
  return state_->tokenizer.encode_rendered(prompt);
}

}  // namespace pagemill
