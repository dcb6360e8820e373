#include "support/level_b.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "support/golden_logits.h"
#include "support/model_bench.h"
#include "support/paths.h"

namespace pagemill {
namespace {

constexpr int32_t kStepRows = 64;

double log_sum(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  return top + std::log(sum);
}

}  // namespace

std::vector<std::vector<int32_t>> level_b_texts(size_t tokens_max) {
  const auto golden = read_golden_logits(test::source_path("tests/model/goldens/smollm2-135m-q4_1.logits"));
  PM_CHECK(golden.has_value(), "{}", golden.error().message);
  std::vector<std::vector<int32_t>> out;
  for (const GoldenText& text : golden->texts) {
    out.push_back(text.tokens);
    out.back().resize(std::min(out.back().size(), tokens_max));
  }
  return out;
}

std::vector<ForcedText> teacher_forced(const WeightSource& source, Backend& backend, DType kv_dtype, const std::vector<std::vector<int32_t>>& texts) {
  auto bench = ModelBench::make(source, backend, {.rows_max = kStepRows, .logit_rows_max = kStepRows, .kv_blocks = 64, .kv_dtype = kv_dtype});
  PM_CHECK(bench.has_value(), "{}", bench.error().message);
  std::vector<ForcedText> out;
  for (const std::vector<int32_t>& text : texts) out.push_back({text, (*bench)->logits(text, kStepRows)});
  return out;
}

bool LevelB::holds(bool int8_activations) const {
  const double kl_max = int8_activations ? 0.006 : 2e-4, gap_max = int8_activations ? 0.7 : 0.05;
  return positions > 0 && kl <= kl_max && gap_of_worst_switch <= gap_max && std::abs(perplexity_ratio - 1) <= 0.01;  // false for NaN
}

std::string LevelB::describe() const {
  return fmt::format("mean KL {:.2e}, perplexity {:+.3f} %, another token leads at {} of {} positions, at most {:.3f} logit behind", kl,
                     (perplexity_ratio - 1) * 100, switches, positions, gap_of_worst_switch);
}

LevelB measure_level_b(const std::vector<ForcedText>& reference, const std::vector<ForcedText>& fast) {
  LevelB out;
  double surprise = 0;
  int scored = 0;
  for (size_t t = 0; t < fast.size(); ++t) {
    const std::vector<int32_t>& tokens = fast[t].tokens;
    const size_t vocab = fast[t].logits.size() / tokens.size();
    PM_CHECK(reference[t].logits.size() >= fast[t].logits.size());
    for (size_t at = 0; at < tokens.size(); ++at) {
      const auto a = std::span(reference[t].logits).subspan(at * vocab, vocab), b = std::span(fast[t].logits).subspan(at * vocab, vocab);
      const double sum_a = log_sum(a), sum_b = log_sum(b);
      double first = -1e30, second = -1e30;
      size_t lead = 0;
      for (size_t i = 0; i < vocab; ++i) {
        const double p = a[i] - sum_a;
        out.kl += std::exp(p) * (p - (b[i] - sum_b));
        if (a[i] > first) {
          second = std::exchange(first, a[i]);
          lead = i;
        } else if (a[i] > second) {
          second = a[i];
        }
      }
      ++out.positions;
      if (static_cast<size_t>(std::max_element(b.begin(), b.end()) - b.begin()) != lead) {
        ++out.switches;
        out.gap_of_worst_switch = std::max(out.gap_of_worst_switch, first - second);
      }
      if (at + 1 == tokens.size()) continue;
      const auto next = static_cast<size_t>(tokens[at + 1]);
      surprise += (a[next] - sum_a) - (b[next] - sum_b);
      ++scored;
    }
  }
  out.kl /= out.positions;
  out.perplexity_ratio = std::exp(surprise / std::max(scored, 1));
  return out;
}

}  // namespace pagemill
