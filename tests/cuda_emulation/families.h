// Random models of a few layers with the heads of SmolLM2, Qwen2.5 and Llama 3, and how far a backend's logits on them lie from the reference's.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/cpu/reference_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "base/rng.h"
#include "format/random_model.h"
#include "support/model_bench.h"

namespace pagemill {

struct Family {
  const char* name;
  const char* architecture;
  int32_t heads, kv_heads, head_dim;
};
inline constexpr Family kFamilies[] = {{"smollm2", "llama", 9, 3, 64}, {"qwen2", "qwen2", 7, 1, 128}, {"llama3", "llama", 8, 2, 128}};

inline RandomModelSpec spec_of(const Family& family, const char* types = "f16") {
  RandomModelSpec spec = *random_model_spec("tiny-llama");
  spec.architecture = family.architecture;
  spec.name = family.name;
  spec.layers = 2;
  spec.hidden = 128;
  spec.ffn = 256;
  spec.heads = family.heads;
  spec.kv_heads = family.kv_heads;
  spec.head_dim = family.head_dim;
  spec.types = *type_mix_from_name(types);
  if (spec.architecture == "qwen2") spec.pre_tokenizer = "qwen2";
  return spec;
}

inline std::unique_ptr<cuda::CudaBackend> cuda_backend(CudaOptions options = {}) {
  options.threads = 1;
  auto backend = cuda::CudaBackend::make(options);
  EXPECT_TRUE(backend) << backend.error().message;
  return std::move(*backend);
}

inline std::vector<int32_t> prompt_of(int32_t length, int32_t vocab, uint64_t seed) {
  SplitMix64 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(length));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab)));
  return tokens;
}

inline constexpr int32_t kTeacherTokens = 70;

struct Divergence {
  double kl = 0;         // mean over the positions
  int wrong_leader = 0;  // positions with another top-1, where the reference's gap is wide
};

/// How a sequence is read: in chunks; then, if `singles`, so many rows one by one, which alone are compared.
struct Reading {
  int32_t chunk, tokens = kTeacherTokens, singles = 0;
};

/// Teacher-forced: `backend` beside the reference on the same weights. Another sequence lay in the blocks before.
inline Divergence divergence(const WeightSource& source, Backend& backend, const Reading& reading, double gap) {
  ReferenceBackend reference(1);
  auto ours = ModelBench::make(source, backend, {.rows_max = 80, .logit_rows_max = 80, .kv_blocks = 16, .kv_dtype = backend.activation_dtype()});
  auto theirs = ModelBench::make(source, reference, {.rows_max = 80, .logit_rows_max = 80, .kv_blocks = 16});
  EXPECT_TRUE(ours && theirs);
  if (!ours || !theirs) return {1e9, kTeacherTokens};
  const int32_t vocab = (*ours)->config().vocab;
  const std::vector<int32_t> tokens = prompt_of(kTeacherTokens, vocab, 3);
  (*ours)->logits(std::vector<int32_t>(tokens.rbegin(), tokens.rend()), kTeacherTokens);
  const std::vector<float> expected = (*theirs)->logits(tokens, kTeacherTokens);
  std::vector<float> got = (*ours)->logits({tokens.begin(), tokens.begin() + reading.tokens}, reading.chunk, consecutive_blocks(0, kTeacherTokens));
  const int32_t end = reading.tokens + reading.singles;
  for (int32_t row = reading.tokens; row < end; ++row) {
    const std::vector<float> one = (*ours)->step({{{tokens[static_cast<size_t>(row)]}, row, consecutive_blocks(0, kTeacherTokens), true}});
    got.insert(got.end(), one.begin(), one.end());
  }
  Divergence found;
  const int32_t first = reading.singles > 0 ? reading.tokens : 0;
  for (auto row = static_cast<size_t>(first); row < static_cast<size_t>(end); ++row) {
    const std::span p = std::span(expected).subspan(row * static_cast<size_t>(vocab), static_cast<size_t>(vocab));
    const std::span q = std::span(got).subspan(row * static_cast<size_t>(vocab), static_cast<size_t>(vocab));
    const auto log_sum = [](std::span<const float> logits) {
      double sum = 0;
      for (const float x : logits) sum += std::exp(double{x});
      return std::log(sum);
    };
    const double sum_p = log_sum(p), sum_q = log_sum(q);
    for (size_t i = 0; i < p.size(); ++i) found.kl += std::exp(p[i] - sum_p) * ((p[i] - sum_p) - (q[i] - sum_q)) / (end - first);
    std::vector<float> sorted(p.begin(), p.end());
    std::nth_element(sorted.begin(), sorted.begin() + 1, sorted.end(), std::greater<>());
    const auto best = std::max_element(p.begin(), p.end()) - p.begin();
    found.wrong_leader += p[static_cast<size_t>(best)] - sorted[1] > gap && std::max_element(q.begin(), q.end()) - q.begin() != best;
  }
  return found;
}

}  // namespace pagemill
