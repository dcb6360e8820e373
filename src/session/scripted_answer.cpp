#include "session/scripted_answer.h"

#include <algorithm>
#include <cmath>

namespace pagemill {
namespace {

bool contains(const std::vector<int32_t>& tokens, int32_t token) { return std::find(tokens.begin(), tokens.end(), token) != tokens.end(); }

}  // namespace

int32_t cut_answer(ScriptedAnswer& answer, const EngineRequest& request, const EngineModelInfo& model) {
  const SamplingParams& sampling = request.sampling;
  auto& tokens = answer.tokens;
  const auto room = static_cast<size_t>(model.context_max) - request.prompt.size();
  const size_t length = std::min(room, static_cast<size_t>(std::max(sampling.max_tokens.value_or(INT32_MAX), 0)));
  for (size_t i = 0; i < std::min(tokens.size(), length); ++i) {
    const int32_t token = tokens[i];
    const bool stops = contains(sampling.stop_token_ids, token) || (!sampling.ignore_eos && contains(model.stop_tokens, token));
    if (!stops) continue;
    answer.reason = FinishReason::stop;
    tokens.resize(i);
    return token;
  }
  if (tokens.size() >= length) {
    answer.reason = FinishReason::length;
    tokens.resize(length);
  }
  return -1;
}

TokenLogprob made_up_logprob(int32_t token, int32_t top, int32_t vocab) {
  TokenLogprob logprob{token, std::log(0.9f), 1, {}};
  for (int32_t i = 0; i < std::min(top, vocab); ++i) {
    logprob.top.push_back({(token + i) % vocab, i == 0 ? logprob.logprob : std::log(0.1f) - static_cast<float>(i)});
  }
  return logprob;
}

std::vector<float> made_up_embedding(const std::vector<int32_t>& prompt) {
  std::vector<float> values(8, 0.01f);
  for (size_t i = 0; i < prompt.size(); ++i) values[i % values.size()] += std::sin(static_cast<float>(prompt[i]) + 1);
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  for (float& value : values) value = static_cast<float>(value / std::sqrt(squares));
  return values;
}

}  // namespace pagemill
