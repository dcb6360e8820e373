// Random numbers: a counter-based generator for sampling, a small sequential one for tests and simulations.
#pragma once

#include <array>
#include <cstdint>

namespace pagemill {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four words that depend on
/// (key, counter) alone. Sampling draws with key = seed and counter = (position, draw), so a token depends on nothing
/// else in the batch and every backend draws the same.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// 64 random bits: draw number `draw` for the token at `position` under `seed`.
uint64_t sampling_bits(uint64_t seed, uint64_t position, uint32_t draw = 0);

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, good enough for tests, simulations and jitter. Not thread-safe.
class SplitMix64 {
 public:
  using result_type = uint64_t;
  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return UINT64_MAX; }

  uint64_t operator()();
  /// Uniform in [0, bound); bound > 0.
  uint64_t below(uint64_t bound);
  /// Uniform in [0, 1).
  double uniform();
  /// Standard normal.
  double normal();

 private:
  uint64_t state_;
};

}  // namespace pagemill
