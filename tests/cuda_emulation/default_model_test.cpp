// The default model itself on the emulated device, as it is (Q4_1, dequantised while loading) and as F16: the reference's answer.
#include <algorithm>

#include <gtest/gtest.h>

#include "backend/cpu/reference_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "base/test_files.h"
#include "cuda_emulation/control.h"
#include "engine/model_rig.h"
#include "format/gguf.h"
#include "format/requantize.h"
#include "model/golden_models.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

constexpr int32_t kTokens = 8;

void expect_the_references_answer(const WeightSource& source) {
  EngineRequest request;
  request.prompt = {504, 3575, 282, 4649, 314};  // "The capital of France is"
  request.sampling.temperature = 0;
  request.sampling.max_tokens = kTokens;
  request.sampling.seed = 1;
  const RigOptions options{.max_num_seqs = 1, .max_num_batched_tokens = 16, .blocks = 8, .context_max = 64, .kv_dtype = DType::f32, .record_logits = false};
  std::vector<int32_t> expected;
  {
    ReferenceBackend reference(2);
    expected = ModelRig(source, reference, options).run({request}).tokens.at(1);
    ASSERT_EQ(expected.size(), static_cast<size_t>(kTokens));
    std::vector<int32_t> text = request.prompt;
    text.insert(text.end(), expected.begin(), expected.end());
    auto bench = ModelBench::make(source, reference, {.rows_max = 16, .logit_rows_max = 16, .kv_blocks = 2});
    ASSERT_TRUE(bench);
    const std::vector<float> logits = (*bench)->logits(text, 16);
    const auto vocab = static_cast<ptrdiff_t>((*bench)->config().vocab);
    for (size_t i = 0; i < expected.size(); ++i) {  // or the comparison would mean little
      std::vector<float> row(logits.begin() + vocab * static_cast<ptrdiff_t>(request.prompt.size() + i - 1), logits.begin() + vocab * static_cast<ptrdiff_t>(request.prompt.size() + i));
      std::nth_element(row.begin(), row.begin() + 1, row.end(), std::greater<>());
      ASSERT_GT(row[0] - row[1], 0.05f) << "token " << i << " is a near tie";
    }
  }
  emulated::reset_device();
  emulated::set_thread_order(11);
  auto backend = cuda::CudaBackend::make({.threads = 2});
  ASSERT_TRUE(backend) << backend.error().message;
  RigOptions on_device = options;
  on_device.kv_dtype = DType::f16;
  EXPECT_EQ(ModelRig(source, **backend, on_device).run({request}).tokens.at(1), expected);
}

TEST(DefaultModelOnCuda, AnswersAsTheReferenceDoes) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  expect_the_references_answer(**source);
}

TEST(DefaultModelOnCuda, AnswersAsTheReferenceDoesInF16) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  const TemporaryFolder folder;
  const auto path = folder.path() / "f16.gguf";
  const auto written = requantize(**source, *type_mix_from_name("f16"), path);
  ASSERT_TRUE(written) << written.error().message;
  const auto copy = open_gguf(path);
  ASSERT_TRUE(copy) << copy.error().message;
  expect_the_references_answer(**copy);
}

}  // namespace
}  // namespace pagemill
