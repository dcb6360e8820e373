// The default model in other element types still says the same: the quantisers judged by a real model's answers.
#include <algorithm>
#include <cmath>

#include "base/test_files.h"
#include "format/gguf.h"
#include "format/requantize.h"
#include "model/golden_models.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

constexpr size_t kTokens = 64;

std::vector<float> logits_of(const WeightSource& source, const std::vector<int32_t>& tokens) {
  const auto backend = make_reference_backend();
  auto bench = ModelBench::make(source, *backend, {.rows_max = 48, .logit_rows_max = 48, .kv_blocks = 8});
  PM_CHECK(bench.has_value(), "{}", bench.error().message);
  return (*bench)->logits(tokens, 48);
}

std::vector<double> log_softmax(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  std::vector<double> out;
  for (const float logit : logits) out.push_back(logit - top - std::log(sum));
  return out;
}

struct Distance {
  double kl = 0;     // mean over positions, of the original from the copy
  double top1 = 0;   // share of positions with the same leading token
};

Distance distance(std::span<const float> original, std::span<const float> copy, size_t vocab) {
  Distance result;
  const size_t positions = original.size() / vocab;
  for (size_t at = 0; at < positions; ++at) {
    const auto a = original.subspan(at * vocab, vocab), b = copy.subspan(at * vocab, vocab);
    const std::vector<double> p = log_softmax(a), q = log_softmax(b);
    for (size_t i = 0; i < vocab; ++i) result.kl += std::exp(p[i]) * (p[i] - q[i]);
    result.top1 += std::max_element(a.begin(), a.end()) - a.begin() == std::max_element(b.begin(), b.end()) - b.begin();
  }
  result.kl /= static_cast<double>(positions);
  result.top1 /= static_cast<double>(positions);
  return result;
}

TEST(RequantizedDefaultModel, StaysCloseToTheOriginal) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  const TemporaryFolder folder;
  std::vector<int32_t> tokens = golden_logits("smollm2-135m-q4_1").texts[0].tokens;
  tokens.resize(std::min(tokens.size(), kTokens));
  const std::vector<float> original = logits_of(**source, tokens);
  const size_t vocab = original.size() / tokens.size();

  struct Bound {
    const char* types;
    double kl_max, top1_min;
  };
  for (const Bound& bound : {Bound{"f16", 1e-5, 0.98}, Bound{"q8_0", 0.005, 0.95}, Bound{"q4_k_m", 0.06, 0.80}}) {
    const auto path = folder.path() / "model.gguf";
    const auto written = requantize(**source, *type_mix_from_name(bound.types), path);
    ASSERT_TRUE(written) << written.error().message;
    const Distance found = distance(original, logits_of(**open_gguf(path), tokens), vocab);
    std::printf("%s: mean KL %.2g, same leading token %.3f\n", bound.types, found.kl, found.top1);
    EXPECT_LE(found.kl, bound.kl_max) << bound.types;
    EXPECT_GE(found.top1, bound.top1_min) << bound.types;
  }
}

}  // namespace
}  // namespace pagemill
