// The definition of sampling: from one row of logits to one token, such that every backend picks the same token from the
// same logits.
//
// Why integers. A draw compares a random number with sums of probabilities. Floating sums depend on their order, and a GPU
// adds in another order than a CPU does; so probabilities are integers here (units of 2^-40 of the most likely token's) and
// sums of them are exact in any order, on any number of threads. What turns a logit into its weight uses only IEEE single
// multiplications and additions, each rounded once (no fused multiply-add, no library exp), so it is the same everywhere too. Host
// code is built with -ffp-contract=off; device code needs the same (nvcc --fmad=false, or the _rn intrinsics).
// Inverse CDF in token-id order is chosen over Gumbel-max because it needs one random number per token sampled instead of one
// (and a logarithm) per vocabulary entry, and because it has such an exact form.
//
// The steps, in vLLM's order:
//   1. x[i] = clean(logit). A NaN is an impossible token (-infinity); +infinity counts as the largest float.
//   2. x[i] += bias. Then penalties on the tokens of the history: x > 0 ? x / repetition : x · repetition; then
//      x -= frequency · output_count; then, where output_count > 0, x -= presence. Each in single precision; clean again.
//   3. Tokens that the mask excludes become impossible. If nothing is possible, the token is -1.
//   4. Temperature below kGreedyTemperature: the highest x, lowest id on ties. Nothing below applies.
//   5. z[i] = (x[i] - max x) · (1 / temperature);   w[i] = sampling_weight(z[i]).
//   6. typical_p < 1: with a[i] = surprise_units(z[i]) and m = ⌊Σ w·a / Σ w⌋, order by (|a - m|, id) and keep the shortest
//      prefix with Σ w ≥ mass_target(typical_p, Σ all w). (Surprise minus entropy is -z minus its mean: the logarithm of the
//      normaliser cancels.) The others become impossible; max x, z and w are taken anew.
//   7. min_p > 0: keep z ≥ min_p_threshold(min_p).
//   8. top_k > 0: keep the first top_k in the order of token_rank: descending x, ascending id on ties. (vLLM keeps every tie
//      of the last one; here top_k = 1 is greedy.)
//   9. top_p < 1: keep the shortest prefix of that order with Σ w ≥ mass_target(top_p, Σ kept w).
//  10. With W = Σ kept w and r = ⌊sampling_bits(seed, position) · W / 2^64⌋: the first kept token in id order whose running
//      sum of w exceeds r.
#pragma once

#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>

// The same text is compiled for the device (with --expt-relaxed-constexpr, and --fmad=false as said above).
#ifdef __CUDACC__
#define PM_SAMPLING __host__ __device__ inline
#else
#define PM_SAMPLING inline
#endif

namespace pagemill {

/// Below this a temperature means greedy.
inline constexpr float kGreedyTemperature = 1e-5f;

/// The weight of the most likely token (z = 0). A vocabulary of 2^20 tokens sums to at most 2^60.
inline constexpr int kWeightBits = 40;
inline constexpr uint64_t kWeightOne = uint64_t{1} << kWeightBits;

/// NaN → -infinity, +infinity → the largest float.
PM_SAMPLING float clean_logit(float x) {
  x = x > -std::numeric_limits<float>::infinity() ? x : -std::numeric_limits<float>::infinity();
  return x < FLT_MAX ? x : FLT_MAX;
}

/// e^z = mantissa · 2^-30 · 2^-shift, for z ≤ 0.
struct ExpParts {
  int32_t mantissa;  // about [0.7, 1.42] · 2^30
  int32_t shift;     // [0, 44]
};

/// Range reduction by Cody and Waite (n · ln 2 in two parts, the first product exact), then the Taylor polynomial of degree 6,
/// whose remainder on [-ln 2 / 2, ln 2 / 2] is 1.2e-7: relative error below 4e-7 with roundings. Branch-free, so that compilers
/// vectorise it. z below -30 (-infinity and NaN too) gives a weight of 0.
PM_SAMPLING ExpParts exp_parts(float z) {
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer, ties to even
  z = z > -30.0f ? z : -30.0f;
  const float rounded = z * 1.44269504f + kRound;
  const float n = rounded - kRound;
  const float r = (z - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // At least 2^29 before the conversion, so a whole number already.
  return {static_cast<int32_t>(p * 0x1p30f), -static_cast<int32_t>(n)};
}
PM_SAMPLING uint64_t weight_of(ExpParts parts) {
  return (static_cast<uint64_t>(parts.mantissa) << (kWeightBits - 30)) >> parts.shift;
}
/// e^z in units of 2^-40, rounded down; z ≤ 0. sampling_weight(0) = kWeightOne.
PM_SAMPLING uint64_t sampling_weight(float z) { return weight_of(exp_parts(z)); }

/// -z in units of 2^-20, for z in [-30, 0]; for typical_p.
PM_SAMPLING uint32_t surprise_units(float z) {
  z = z > -30.0f ? z : -30.0f;
  return static_cast<uint32_t>(z * -0x1p20f);
}

PM_SAMPLING float min_p_threshold(float min_p) { return static_cast<float>(std::log(static_cast<double>(min_p))); }

/// The mass that a share in (0, 1] of `total` asks for: at least 1, exact in 32 bits of the share.
PM_SAMPLING uint64_t mass_target(float share, uint64_t total) {
  const auto fixed = static_cast<uint64_t>(static_cast<double>(share) * 0x1p32);
  const auto target = static_cast<uint64_t>((static_cast<unsigned __int128>(total) * fixed) >> 32);
  return target > 0 ? target : 1;
}

/// Where a token stands: lower is more likely, lower id first on ties. `x` is clean; -0 and 0 are equal.
PM_SAMPLING uint64_t token_rank(float x, int32_t id) {
  const auto bits = std::bit_cast<uint32_t>(x + 0.0f);
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(~ascending) << 32 | static_cast<uint32_t>(id);
}

/// The point in [0, total) at which 64 random bits fall.
PM_SAMPLING uint64_t draw_point(uint64_t bits, uint64_t total) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * total) >> 64);
}

}  // namespace pagemill
