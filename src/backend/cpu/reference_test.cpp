// Each op of the reference against the plainest statement of its formula in double precision.
#include "backend/cpu/reference_backend.h"

#include <cmath>
#include <numeric>

#include "base/dequantize.h"
#include "base/rng.h"
#include "support/test_step.h"

namespace pagemill {
namespace {

using Floats = std::vector<float>;

Floats random_floats(size_t count, uint64_t seed, double scale = 1) {
  SplitMix64 random(seed);
  Floats values(count);
  for (float& value : values) value = static_cast<float>(random.normal() * scale);
  return values;
}

Matrix matrix(Floats& values, int64_t cols) {
  return {reinterpret_cast<std::byte*>(values.data()), DType::f32, static_cast<int64_t>(values.size()) / cols, cols};
}

WeightBytes f32_weight(const Floats& values, int64_t out, int64_t in, int64_t unpermute = 0) {
  return {"w", DType::f32, out, in, std::as_bytes(std::span(values)), unpermute};
}

/// Relative to `scale`, the size of the numbers that went in.
void expect_close(std::span<const float> ours, const std::vector<double>& oracle, double scale, double tolerance = 2e-6) {
  ASSERT_EQ(ours.size(), oracle.size());
  for (size_t i = 0; i < ours.size(); ++i) ASSERT_NEAR(ours[i], oracle[i], tolerance * scale) << i;
}

class ReferenceOps : public testing::Test {
 protected:
  std::unique_ptr<Weight> prepare(const WeightBytes& bytes) { return std::move(backend_.prepare_weight(bytes).value()); }

  ReferenceBackend backend_{3};
  TestStep step_{{{{5, 1, 4}, 0, {0}}}};
};

TEST_F(ReferenceOps, LinearForEveryCountOfRowsAndOddSizes) {
  for (const int64_t rows : {1, 2, 3, 8}) {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {19, 33}, {64, 16}, {50, 100}}) {
      const Floats weight = random_floats(static_cast<size_t>(out * in), 1), bias = random_floats(static_cast<size_t>(out), 2);
      Floats x = random_floats(static_cast<size_t>(rows * in), 3), y(static_cast<size_t>(rows * out)), plain(y.size());
      const auto w = prepare(f32_weight(weight, out, in)), b = prepare(f32_weight(bias, 1, out));
      backend_.linear(step_.inputs(), matrix(x, in), *w, b.get(), matrix(y, out));
      backend_.linear(step_.inputs(), matrix(x, in), *w, nullptr, matrix(plain, out));
      std::vector<double> oracle, without;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t n = 0; n < out; ++n) {
          double sum = 0;
          for (int64_t k = 0; k < in; ++k) sum += double{x[static_cast<size_t>(r * in + k)]} * weight[static_cast<size_t>(n * in + k)];
          without.push_back(sum);
          oracle.push_back(sum + bias[static_cast<size_t>(n)]);
        }
      }
      expect_close(y, oracle, std::sqrt(in));
      expect_close(plain, without, std::sqrt(in));
    }
  }
}

TEST_F(ReferenceOps, LinearReadsEveryTypeOfWeight) {
  constexpr int64_t kOut = 11, kIn = 512, kRows = 3;
  Floats x = random_floats(kRows * kIn, 4), y(kRows * kOut);
  for (int type = 0; type < kDTypeCount; ++type) {
    const auto dtype = static_cast<DType>(type);
    std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(dtype, kIn) * kOut));
    SplitMix64 random(static_cast<uint64_t>(type));
    // Small exponents everywhere: whatever a byte means in this type, the value is finite.
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(0x30));
    Floats weight(kOut * kIn);
    for (size_t n = 0; n < kOut; ++n) {
      const size_t width = bytes.size() / kOut;
      dequantize_row(dtype, std::span(bytes).subspan(n * width, width), std::span(weight).subspan(n * kIn, kIn));
    }
    const double largest = std::abs(*std::max_element(weight.begin(), weight.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
    backend_.linear(step_.inputs(), matrix(x, kIn), *prepare({"w", dtype, kOut, kIn, bytes}), nullptr, matrix(y, kOut));
    std::vector<double> oracle;
    for (size_t r = 0; r < kRows; ++r)
      for (size_t n = 0; n < kOut; ++n)
        oracle.push_back(std::inner_product(&x[r * kIn], &x[r * kIn] + kIn, &weight[n * kIn], 0.0,
                                            std::plus<>{}, [](float a, float b) { return double{a} * b; }));
    ASSERT_TRUE(std::isfinite(largest)) << to_string(dtype);
    expect_close(y, oracle, largest * std::sqrt(double{kIn}), 1e-5);
  }
}

TEST_F(ReferenceOps, LinearUnpermutesInterleavedRows) {
  constexpr int64_t kHeads = 3, kDim = 6, kIn = 4;
  const Floats file = random_floats(kHeads * kDim * kIn, 5);
  Floats x = random_floats(kIn, 6), y(kHeads * kDim), in_file_order(y.size());
  backend_.linear(step_.inputs(), matrix(x, kIn), *prepare(f32_weight(file, kHeads * kDim, kIn, kDim)), nullptr, matrix(y, kHeads * kDim));
  backend_.linear(step_.inputs(), matrix(x, kIn), *prepare(f32_weight(file, kHeads * kDim, kIn)), nullptr, matrix(in_file_order, kHeads * kDim));
  for (size_t h = 0; h < kHeads; ++h)
    for (size_t i = 0; i < kDim / 2; ++i)
      for (size_t j = 0; j < 2; ++j) EXPECT_EQ(y[h * kDim + j * kDim / 2 + i], in_file_order[h * kDim + 2 * i + j]);
  // A vector's elements likewise.
  Floats zero(kHeads * kDim * kIn), shifted(y.size());
  const auto bias = prepare(f32_weight(in_file_order, 1, kHeads * kDim, kDim));
  backend_.linear(step_.inputs(), matrix(x, kIn), *prepare(f32_weight(zero, kHeads * kDim, kIn)), bias.get(), matrix(shifted, kHeads * kDim));
  EXPECT_EQ(shifted, y);
}

TEST_F(ReferenceOps, RmsNorm) {
  for (const int64_t n : {1, 5, 64, 100}) {
    Floats x = random_floats(static_cast<size_t>(3 * n), 7, 5), y(x.size());
    const Floats weight = random_floats(static_cast<size_t>(n), 8);
    const auto w = prepare(f32_weight(weight, 1, n));
    backend_.rms_norm(matrix(x, n), *w, 1e-3f, matrix(y, n));
    std::vector<double> oracle;
    for (size_t r = 0; r < 3; ++r) {
      double square = 0;
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) square += double{x[r * static_cast<size_t>(n) + i]} * x[r * static_cast<size_t>(n) + i];
      const double scale = 1 / std::sqrt(square / static_cast<double>(n) + double{1e-3f});
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) oracle.push_back(x[r * static_cast<size_t>(n) + i] * scale * weight[i]);
    }
    expect_close(y, oracle, 3);
    backend_.rms_norm(matrix(x, n), *w, 1e-3f, matrix(x, n));  // in place
    EXPECT_EQ(x, y);
  }
}

TEST_F(ReferenceOps, GatedActivationAndAdd) {
  Floats gate = random_floats(20'000, 9, 4), up = random_floats(gate.size(), 10), out(gate.size());
  gate[0] = -200;  // exp overflows: the product must still be 0
  gate[1] = 200;
  backend_.gated_activation(Activation::silu, matrix(gate, 100), matrix(up, 100), matrix(out, 100));
  std::vector<double> oracle, sum;
  for (size_t i = 0; i < gate.size(); ++i) {
    oracle.push_back(gate[i] / (1 + std::exp(-double{gate[i]})) * up[i]);
    sum.push_back(double{gate[i]} + up[i]);
  }
  expect_close(out, oracle, 200);
  EXPECT_EQ(out[0], 0.0f);
  backend_.add(matrix(gate, 100), matrix(up, 100));
  expect_close(gate, sum, 20);
}

TEST_F(ReferenceOps, EmbedTakesTokensOfTheStepOrOfTheStepBefore) {
  const Floats table = random_floats(6 * 4, 11);
  const auto w = prepare(f32_weight(table, 6, 4));
  ASSERT_TRUE(backend_.reserve_scratch({.rows = 4, .seqs = 4, .logit_rows = 4}, 1, 2, 4, 6));
  const TestStep padded({{{5, 1, 4}, 0, {0}}}, 1);
  Floats out(4 * 4, 99);
  backend_.embed(padded.inputs(), *w, matrix(out, 4));
  const Floats expected = [&] {
    Floats rows;
    for (const size_t token : {5, 1, 4}) rows.insert(rows.end(), &table[token * 4], &table[token * 4] + 4);
    rows.resize(16, 0);
    return rows;
  }();
  EXPECT_EQ(out, expected);

  Floats logits{0, 0, 9, 0, 0, 0, /**/ 0, 0, 0, 7, 0, 0};
  const TestStep before({{{1}, 0, {0}}, {{1}, 0, {1}}});
  backend_.sample(before.inputs(), matrix(logits, 6));
  SampledToken sampled[2];
  ASSERT_TRUE(backend_.finish_sample(sampled, {}));
  EXPECT_EQ(sampled[0].token, 2);
  EXPECT_EQ(sampled[1].token, 3);
  StepInputs inputs = before.inputs();
  const int32_t from[] = {1, -1};
  inputs.token_from = from;
  Floats next(2 * 4);
  backend_.embed(inputs, *w, matrix(next, 4));
  EXPECT_TRUE(std::equal(next.begin(), next.begin() + 4, &table[3 * 4]));
  EXPECT_TRUE(std::equal(next.begin() + 4, next.end(), &table[1 * 4]));
}

TEST_F(ReferenceOps, GatherRowsAndRead) {
  Floats x(12), out(6), back(6);
  std::iota(x.begin(), x.end(), 0.0f);
  const int32_t rows[] = {3, 1};
  backend_.gather_rows(step_.inputs(), matrix(x, 3), rows, matrix(out, 3));
  EXPECT_EQ(out, (Floats{9, 10, 11, 3, 4, 5}));
  ASSERT_TRUE(backend_.read(matrix(out, 3), back));
  EXPECT_EQ(back, out);
}

TEST_F(ReferenceOps, LogprobsOfGivenTokens) {
  ASSERT_TRUE(backend_.reserve_scratch({.rows = 2, .seqs = 2, .logit_rows = 2}, 1, 2, 4, 3));
  Floats logits{1, 3, 2, /**/ 0, 0, 0};
  const int32_t targets[] = {2, 0};
  std::vector<LogprobRow> rows(2);
  ASSERT_TRUE(backend_.logprobs(matrix(logits, 3), targets, 2, rows));
  EXPECT_NEAR(rows[0].chosen, 2 - std::log(std::exp(1.0) + std::exp(2.0) + std::exp(3.0)), 1e-5);
  EXPECT_EQ(rows[0].rank, 2);
  ASSERT_EQ(rows[0].top.size(), 2u);
  EXPECT_EQ(rows[0].top[0].token, 1);
  EXPECT_NEAR(rows[1].chosen, -std::log(3.0), 1e-5);
}

TEST_F(ReferenceOps, MemoryIsZeroedAndTooMuchIsRefused) {
  const auto buffer = backend_.allocate(1 << 20, "a test");
  ASSERT_TRUE(buffer);
  EXPECT_EQ((*buffer)->size_bytes(), size_t{1} << 20);
  EXPECT_TRUE(std::all_of((*buffer)->data(), (*buffer)->data() + (1 << 20), [](std::byte b) { return b == std::byte{0}; }));
  const auto refused = backend_.allocate(size_t{1} << 46, "the moon");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::out_of_memory);
  EXPECT_NE(refused.error().message.find("the moon"), std::string::npos);
  const auto pool = backend_.allocate_kv({.layers = 1, .kv_heads = 1, .head_dim = 8, .dtype = DType::q8_0, .group_of_layer = {0}, .blocks = {1}});
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code, ErrorCode::unsupported);
  EXPECT_NE(pool.error().message.find("32"), std::string::npos) << pool.error().message;
}

}  // namespace
}  // namespace pagemill
