// Searches for the scale (and offset) with which small integers come closest to a run of values, by squared error.
#pragma once

#include <span>

namespace pagemill {

/// q = round(value), kept inside [low, high]; NaN becomes low.
int round_into(float value, int low, int high);

/// 1 / value, or 0 for 0 and for values whose reciprocal is not finite.
float reciprocal(float value);

/// The scale for x ≈ scale · q with q in [low, high], low < 0; it has the sign that puts the largest |x| at `low`, the side
/// with one more step. 0 if all x are 0.
float fit_scale(std::span<const float> x, int low, int high);

struct AffineFit {
  float scale;
  float min;
};
/// scale ≥ 0 and min for x ≈ scale · q + min with q in [0, high]. With `min_below_zero`, min ≤ 0.
AffineFit fit_affine(std::span<const float> x, int high, bool min_below_zero);

}  // namespace pagemill
