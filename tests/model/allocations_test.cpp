// A steady decode step of the model takes no memory from the heap, whatever its thread.
#include "support/allocation_counter.h"
#include "support/model_bench.h"
#include "support/tiny_model.h"

namespace pagemill {
namespace {

TEST(Allocations, NoneInASteadyStep) {
  const TinyModel model = open_tiny_model("tiny-qwen2-gqa7");
  const auto backend = make_reference_backend(3);
  auto bench = ModelBench::make(*model.source, *backend, {.rows_max = 8, .logit_rows_max = 8, .kv_dtype = DType::f16});
  ASSERT_TRUE(bench) << bench.error().message;
  const TestStep steps[] = {TestStep({{{1, 2, 3}, 0, {0}}, {{9}, 0, {1}}}), TestStep({{{4}, 3, {0}}, {{5}, 1, {1}}}),
                            TestStep({{{6}, 4, {0}}, {{7}, 2, {1}}})};
  SelfCommunicator communicator;
  SampledToken tokens[2];
  uint64_t before = 0;
  for (const TestStep& step : steps) {  // the last one counts
    before = allocated_bytes_ever();
    const auto inputs = backend->begin_step(step.inputs());
    (*bench)->model().forward(**inputs, (*bench)->kv(), *backend, communicator);
    const Matrix logits = (*bench)->model().lm_head(**inputs, (*inputs)->logit_rows, *backend, communicator);
    backend->sample(**inputs, logits);
    ASSERT_TRUE(backend->finish_sample(tokens, {}));
  }
  EXPECT_EQ(allocated_bytes_ever() - before, 0u);
  EXPECT_GT(before, 0u);
}

}  // namespace
}  // namespace pagemill
