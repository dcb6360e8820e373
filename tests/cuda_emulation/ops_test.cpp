// Each op of the CUDA backend on the emulated device against the CPU reference, over shapes that straddle every tile's edge and
// in many orders of threads. Inputs are the same 16-bit values on both sides, so what differs is arithmetic alone.
#include <algorithm>
#include <numeric>

#include "cuda_emulation/op_rig.h"
#include "support/test_step.h"

namespace pagemill {
namespace {

/// A step of `rows` sequences with one row each.
std::unique_ptr<TestStep> plain_step(int32_t rows) {
  std::vector<TestSequence> sequences;
  for (int32_t i = 0; i < rows; ++i) sequences.push_back({.tokens = {i}, .first_position = 0, .blocks = {i}});
  return std::make_unique<TestStep>(sequences);
}

/// With AddressSanitizer everything takes ten times as long: fewer of the same, for what it watches is no matter of orders.
const std::vector<int32_t> kRows = emulated::address_sanitized() ? std::vector<int32_t>{1, 5, 9, 17, 65} : std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257};
const uint64_t kOrders = emulated::address_sanitized() ? 2 : 20;

/// A type on a device whose blocks may use so much shared memory: it decides how the products for few rows are cut.
struct TypeOnDevice {
  DType dtype;
  size_t shared_bytes_max;
};
class Types : public OpTest, public testing::WithParamInterface<TypeOnDevice> {
 protected:
  void SetUp() override { emulated::reset_device({.shared_bytes_max = GetParam().shared_bytes_max}); }
  OpRig::Options options() const { return {.dtype = GetParam().dtype}; }
};

void check_linear(OpRig& rig, int32_t rows, int64_t in, int64_t out, bool with_bias, bool out_f32) {
  Operand x = rig.operand(rows, in, 1);
  const OpRig::Weights weight = rig.weight(out, in, 1 / std::sqrt(static_cast<float>(in)));
  const OpRig::Weights bias = rig.weight(1, out, 0.5f);
  Operand y = out_f32 ? rig.floats(rows, out, std::vector<float>(static_cast<size_t>(rows * out))) : rig.operand(rows, out, 0);
  const auto step = plain_step(rows);
  rig.run(step->inputs(), [&](Backend& backend, const StepInputs& inputs, bool device) {
    backend.linear(inputs, device ? x.device : x.reference, device ? *weight.device : *weight.reference,
                   with_bias ? (device ? bias.device.get() : bias.reference.get()) : nullptr, device ? y.device : y.reference);
  });
  // f32 sums of `in` products differ in their last bits; a 16-bit result is rounded once.
  rig.expect_close(y, out_f32 ? 0.05f : 1.1f, 0.05f, "linear of " + std::to_string(rows) + " rows, [" + std::to_string(out) + ", " + std::to_string(in) + "]");
}

TEST_P(Types, Linear) {
  for (const bool cublas : {true, false}) {
    OpRig::Options opts = options();
    opts.cublas = cublas;
    OpRig rig(opts);
    uint64_t order = 1;
    for (const int32_t rows : kRows) {
      emulated::set_thread_order(order++);
      if (rows > 64 && rows != 65 && !cublas) continue;
      check_linear(rig, rows, 64, 40, rows % 2 == 0, false);
      if (rows <= 17) check_linear(rig, rows, 200, 72, rows % 2 == 1, rows % 3 == 0);
    }
    check_linear(rig, 3, 576, 8, true, false);
    check_linear(rig, 2, 8, 136, false, true);
    check_linear(rig, 1, 1032, 24, false, false);
    rig.make_pools({.layers = 1, .kv_heads = 1, .head_dim = 64, .group_of_layer = {0}, .blocks = {1}});
  }
}

void check_gated(OpRig& rig, int32_t rows, int64_t in, int64_t ffn) {
  Operand x = rig.operand(rows, in, 1);
  const float deviation = 1 / std::sqrt(static_cast<float>(in));
  const OpRig::Weights gate = rig.weight(ffn, in, deviation), up = rig.weight(ffn, in, deviation);
  Operand y = rig.operand(rows, ffn, 0), scratch = rig.operand(rows, ffn, 0);
  const auto step = plain_step(rows);
  rig.run(step->inputs(), [&](Backend& backend, const StepInputs& inputs, bool device) {
    if (device) backend.linear_gated(inputs, x.device, *gate.device, *up.device, Activation::silu, y.device, scratch.device);
    else backend.linear_gated(inputs, x.reference, *gate.reference, *up.reference, Activation::silu, y.reference, scratch.reference);
  });
  // Gate and up are rounded in between, in memory above 64 rows.
  rig.expect_close(y, rows <= 64 ? 3.5f : 4, rows <= 64 ? 0.5f : 6, "gated of " + std::to_string(rows) + " rows, [" + std::to_string(ffn) + ", " + std::to_string(in) + "]");
}

/// A single row of up to 7,168 elements is kept in shared memory where tiles are of two units: around that, around a chunk, with more tiles than blocks, cut and whole.
TEST_P(Types, LinearOfASingleRow) {
  for (const bool deterministic : {false, true}) {
    OpRig::Options opts = options();
    opts.deterministic = deterministic;
    OpRig rig(opts);
    uint64_t order = 500;
    using Shape = std::pair<int64_t, int64_t>;
    for (const auto& [in, out] : std::vector<Shape>{{8, 1000}, {64, 520}, {512, 264}, {520, 776}, {1080, 328}, {7168, 200}, {7176, 200}}) {
      if (emulated::address_sanitized() && in > 520 && in != 7168) continue;
      emulated::set_thread_order(order++);
      check_linear(rig, 1, in, out, order % 2 == 0, order % 3 == 0);
    }
    check_gated(rig, 1, 520, 136);
    rig.make_pools({.layers = 1, .kv_heads = 1, .head_dim = 64, .group_of_layer = {0}, .blocks = {1}});
  }
}

TEST_P(Types, LinearInTwentyOrdersOfThreads) {
  OpRig rig(options());
  for (uint64_t order = 1; order <= kOrders; ++order) {
    emulated::set_thread_order(order);
    check_linear(rig, 5 + static_cast<int32_t>(order % 7), 136, 56, true, order % 2 == 0);
  }
}

TEST_P(Types, LinearGated) {
  OpRig rig(options());
  uint64_t order = 1;
  for (const int32_t rows : kRows) {
    emulated::set_thread_order(order++);
    check_gated(rig, rows, 64, 40);
    if (rows <= 9) check_gated(rig, rows, 136, 88);
  }
}

void check_norm(OpRig& rig, int32_t rows, int64_t n, bool with_delta) {
  Operand x = rig.operand(rows, n, 2), delta = rig.operand(rows, n, 1), y = rig.operand(rows, n, 0);
  const OpRig::Weights weight = rig.weight(1, n, 0.3f, 1.5f);
  const auto step = plain_step(rows);
  rig.run(step->inputs(), [&](Backend& backend, const StepInputs&, bool device) {
    const Weight& w = device ? *weight.device : *weight.reference;
    if (with_delta) backend.add_rms_norm(device ? x.device : x.reference, device ? delta.device : delta.reference, w, 1e-5f, device ? y.device : y.reference);
    else backend.rms_norm(device ? x.device : x.reference, w, 1e-5f, device ? y.device : y.reference);
  });
  const std::string what = "norm of " + std::to_string(rows) + " rows of " + std::to_string(n);
  rig.expect_close(x, 1.01f, 0, what + ": residual");
  rig.expect_close(y, with_delta ? 3 : 1.5f, with_delta ? 3 : 0.1f, what);
}

TEST_P(Types, Norms) {
  OpRig rig(options());
  uint64_t order = 1;
  for (const int32_t rows : {1, 3, 17, 65}) {
    for (const int64_t n : {8, 64, 72, 576, 896, 2056, 4096}) {
      if (rows > 17 && n > 900) continue;
      emulated::set_thread_order(order++);
      check_norm(rig, rows, n, false);
      check_norm(rig, rows, n, true);
    }
  }
}

TEST_P(Types, GatedAndNormsInTwentyOrdersOfThreads) {
  OpRig rig(options());
  for (uint64_t order = 1; order <= kOrders; ++order) {
    emulated::set_thread_order(order);
    check_gated(rig, 1 + static_cast<int32_t>(order % 9), 136, 24);
    check_norm(rig, 1 + static_cast<int32_t>(order % 3), 256 + 8 * static_cast<int64_t>(order), order % 2 == 0);
  }
}

/// Found on a real GPU: many rows were summed up in another order than few, so that a prompt's bits depended on what its step held.
TEST_P(Types, DeterministicNormsLookAtTheirOwnRowAlone) {
  constexpr int32_t kRowsTogether = 48;  // several times the multiprocessors
  constexpr int64_t kHidden = 2056;
  OpRig::Options opts = options();
  opts.deterministic = true;
  OpRig rig(opts);
  const OpRig::Weights weight = rig.weight(1, kHidden, 0.3f, 1.5f);
  Operand x = rig.operand(kRowsTogether, kHidden, 2), together = rig.operand(kRowsTogether, kHidden, 0), alone = rig.operand(1, kHidden, 0);
  const auto norm = [&](Matrix from, const Operand& to) {
    const auto step = plain_step(static_cast<int32_t>(from.rows));
    ASSERT_TRUE(rig.device->begin_step(step->inputs()));
    rig.device->rms_norm(from, *weight.device, 1e-5f, to.device);
    ASSERT_TRUE(rig.device->end_step());
    ASSERT_TRUE(rig.device->finish_step());
  };
  norm(x.device, together);
  const std::vector<float> all = rig.read(together);
  for (size_t row = 0; row < kRowsTogether; ++row) {
    norm({x.device.data + row * kHidden * 2, x.device.dtype, 1, kHidden}, alone);
    const std::vector<float> one = rig.read(alone);
    ASSERT_TRUE(std::equal(one.begin(), one.end(), all.begin() + static_cast<ptrdiff_t>(row * kHidden))) << "row " << row;
  }
}

TEST_P(Types, ElementwiseAndGathers) {
  OpRig rig(options());
  for (uint64_t order = 1; order <= kOrders; ++order) {
    emulated::set_thread_order(order);
    const int64_t cols = 8 * static_cast<int64_t>(order), rows = 1 + static_cast<int64_t>(order % 5);
    Operand a = rig.operand(rows, cols), b = rig.operand(rows, cols), c = rig.operand(rows, cols, 0), sum = rig.operand(rows, cols);
    Operand picked = rig.operand(3, cols, 0);
    std::vector<TestSequence> sequences;
    for (int32_t i = 0; i < rows; ++i) sequences.push_back({.tokens = {i}, .first_position = 0, .blocks = {i}});
    const TestStep step(sequences);
    StepInputs inputs = step.inputs();
    const std::vector<int32_t> wanted = {static_cast<int32_t>(rows) - 1, 0, static_cast<int32_t>(rows / 2)};
    inputs.score_rows = wanted;
    rig.run(inputs, [&](Backend& backend, const StepInputs& there, bool device) {
      backend.gated_activation(Activation::silu, device ? a.device : a.reference, device ? b.device : b.reference, device ? c.device : c.reference);
      backend.add(device ? sum.device : sum.reference, device ? b.device : b.reference);
      backend.gather_rows(there, device ? a.device : a.reference, there.score_rows, device ? picked.device : picked.reference);
    });
    rig.expect_close(c, 1.1f, 1e-3f, "gated activation");
    rig.expect_close(sum, 1.01f, 1e-6f, "add");
    rig.expect_close(picked, 0, 1e-6f, "gather");
  }
}

TEST_P(Types, EmbedsTokensOfTheHostAndOfTheStepBefore) {
  OpRig rig(options());
  const OpRig::Weights table = rig.weight(96, 72, 1);
  Operand x = rig.operand(4, 72, 0);
  // A first step samples tokens 17 and 90 for the second.
  std::vector<float> rows(2 * 512, 0.0f);
  rows[17] = rows[512 + 90] = 9;
  Operand logits = rig.floats(2, 512, rows);
  const auto first = plain_step(2);
  rig.run(first->inputs(), [&](Backend& backend, const StepInputs& inputs, bool device) { backend.sample(inputs, device ? logits.device : logits.reference); });
  SampledToken tokens[2];
  ASSERT_TRUE(rig.device->finish_sample(tokens, {}));
  EXPECT_EQ(tokens[0].token, 17);
  EXPECT_EQ(tokens[1].token, 90);

  const TestStep second({{.tokens = {5}, .first_position = 0, .blocks = {0}}, {.tokens = {0}, .first_position = 1, .blocks = {1}}, {.tokens = {0}, .first_position = 1, .blocks = {2}}}, 1);
  StepInputs inputs = second.inputs();
  const std::vector<int32_t> from = {-1, 1, 0, -1};
  inputs.token_from = from;
  rig.run(inputs, [&](Backend& backend, const StepInputs& there, bool device) {
    backend.embed(there, device ? *table.device : *table.reference, device ? x.device : x.reference);
  });
  rig.expect_close(x, 0, 1e-6f, "embed");
}

INSTANTIATE_TEST_SUITE_P(Cuda, Types,
                         testing::Values(TypeOnDevice{DType::f16, 99 * 1024}, TypeOnDevice{DType::bf16, 99 * 1024}, TypeOnDevice{DType::f16, 163 * 1024},
                                         TypeOnDevice{DType::bf16, 227 * 1024}),
                         [](const auto& each) { return std::string(to_string(each.param.dtype)) + "_" + std::to_string(each.param.shared_bytes_max / 1024) + "KB"; });

// --- Attention -------------------------------------------------------------------------------------------------------------

struct Heads {
  int32_t heads, kv_heads, head_dim;
};

RopeTable rope_table(int32_t head_dim) {
  RopeTable rope;
  for (int32_t i = 0; i < head_dim / 2; ++i) rope.inv_freq.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(head_dim)));
  rope.scale = 1.1f;
  return rope;
}

/// A sequence of `context` tokens whose last `rows` are in the step. Blocks are handed out in a scattered order.
struct AttentionCase {
  int32_t context, rows;
};

/// Stores keys and values of whole contexts, then attends for the last rows: the paths of rope_store and attention together.
void check_attention(OpRig& rig, const Heads& heads, const std::vector<AttentionCase>& cases, int32_t window, bool fused_qkv, const std::string& what) {
  const int32_t queries = heads.heads * heads.head_dim, keys = heads.kv_heads * heads.head_dim, layer = 1;
  const RopeTable rope = rope_table(heads.head_dim);
  ASSERT_TRUE(rig.device->prepare_rope(rope));
  const AttentionShape shape{.layer = layer, .heads = heads.heads, .kv_heads = heads.kv_heads, .head_dim = heads.head_dim,
                             .scale = 1.5f / std::sqrt(static_cast<float>(heads.head_dim)), .window = window};
  int32_t blocks = 0;
  for (const AttentionCase& each : cases) blocks += (each.context + 15) / 16;
  rig.make_pools({.layers = 2, .kv_heads = heads.kv_heads, .head_dim = heads.head_dim, .group_of_layer = {0, 0}, .blocks = {blocks}});
  std::vector<int32_t> order(static_cast<size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i-- > 1;) std::swap(order[i], order[rig.random.below(i + 1)]);
  std::vector<std::vector<int32_t>> tables;
  for (size_t taken = 0; const AttentionCase& each : cases) {
    const auto count = static_cast<size_t>((each.context + 15) / 16);
    tables.emplace_back(order.begin() + static_cast<ptrdiff_t>(taken), order.begin() + static_cast<ptrdiff_t>(taken + count));
    taken += count;
  }
  const auto store = [&](Backend& backend, const StepInputs& there, Matrix q, Matrix k, Matrix v, KvPool* pool) {
    backend.rope_store(there, shape, rope, q, k, v, {pool});
  };
  // What is in the cache already.
  std::vector<TestSequence> before;
  for (size_t s = 0; s < cases.size(); ++s)
    if (cases[s].context > cases[s].rows) before.push_back({.tokens = std::vector<int32_t>(static_cast<size_t>(cases[s].context - cases[s].rows), 1), .first_position = 0, .blocks = tables[s]});
  if (!before.empty()) {
    const TestStep step(before);
    const int64_t rows = step.inputs().shape.rows;
    Operand q = rig.operand(rows, queries), k = rig.operand(rows, keys, 1.5f), v = rig.operand(rows, keys);
    rig.run(step.inputs(), [&](Backend& backend, const StepInputs& there, bool device) {
      store(backend, there, device ? q.device : q.reference, device ? k.device : k.reference, device ? v.device : v.reference, device ? rig.device_pool.get() : rig.reference_pool.get());
    });
  }
  std::vector<TestSequence> now;
  for (size_t s = 0; s < cases.size(); ++s)
    now.push_back({.tokens = std::vector<int32_t>(static_cast<size_t>(cases[s].rows), 1), .first_position = cases[s].context - cases[s].rows, .blocks = tables[s]});
  const TestStep step(now, fused_qkv ? 0 : 2);
  const int64_t rows = step.inputs().shape.rows;
  Operand q = rig.operand(rows, queries, fused_qkv ? 0 : 1), k = rig.operand(rows, keys, fused_qkv ? 0 : 1.5f), v = rig.operand(rows, keys, fused_qkv ? 0 : 1);
  Operand out = rig.operand(rows, queries, 0), once = rig.operand(rows, queries, 0);
  const int64_t in = 64;
  Operand x = rig.operand(rows, in);
  const auto weights = [&](int64_t n) { return rig.weight(n, in, 1.2f / 8); };
  // Behind each other, as a model's are: many rows are one product then.
  if (fused_qkv) {
    ASSERT_TRUE(rig.device->reserve_weights(rig.device->weight_bytes(rig.options.dtype, queries + 2 * keys, in)));
  }
  const OpRig::Weights wq = weights(queries), wk = weights(keys), wv = weights(keys), bq = rig.weight(1, queries, 0.3f), bk = rig.weight(1, keys, 0.3f), bv = rig.weight(1, keys, 0.3f);
  rig.run(step.inputs(), [&](Backend& backend, const StepInputs& there, bool device) {
    const Matrix mq = device ? q.device : q.reference, mk = device ? k.device : k.reference, mv = device ? v.device : v.reference;
    KvPool* pool = device ? rig.device_pool.get() : rig.reference_pool.get();
    if (fused_qkv) {
      const auto pick = [&](const OpRig::Weights& w) { return device ? w.device.get() : w.reference.get(); };
      backend.linear_qkv_rope_store(there, device ? x.device : x.reference, {pick(wq), pick(wk), pick(wv), pick(bq), pick(bk), pick(bv)}, shape, rope, mq, mk, mv, {pool});
    } else {
      store(backend, there, mq, mk, mv, pool);
    }
    // Twice, as layers follow each other: splits are counted, and must be counted anew.
    backend.attention(there, shape, mq, {pool}, device ? once.device : once.reference);
    backend.attention(there, shape, mq, {pool}, device ? out.device : out.reference);
  });
  if (!fused_qkv) {  // padding rows are left alone on the device
    const std::vector<float> there = rig.read(q);
    for (auto i = static_cast<size_t>((rows - 2) * queries); i < there.size(); ++i) out.values[i] = 0, q.values[i] = there[i];
  }
  rig.expect_close(q, 2.1f, fused_qkv ? 4 : 0.3f, what + ": rotated q");  // the fused kernel rounds before it rotates
  // Keys, values, queries and probabilities are rounded to 16 bits; scores reach about 10.
  rig.expect_close(out, 12, 24, what);
}

class Attention : public OpTest, public testing::WithParamInterface<std::tuple<DType, Heads>> {
 protected:
  OpRig::Options options() const {
    const auto [dtype, heads] = GetParam();
    return {.dtype = dtype, .heads = heads.heads, .head_dim = heads.head_dim};
  }
  Heads heads() const { return std::get<Heads>(GetParam()); }
};

TEST_P(Attention, DecodeAroundBlocksAndSplits) {
  uint64_t order = 1;
  for (const std::vector<AttentionCase>& cases : std::vector<std::vector<AttentionCase>>{
           {{1, 1}}, {{15, 1}, {16, 1}, {17, 1}}, {{63, 1}, {64, 1}, {65, 1}, {2, 1}}, {{255, 1}, {33, 1}, {257, 1}}, {{530, 1}}}) {
    OpRig rig(options());
    emulated::set_thread_order(order++);
    check_attention(rig, heads(), cases, 0, order % 2 == 0, "decode after " + std::to_string(cases[0].context));
  }
}

TEST_P(Attention, PrefillOfChunksBesideDecodes) {
  uint64_t order = 100;
  for (const std::vector<AttentionCase>& cases : std::vector<std::vector<AttentionCase>>{
           {{2, 2}}, {{17, 17}, {5, 1}}, {{50, 18}, {30, 1}}, {{65, 3}, {66, 3}, {67, 3}}, {{65, 65}}}) {  // from one before a stage's last token on, at it, and behind it
    if (cases[0].rows == 65 && heads().head_dim > 64) continue;  // more than one tile of rows: once is enough
    OpRig rig(options());
    emulated::set_thread_order(order++);
    check_attention(rig, heads(), cases, 0, false, "prefill of " + std::to_string(cases[0].rows) + " after " + std::to_string(cases[0].context - cases[0].rows));
  }
}

TEST_P(Attention, OneProductForManyRowsAndThreeWithoutCublas) {
  if (heads().heads * heads().head_dim > 600) return;  // seconds each
  for (const bool cublas : {true, false}) {
    OpRig::Options without = options();
    without.cublas = cublas;
    OpRig rig(without);
    check_attention(rig, heads(), {{66, 66}}, 0, true, cublas ? "one product" : "no cuBLASLt");
  }
}

TEST_P(Attention, InTwentyOrdersOfThreads) {
  for (uint64_t order = 401; order <= 400 + kOrders; ++order) {
    OpRig rig(options());
    emulated::set_thread_order(order);
    const auto some = static_cast<int32_t>(order % 4);
    check_attention(rig, heads(), {{30 + some, 1}, {15 + some, 2 + some}}, 0, order % 2 == 0, "order " + std::to_string(order));
  }
}

TEST_P(Attention, Windows) {
  uint64_t order = 200;
  for (const int32_t window : {1, 16, 20}) {
    OpRig rig(options());
    emulated::set_thread_order(order++);
    check_attention(rig, heads(), {{90, 1}, {19, 1}, {50, 9}}, window, false, "a window of " + std::to_string(window));
  }
}

TEST_P(Attention, DeterministicRowsDoNotDependOnTheirNeighbours) {
  OpRig::Options opts = options();
  opts.deterministic = true;
  OpRig rig(opts);
  emulated::set_thread_order(300);
  check_attention(rig, heads(), {{70, 5}, {33, 1}, {18, 18}}, 0, true, "deterministic");
}

INSTANTIATE_TEST_SUITE_P(Cuda, Attention,
                         testing::Values(std::tuple{DType::f16, Heads{3, 3, 64}}, std::tuple{DType::bf16, Heads{9, 3, 64}}, std::tuple{DType::f16, Heads{4, 1, 128}},
                                         std::tuple{DType::bf16, Heads{7, 1, 128}}, std::tuple{DType::f16, Heads{18, 1, 64}},
                                         std::tuple{DType::f16, Heads{8, 1, 96}}, std::tuple{DType::f16, Heads{4, 2, 256}}),
                         [](const auto& each) {
                           const Heads heads = std::get<Heads>(each.param);
                           return std::string(to_string(std::get<DType>(each.param))) + "_" + std::to_string(heads.heads) + "_" + std::to_string(heads.kv_heads) + "_" + std::to_string(heads.head_dim);
                         });

// --- Blocks and sampling ------------------------------------------------------------------------------------------------------

TEST_F(OpTest, CopiesBlocksOfEveryLayer) {
  OpRig rig({});
  const RopeTable rope = rope_table(64);
  ASSERT_TRUE(rig.device->prepare_rope(rope));
  rig.make_pools({.layers = 3, .kv_heads = 2, .head_dim = 64, .group_of_layer = {0, 0, 0}, .blocks = {6}});
  const TestStep first({{.tokens = std::vector<int32_t>(32, 1), .first_position = 0, .blocks = {4, 1}}});
  const TestStep second({{.tokens = {1}, .first_position = 32, .blocks = {0, 5, 2}}});
  for (int32_t layer = 0; layer < 3; ++layer) {
    const AttentionShape shape{.layer = layer, .heads = 2, .kv_heads = 2, .head_dim = 64, .scale = 0.2f};
    Operand q = rig.operand(32, 128), k = rig.operand(32, 128), v = rig.operand(32, 128);
    rig.run(first.inputs(), [&](Backend& backend, const StepInputs& there, bool device) {
      backend.rope_store(there, shape, rope, device ? q.device : q.reference, device ? k.device : k.reference, device ? v.device : v.reference,
                         {device ? rig.device_pool.get() : rig.reference_pool.get()});
    });
  }
  for (int32_t layer = 0; layer < 3; ++layer) {
    const AttentionShape shape{.layer = layer, .heads = 2, .kv_heads = 2, .head_dim = 64, .scale = 0.2f};
    Operand q = rig.operand(1, 128), k = rig.operand(1, 128), v = rig.operand(1, 128), out = rig.operand(1, 128, 0);
    rig.run(second.inputs(), [&](Backend& backend, const StepInputs& there, bool device) {
      const KvView kv{device ? rig.device_pool.get() : rig.reference_pool.get()};
      if (layer == 0) {
        const Backend::BlockCopy copies[] = {{0, 4, 0}, {0, 1, 5}};
        backend.copy_blocks(kv, copies);
      }
      backend.rope_store(there, shape, rope, device ? q.device : q.reference, device ? k.device : k.reference, device ? v.device : v.reference, kv);
      backend.attention(there, shape, device ? q.device : q.reference, kv, device ? out.device : out.reference);
    });
    rig.expect_close(out, 8, 8, "layer " + std::to_string(layer));
  }
}

/// Rows with every kind of parameter; the device must pick the reference's token from the same logits, for ever.
TEST_F(OpTest, SamplesTheReferencesTokens) {
  constexpr int32_t kVocab = 1000, kRowsOfStep = 12;
  OpRig rig({.largest = {.rows = 16, .seqs = 16, .logit_rows = 16, .query_rows_max = 16, .context_max = 64}, .vocab = kVocab});
  for (uint64_t order = 1; order <= kOrders; ++order) {
    emulated::set_thread_order(order);
    std::vector<TestSequence> sequences(kRowsOfStep, {.tokens = {1}, .first_position = 0, .blocks = {0}});
    const TestStep step(sequences);
    StepInputs inputs = step.inputs();
    std::vector<SamplingRow> sampling(kRowsOfStep);
    std::vector<HistoryEntry> history;
    std::vector<BiasEntry> bias;
    std::vector<uint32_t> masks(2 * ((kVocab + 31) / 32));
    for (uint32_t& word : masks) word = static_cast<uint32_t>(rig.random());
    for (size_t i = 0; i < sampling.size(); ++i) {
      SamplingRow& row = sampling[i];
      row.temperature = i % 4 == 0 ? 0.0f : 0.5f + 0.2f * static_cast<float>(i);
      row.seed = rig.random();
      row.position = order;
      if (i % 3 == 1) row.top_p = 0.7f;
      if (i % 5 == 2) row.top_k = 17;
      if (i % 6 == 3) row.min_p = 0.05f;
      if (i == 7) row.typical_p = 0.6f;
      row.history_begin = static_cast<int32_t>(history.size());
      if (i % 2 == 0) {
        row.repetition_penalty = 1.3f, row.presence_penalty = 0.4f, row.frequency_penalty = 0.2f;
        for (int32_t t = static_cast<int32_t>(i); t < kVocab; t += 37) history.push_back({t, t % 3});
      }
      row.history_end = static_cast<int32_t>(history.size());
      row.bias_begin = static_cast<int32_t>(bias.size());
      if (i % 3 == 0) bias.insert(bias.end(), {{static_cast<int32_t>(i), 2.5f}, {999, -std::numeric_limits<float>::infinity()}});
      row.bias_end = static_cast<int32_t>(bias.size());
      if (i % 4 == 3) row.mask = static_cast<int32_t>(i % 2);
      row.logprobs = static_cast<int32_t>(i) - 3 > 20 ? 20 : static_cast<int32_t>(i) - 3;
      if (row.logprobs < -1) row.logprobs = -1;
    }
    inputs.sampling = sampling;
    inputs.history = history;
    inputs.bias = bias;
    inputs.masks = masks;
    Operand logits = rig.floats(kRowsOfStep, kVocab, rig.normal(kRowsOfStep * kVocab, 2.5f));
    const std::vector<float> before = logits.values;
    rig.run(inputs, [&](Backend& backend, const StepInputs& there, bool device) { backend.sample(there, device ? logits.device : logits.reference); });
    std::vector<SampledToken> expected(kRowsOfStep), got(kRowsOfStep);
    std::vector<LogprobRow> expected_rows(kRowsOfStep), got_rows(kRowsOfStep);
    ASSERT_TRUE(rig.reference.finish_sample(expected, expected_rows));
    ASSERT_TRUE(rig.device->finish_sample(got, got_rows));
    for (size_t i = 0; i < sampling.size(); ++i) {
      EXPECT_EQ(got[i].token, expected[i].token) << "row " << i << ", order " << order;
      if (sampling[i].logprobs < 0) continue;
      EXPECT_NEAR(got[i].logprob, expected[i].logprob, 1e-4) << i;
      EXPECT_EQ(got[i].rank, expected[i].rank) << i;
      ASSERT_EQ(got_rows[i].top.size(), expected_rows[i].top.size()) << i;
      for (size_t t = 0; t < got_rows[i].top.size(); ++t) {
        EXPECT_EQ(got_rows[i].top[t].token, expected_rows[i].top[t].token) << i;
        EXPECT_NEAR(got_rows[i].top[t].logprob, expected_rows[i].top[t].logprob, 1e-4) << i;
      }
    }
    EXPECT_EQ(rig.read(logits), before) << "the logits are kept as they were";
  }
}

/// More equal logits than the kernels' lists hold: what a filter keeps last is found by the keys' bytes then.
TEST_F(OpTest, SamplesAmongThousandsOfEqualLogits) {
  constexpr int32_t kVocab = 5000;
  const std::vector<SamplingRow> sampling = {
      {.temperature = 1, .top_k = 20}, {.temperature = 1, .top_k = 2500}, {.temperature = 1, .top_p = 0.3f}, {.temperature = 0.7f, .typical_p = 0.4f},
      {.temperature = 1, .top_p = 0.9f, .top_k = 300}, {.temperature = 1, .top_p = 0.5f, .min_p = 0.3f}, {.temperature = 2, .top_k = 4000, .logprobs = 20}};
  const auto rows = static_cast<int32_t>(sampling.size());
  OpRig rig({.largest = {.rows = 16, .seqs = 16, .logit_rows = 16, .query_rows_max = 16, .context_max = 64}, .vocab = kVocab});
  const TestStep step(std::vector<TestSequence>(sampling.size(), {.tokens = {1}, .first_position = 0, .blocks = {0}}));
  for (const int levels : emulated::address_sanitized() ? std::vector{1} : std::vector{1, 2, 5}) {
    std::vector<SamplingRow> seeded = sampling;
    for (SamplingRow& row : seeded) row.seed = rig.random();
    StepInputs inputs = step.inputs();
    inputs.sampling = seeded;
    std::vector<float> values(static_cast<size_t>(rows * kVocab));
    for (float& value : values) value = static_cast<float>(rig.random.below(static_cast<uint64_t>(levels)));
    Operand logits = rig.floats(rows, kVocab, values);
    emulated::set_thread_order(static_cast<uint64_t>(levels));
    rig.run(inputs, [&](Backend& backend, const StepInputs& there, bool device) { backend.sample(there, device ? logits.device : logits.reference); });
    std::vector<SampledToken> expected(sampling.size()), got(sampling.size());
    std::vector<LogprobRow> expected_rows(sampling.size()), got_rows(sampling.size());
    ASSERT_TRUE(rig.reference.finish_sample(expected, expected_rows));
    ASSERT_TRUE(rig.device->finish_sample(got, got_rows));
    for (size_t i = 0; i < sampling.size(); ++i) EXPECT_EQ(got[i].token, expected[i].token) << "row " << i << " of " << levels << " different logits";
    ASSERT_EQ(got_rows.back().top.size(), expected_rows.back().top.size());
    for (size_t t = 0; t < got_rows.back().top.size(); ++t) EXPECT_EQ(got_rows.back().top[t].token, expected_rows.back().top[t].token);
  }
}

TEST_F(OpTest, LogprobsOfGivenTokens) {
  constexpr int32_t kVocab = 777;
  OpRig rig({.largest = {.rows = 16, .seqs = 16, .logit_rows = 16, .query_rows_max = 16, .context_max = 64}, .vocab = kVocab});
  Operand logits = rig.floats(5, kVocab, rig.normal(5 * kVocab, 2));
  const std::vector<int32_t> targets = {0, 776, 13, 400, 32};
  for (const int32_t top : {0, 1, 20}) {
    std::vector<LogprobRow> expected(5), got(5);
    ASSERT_TRUE(rig.reference.logprobs(logits.reference, targets, top, expected));
    ASSERT_TRUE(rig.device->logprobs(logits.device, targets, top, got));
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(got[i].chosen, expected[i].chosen, 1e-4);
      EXPECT_EQ(got[i].rank, expected[i].rank);
      ASSERT_EQ(got[i].top.size(), static_cast<size_t>(top));
      for (size_t t = 0; t < got[i].top.size(); ++t) EXPECT_EQ(got[i].top[t].token, expected[i].top[t].token);
    }
  }
}

/// Histories that do not fit on the device together are sampled in pieces.
TEST_F(OpTest, SamplesInPiecesWhereHistoriesAreLong) {
  constexpr int32_t kVocab = 200'000, kRowsOfStep = 3;  // a row's own history always fits, three do not
  OpRig rig({.largest = {.rows = 4, .seqs = 4, .logit_rows = 4, .query_rows_max = 4, .context_max = 64}, .vocab = kVocab});
  const TestStep step(std::vector<TestSequence>(kRowsOfStep, {.tokens = {1}, .first_position = 0, .blocks = {0}}));
  StepInputs inputs = step.inputs();
  std::vector<SamplingRow> sampling(kRowsOfStep);
  std::vector<HistoryEntry> history;
  for (size_t i = 0; i < sampling.size(); ++i) {
    sampling[i] = {.temperature = 0.0f, .repetition_penalty = 2, .history_begin = static_cast<int32_t>(history.size())};
    for (int32_t t = 0; t < kVocab - 10 * static_cast<int32_t>(i + 1); ++t) history.push_back({t, 1});
    sampling[i].history_end = static_cast<int32_t>(history.size());
  }
  inputs.sampling = sampling;
  inputs.history = history;
  Operand logits = rig.floats(kRowsOfStep, kVocab, rig.normal(int64_t{kRowsOfStep} * kVocab, 1, 4));
  rig.run(inputs, [&](Backend& backend, const StepInputs& there, bool device) { backend.sample(there, device ? logits.device : logits.reference); });
  std::vector<SampledToken> expected(kRowsOfStep), got(kRowsOfStep);
  ASSERT_TRUE(rig.reference.finish_sample(expected, {}));
  ASSERT_TRUE(rig.device->finish_sample(got, {}));
  for (size_t i = 0; i < sampling.size(); ++i) {
    EXPECT_EQ(got[i].token, expected[i].token);
    EXPECT_GE(got[i].token, kVocab - 10 * static_cast<int32_t>(i + 1)) << "one without a penalty wins";
  }
}

}  // namespace
}  // namespace pagemill
