// What is measured, and a handful of runs of it.
#pragma once

#include <algorithm>
#include <compare>
#include <vector>

namespace pagemill {

/// Prefill of one prompt of `size` tokens, or decode of `size` streams at the same time.
struct BenchTest {
  enum Kind { prefill, decode } kind = prefill;
  int size = 1;
  auto operator<=>(const BenchTest&) const = default;
};

struct Sample {
  std::vector<double> runs;

  double median() const {
    if (runs.empty()) return 0;
    std::vector<double> sorted = runs;
    std::sort(sorted.begin(), sorted.end());
    const size_t n = sorted.size();
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
  }
  /// (largest − smallest) ÷ median; 0 with fewer than two runs.
  double spread() const {
    if (runs.size() < 2 || median() == 0) return 0;
    const auto [low, high] = std::minmax_element(runs.begin(), runs.end());
    return (*high - *low) / median();
  }
};

}  // namespace pagemill
