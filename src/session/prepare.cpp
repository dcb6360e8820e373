#include <algorithm>

#include <fmt/format.h>

#include "base/limits.h"
#include "session/session.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

Result<void> check_stop_strings(const std::vector<std::string>& stop) {
  const auto invalid = [](std::string message) { return fail(ErrorCode::invalid_argument, std::move(message), "stop"); };
  if (stop.size() > static_cast<size_t>(limits::kStopStrings)) {
    return invalid(fmt::format("'stop' has {} strings, {} at most.", stop.size(), limits::kStopStrings));
  }
  for (const std::string& string : stop) {
    if (string.empty()) return invalid("'stop' must not hold an empty string.");
    if (string.size() > limits::kStopStringBytes) {
      return invalid(fmt::format("'stop' has a string of {} bytes, {} at most.", string.size(), limits::kStopStringBytes));
    }
    if (!valid_utf8(string)) return invalid("'stop' has a string that is not UTF-8.");
  }
  return {};
}

/// A word's tokens at the start of a text and, where they differ in kind, after a space (as in vLLM).
Result<void> add_bad_word(const Tokenizer& tokenizer, std::string_view word, std::vector<std::vector<int32_t>>& bad_words) {
  word.remove_prefix(std::min(word.find_first_not_of(' '), word.size()));
  if (word.empty()) return fail(ErrorCode::invalid_argument, "'bad_words' must not hold an empty string.", "bad_words");
  PM_ASSIGN(auto plain, tokenizer.encode(word));
  PM_ASSIGN(auto spaced, tokenizer.encode(" " + std::string(word)));
  // A space that is a token of its own says nothing new.
  const bool differs = spaced.size() == plain.size() && spaced.front() != plain.front();
  bad_words.push_back(std::move(plain));
  if (differs) bad_words.push_back(std::move(spaced));
  return {};
}

Result<std::vector<int32_t>> tokenize(const TextModel& text, const ChatPrompt& prompt) {
  auto tokens = text.render_chat(prompt.messages, prompt.tools, prompt.template_arguments, prompt.add_generation_prompt,
                                 prompt.continue_final_message);
  if (!tokens && tokens.error().field.empty()) tokens.error().field = "messages";
  return tokens;
}
Result<std::vector<int32_t>> tokenize(const TextModel& text, const TextPrompt& prompt) {
  auto tokens = prompt.add_special_tokens ? text.tokenizer().encode_prompt(prompt.text) : text.tokenizer().encode(prompt.text);
  if (!tokens && tokens.error().field.empty()) tokens.error().field = "prompt";
  return tokens;
}
Result<std::vector<int32_t>> tokenize(const TextModel&, const TokenPrompt& prompt) { return prompt.tokens; }

Result<void> check_prompt_tokens(const std::vector<int32_t>& tokens, int32_t vocab) {
  if (tokens.empty()) return fail(ErrorCode::invalid_argument, "The prompt is empty: it needs at least one token.", "prompt");
  for (const int32_t token : tokens) {
    if (token >= 0 && token < vocab) continue;
    return fail(ErrorCode::invalid_argument, fmt::format("The prompt has token id {}, which is outside the vocabulary of {} tokens.", token, vocab), "prompt");
  }
  return {};
}

/// What echo puts first. Of a chat that is the assistant's turn that the model continues, if it does.
std::string echoed_text(const TextModel& text, const SessionRequest& request, const std::vector<int32_t>& tokens) {
  if (const auto* plain = std::get_if<TextPrompt>(&request.prompt)) return plain->text;
  if (std::holds_alternative<TokenPrompt>(request.prompt)) return text.tokenizer().decode(tokens, !request.skip_special_tokens);
  const auto& chat = std::get<ChatPrompt>(request.prompt);
  if (!chat.continue_final_message || chat.messages.empty() || !chat.messages.back().is_object()) return {};
  const json::value* content = chat.messages.back().get_object().if_contains("content");
  return content != nullptr && content->is_string() ? std::string(content->get_string()) : std::string();
}

/// Settles max_tokens. The words "maximum context length" are what clients look for.
Result<void> fit_to_context(PreparedRequest& prepared, const SessionRequest& request, SamplingParams& sampling, int32_t context_max) {
  const size_t prompt = prepared.prompt_tokens.size();
  const auto too_long = [&](const std::string& contents) {
    return fail(ErrorCode::context_too_long,
                fmt::format("This model's maximum context length is {} tokens. However, {}. Please reduce the length of the input "
                            "prompt or the number of requested output tokens.",
                            context_max, contents),
                "input_tokens");
  };
  const int64_t room = context_max - static_cast<int64_t>(prompt);
  if (prepared.prompt_only || request.embedding) {
    sampling.max_tokens = 0;
    if (room >= 0) return {};
    return too_long(fmt::format("your prompt contains {} input tokens", prompt));
  }
  if (room < 1) return too_long(fmt::format("your prompt contains {} input tokens and leaves no room for an answer", prompt));
  if (!sampling.max_tokens) {
    sampling.max_tokens = static_cast<int32_t>(std::min<int64_t>(request.default_max_tokens.value_or(INT32_MAX), room));
    return {};
  }
  if (*sampling.max_tokens <= room) return {};
  return too_long(fmt::format("you requested {} output tokens and your prompt contains {} input tokens, for a total of {} tokens",
                              *sampling.max_tokens, prompt, *sampling.max_tokens + static_cast<int64_t>(prompt)));
}

}  // namespace

Result<PreparedRequest> prepare(const TextModel& text, const EngineModelInfo& model, SessionRequest request) {
  PreparedRequest prepared;
  SamplingParams& sampling = request.sampling;
  PM_TRY(check_stop_strings(request.stop));
  if (request.bad_words.size() > static_cast<size_t>(limits::kBadWords)) {
    return fail(ErrorCode::invalid_argument, fmt::format("'bad_words' has {} entries, {} at most.", request.bad_words.size(), limits::kBadWords), "bad_words");
  }
  for (const std::string& word : request.bad_words) PM_TRY(add_bad_word(text.tokenizer(), word, sampling.bad_words));
  if (request.echo && sampling.max_tokens == 0) {
    prepared.prompt_only = true;
    sampling.max_tokens = 1;
    sampling.min_tokens = 0;
  }
  PM_ASSIGN(sampling, validate_sampling(std::move(sampling), model.vocab));

  PM_ASSIGN(prepared.prompt_tokens, std::visit([&](const auto& prompt) { return tokenize(text, prompt); }, request.prompt));
  PM_TRY(check_prompt_tokens(prepared.prompt_tokens, model.vocab));
  PM_TRY(fit_to_context(prepared, request, sampling, model.context_max));
  if (request.echo) prepared.prompt_text = echoed_text(text, request, prepared.prompt_tokens);
  prepared.request = std::move(request);
  return prepared;
}

}  // namespace pagemill
