// Pacer: how many prompt rows fit a step of a given length, learnt from the steps that ran.
//
// A step is taken to last base + row · (prompt rows). Both are followed by normalised least mean squares (Widrow and Hoff): a step
// with few prompt rows corrects the base, one with many the time of a row; too short a forecast is corrected faster than
// too long a one. Every fourth step is given half its rows: without a change there is no telling base and rows apart. Attention makes later rows of a prompt dearer, slowly enough to follow.
//
// Where the answers alone take longer than a step should, prompts get as much time as they do: steps double, and
// prompts still get on.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace pagemill {

class Pacer {
 public:
  /// `step_max_ns` 0 = no limit.
  explicit Pacer(TimeNs step_max_ns) : step_max_ns_(static_cast<double>(step_max_ns)) {}

  /// Prompt rows for the next step beside `decode_rows`; at least 1, so that every prompt gets on.
  int32_t prompt_rows(int32_t decode_rows) const {
    if (step_max_ns_ == 0) return INT32_MAX;
    if (row_ns_ == 0) return kRowsFirst;
    const double left = std::max(step_max_ns_ - base_ns_, decode_rows > 0 ? base_ns_ : step_max_ns_ / 2);
    const double varied = observed_ % 4 == 3 ? left / 2 : left;
    return static_cast<int32_t>(std::clamp(varied / row_ns_, decode_rows > 0 ? 1.0 : kRowsAlone, 1e9));
  }

  void observe(int32_t prompt_rows, TimeNs duration_ns) {
    const auto ns = static_cast<double>(duration_ns);
    if (prompt_rows > 0 && row_ns_ == 0) {
      row_ns_ = std::max(kRowNsMin, (ns - base_ns_) / prompt_rows);
      return;
    }
    ++observed_;
    const double x = prompt_rows / kRowsScale;
    const double error = ns - base_ns_ - row_ns_ * prompt_rows;
    const double step = (error > 0 ? kGainUp : kGainDown) * error / (1 + x * x);
    base_ns_ = std::max(0.0, base_ns_ + step);
    if (prompt_rows > 0) row_ns_ = std::max(kRowNsMin, row_ns_ + step * x / kRowsScale);
  }

 private:
  static constexpr int32_t kRowsFirst = 128;   // before anything was measured
  static constexpr double kRowsAlone = 16;     // at least, where no answer waits for the step
  static constexpr double kRowsScale = 32;     // rows at which an error is as much the base's as the rows'
  static constexpr double kRowNsMin = 1;
  static constexpr double kGainUp = 0.5, kGainDown = 0.2;

  const double step_max_ns_;
  double base_ns_ = 0;
  double row_ns_ = 0;                          // 0 = not measured
  uint64_t observed_ = 0;                      // steps
};

}  // namespace pagemill
