// How far the fast CPU backend lies from the reference, teacher-forced on the same text: the default model in every type of weights on
// every instruction set of this CPU, and every type of keys and values.
//
// The bounds: with int8 activations mean KL ≤ 0.006, the same leading token wherever the reference's best two lie more than 0.7
// logit apart, perplexity within 1 %; with f32 activations KL ≤ 2e-4 and a gap of 0.05.
#include <algorithm>
#include <cmath>

#include "base/test_files.h"
#include "format/gguf.h"
#include "format/requantize.h"
#include "model/golden_models.h"
#include "support/cpu_backends.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

constexpr size_t kTokens = 1000;  // of each text at most: all that the goldens have, for a perplexity that is known to a third of a percent

struct Text {
  std::vector<int32_t> tokens;
  std::vector<float> logits;  // [tokens, vocab]
};

/// English, Chinese and code.
std::vector<std::vector<int32_t>> texts(size_t tokens) {
  std::vector<std::vector<int32_t>> out;
  for (const GoldenText& text : golden_logits("smollm2-135m-q4_1").texts) {
    out.push_back(text.tokens);
    out.back().resize(std::min(out.back().size(), tokens));
  }
  return out;
}

std::vector<Text> run(const WeightSource& source, Backend& backend, DType kv_dtype, size_t tokens) {
  auto bench = ModelBench::make(source, backend, {.rows_max = 64, .logit_rows_max = 64, .kv_blocks = 16, .kv_dtype = kv_dtype});
  PM_CHECK(bench.has_value(), "{}", bench.error().message);
  std::vector<Text> out;
  for (std::vector<int32_t>& text : texts(tokens)) {
    std::vector<float> logits = (*bench)->logits(text, 64);
    out.push_back({std::move(text), std::move(logits)});
  }
  return out;
}

double log_sum(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  return top + std::log(sum);
}

struct Distance {
  double kl = 0;                    // mean over positions, of the reference from the fast path
  double perplexity_ratio = 1;
  double gap_of_worst_switch = 0;   // the reference's lead, in logits, at the surest position where another token leads
  int switches = 0;                 // positions where another token leads
  int positions = 0;
};

Distance distance(const std::vector<Text>& reference, const std::vector<Text>& fast) {
  Distance out;
  double surprise = 0;
  int scored = 0;
  for (size_t t = 0; t < reference.size(); ++t) {
    const std::vector<int32_t>& tokens = reference[t].tokens;
    const size_t vocab = reference[t].logits.size() / tokens.size();
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
  out.perplexity_ratio = std::exp(surprise / scored);
  return out;
}

void expect_close(const Distance& found, bool int8, const std::string& what) {
  std::printf("%-28s mean KL %.2e, perplexity %+.3f %%, another token leads at %d of %d positions, at most %.3f logit behind\n", what.c_str(), found.kl,
              (found.perplexity_ratio - 1) * 100, found.switches, found.positions, found.gap_of_worst_switch);
  EXPECT_TRUE(std::isfinite(found.kl)) << what;
  EXPECT_LE(found.kl, int8 ? 0.006 : 2e-4) << what;
  EXPECT_LE(found.gap_of_worst_switch, int8 ? 0.7 : 0.05) << what;
  EXPECT_LE(std::abs(found.perplexity_ratio - 1), 0.01) << what;
}

class FastPath : public testing::TestWithParam<std::string> {};

TEST_P(FastPath, StaysCloseToTheReferenceInThisType) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  const TemporaryFolder folder;
  const auto file = folder.path() / "model.gguf";
  const TypeMix types = *type_mix_from_name(GetParam());
  const auto written = requantize(**source, types, file);
  ASSERT_TRUE(written) << written.error().message;
  const auto model = open_gguf(file);
  ASSERT_TRUE(model) << model.error().message;

  const std::vector<Text> reference = run(**model, *open_cpu_backend("reference"), DType::f32, kTokens);
  const bool int8 = traits(types.base).quantized;
  for (const std::string& isa : fast_backend_names()) {
    if (isa == "plain") continue;  // what it computes is compared bit by bit, op by op; a whole model would take minutes
    expect_close(distance(reference, run(**model, *open_cpu_backend(isa), DType::f16, kTokens)), int8, GetParam() + " on " + isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, FastPath, testing::Values("f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl"),
                         [](const auto& each) { return each.param; });

TEST(FastPathCache, StaysCloseToTheReferenceInEveryTypeOfKeysAndValues) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  const std::vector<Text> reference = run(**source, *open_cpu_backend("reference"), DType::f32, kTokens);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
    expect_close(distance(reference, run(**source, *open_cpu_backend("auto"), dtype, kTokens)), true, "keys and values in " + std::string(to_string(dtype)));
}

}  // namespace
}  // namespace pagemill
