#include "engine/pacer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pagemill {

namespace {

// Scales at which the three terms weigh about the same in the fit.
constexpr double kRowsScale = 32, kPositionsScale = 32 * 4096;
constexpr double kForget = 0.97;               // a step's weight in the fit, against that of the step after it
constexpr double kDoubtMax = 100;              // of any term: what was not seen for long is learnt anew, but not from noise alone
constexpr double kMarginMax = 8, kMarginShrinks = 0.05;
constexpr double kSeenShrinks = 0.98;
constexpr double kRowNsMin = 1;

}  // namespace

Pacer::Pacer(TimeNs step_max_ns) : step_max_ns_(static_cast<double>(step_max_ns)) {
  rows_seen_ = kRowsFirst / 2.0;
  times_[1] = kAim * step_max_ns_ / kRowsFirst * kRowsScale;
  for (size_t i = 0; i < doubt_.size(); ++i) doubt_[i][i] = kDoubtMax;
}

double Pacer::prompt_ns(bool beside_answers) const {
  if (step_max_ns_ == 0) return INFINITY;
  const double limit = beside_answers ? step_max_ns_ : std::clamp(kAloneBases * times_[0], kAloneFactor * step_max_ns_, kAloneMost * step_max_ns_);
  return std::max(kAim * limit - times_[0], beside_answers ? times_[0] : limit / 2);
}

double Pacer::rows_ns(int32_t rows, int32_t first) const {
  if (step_max_ns_ == 0) return 0;
  return margin_ * std::max(kRowNsMin * rows, times_[1] / kRowsScale * rows + times_[2] / kPositionsScale * position_sum(rows, first));
}

int32_t Pacer::rows_within(double ns, int32_t first) const {
  if (ns <= 0) return 0;
  if (std::isinf(ns)) return INT32_MAX;
  // rows_ns(n) = a n² + b n
  const double position = times_[2] / kPositionsScale, a = position / 2;
  const double b = std::max(kRowNsMin, times_[1] / kRowsScale + position * (first - 0.5)), c = ns / margin_;
  const double rows = 2 * c / (b + std::sqrt(b * b + 4 * a * c));  // the stable form of the positive root
  return static_cast<int32_t>(std::clamp(rows, 0.0, 2 * rows_seen_));
}

void Pacer::observe(int32_t prompt_rows, double positions, TimeNs duration_ns) {
  const auto ns = static_cast<double>(duration_ns);
  const Vector x = {1, prompt_rows / kRowsScale, positions / kPositionsScale};
  const double rows_ns = times_[1] * x[1] + times_[2] * x[2];
  rows_seen_ = std::max<double>(prompt_rows, prompt_rows > 0 ? kSeenShrinks * rows_seen_ : rows_seen_);
  if (prompt_rows > 0 && !std::exchange(prompts_seen_, true)) {
    // What there was to miss was a guess.
  } else if (prompt_rows > 0 && rows_ns > 0) {
    // Against the forecast as it was before this step taught us anything.
    const double longer = std::clamp((ns - times_[0]) / rows_ns, 1.0, kMarginMax);
    margin_ = longer > margin_ ? longer : margin_ + kMarginShrinks * (longer - margin_);
  }
  fit(x, ns);
}

/// One step of recursive least squares, under the condition that no term is negative: one that would be is 0, and the others take
/// its share.
void Pacer::fit(Vector x, double ns) {
  Vector gain{}, updated{};
  for (bool again = true; again;) {
    double error = ns, certainty = kForget;
    for (size_t i = 0; i < 3; ++i) {
      gain[i] = 0;
      for (size_t j = 0; j < 3; ++j) gain[i] += doubt_[i][j] * x[j];
      error -= times_[i] * x[i];
      certainty += x[i] * gain[i];
    }
    again = false;
    for (size_t i = 0; i < 3; ++i) {
      updated[i] = times_[i] + gain[i] / certainty * error;
      if (updated[i] >= 0) continue;
      again = true;
      times_[i] = x[i] = 0;
      for (size_t j = 0; j < 3; ++j) {
        if (j != i) doubt_[i][j] = doubt_[j][i] = 0;
      }
    }
    if (again) continue;
    for (size_t i = 0; i < 3; ++i) {
      for (size_t j = 0; j < 3; ++j) doubt_[i][j] -= gain[i] * gain[j] / certainty;
    }
  }
  times_ = updated;
  double largest = 0;
  for (size_t i = 0; i < 3; ++i) largest = std::max(largest, doubt_[i][i]);
  const double grow = std::min(1 / kForget, kDoubtMax / std::max(largest, 1e-9));
  if (grow <= 1) return;
  for (Vector& row : doubt_) {
    for (double& value : row) value *= grow;
  }
}

}  // namespace pagemill
