#include "api/answer_json.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/json.h"
#include "text/tokenizer.h"

namespace pagemill::api {
namespace {

void append_item(std::string& list, std::string_view item) {
  if (!list.empty()) list += ',';
  list += item;
}

std::string bytes_json(std::string_view bytes) {
  std::string out = "[";
  for (const char c : bytes) {
    if (out.size() > 1) out += ',';
    out += std::to_string(static_cast<unsigned char>(c));
  }
  return out += ']';
}

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

std::string usage_json(int64_t prompt_tokens, int64_t output_tokens, int64_t cached_tokens) {
  return fmt::format(R"({{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}}}})", prompt_tokens,
                     prompt_tokens + output_tokens, output_tokens, cached_tokens);
}

std::string_view finish_reason_json(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return R"("stop")";
    case FinishReason::length: return R"("length")";
    default: return R"("abort")";
  }
}

std::string token_ids_json(const std::vector<int32_t>& tokens) { return fmt::format("[{}]", fmt::join(tokens, ",")); }

std::string TokenNames::json(int32_t token) const {
  if (as_ids) return fmt::format(R"("token_id:{}")", token);
  return json_quote(text.tokenizer().token_bytes(token));
}

std::string logprob_json(float value) {
  if (!(value >= -9999)) return "-9999.0";
  return fmt::format("{}", value);
}

std::string chat_logprob_json(const TokenLogprob& logprob, const TokenNames& names) {
  const auto entry = [&](int32_t token, float value) {
    return fmt::format(R"({{"token":{},"logprob":{},"bytes":{})", names.json(token), logprob_json(value), bytes_json(names.text.tokenizer().token_bytes(token)));
  };
  std::string out = entry(logprob.token, logprob.logprob) + R"(,"top_logprobs":[)";
  for (size_t i = 0; i < logprob.top.size(); ++i) {
    if (i > 0) out += ',';
    out += entry(logprob.top[i].token, logprob.top[i].logprob) + '}';
  }
  return out += "]}";
}

void CompletionLogprobs::add_name(int32_t token) {
  append_item(tokens_, names_.json(token));
  append_item(offsets_, std::to_string(offset_));
  offset_ += characters(names_.text.tokenizer().token_bytes(token));
}

void CompletionLogprobs::add(const TokenLogprob& logprob) {
  add_name(logprob.token);
  append_item(logprobs_, logprob_json(logprob.logprob));
  std::string top;
  for (const auto& one : logprob.top) append_item(top, names_.json(one.token) + ':' + logprob_json(one.logprob));
  // OpenAI lists the chosen token too, where it is not among the best.
  const bool listed = std::any_of(logprob.top.begin(), logprob.top.end(), [&](const auto& one) { return one.token == logprob.token; });
  if (!listed) append_item(top, names_.json(logprob.token) + ':' + logprob_json(logprob.logprob));
  append_item(tops_, "{" + top + "}");
}

void CompletionLogprobs::add_unscored(int32_t token) {
  add_name(token);
  append_item(logprobs_, "null");
  append_item(tops_, "null");
}

std::string CompletionLogprobs::take() {
  std::string out = fmt::format(R"({{"text_offset":[{}],"token_logprobs":[{}],"tokens":[{}],"top_logprobs":[{}]}})", offsets_, logprobs_, tokens_, tops_);
  tokens_.clear();
  logprobs_.clear();
  tops_.clear();
  offsets_.clear();
  return out;
}

std::string prompt_logprob_json(const TokenLogprob& logprob, const TokenNames& names) {
  std::string out;
  const auto entry = [&](int32_t token, float value, int32_t rank) {
    append_item(out, fmt::format(R"("{}":{{"logprob":{},"rank":{},"decoded_token":{}}})", token, logprob_json(value), rank, names.json(token)));
  };
  entry(logprob.token, logprob.logprob, logprob.rank);
  for (size_t i = 0; i < logprob.top.size(); ++i)
    if (logprob.top[i].token != logprob.token) entry(logprob.top[i].token, logprob.top[i].logprob, static_cast<int32_t>(i + 1));
  return "{" + out + "}";
}

}  // namespace pagemill::api
