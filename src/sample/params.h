// SamplingParams: how a request wants its tokens chosen, with vLLM's names, ranges and defaults, and their validation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/step.h"
#include "base/json.h"
#include "base/result.h"

namespace pagemill {

struct SamplingParams {
  float temperature = 1;                 // [0, 2]; below 1e-5 greedy; 0 < t < 0.01 is raised to 0.01
  int32_t top_k = 0;                     // 0 or -1 = off
  float top_p = 1;                       // (0, 1]
  float min_p = 0;                       // [0, 1]
  float typical_p = 1;                   // (0, 1]
  float repetition_penalty = 1;          // (0, 2]
  float presence_penalty = 0;            // [-2, 2]
  float frequency_penalty = 0;           // [-2, 2]
  std::optional<uint64_t> seed;          // none = a fresh one
  int32_t n = 1;                         // choices
  std::optional<int32_t> max_tokens;     // none = what the context leaves; 0 = only the prompt is scored (session/ decides)
  int32_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;   // end the answer; the token itself is not part of the text
  std::vector<std::pair<int32_t, float>> logit_bias;  // token → [-100, 100]
  std::vector<std::vector<int32_t>> bad_words;        // token sequences that must not be completed
  int32_t logprobs = -1;                 // -1 none, 0 the chosen token's alone, k the k best too
  int32_t prompt_logprobs = -1;
};

/// What a server puts in place of fields that a request leaves out: a model's generation_config.json, an operator's override.
struct SamplingDefaults {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k;
  std::optional<int32_t> max_new_tokens;
};

/// Reads the keys above from a generation_config.json (others, such as eos_token_id, are left to their readers). Errors name
/// the key; values are checked against the ranges of SamplingParams.
Result<SamplingDefaults> read_sampling_defaults(const json::object& generation_config);

/// `override` on top of `base`.
SamplingDefaults merge(SamplingDefaults base, const SamplingDefaults& override);

/// The parameters of a request that names none, but for max_new_tokens (SessionRequest::default_max_tokens); a request's own fields
/// are written over them.
SamplingParams default_sampling(const SamplingDefaults& defaults);

/// Checks every range against the model's vocabulary and the bounds of base/limits.h; normalises (top_k -1 → 0, greedy
/// resets the filters, temperature floor). Errors name the field.
Result<SamplingParams> validate_sampling(SamplingParams params, int32_t vocab);

}  // namespace pagemill
