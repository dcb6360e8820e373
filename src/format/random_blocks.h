// Random blocks of every element type: random bits with scales that give the values a wanted spread.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/rng.h"

namespace pagemill {

/// Values of mean `mean` and standard deviation close to `deviation`. Quantised types always have mean 0. Those of f16 are numbers that bf16 has, as in
/// files made of checkpoints in bf16 (Qwen2.5, Llama 3, SmolLM2).
struct RandomValues {
  double mean = 0;
  double deviation = 1;
};

/// Fills whole blocks; deterministic, about 1 GB/s. Not thread-safe.
class RandomBlocks {
 public:
  RandomBlocks(DType dtype, RandomValues values, uint64_t seed);
  void fill(std::span<std::byte> blocks);

 private:
  void fill_plain(std::span<std::byte> values);
  void fill_block(std::byte* block);
  float scale();

  DType dtype_;
  RandomValues values_;
  SplitMix64 random_;
  std::vector<std::byte> table_;  // plain types: values to draw from, as they are stored
};

}  // namespace pagemill
