// Logits that HF transformers computed (script/goldens/logits.py says how and in which format), and the comparison with ours.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace pagemill {

/// What is kept of one position's logits.
struct GoldenRow {
  float min = 0, max = 0;
  std::vector<int32_t> top_ids;     // descending
  std::vector<float> top_values;
  std::vector<float> some;          // [k] is the logit of token (k · (vocab / some.size()) + position) mod vocab
};

struct GoldenText {
  std::string name;
  std::vector<int32_t> tokens;
  std::vector<GoldenRow> rows;      // [tokens]
};

struct GoldenLogits {
  int32_t vocab = 0;
  std::vector<GoldenText> texts;
};

Result<GoldenLogits> read_golden_logits(const std::filesystem::path& path);

/// How far logits lie from the reference. NaN counts as infinitely far.
struct LogitsDifference {
  int64_t positions = 0;
  double delta_max = 0;       // the largest |Δlogit|
  double share_max = 0;       // the largest |Δlogit| as a share of its row's range
  int64_t top1_judged = 0;    // rows whose gap between the reference's top two exceeds 2 · delta_max
  int64_t top1_wrong = 0;     // of those: another token leads

  /// |Δ| ≤ 1e-3 of the range everywhere, and the same leading token wherever the reference is sure.
  bool equivalent() const { return positions > 0 && share_max <= 1e-3 && top1_wrong == 0; }
  std::string describe() const;
};

/// logits[t]: [tokens of text t, vocab].
LogitsDifference compare_logits(const GoldenLogits& golden, const std::vector<std::vector<float>>& logits);

}  // namespace pagemill
