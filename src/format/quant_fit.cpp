#include "format/quant_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pagemill {
namespace {

// Scales are tried around the one that makes the largest value fit exactly; in steps of this many quantisation levels.
constexpr float kStep = 0.1f;
constexpr int kSteps = 10;  // to either side

}  // namespace

int round_into(float value, int low, int high) {
  if (!(value > static_cast<float>(low))) return low;
  if (value > static_cast<float>(high)) return high;
  return static_cast<int>(std::lrint(value));
}

float reciprocal(float value) {
  const float inverse = 1.0f / value;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

float fit_scale(std::span<const float> x, int low, int high) {
  float peak = 0;
  for (const float value : x)
    if (std::fabs(value) > std::fabs(peak)) peak = value;
  const float per_peak = reciprocal(peak);
  if (per_peak == 0) return 0;

  // For given q the best scale is Σxq / Σqq, and it lowers the squared error by (Σxq)² / Σqq.
  float best_gain = 0, best_scale = peak / static_cast<float>(low);
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float inverse = (static_cast<float>(low) + kStep * static_cast<float>(step)) * per_peak;
    float xq = 0, qq = 0;
    for (const float value : x) {
      const auto q = static_cast<float>(round_into(value * inverse, low, high));
      xq += value * q;
      qq += q * q;
    }
    if (qq > 0 && xq * xq > best_gain * qq) {
      best_gain = xq * xq / qq;
      best_scale = xq / qq;
    }
  }
  return best_scale;
}

AffineFit fit_affine(std::span<const float> x, int high, bool min_below_zero) {
  float lowest = min_below_zero ? 0.0f : std::numeric_limits<float>::infinity();
  float highest = -std::numeric_limits<float>::infinity();
  for (const float value : x) {
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }
  const float per_range = reciprocal(highest - lowest);
  if (per_range == 0) return {0, lowest};

  AffineFit best{(highest - lowest) / static_cast<float>(high), lowest};
  float best_error = std::numeric_limits<float>::infinity();
  const auto n = static_cast<float>(x.size());
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float inverse = (static_cast<float>(high) + kStep * static_cast<float>(step)) * per_range;
    // Least squares for scale and min, in values counted from `lowest` so that the sums lose little.
    float sum_x = 0, sum_xx = 0, sum_q = 0, sum_qq = 0, sum_xq = 0;
    for (const float value : x) {
      const float above = value - lowest;
      const auto q = static_cast<float>(round_into(above * inverse, 0, high));
      sum_x += above;
      sum_xx += above * above;
      sum_q += q;
      sum_qq += q * q;
      sum_xq += above * q;
    }
    const float determinant = n * sum_qq - sum_q * sum_q;
    if (!(determinant > 0)) continue;
    float scale = (n * sum_xq - sum_q * sum_x) / determinant;
    float offset = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
    if (min_below_zero && lowest + offset > 0) {
      offset = -lowest;
      scale = (sum_xq - offset * sum_q) / sum_qq;
    }
    const float error = sum_xx - 2 * scale * sum_xq - 2 * offset * sum_x + scale * scale * sum_qq + 2 * scale * offset * sum_q +
                        n * offset * offset;
    if (scale > 0 && error < best_error) {
      best_error = error;
      best = {scale, lowest + offset};
    }
  }
  return best;
}

}  // namespace pagemill
