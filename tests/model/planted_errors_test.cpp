// The comparison with HF's logits must fail for each mistake that would otherwise pass as a slightly worse model.
#include <numeric>

#include "model/golden_models.h"
#include "support/cpu_backends.h"
#include "support/forwarding_backend.h"
#include "support/model_bench.h"
#include "support/tiny_model.h"

namespace pagemill {
namespace {

LogitsDifference difference_to_golden(const std::string& name, Backend& backend, int32_t chunk) {
  const TinyModel model = open_tiny_model(name);
  auto bench = ModelBench::make(*model.source, backend, {.rows_max = 160, .logit_rows_max = 160, .kv_blocks = 16, .overrides = model.overrides});
  EXPECT_TRUE(bench) << bench.error().message;
  const GoldenLogits golden = golden_logits(name);
  // The pool holds another sequence's keys and values before, as in a server that has run for a while.
  (*bench)->logits(std::vector<int32_t>(golden.texts[0].tokens.rbegin(), golden.texts[0].tokens.rend()), 160);
  return compare_logits(golden, {(*bench)->logits(golden.texts[0].tokens, chunk)});
}

/// Every row also sees the position after its own, where that is in the cache.
class MaskOffByOne final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    std::vector<int32_t> positions(step.positions.begin(), step.positions.end());
    for (size_t row = 0; row < positions.size(); ++row)
      positions[row] = std::min(positions[row] + 1, step.context_len[static_cast<size_t>(step.seq_of_row[row])] - 1);
    StepInputs wrong = step;
    wrong.positions = positions;
    inner_.attention(wrong, shape, q, kv, out);
  }
};

/// No row but the first sees its own position.
class MaskOffByOneBelow final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    std::vector<int32_t> positions(step.positions.begin(), step.positions.end());
    for (int32_t& position : positions) position = std::max(position - 1, 0);
    StepInputs wrong = step;
    wrong.positions = positions;
    inner_.attention(wrong, shape, q, kv, out);
  }
};

/// Attention reads the third block where the second is meant, and the other way round.
class BlocksSwapped final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    std::vector<int32_t> table(step.group[0].block_table.begin(), step.group[0].block_table.end());
    std::swap(table[1], table[2]);
    StepInputs wrong = step;
    wrong.group[0].block_table = table;
    inner_.attention(wrong, shape, q, kv, out);
  }
};

/// Keys of odd positions are rotated as if they stood one further.
class HalfTheKeysShifted final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v,
                  KvView kv) override {
    std::vector<float> queries(static_cast<size_t>(q.rows * q.cols)), keys(static_cast<size_t>(k.rows * k.cols));
    ASSERT_TRUE(inner_.read(q, queries) && inner_.read(k, keys));
    std::vector<int32_t> positions(step.positions.begin(), step.positions.end());
    std::vector<int32_t> slots(step.group[0].slots.begin(), step.group[0].slots.end());
    for (size_t row = 0; row < positions.size(); ++row) {
      if (positions[row] % 2 == 0) slots[row] = -1;
      ++positions[row];
    }
    inner_.rope_store(step, shape, rope, q, k, v, kv);
    StepInputs wrong = step;
    wrong.positions = positions;
    wrong.group[0].slots = slots;
    const Matrix spare_q{reinterpret_cast<std::byte*>(queries.data()), DType::f32, q.rows, q.cols};
    const Matrix spare_k{reinterpret_cast<std::byte*>(keys.data()), DType::f32, k.rows, k.cols};
    inner_.rope_store(wrong, shape, rope, spare_q, spare_k, v, kv);
  }
};

/// The bias of one of q, k and v is left out, in one layer.
class BiasMissing final : public ForwardingBackend {
 public:
  BiasMissing(Backend& inner, int which) : ForwardingBackend(inner), which_(which) {}
  void linear_qkv(const StepInputs& step, Matrix x, const QkvWeights& weights, Matrix q, Matrix k, Matrix v) override {
    QkvWeights wrong = weights;
    if (calls_++ % 3 == 1) (which_ == 0 ? wrong.q_bias : which_ == 1 ? wrong.k_bias : wrong.v_bias) = nullptr;
    inner_.linear_qkv(step, x, wrong, q, k, v);
  }

 private:
  int which_, calls_ = 0;
};

/// In one layer the second block keeps what it held before.
class StaleBlock final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v,
                  KvView kv) override {
    std::vector<int32_t> slots(step.group[0].slots.begin(), step.group[0].slots.end());
    if (shape.layer == 1 && step.tokens[0] == first_token_)
      for (size_t row = 0; row < slots.size(); ++row)
        if (step.positions[row] / limits::kBlockTokens == 1) slots[row] = -1;
    StepInputs wrong = step;
    wrong.group[0].slots = slots;
    inner_.rope_store(wrong, shape, rope, q, k, v, kv);
  }
  int32_t first_token_ = -1;  // of the sequence that goes wrong; the one before is stored in full
};

class PlantedErrors : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void expect_caught(Backend& spoiled) {
    const LogitsDifference difference = difference_to_golden(model_, spoiled, 160);
    EXPECT_FALSE(difference.equivalent()) << difference.describe();
    EXPECT_GT(difference.share_max, 1e-2) << "caught, but only just: " << difference.describe();
  }
  const std::string model_ = std::get<0>(GetParam());
  std::unique_ptr<Backend> backend_ = open_cpu_backend(std::get<1>(GetParam()));
};

TEST_P(PlantedErrors, NothingPlantedPasses) {
  ForwardingBackend faithful(*backend_);
  const LogitsDifference difference = difference_to_golden(model_, faithful, 160);
  EXPECT_TRUE(difference.equivalent()) << difference.describe();
}

TEST_P(PlantedErrors, MaskThatShowsTheFuture) {
  MaskOffByOne spoiled(*backend_);
  expect_caught(spoiled);
}

TEST_P(PlantedErrors, MaskThatHidesTheRowItself) {
  MaskOffByOneBelow spoiled(*backend_);
  expect_caught(spoiled);
}

TEST_P(PlantedErrors, TwoBlocksSwapped) {
  BlocksSwapped spoiled(*backend_);
  expect_caught(spoiled);
}

TEST_P(PlantedErrors, HalfTheKeysOnePositionFurther) {
  HalfTheKeysShifted spoiled(*backend_);
  expect_caught(spoiled);
}

TEST_P(PlantedErrors, StaleBlock) {
  StaleBlock spoiled(*backend_);
  spoiled.first_token_ = golden_logits(model_).texts[0].tokens[0];
  expect_caught(spoiled);
}

using PlantedErrorsWithBiases = PlantedErrors;

TEST_P(PlantedErrorsWithBiases, MissingBias) {
  for (const int which : {0, 1, 2}) {
    BiasMissing spoiled(*backend_, which);
    expect_caught(spoiled);
  }
}

std::string name_of(const testing::TestParamInfo<std::tuple<std::string, std::string>>& instance) {
  return test_name(std::get<0>(instance.param) + "_" + std::get<1>(instance.param));
}

INSTANTIATE_TEST_SUITE_P(All, PlantedErrors, testing::Combine(testing::ValuesIn(tiny_model_names()), testing::ValuesIn(cpu_backend_names())), name_of);
INSTANTIATE_TEST_SUITE_P(Qwen2, PlantedErrorsWithBiases,
                         testing::Combine(testing::Values("tiny-qwen2-gqa7", "tiny-qwen2-tied"), testing::ValuesIn(cpu_backend_names())), name_of);

}  // namespace
}  // namespace pagemill
