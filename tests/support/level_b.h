// Level (b) of the numerics: how far a fast path may lie from the reference backend, teacher-forced on the same text, and the
// measure of it. With int8 activations mean KL ≤ 0.006, the same leading token wherever the reference's best two lie more than 0.7
// logit apart, perplexity within 1 %; with 16-bit or f32 activations KL ≤ 2e-4 and a gap of 0.05.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "format/weight_source.h"

namespace pagemill {

/// A text and what a backend says to it.
struct ForcedText {
  std::vector<int32_t> tokens;
  std::vector<float> logits;  // [tokens, vocab]
};

/// English, Chinese and code for the default model: the texts of its goldens, the first `tokens_max` tokens of each.
std::vector<std::vector<int32_t>> level_b_texts(size_t tokens_max);

/// The logits of every position of `texts`, in steps of 64 rows; each text begins afresh.
std::vector<ForcedText> teacher_forced(const WeightSource& source, Backend& backend, DType kv_dtype, const std::vector<std::vector<int32_t>>& texts);

struct LevelB {
  double kl = 0;                    // mean over positions, of the reference from the fast path
  double perplexity_ratio = 1;
  double gap_of_worst_switch = 0;   // the reference's lead, in logits, at the surest position where another token leads
  int switches = 0;                 // positions where another token leads
  int positions = 0;

  bool holds(bool int8_activations) const;
  std::string describe() const;
};

/// A text of `fast` may be shorter than the reference's: what it has is compared.
LevelB measure_level_b(const std::vector<ForcedText>& reference, const std::vector<ForcedText>& fast);

}  // namespace pagemill
