// Pacer: how many rows of a prompt fit a step of a given length, learnt from the steps that ran.
//
// A step is taken to last
//     base + Σ over its prompt rows of (row + position · its position),
// where base is what the running answers take, and attention makes a prompt's row dearer with every position before it. The
// three are followed by recursive least squares with forgetting (Ljung, "System Identification", 11.2): a step without prompt
// rows tells the base, rows early and late in their prompts tell the others apart. What the fit misses (noise, kernels that do not
// grow in straight lines, a neighbour on the machine) the margin catches: a step that took longer than forecast makes
// every later forecast longer at once, and steps that do not let it shrink again slowly. Rows at most double from step to step:
// where reading the weights hides the first ones' arithmetic, they look as if they cost nothing.
//
// Invariants: the three times are not negative; the margin is at least 1.
//
// Where the answers alone take longer than a step should, prompts get as much time as they do: steps double, and prompts
// still get on. Where no answer is under way, nobody waits for a token, and a prompt is read faster in long steps, since every step
// reads and unpacks all weights: they may take kAloneFactor times as long, or kAloneBases times what a step takes whatever its rows, so
// that this is a small part of them (a 7B model on two cores), but no more than kAloneMost times. Owned by the engine thread.
#pragma once

#include <array>
#include <cstdint>

#include "base/clock.h"

namespace pagemill {

/// A step that ran: its prompt rows, the sum of their positions (Pacer::position_sum()), and how long it took.
struct TimedStep {
  int32_t prompt_rows = 0;
  double positions = 0;
  TimeNs duration_ns = 0;
};

class Pacer {
 public:
  /// `step_max_ns` 0 = no limit.
  explicit Pacer(TimeNs step_max_ns);

  /// Time for prompt rows in the next step, beside running answers or alone.
  double prompt_ns(bool beside_answers) const;
  /// Rows of a prompt from position `first` on that take no longer than `ns`; can be 0.
  int32_t rows_within(double ns, int32_t first) const;
  /// What they take.
  double rows_ns(int32_t rows, int32_t first) const;
  /// Prompt rows that a step has at least, so that every prompt gets on.
  static int32_t rows_min(int32_t decode_rows) { return decode_rows > 0 ? 1 : kRowsAlone; }

  /// A step took so long; `positions` is the sum over its prompt rows (position_sum()).
  void observe(int32_t prompt_rows, double positions, TimeNs duration_ns);
  static double position_sum(int32_t rows, int32_t first) { return rows * (first + (rows - 1) / 2.0); }

 private:
  static constexpr int32_t kRowsFirst = 32;    // of the first prompt, before anything was measured
  static constexpr double kAloneFactor = 5, kAloneBases = 20, kAloneMost = 25;
  static constexpr int32_t kRowsAlone = 16;    // at least, where no answer waits for the step
  static constexpr double kAim = 0.9;          // of the limit

  using Vector = std::array<double, 3>;
  void fit(Vector x, double ns);

  const double step_max_ns_;
  Vector times_{};                             // ns: base, row, position
  std::array<Vector, 3> doubt_{};              // how little each is known: the inverse of the information so far
  bool prompts_seen_ = false;
  double margin_ = 1;                          // forecasts of prompt rows are multiplied by it
  double rows_seen_ = 0;                       // the most of a step lately; nothing is forecast for more than twice as many
};

}  // namespace pagemill
