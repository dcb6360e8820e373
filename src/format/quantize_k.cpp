// K blocks have two levels of scales: each run of 16 or 32 values has its own, itself a small integer times the block's d
// (and dmin). First each run is fitted by itself, then its scale is rounded, then its values are quantised with the rounded one.
#include "format/quantize_k.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/quant_blocks.h"
#include "format/quant_fit.h"

namespace pagemill {
namespace {

using namespace blocks;

std::byte as_byte(int value) { return static_cast<std::byte>(value & 0xFF); }
void or_bits(std::byte& byte, int bits) { byte |= as_byte(bits); }

/// d and dmin as stored, and each run's integers: x ≈ d·scale·q − dmin·min.
template <int Runs>
struct AffineScales {
  float d = 0, dmin = 0;
  std::array<int, Runs> scale{};
  std::array<int, Runs> min{};
};

template <int Runs>
AffineScales<Runs> fit_affine_runs(const float* x, int q_max, int scale_max) {
  constexpr int kRun = kSuper / Runs;
  std::array<AffineFit, Runs> fits;
  float largest_scale = 0, largest_min = 0;
  for (int k = 0; k < Runs; ++k) {
    fits[static_cast<size_t>(k)] = fit_affine({x + k * kRun, kRun}, q_max, true);
    largest_scale = std::max(largest_scale, fits[static_cast<size_t>(k)].scale);
    largest_min = std::max(largest_min, -fits[static_cast<size_t>(k)].min);
  }
  AffineScales<Runs> out;
  out.d = stored_f16(largest_scale / static_cast<float>(scale_max));
  out.dmin = stored_f16(largest_min / static_cast<float>(scale_max));
  for (size_t k = 0; k < Runs; ++k) {
    out.scale[k] = round_into(fits[k].scale * reciprocal(out.d), 0, scale_max);
    out.min[k] = round_into(-fits[k].min * reciprocal(out.dmin), 0, scale_max);
  }
  return out;
}

template <int Runs>
int affine_q(const AffineScales<Runs>& scales, const float* x, int e, int q_max) {
  const auto k = static_cast<size_t>(e / (kSuper / Runs));
  const float scale = scales.d * static_cast<float>(scales.scale[k]), min = scales.dmin * static_cast<float>(scales.min[k]);
  return round_into((x[e] + min) * reciprocal(scale), 0, q_max);
}

/// The same without an offset, as Q3_K and Q6_K have it: x ≈ d·scale·q, q in [low, −low − 1], scale in [scale_low, −scale_low − 1].
struct SymmetricScales {
  float d = 0;
  std::array<int, 16> scale{};
};

SymmetricScales fit_symmetric_runs(const float* x, int low, int scale_low) {
  std::array<float, 16> fits;
  float peak = 0;
  for (size_t k = 0; k < 16; ++k) {
    fits[k] = fit_scale({x + 16 * k, 16}, low, -low - 1);
    if (std::fabs(fits[k]) > std::fabs(peak)) peak = fits[k];
  }
  SymmetricScales out;
  out.d = stored_f16(peak / static_cast<float>(scale_low));
  for (size_t k = 0; k < 16; ++k) out.scale[k] = round_into(fits[k] * reciprocal(out.d), scale_low, -scale_low - 1);
  return out;
}

int symmetric_q(const SymmetricScales& scales, const float* x, int e, int low) {
  const float scale = scales.d * static_cast<float>(scales.scale[static_cast<size_t>(e / 16)]);
  return round_into(x[e] * reciprocal(scale), low, -low - 1);
}

// The inverse of packed_scale_min.
void pack_scale_min(const AffineScales<8>& scales, std::byte* packed) {
  for (size_t j = 0; j < 4; ++j) {
    packed[j] = as_byte(scales.scale[j] | (scales.scale[j + 4] >> 4) << 6);
    packed[j + 4] = as_byte(scales.min[j] | (scales.min[j + 4] >> 4) << 6);
    packed[j + 8] = as_byte((scales.scale[j + 4] & 15) | (scales.min[j + 4] & 15) << 4);
  }
}

void put_two_bits(std::byte* qs, int e, int q) { or_bits(qs[32 * (e / 128) + e % 32], q << (2 * (e % 128 / 32))); }
void put_nibble(std::byte* qs, int e, int q) { or_bits(qs[32 * (e / 64) + e % 32], q << (4 * (e / 32 % 2))); }

}  // namespace

void quantize_block_q2_k(const float* x, std::byte* block) {
  const auto scales = fit_affine_runs<16>(x, 3, 15);
  std::fill_n(block, traits(DType::q2_k).block_bytes, std::byte{0});
  put_f16(block + Q2K::d, scales.d);
  put_f16(block + Q2K::dmin, scales.dmin);
  for (size_t k = 0; k < 16; ++k) block[Q2K::scales + k] = as_byte(scales.scale[k] | scales.min[k] << 4);
  for (int e = 0; e < kSuper; ++e) put_two_bits(block + Q2K::qs, e, affine_q(scales, x, e, 3));
}

void quantize_block_q3_k(const float* x, std::byte* block) {
  const SymmetricScales scales = fit_symmetric_runs(x, -4, -32);
  std::fill_n(block, traits(DType::q3_k).block_bytes, std::byte{0});
  put_f16(block + Q3K::d, scales.d);
  std::byte* packed = block + Q3K::scales;
  for (int k = 0; k < 16; ++k) {
    const int scale = scales.scale[static_cast<size_t>(k)] + 32;
    or_bits(packed[k % 8], (scale & 15) << (4 * (k / 8)));
    or_bits(packed[8 + k % 4], (scale >> 4) << (2 * (k / 4)));
  }
  for (int e = 0; e < kSuper; ++e) {
    const int q = symmetric_q(scales, x, e, -4) + 4;
    put_two_bits(block + Q3K::qs, e, q & 3);
    or_bits(block[Q3K::hmask + e % 32], (q >> 2) << (e / 32));
  }
}

void quantize_block_q4_k(const float* x, std::byte* block) {
  const auto scales = fit_affine_runs<8>(x, 15, 63);
  std::fill_n(block, traits(DType::q4_k).block_bytes, std::byte{0});
  put_f16(block + Q4K::d, scales.d);
  put_f16(block + Q4K::dmin, scales.dmin);
  pack_scale_min(scales, block + Q4K::scales);
  for (int e = 0; e < kSuper; ++e) put_nibble(block + Q4K::qs, e, affine_q(scales, x, e, 15));
}

void quantize_block_q5_k(const float* x, std::byte* block) {
  const auto scales = fit_affine_runs<8>(x, 31, 63);
  std::fill_n(block, traits(DType::q5_k).block_bytes, std::byte{0});
  put_f16(block + Q5K::d, scales.d);
  put_f16(block + Q5K::dmin, scales.dmin);
  pack_scale_min(scales, block + Q5K::scales);
  for (int e = 0; e < kSuper; ++e) {
    const int q = affine_q(scales, x, e, 31);
    put_nibble(block + Q5K::qs, e, q & 15);
    or_bits(block[Q5K::qh + e % 32], (q >> 4) << (e / 32));
  }
}

void quantize_block_q6_k(const float* x, std::byte* block) {
  const SymmetricScales scales = fit_symmetric_runs(x, -32, -128);
  std::fill_n(block, traits(DType::q6_k).block_bytes, std::byte{0});
  put_f16(block + Q6K::d, scales.d);
  for (size_t k = 0; k < 16; ++k) block[Q6K::scales + k] = as_byte(scales.scale[k]);
  for (int e = 0; e < kSuper; ++e) {
    const int q = symmetric_q(scales, x, e, -32) + 32;
    const int c = e / 128, r = e % 128;
    or_bits(block[Q6K::ql + 64 * c + r % 64], (q & 15) << (4 * (r / 64)));
    or_bits(block[Q6K::qh + 32 * c + r % 32], (q >> 4) << (2 * (r / 32)));
  }
}

}  // namespace pagemill
