// The JSON of answers, written straight into strings: the path of every token.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "session/session.h"
#include "text/text_model.h"

namespace pagemill::api {

/// {"prompt_tokens":…,"completion_tokens":…,"total_tokens":…,"prompt_tokens_details":{"cached_tokens":…}}
std::string usage_json(int64_t prompt_tokens, int64_t output_tokens, int64_t cached_tokens);

/// "stop", "length" or "abort", quoted.
std::string_view finish_reason_json(FinishReason reason);

/// [1,2,3]
std::string token_ids_json(const std::vector<int32_t>& tokens);

/// How tokens are named in log-probabilities.
struct TokenNames {
  const TextModel& text;
  bool as_ids = false;                   // "token_id:7"
  std::string json(int32_t token) const; // quoted; broken UTF-8 becomes U+FFFD
};

/// One entry of a chat's logprobs.content: token, logprob, bytes and top_logprobs.
std::string chat_logprob_json(const TokenLogprob& logprob, const TokenNames& names);

/// A completion's logprobs, gathered token by token.
class CompletionLogprobs {
 public:
  explicit CompletionLogprobs(TokenNames names) : names_(names) {}
  void add(const TokenLogprob& logprob);
  /// The first token of a prompt, which has none.
  void add_unscored(int32_t token);
  bool empty() const { return tokens_.empty(); }
  /// The object of what was added since the last take().
  std::string take();

 private:
  void add_name(int32_t token);

  TokenNames names_;
  std::string tokens_, logprobs_, tops_, offsets_;  // comma-separated
  int64_t offset_ = 0;                   // in characters, as in vLLM
};

/// A logarithm as JSON: -inf, which JSON has not, becomes -9999.
std::string logprob_json(float value);

/// An entry of prompt_logprobs: {"7":{"logprob":…,"rank":…,"decoded_token":…},…}
std::string prompt_logprob_json(const TokenLogprob& logprob, const TokenNames& names);

}  // namespace pagemill::api
