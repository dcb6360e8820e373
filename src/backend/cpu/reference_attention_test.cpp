// Rotary embedding, the cache and attention of the reference against the formula in double precision over whole sequences.
#include <cmath>
#include <map>

#include "backend/cpu/reference_backend.h"
#include "base/rng.h"
#include "support/test_step.h"

namespace pagemill {
namespace {

struct Case {
  int32_t heads = 4, kv_heads = 2, head_dim = 8, window = 0;
  DType kv_dtype = DType::f32;
  double tolerance = 1e-5;
};

/// Queries, keys and values of whole sequences before rotation, and what attention makes of them.
class Oracle {
 public:
  Oracle(const Case& shape, const RopeTable& rope, int32_t tokens, uint64_t seed) : shape_(shape), rope_(rope) {
    SplitMix64 random(seed);
    for (auto [rows, heads] : {std::pair{&q, shape.heads}, {&k, shape.kv_heads}, {&v, shape.kv_heads}}) {
      rows->resize(static_cast<size_t>(tokens));
      for (auto& row : *rows)
        for (int32_t i = 0; i < heads * shape.head_dim; ++i) row.push_back(static_cast<float>(random.normal() * 1.5));
    }
  }

  std::vector<double> output(int32_t position) const {
    std::vector<double> out;
    const int32_t first = shape_.window > 0 ? std::max(0, position + 1 - shape_.window) : 0;
    for (int32_t head = 0; head < shape_.heads; ++head) {
      const int32_t kv_head = head / (shape_.heads / shape_.kv_heads);
      const auto query = rotated(q, position, head);
      std::vector<double> weights;
      double sum = 0;
      for (int32_t t = first; t <= position; ++t) {
        const auto key = rotated(k, t, kv_head);
        double score = 0;
        for (size_t i = 0; i < key.size(); ++i) score += query[i] * key[i];
        weights.push_back(std::exp(score / std::sqrt(shape_.head_dim)));
        sum += weights.back();
      }
      for (int32_t d = 0; d < shape_.head_dim; ++d) {
        double value = 0;
        for (int32_t t = first; t <= position; ++t)
          value += weights[static_cast<size_t>(t - first)] / sum * v[static_cast<size_t>(t)][static_cast<size_t>(kv_head * shape_.head_dim + d)];
        out.push_back(value);
      }
    }
    return out;
  }

  std::vector<std::vector<float>> q, k, v;

 private:
  std::vector<double> rotated(const std::vector<std::vector<float>>& rows, int32_t position, int32_t head) const {
    const auto half = static_cast<size_t>(shape_.head_dim / 2);
    const float* row = &rows[static_cast<size_t>(position)][static_cast<size_t>(head * shape_.head_dim)];
    std::vector<double> out(2 * half);
    for (size_t i = 0; i < half; ++i) {
      const double angle = double{rope_.inv_freq[i]} * position, scale = rope_.scale;
      out[i] = scale * (row[i] * std::cos(angle) - row[i + half] * std::sin(angle));
      out[i + half] = scale * (row[i + half] * std::cos(angle) + row[i] * std::sin(angle));
    }
    return out;
  }

  Case shape_;
  RopeTable rope_;
};

class ReferenceAttention : public testing::TestWithParam<Case> {};

/// Two sequences in steps of odd sizes, blocks all over the pool, layers in two groups, a padding row.
TEST_P(ReferenceAttention, EqualsTheFormula) {
  const Case& shape = GetParam();
  RopeTable rope{.scale = 1.1f};
  for (int32_t i = 0; i < shape.head_dim / 2; ++i) rope.inv_freq.push_back(std::pow(100.0f, -2.0f * static_cast<float>(i) / static_cast<float>(shape.head_dim)));
  ReferenceBackend backend(2);
  ASSERT_TRUE(backend.reserve_scratch({.rows = 64, .seqs = 2, .logit_rows = 2}, shape.heads, shape.head_dim, 8, 8));
  const auto pool = backend.allocate_kv({.layers = 3, .kv_heads = shape.kv_heads, .head_dim = shape.head_dim, .dtype = shape.kv_dtype,
                                         .group_of_layer = {0, 1, 0}, .blocks = {20, 20}});
  ASSERT_TRUE(pool);
  const KvView kv{pool->get()};
  const std::vector<int32_t> tables[] = {{7, 3, 15, 0}, {12, 1, 19, 4}};
  std::vector<Oracle> oracles[3];  // per layer, per sequence
  for (uint64_t layer = 0; layer < 3; ++layer)
    for (uint64_t s = 0; s < 2; ++s) oracles[layer].emplace_back(shape, rope, 60, layer * 10 + s + 1);

  int32_t done[2] = {0, 0};
  for (const auto& [first, second] : {std::pair{20, 1}, {13, 5}, {1, 30}, {1, 1}, {20, 20}}) {
    const int32_t counts[] = {first, second};
    std::vector<TestSequence> sequences;
    for (size_t s = 0; s < 2; ++s) sequences.push_back({std::vector<int32_t>(static_cast<size_t>(counts[s])), done[s], tables[s]});
    const TestStep step(sequences, 1, 2);
    for (int32_t layer = 0; layer < 3; ++layer) {
      std::vector<float> q, k, v;
      for (size_t s = 0; s < 2; ++s) {
        const Oracle& oracle = oracles[layer][s];
        for (auto i = static_cast<size_t>(done[s]); i < static_cast<size_t>(done[s] + counts[s]); ++i) {
          q.insert(q.end(), oracle.q[i].begin(), oracle.q[i].end());
          k.insert(k.end(), oracle.k[i].begin(), oracle.k[i].end());
          v.insert(v.end(), oracle.v[i].begin(), oracle.v[i].end());
        }
      }
      const int64_t rows = step.inputs().shape.rows, q_cols = int64_t{shape.heads} * shape.head_dim, kv_cols = int64_t{shape.kv_heads} * shape.head_dim;
      q.resize(static_cast<size_t>(rows * q_cols), NAN);  // padding rows hold garbage
      k.resize(static_cast<size_t>(rows * kv_cols), NAN);
      v.resize(static_cast<size_t>(rows * kv_cols), NAN);
      std::vector<float> out(q.size());
      const auto as_matrix = [&](std::vector<float>& values, int64_t cols) {
        return Matrix{reinterpret_cast<std::byte*>(values.data()), DType::f32, rows, cols};
      };
      const AttentionShape attention{.layer = layer, .heads = shape.heads, .kv_heads = shape.kv_heads, .head_dim = shape.head_dim,
                                     .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)), .window = shape.window};
      backend.rope_store(step.inputs(), attention, rope, as_matrix(q, q_cols), as_matrix(k, kv_cols), as_matrix(v, kv_cols), kv);
      backend.attention(step.inputs(), attention, as_matrix(q, q_cols), kv, as_matrix(out, q_cols));
      size_t at = 0;
      for (size_t s = 0; s < 2; ++s)
        for (int32_t i = 0; i < counts[s]; ++i)
          for (const double expected : oracles[layer][s].output(done[s] + i))
            ASSERT_NEAR(out[at++], expected, shape.tolerance) << "layer " << layer << ", sequence " << s << ", position " << done[s] + i;
    }
    for (size_t s = 0; s < 2; ++s) done[s] += counts[s];
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ReferenceAttention,
                         testing::Values(Case{}, Case{.heads = 3, .kv_heads = 3, .head_dim = 2}, Case{.heads = 6, .kv_heads = 2, .head_dim = 6},
                                         Case{.heads = 7, .kv_heads = 1, .head_dim = 64}, Case{.window = 1}, Case{.window = 16},
                                         Case{.window = 21}, Case{.window = 1000}, Case{.kv_dtype = DType::f16, .tolerance = 2e-2},
                                         Case{.window = 5, .kv_dtype = DType::bf16, .tolerance = 1.5e-1}));

// With 16-bit elements the cache must hold exactly the rounded values: one position sees only itself, so its value comes back.
TEST(ReferenceCache, RoundsToNearestEven) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    ReferenceBackend backend(1);
    ASSERT_TRUE(backend.reserve_scratch({.rows = 1, .seqs = 1, .logit_rows = 1}, 1, 4, 8, 8));
    const auto pool = backend.allocate_kv({.layers = 1, .kv_heads = 1, .head_dim = 4, .dtype = dtype, .group_of_layer = {0}, .blocks = {1}});
    ASSERT_TRUE(pool);
    std::vector<float> q{1, 2, 3, 4}, k{4, 3, 2, 1}, v{0.1f, -1.2345f, 3e-6f, 1000.7f}, out(4);
    const TestStep step({{{0}, 0, {0}}});
    const RopeTable rope{.inv_freq = {1, 0.5f}};
    const AttentionShape shape{.heads = 1, .kv_heads = 1, .head_dim = 4, .scale = 0.5f};
    const auto as_matrix = [](std::vector<float>& values) { return Matrix{reinterpret_cast<std::byte*>(values.data()), DType::f32, 1, 4}; };
    backend.rope_store(step.inputs(), shape, rope, as_matrix(q), as_matrix(k), as_matrix(v), {pool->get()});
    backend.attention(step.inputs(), shape, as_matrix(q), {pool->get()}, as_matrix(out));
    for (size_t i = 0; i < 4; ++i)
      EXPECT_EQ(out[i], dtype == DType::f16 ? f16_to_f32(f32_to_f16(v[i])) : bf16_to_f32(f32_to_bf16(v[i])));
  }
}

TEST(ReferenceCache, BytesOfABlockCountTheLayersOfItsGroup) {
  const ReferenceBackend backend(1);
  const KvPoolSpec spec{.layers = 3, .kv_heads = 2, .head_dim = 8, .dtype = DType::f16, .group_of_layer = {0, 1, 0}, .blocks = {4, 5}};
  EXPECT_EQ(backend.kv_block_bytes(spec, 0), size_t{2} * 2 * 2 * 16 * 8 * 2);
  EXPECT_EQ(backend.kv_block_bytes(spec, 1), size_t{1} * 2 * 2 * 16 * 8 * 2);
}

}  // namespace
}  // namespace pagemill
