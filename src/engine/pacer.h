// Pacer: how many prompt rows fit a step of a given length, learnt from the steps that ran.
//
// A step's time is taken to be that of its decode rows plus a time per prompt row. Both are followed by a moving
// average; the time per row rises at once and falls slowly, so a step is rather too short than too long. Attention makes
// later rows of a prompt dearer, slowly enough for the average to follow.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace pagemill {

class Pacer {
 public:
  /// `step_max_ns` 0 = no limit.
  explicit Pacer(TimeNs step_max_ns) : step_max_ns_(step_max_ns) {}

  /// Prompt rows for the next step; at least kRowsMin, so that every prompt gets on.
  int32_t prompt_rows(int32_t decode_rows) const {
    if (step_max_ns_ == 0) return INT32_MAX;
    if (row_ns_ == 0) return kRowsFirst;
    const double left = static_cast<double>(step_max_ns_) - (decode_rows > 0 ? decode_ns_ : 0);
    return std::clamp(static_cast<int32_t>(std::min(left / row_ns_, 1e9)), kRowsMin, INT32_MAX);
  }

  void observe(int32_t decode_rows, int32_t prompt_rows, TimeNs duration_ns) {
    const auto ns = static_cast<double>(duration_ns);
    if (prompt_rows == 0) {
      if (decode_rows > 0) decode_ns_ = decode_ns_ == 0 ? ns : decode_ns_ + kGain * (ns - decode_ns_);
      return;
    }
    const double decode_ns = decode_rows > 0 ? std::min(decode_ns_, ns / 2) : 0;
    const double row_ns = (ns - decode_ns) / prompt_rows;
    row_ns_ = row_ns > row_ns_ ? row_ns : row_ns_ + kGain * (row_ns - row_ns_);
  }

 private:
  static constexpr int32_t kRowsMin = 16;
  static constexpr int32_t kRowsFirst = 128;  // before anything was measured
  static constexpr double kGain = 0.2;

  const TimeNs step_max_ns_;
  double decode_ns_ = 0;
  double row_ns_ = 0;
};

}  // namespace pagemill
