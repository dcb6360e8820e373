// Every op of the CPU backend, on every instruction set of this CPU and the plain instance, against the reference.
//
// Tolerances are bounds, not guesses: what rounding can do to the numbers at hand. The plain instance and AVX2 do the same operations in
// the same order, so they must agree to the last bit: an index that is wrong in one of them shows.
#include "backend/cpu/cpu_backend.h"

#include <cmath>
#include <cstring>

#include "base/quant_blocks.h"
#include "base/rng.h"
#include "support/cpu_backends.h"
#include "support/test_step.h"

namespace pagemill {
namespace {

using Floats = std::vector<float>;
constexpr float kEpsilon = 1.2e-7f;  // of f32

Floats random_floats(size_t count, uint64_t seed, double scale = 1) {
  SplitMix64 random(seed);
  Floats values(count);
  for (float& value : values) value = static_cast<float>(random.normal() * scale);
  return values;
}

Matrix matrix(Floats& values, int64_t cols) {
  return {reinterpret_cast<std::byte*>(values.data()), DType::f32, static_cast<int64_t>(values.size()) / cols, cols};
}

bool same_bits(const Floats& a, const Floats& b) { return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0; }

/// A weight of some type with values of about `scale`, written by way of random blocks that are valid in every type.
struct TestWeight {
  TestWeight(DType dtype, int64_t out, int64_t in, uint64_t seed) : dtype_(dtype), out_(out), in_(in) {
    SplitMix64 random(seed);
    bytes_.resize(static_cast<size_t>(row_bytes(dtype, in) * out));
    if (dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16) {
      for (int64_t i = 0; i < out * in; ++i) {
        const auto value = static_cast<float>(random.normal());
        const uint16_t bits = dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
        if (dtype == DType::f32) std::memcpy(bytes_.data() + i * 4, &value, 4);
        else std::memcpy(bytes_.data() + i * 2, &bits, 2);
      }
    } else {
      for (std::byte& byte : bytes_) byte = static_cast<std::byte>(random.below(0x30));  // small exponents: finite whatever a byte means
    }
  }
  std::unique_ptr<Weight> prepare(Backend& backend) const {
    auto weight = backend.prepare_weight({"w", dtype_, out_, in_, bytes_});
    PM_CHECK(weight, "{}", weight.error().message);
    return std::move(*weight);
  }

 private:
  DType dtype_;
  int64_t out_, in_;
  std::vector<std::byte> bytes_;
};

class CpuOps : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (Backend* backend : {fast_.get(), plain_.get(), oracle_.get()})
      ASSERT_TRUE(backend->reserve_scratch({.rows = kRowsMost, .seqs = 8, .logit_rows = kRowsMost, .context_max = 2048}, 8, 64, 1024, 1024));
  }
  static constexpr int32_t kRowsMost = 70;
  /// Whether this instruction set must agree with the plain instance to the bit.
  bool as_plain() const { return GetParam() == "plain" || GetParam() == kPlainTiles || GetParam().starts_with("avx2") || GetParam() == "avx_vnni"; }

  const std::unique_ptr<Backend> fast_ = open_cpu_backend(GetParam(), 3, false), plain_ = open_cpu_backend("plain", 2), oracle_ = open_cpu_backend("reference");
  TestStep step_{{{{5, 1, 4}, 0, {0}}}};
};

TEST_P(CpuOps, SaysWhatRuns) { EXPECT_EQ(fast_->device().isa, GetParam()); }

TEST_P(CpuOps, AddRmsNorm) {
  for (const int64_t n : {1, 5, 64, 100, 896}) {
    const TestWeight weight(DType::f32, 1, n, 8);
    const Floats x = random_floats(static_cast<size_t>(7 * n), 1, 5), delta = random_floats(x.size(), 2);
    Floats ours_x = x, plain_x = x, theirs_x = x, d = delta, ours(x.size()), plain(x.size()), theirs(x.size());
    fast_->add_rms_norm(matrix(ours_x, n), matrix(d, n), *weight.prepare(*fast_), 1e-3f, matrix(ours, n));
    plain_->add_rms_norm(matrix(plain_x, n), matrix(d, n), *weight.prepare(*plain_), 1e-3f, matrix(plain, n));
    oracle_->add_rms_norm(matrix(theirs_x, n), matrix(d, n), *weight.prepare(*oracle_), 1e-3f, matrix(theirs, n));
    EXPECT_EQ(ours_x, theirs_x);  // one addition each
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(ours[i], theirs[i], std::abs(theirs[i]) * kEpsilon * static_cast<float>(n + 8)) << n;
    if (as_plain()) { EXPECT_TRUE(same_bits(ours, plain)) << n; }
    fast_->rms_norm(matrix(ours_x, n), *weight.prepare(*fast_), 1e-3f, matrix(ours_x, n));  // in place
    EXPECT_TRUE(same_bits(ours_x, ours)) << n;
  }
}

TEST_P(CpuOps, GatedActivationAndAdd) {
  for (const int64_t cols : {1, 7, 80, 1000}) {
    Floats gate = random_floats(static_cast<size_t>(9 * cols), 9, 4), up = random_floats(gate.size(), 10), ours(gate.size()), plain(gate.size()), theirs(gate.size());
    gate[0] = -200;  // exp overflows: the product must still be 0
    gate.back() = 200;
    fast_->gated_activation(Activation::silu, matrix(gate, cols), matrix(up, cols), matrix(ours, cols));
    plain_->gated_activation(Activation::silu, matrix(gate, cols), matrix(up, cols), matrix(plain, cols));
    oracle_->gated_activation(Activation::silu, matrix(gate, cols), matrix(up, cols), matrix(theirs, cols));
    // e^x within some units, e^x / (1 + e^x) amplifies an error of the exponent |x| · ε at most as much.
    for (size_t i = 0; i < gate.size(); ++i) ASSERT_NEAR(ours[i], theirs[i], std::abs(theirs[i]) * kEpsilon * (8 + 2 * std::abs(gate[i])) + 1e-30f);
    if (as_plain()) { EXPECT_TRUE(same_bits(ours, plain)); }
    Floats sum = gate;
    oracle_->add(matrix(gate, cols), matrix(up, cols));
    fast_->add(matrix(sum, cols), matrix(up, cols));
    EXPECT_EQ(sum, gate);
  }
}

/// What rounding x to int8 in blocks of 32 can change in a product with `weight`, at most: half a step of each block's scale. Rounding to
/// bf16: half of the last of 8 bits of the largest, of x and, where weights are unpacked to bf16, of those too.
Floats rounding_bound(const Floats& x, int64_t rows, const Floats& weight, int64_t out, int64_t in, const PackedWeight& packed) {
  const bool quantized = packed.wants_quantized(rows);
  const double roundings = packed.wants_rounded(rows) ? (packed.is_quantized() ? 2.01 : 1) : 0;
  Floats bound(static_cast<size_t>(rows * out));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < out; ++n) {
      double total = 0, sizes = 0;
      for (int64_t b = 0; b < in; b += 32) {
        double largest = 0, weights = 0;
        for (int64_t k = b; k < std::min(b + 32, in); ++k) {
          largest = std::max(largest, std::abs(double{x[static_cast<size_t>(r * in + k)]}));
          weights += std::abs(double{weight[static_cast<size_t>(n * in + k)]});
        }
        total += largest / 254 * weights;
        sizes += largest * weights;
      }
      bound[static_cast<size_t>(r * out + n)] = static_cast<float>((quantized ? total * 1.01 : 0) + roundings * sizes * 0x1p-8 + sizes * double{kEpsilon} * static_cast<double>(in) + 1e-20);
    }
  }
  return bound;
}

TEST_P(CpuOps, LinearOfEveryType) {
  constexpr int64_t kOut = 48, kIn = 512;
  for (int type = 0; type < kDTypeCount; ++type) {
    const auto dtype = static_cast<DType>(type);
    const TestWeight weight(dtype, kOut, kIn, static_cast<uint64_t>(type) + 3), bias(DType::f32, 1, kOut, 77);
    const auto ours = weight.prepare(*fast_), theirs = weight.prepare(*oracle_), our_bias = bias.prepare(*fast_), their_bias = bias.prepare(*oracle_);
    // The weight as floats: unit rows through the reference.
    Floats unit(kIn * kIn, 0), columns(kIn * kOut), w(kOut * kIn);
    for (size_t i = 0; i < kIn; ++i) unit[i * kIn + i] = 1;
    oracle_->linear(step_.inputs(), matrix(unit, kIn), *theirs, nullptr, matrix(columns, kOut));
    for (size_t k = 0; k < kIn; ++k)
      for (size_t n = 0; n < kOut; ++n) w[n * kIn + k] = columns[k * kOut + n];
    for (const int64_t rows : {1, 3, 8, 17, 37}) {
      Floats x = random_floats(static_cast<size_t>(rows * kIn), 5), y(static_cast<size_t>(rows * kOut)), expected(y.size());
      fast_->linear(step_.inputs(), matrix(x, kIn), *ours, our_bias.get(), matrix(y, kOut));
      oracle_->linear(step_.inputs(), matrix(x, kIn), *theirs, their_bias.get(), matrix(expected, kOut));
      const Floats bound = rounding_bound(x, rows, w, kOut, kIn, static_cast<const PackedWeight&>(*ours));
      for (size_t i = 0; i < y.size(); ++i)
        ASSERT_NEAR(y[i], expected[i], bound[i] + std::abs(expected[i]) * 4 * kEpsilon) << to_string(dtype) << ", " << rows << " rows, " << i;
    }
  }
}

/// A matrix that was rounded while it was written gives what rounding it afterwards gives, and one that was overwritten never
/// its old values.
TEST_P(CpuOps, RowsRoundedOnTheWayAreTheSameRows) {
  constexpr int64_t kN = 256, kRows = 11;
  const TestWeight norm(DType::f32, 1, kN, 1), weight(DType::q8_0, 64, kN, 2);
  const auto n = norm.prepare(*fast_), w = weight.prepare(*fast_);
  Floats x = random_floats(kRows * kN, 3), normed(x.size()), y(kRows * 64), again(y.size());
  fast_->rms_norm(matrix(x, kN), *n, 1e-5f, matrix(normed, kN));
  fast_->linear(step_.inputs(), matrix(normed, kN), *w, nullptr, matrix(y, 64));
  Floats copy = normed;
  fast_->linear(step_.inputs(), matrix(copy, kN), *w, nullptr, matrix(again, 64));
  EXPECT_TRUE(same_bits(y, again));

  const int32_t rows[] = {4, 0};
  Floats gathered(2 * kN), picked(2 * 64);
  fast_->gather_rows(step_.inputs(), matrix(normed, kN), rows, matrix(gathered, kN));
  fast_->linear(step_.inputs(), matrix(gathered, kN), *w, nullptr, matrix(picked, 64));
  EXPECT_TRUE(std::equal(picked.begin(), picked.begin() + 64, y.begin() + 4 * 64));
  EXPECT_TRUE(std::equal(picked.begin() + 64, picked.end(), y.begin()));

  fast_->add(matrix(normed, kN), matrix(x, kN));
  Floats added = normed, moved(y.size());
  fast_->linear(step_.inputs(), matrix(normed, kN), *w, nullptr, matrix(y, 64));
  fast_->linear(step_.inputs(), matrix(added, kN), *w, nullptr, matrix(moved, 64));
  EXPECT_TRUE(same_bits(y, moved));
  EXPECT_FALSE(same_bits(y, again));
}

/// A backend with weights of two types that read the same rows, and what every op that writes such rows needs.
class RowWriters {
 public:
  static constexpr int64_t kN = 96, kOut = 8;  // three heads, three blocks
  RowWriters(const std::string& isa, DType first, DType second, int32_t rows_most) : backend_(open_cpu_backend(isa, 3, false)) {
    PM_CHECK(backend_->reserve_scratch({.rows = rows_most, .seqs = 1, .logit_rows = rows_most, .context_max = 128}, 3, 32, kN, 32));
    auto made = backend_->allocate_kv({.layers = 1, .kv_heads = 1, .head_dim = 32, .dtype = DType::f32, .group_of_layer = {0}, .blocks = {8}});
    PM_CHECK(made, "{}", made.error().message);
    kv_ = std::move(*made);
    norm_ = TestWeight(DType::f32, 1, kN, 1).prepare(*backend_);
    gate_ = TestWeight(first, kN, kN, 2).prepare(*backend_);
    up_ = TestWeight(second, kN, kN, 3).prepare(*backend_);
    readers_[0] = TestWeight(first, kOut, kN, 4).prepare(*backend_);
    readers_[1] = TestWeight(second, kOut, kN, 5).prepare(*backend_);
  }

  void check(int32_t rows) {
    const TestStep step({{std::vector<int32_t>(static_cast<size_t>(rows)), 0, consecutive_blocks(0, rows)}});
    Floats x = random_floats(static_cast<size_t>(rows * kN), 6, 3), delta = random_floats(x.size(), 7), normed(x.size()), gated(x.size()), scratch(x.size());
    backend_->rms_norm(matrix(x, kN), *norm_, 1e-5f, matrix(normed, kN));
    expect_rounded(step.inputs(), normed, "rms_norm");
    backend_->add_rms_norm(matrix(x, kN), matrix(delta, kN), *norm_, 1e-5f, matrix(normed, kN));
    const Products before = expect_rounded(step.inputs(), normed, "add_rms_norm");
    backend_->linear_gated(step.inputs(), matrix(normed, kN), *gate_, *up_, Activation::silu, matrix(gated, kN), matrix(scratch, kN));
    EXPECT_EQ(products(step.inputs(), normed), before) << rows << " rows, read while others were written";
    backend_->linear_gated(step.inputs(), matrix(normed, kN), *gate_, *up_, Activation::silu, matrix(gated, kN), matrix(scratch, kN));
    expect_rounded(step.inputs(), gated, "linear_gated");
    backend_->gated_activation(Activation::silu, matrix(x, kN), matrix(delta, kN), matrix(gated, kN));
    expect_rounded(step.inputs(), gated, "gated_activation");
    std::vector<int32_t> picked;
    for (int32_t row = rows; row-- > 0;) picked.push_back(row);
    backend_->gather_rows(step.inputs(), matrix(x, kN), picked, matrix(gated, kN));
    expect_rounded(step.inputs(), gated, "gather_rows");
    RopeTable rope{.inv_freq = Floats(16, 0.5f)};
    Floats k = random_floats(static_cast<size_t>(rows * 32), 8), v = random_floats(k.size(), 9);
    const AttentionShape shape{.layer = 0, .heads = 3, .kv_heads = 1, .head_dim = 32, .scale = 0.2f};
    backend_->rope_store(step.inputs(), shape, rope, matrix(x, kN), matrix(k, 32), matrix(v, 32), {kv_.get()});
    backend_->attention(step.inputs(), shape, matrix(x, kN), {kv_.get()}, matrix(gated, kN));
    expect_rounded(step.inputs(), gated, "attention");
  }

 private:
  using Products = std::array<Floats, 3>;
  /// What `written`'s products must be: those of a copy, whose forms are made in phases of their own. Those of `written` are there: its f32 form is spoilt
  /// unseen, where no weight reads that.
  Products expect_rounded(const StepInputs& step, Floats& written, const char* op) {
    const int64_t rows = static_cast<int64_t>(written.size()) / kN;
    Floats copy = written, zeros(written.size());
    backend_->add(matrix(copy, kN), matrix(zeros, kN));  // whatever was at its address before
    Products expected = products(step, copy);
    const bool forms = std::all_of(std::begin(readers_), std::end(readers_), [&](const std::unique_ptr<Weight>& reader) {
      const auto& weight = static_cast<const PackedWeight&>(*reader);
      return weight.wants_quantized(rows) || weight.wants_rounded(rows);
    });
    if (forms) std::fill(written.begin(), written.end(), 1e9f);
    const Products got = products(step, written);
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(got[i], expected[i])) << op << ", " << rows << " rows, product " << i;
    return expected;
  }
  Products products(const StepInputs& step, Floats& x) {
    Products out;
    for (Floats& each : out) each.resize(x.size() / kN * kOut);
    backend_->linear_qkv(step, matrix(x, kN), {readers_[0].get(), readers_[1].get(), readers_[0].get(), nullptr, nullptr, nullptr}, matrix(out[0], kOut), matrix(out[1], kOut), matrix(out[2], kOut));
    return out;
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<KvPool> kv_;
  std::unique_ptr<Weight> norm_, gate_, up_, readers_[2];
};

TEST_P(CpuOps, WhoeverWritesRowsMakesTheFormsThatProductsRead) {
  for (const auto& [first, second] : {std::pair{DType::bf16, DType::bf16}, {DType::q8_0, DType::q8_0}, {DType::bf16, DType::q8_0}}) {
    RowWriters writers(GetParam(), first, second, kRowsMost);
    for (int32_t rows = 1; rows <= kRowsMost; ++rows) writers.check(rows);
  }
}

TEST_P(CpuOps, FusedProductsEqualPlainOnes) {
  constexpr int64_t kIn = 256, kFfn = 96;
  for (const auto& [dtype, rows] : {std::pair<DType, int64_t>{DType::q4_k, 13}, {DType::q8_0, 13}, {DType::f16, 13}, {DType::bf16, 13}, {DType::f32, 13}, {DType::q8_0, 29}, {DType::bf16, 29}, {DType::f32, 29}}) {
    const TestWeight q(dtype, 128, kIn, 1), k(DType::q6_k, 32, kIn, 2), v(dtype, 32, kIn, 3), bias(DType::f32, 1, 128, 4), small(DType::f32, 1, 32, 5);
    const auto wq = q.prepare(*fast_), wk = k.prepare(*fast_), wv = v.prepare(*fast_), bq = bias.prepare(*fast_), bk = small.prepare(*fast_);
    Floats x = random_floats(static_cast<size_t>(rows * kIn), 6), copy = x;
    Floats fused[3] = {Floats(static_cast<size_t>(rows * 128)), Floats(static_cast<size_t>(rows * 32)), Floats(static_cast<size_t>(rows * 32))}, plain[3] = {fused[0], fused[1], fused[2]};
    fast_->linear_qkv(step_.inputs(), matrix(x, kIn), {wq.get(), wk.get(), wv.get(), bq.get(), bk.get(), nullptr}, matrix(fused[0], 128), matrix(fused[1], 32), matrix(fused[2], 32));
    fast_->linear(step_.inputs(), matrix(copy, kIn), *wq, bq.get(), matrix(plain[0], 128));
    fast_->linear(step_.inputs(), matrix(copy, kIn), *wk, bk.get(), matrix(plain[1], 32));
    fast_->linear(step_.inputs(), matrix(copy, kIn), *wv, nullptr, matrix(plain[2], 32));
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(fused[i], plain[i])) << to_string(dtype) << ", " << "qkv"[i];

    const TestWeight gate(dtype, kFfn, kIn, 7), up(dtype, kFfn, kIn, 8), down(DType::q8_0, 64, kFfn, 9);
    const auto wg = gate.prepare(*fast_), wu = up.prepare(*fast_), wd = down.prepare(*fast_);
    Floats out(static_cast<size_t>(rows * kFfn)), g(out.size()), u(out.size()), scratch(out.size()), y(static_cast<size_t>(rows * 64)), z(y.size());
    fast_->linear_gated(step_.inputs(), matrix(x, kIn), *wg, *wu, Activation::silu, matrix(out, kFfn), matrix(scratch, kFfn));
    fast_->linear(step_.inputs(), matrix(x, kIn), *wg, nullptr, matrix(g, kFfn));
    fast_->linear(step_.inputs(), matrix(x, kIn), *wu, nullptr, matrix(u, kFfn));
    Floats separate(out.size());
    oracle_->gated_activation(Activation::silu, matrix(g, kFfn), matrix(u, kFfn), matrix(separate, kFfn));
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_NEAR(out[i], separate[i], std::abs(separate[i]) * kEpsilon * (16 + 2 * std::abs(g[i])) + 1e-30f) << to_string(dtype);
    fast_->linear(step_.inputs(), matrix(out, kFfn), *wd, nullptr, matrix(y, 64));
    Floats again = out;
    fast_->linear(step_.inputs(), matrix(again, kFfn), *wd, nullptr, matrix(z, 64));
    EXPECT_TRUE(same_bits(y, z)) << to_string(dtype);
  }
}

TEST_P(CpuOps, TheMlpEqualsItsTwoProducts) {
  constexpr int64_t kIn = 256, kFfn = 96, kOut = 64;
  for (const DType dtype : {DType::q8_0, DType::f16, DType::bf16, DType::f32}) {
    const auto gate = TestWeight(DType::q4_k, kFfn, kIn, 1).prepare(*fast_), up = TestWeight(DType::q4_k, kFfn, kIn, 2).prepare(*fast_), down = TestWeight(dtype, kOut, kFfn, 3).prepare(*fast_);
    for (const int64_t rows : {1, 13, 29, 60}) {
      Floats x = random_floats(static_cast<size_t>(rows * kIn), 4), gated(static_cast<size_t>(rows * kFfn)), scratch(gated.size()), expected(static_cast<size_t>(rows * kOut)), got(expected.size());
      fast_->linear_gated(step_.inputs(), matrix(x, kIn), *gate, *up, Activation::silu, matrix(gated, kFfn), matrix(scratch, kFfn));
      fast_->linear(step_.inputs(), matrix(gated, kFfn), *down, nullptr, matrix(expected, kOut));
      std::fill(gated.begin(), gated.end(), std::nanf(""));
      fast_->linear_mlp(step_.inputs(), matrix(x, kIn), {gate.get(), up.get(), down.get()}, Activation::silu, matrix(gated, kFfn), matrix(scratch, kFfn), matrix(got, kOut));
      EXPECT_TRUE(same_bits(got, expected)) << to_string(dtype) << ", " << rows << " rows";
    }
  }
}

TEST_P(CpuOps, EmbedEqualsTheReference) {
  for (const DType dtype : {DType::f32, DType::f16, DType::q4_0, DType::q6_k}) {
    const TestWeight table(dtype, 6, 256, 11);
    const TestStep padded({{{5, 1, 4}, 0, {0}}}, 2);
    Floats ours(5 * 256, 99), theirs(ours.size());
    fast_->embed(padded.inputs(), *table.prepare(*fast_), matrix(ours, 256));
    oracle_->embed(padded.inputs(), *table.prepare(*oracle_), matrix(theirs, 256));
    EXPECT_EQ(ours, theirs) << to_string(dtype);
  }
}

std::vector<std::string> op_backend_names() {
  std::vector<std::string> names = fast_backend_names();
  names.emplace_back(kPlainTiles);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Isas, CpuOps, testing::ValuesIn(op_backend_names()), [](const auto& each) { return test_name(each.param); });

struct AttentionCase {
  int32_t heads = 4, kv_heads = 2, head_dim = 64, window = 0;
  DType dtype = DType::f16;
  bool long_context = false;  // past two spans
};

std::string name_of(const AttentionCase& c) {
  return std::to_string(c.heads) + "_" + std::to_string(c.kv_heads) + "_" + std::to_string(c.head_dim) + "_w" + std::to_string(c.window) + "_" + std::string(to_string(c.dtype));
}

class CpuAttention : public testing::TestWithParam<std::tuple<std::string, AttentionCase>> {};

/// One backend in the lock step of the test.
struct Side {
  Side(const std::string& isa, int threads, const AttentionCase& shape, bool deterministic = true) : backend(open_cpu_backend(isa, threads, deterministic)) {
    PM_CHECK(backend->reserve_scratch({.rows = 512, .seqs = 3, .logit_rows = 3, .context_max = 1024}, shape.heads, shape.head_dim, 8, 8));
    auto made = backend->allocate_kv({.layers = 2, .kv_heads = shape.kv_heads, .head_dim = shape.head_dim, .dtype = shape.dtype, .group_of_layer = {0, 0}, .blocks = {130}});
    PM_CHECK(made, "{}", made.error().message);
    pool = std::move(*made);
  }
  /// As in a model with quantised weights.
  void round_rows() { quantised = TestWeight(DType::q8_0, 32, 32, 1).prepare(*backend); }
  void run(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, const Floats& queries, const Floats& keys, Floats values) {
    q = queries;
    k = keys;
    out.assign(q.size(), 7);
    const int64_t q_cols = int64_t{shape.heads} * shape.head_dim, kv_cols = int64_t{shape.kv_heads} * shape.head_dim;
    backend->rope_store(step, shape, rope, matrix(q, q_cols), matrix(k, kv_cols), matrix(values, kv_cols), {pool.get()});
    backend->attention(step, shape, matrix(q, q_cols), {pool.get()}, matrix(out, q_cols));
  }
  std::unique_ptr<Backend> backend;
  std::unique_ptr<KvPool> pool;
  std::unique_ptr<Weight> quantised;
  Floats q, k, out;
};

/// Three sequences that grow past a span in steps of odd sizes, their blocks all over the pool.
TEST_P(CpuAttention, EqualsTheReference) {
  const auto& [isa, c] = GetParam();
  Side fast(isa, 3, c), alone(isa, 1, c), plain("plain", 2, c), oracle("reference", 2, c), sizes("reference", 2, c), exact(isa, 2, c);
  for (Side* side : {&fast, &alone, &plain}) side->round_rows();
  const bool bf16 = isa == "avx512_vnni" || isa == kPlainTiles;
  RopeTable rope{.scale = 1.1f};
  for (int32_t i = 0; i < c.head_dim / 2; ++i) rope.inv_freq.push_back(std::pow(100.0f, -2.0f * static_cast<float>(i) / static_cast<float>(c.head_dim)));
  std::vector<std::vector<int32_t>> tables(3);
  for (int32_t i = 0; i < 120; ++i) tables[static_cast<size_t>(i % 3)].push_back((i * 37 + 11) % 130);

  int32_t done[3] = {0, 0, 0};
  uint64_t seed = 1;
  for (const std::array<int32_t, 3>& counts : {std::array{250, 1, 10}, {5, 3, 30}, {1, 1, 1}, {c.long_context ? 258 : 9, 16, 1}, {1, 1, 1}, {c.long_context ? 60 : 3, 5, 20}}) {
    std::vector<TestSequence> sequences;
    for (size_t s = 0; s < 3; ++s) sequences.push_back({std::vector<int32_t>(static_cast<size_t>(counts[s])), done[s], tables[s]});
    const TestStep step(sequences, 1);
    const auto rows = static_cast<size_t>(step.inputs().shape.rows);
    const AttentionShape shape{.layer = 1, .heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.head_dim,
                               .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)), .window = c.window};
    const Floats q = random_floats(rows * static_cast<size_t>(c.heads * c.head_dim), ++seed, 1.5),
                 k = random_floats(rows * static_cast<size_t>(c.kv_heads * c.head_dim), ++seed, 1.5), v = random_floats(k.size(), ++seed);
    for (Side* side : {&fast, &alone, &plain, &oracle, &exact}) side->run(step.inputs(), shape, rope, q, k, v);
    Floats magnitudes = v;
    for (float& value : magnitudes) value = std::abs(value);
    sizes.run(step.inputs(), shape, rope, q, k, magnitudes);
    EXPECT_TRUE(same_bits(fast.q, oracle.q) && same_bits(fast.k, oracle.k)) << "rotation";
    EXPECT_TRUE(same_bits(fast.out, alone.out)) << "one task or many";
    if (isa != "avx512" && isa != "amx" && !bf16) { EXPECT_TRUE(same_bits(fast.out, plain.out)) << "as the plain instance"; }
    // Scores of up to about 15 are off by their own rounding, weights by e to that, and a value is a mean of about |v| ≤ 5. In bf16 weights and values are
    // each off by half of the last of 8 bits too.
    const float tolerance = 5 * kEpsilon * (15 * static_cast<float>(c.head_dim) / 8 + 60);
    const size_t real = (rows - 1) * static_cast<size_t>(c.heads * c.head_dim);
    for (size_t i = 0; i < real; ++i) {
      ASSERT_NEAR(fast.out[i], oracle.out[i], tolerance + (bf16 ? sizes.out[i] * (0x1p-7f + 0x1p-10f) : 0)) << "element " << i;
      ASSERT_NEAR(exact.out[i], oracle.out[i], tolerance) << "element " << i << " in a model whose products round nothing";
    }
    EXPECT_EQ(same_bits(fast.out, exact.out), !bf16);
    for (size_t s = 0; s < 3; ++s) done[s] += counts[s];
  }
  // The caches hold the same bits.
  const auto &ours = static_cast<const CpuKvPool&>(*fast.pool), &theirs = static_cast<const CpuKvPool&>(*oracle.pool);
  const size_t head_bytes = ours.device_bytes / (2 * 130 * static_cast<size_t>(c.kv_heads));
  for (int32_t layer = 0; layer < 2; ++layer)
    for (int32_t block = 0; block < 130; ++block)
      for (int32_t head = 0; head < c.kv_heads; ++head)
        ASSERT_EQ(std::memcmp(ours.head_block(layer, block, head).keys, theirs.head_block(layer, block, head).keys, head_bytes), 0) << block;
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CpuAttention,
    testing::Combine(testing::ValuesIn(op_backend_names()),
                     testing::Values(AttentionCase{.dtype = DType::f32}, AttentionCase{.long_context = true}, AttentionCase{.dtype = DType::bf16}, AttentionCase{.dtype = DType::q8_0},
                                     AttentionCase{.heads = 14}, AttentionCase{.heads = 6, .head_dim = 6}, AttentionCase{.heads = 3, .kv_heads = 3, .head_dim = 2, .dtype = DType::f32},
                                     AttentionCase{.heads = 9, .kv_heads = 3, .head_dim = 96, .dtype = DType::q8_0}, AttentionCase{.heads = 7, .kv_heads = 1, .head_dim = 128},
                                     AttentionCase{.heads = 2, .head_dim = 256}, AttentionCase{.heads = 100, .kv_heads = 2, .head_dim = 8},
                                     AttentionCase{.window = 1}, AttentionCase{.window = 100, .dtype = DType::q8_0}, AttentionCase{.window = 300, .dtype = DType::f32, .long_context = true})),
    [](const auto& each) { return test_name(std::get<0>(each.param) + "_" + name_of(std::get<1>(each.param))); });

/// Steps long enough for attention by tiles, three sequences with contexts past a span. Weights and values are each off by half of the last of 8 bits (2^-8),
/// scores by far less: with rounded queries and keys instead of their two parts it would be ten times that.
TEST(CpuTileAttention, AgreesWithTheReferenceWithinItsRoundingWhateverStandsBesideARow) {
  std::vector<std::string> names = {kPlainTiles};
  if (isa_available(Isa::amx)) names.emplace_back("amx");
  for (const std::string& isa : names) {
    for (const AttentionCase& c : {AttentionCase{.head_dim = 64, .dtype = DType::f32}, AttentionCase{.heads = 14, .dtype = DType::f16}, AttentionCase{.heads = 7, .kv_heads = 1, .head_dim = 128, .dtype = DType::q8_0},
                                   AttentionCase{.heads = 3, .kv_heads = 1, .head_dim = 32, .window = 40}, AttentionCase{.head_dim = 96, .window = 300, .dtype = DType::bf16}, AttentionCase{.heads = 50, .kv_heads = 1, .head_dim = 32}}) {
      SCOPED_TRACE(isa + " " + name_of(c));
      Side tiles(isa, 3, c, false), parts(isa, 1, c, false), vectors(isa, 2, c, true), oracle("reference", 2, c), sizes("reference", 2, c);
      const RopeTable rope{.inv_freq = Floats(static_cast<size_t>(c.head_dim / 2), 0.1f)};
      const AttentionShape shape{.layer = 1, .heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)), .window = c.window};
      std::vector<std::vector<int32_t>> tables(3);
      for (int32_t i = 0; i < 120; ++i) tables[static_cast<size_t>(i % 3)].push_back((i * 37 + 11) % 130);
      int32_t done[3] = {0, 0, 0};
      uint64_t seed = 1;
      for (const std::array<int32_t, 3>& counts : {std::array{130, 1, 10}, {129, 64, 1}, {1, 1, 250}, {63, 1, 100}}) {
        std::vector<TestSequence> all, halves[2];
        for (size_t s = 0; s < 3; ++s) {
          const int32_t half = counts[s] / 2;
          all.push_back({std::vector<int32_t>(static_cast<size_t>(counts[s])), done[s], tables[s]});
          if (half > 0) halves[0].push_back({std::vector<int32_t>(static_cast<size_t>(half)), done[s], tables[s]});
          halves[1].push_back({std::vector<int32_t>(static_cast<size_t>(counts[s] - half)), done[s] + half, tables[s]});
        }
        const TestStep step(all);
        const auto rows = static_cast<size_t>(step.inputs().shape.rows);
        const size_t q_cols = static_cast<size_t>(c.heads * c.head_dim), kv_cols = static_cast<size_t>(c.kv_heads * c.head_dim);
        const Floats q = random_floats(rows * q_cols, ++seed, 1.5), k = random_floats(rows * kv_cols, ++seed, 1.5), v = random_floats(k.size(), ++seed);
        Floats magnitudes = v;
        for (float& value : magnitudes) value = std::abs(value);
        for (Side* side : {&tiles, &vectors, &oracle}) side->run(step.inputs(), shape, rope, q, k, v);
        sizes.run(step.inputs(), shape, rope, q, k, magnitudes);
        for (size_t i = 0; i < tiles.out.size(); ++i) ASSERT_NEAR(tiles.out[i], oracle.out[i], sizes.out[i] * (0x1p-7f + 0x1p-10f) + 1e-6f) << "element " << i;
        EXPECT_FALSE(same_bits(tiles.out, vectors.out)) << "no tile was used";

        // The same rows in two steps.
        size_t first_row = 0;
        Floats in_parts(tiles.out.size());
        std::array<size_t, 3> at{};
        for (size_t s = 0; s < 3; ++s) at[s] = first_row, first_row += static_cast<size_t>(counts[s]);
        for (int half = 0; half < 2; ++half) {
          const TestStep part(halves[half]);
          Floats part_q, part_k, part_v;
          std::vector<std::pair<size_t, size_t>> ranges;  // of rows
          for (size_t s = 0; s < 3; ++s) {
            const auto count = static_cast<size_t>(half == 0 ? counts[s] / 2 : counts[s] - counts[s] / 2);
            if (count == 0) continue;
            ranges.emplace_back(at[s], count);
            at[s] += count;
          }
          for (const auto& [begin, count] : ranges) {
            const auto append = [&](Floats& to, const Floats& from, size_t cols) { to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(begin * cols), from.begin() + static_cast<std::ptrdiff_t>((begin + count) * cols)); };
            append(part_q, q, q_cols), append(part_k, k, kv_cols), append(part_v, v, kv_cols);
          }
          parts.run(part.inputs(), shape, rope, part_q, part_k, part_v);
          auto from = parts.out.begin();
          for (const auto& [begin, count] : ranges) {
            std::copy_n(from, count * q_cols, in_parts.begin() + static_cast<std::ptrdiff_t>(begin * q_cols));
            from += static_cast<std::ptrdiff_t>(count * q_cols);
          }
        }
        EXPECT_TRUE(same_bits(in_parts, tiles.out)) << "rows beside others";
        for (size_t s = 0; s < 3; ++s) done[s] += counts[s];
      }
    }
  }
}

/// Prints the table of docs/kernels.md (script/kernel_table puts it there): a weight of each type is multiplied on each instruction set,
/// and the kernels that its packed form names are the ones that ran.
TEST(KernelTable, OfEveryTypeOnEveryInstructionSetOfThisCpu) {
  std::string head = "| type |", line = "| --- |";
  for (const std::string& isa : fast_backend_names()) {
    head += " " + isa + " |";
    line += " --- |";
  }
  std::printf("%s\n%s\n", head.c_str(), line.c_str());
  for (int type = 0; type < kDTypeCount; ++type) {
    const auto dtype = static_cast<DType>(type);
    const TestWeight weight(dtype, 32, 256, 5);
    std::string row = "| " + std::string(to_string(dtype)) + " |";
    for (const std::string& isa : fast_backend_names()) {
      const auto backend = open_cpu_backend(isa, 1);
      ASSERT_TRUE(backend->reserve_scratch({.rows = 1, .seqs = 1, .logit_rows = 1}, 1, 32, 32, 32));
      const auto prepared = weight.prepare(*backend);
      Floats x = random_floats(256, 6), y(32, -1);
      const TestStep step({{{1}, 0, {0}}});
      backend->linear(step.inputs(), matrix(x, 256), *prepared, nullptr, matrix(y, 32));
      EXPECT_TRUE(std::all_of(y.begin(), y.end(), [](float value) { return std::isfinite(value) && value != -1; })) << to_string(dtype);
      const LinearKernels& kernels = static_cast<const PackedWeight&>(*prepared).kernels();
      EXPECT_EQ(to_string(kernels.isa), isa);
      row += traits(dtype).quantized ? " int8" : static_cast<const PackedWeight&>(*prepared).wants_rounded(1) ? " bf16" : " f32";
      row += " rows × " + std::to_string(traits(dtype).quantized ? kernels.lanes : static_cast<int>(kFloatLanes)) + " lanes, compiled for " + kernels.compiled_for + " |";
    }
    std::printf("%s\n", row.c_str());
  }
}

TEST(CpuBackendChoice, RefusesByName) {
  const auto unknown = make_cpu_backend("sse9");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("plain"), std::string::npos) << unknown.error().message;
  for (int i = 0; i < kIsaCount; ++i) {
    const auto isa = static_cast<Isa>(i);
    const auto made = make_cpu_backend(to_string(isa), 1);
    EXPECT_EQ(made.has_value(), isa_available(isa)) << to_string(isa);
    if (!made) { EXPECT_EQ(made.error().code, ErrorCode::unsupported) << made.error().message; }
  }
  EXPECT_EQ(make_cpu_backend("reference", 1).value()->device().isa, "reference");
}

/// Rows of a quantised weight beside 40 others and beside 3: --deterministic makes them equal over tiles, and changes nothing elsewhere.
TEST(CpuBackendChoice, DeterministicRowsDoNotDependOnTheirNumber) {
  constexpr int64_t kIn = 512, kOut = 64, kMany = kBf16PanelRows + 10, kFew = 3;
  const TestStep step({{{1}, 0, {0}}});
  std::vector<std::string> names = cpu_backend_names();
  names.emplace_back(kPlainTiles);
  for (const std::string& isa : names) {
    for (const bool deterministic : {true, false}) {
      const auto backend = open_cpu_backend(isa, 2, deterministic);
      ASSERT_TRUE(backend->reserve_scratch({.rows = kMany, .seqs = 1, .logit_rows = 1}, 1, 32, kIn, 32));
      for (const DType dtype : {DType::q4_k, DType::q8_0, DType::f16, DType::bf16}) {
        const TestWeight weight(dtype, kOut, kIn, 3);
        const auto prepared = weight.prepare(*backend);
        Floats x = random_floats(kMany * kIn, 4), few(x.begin(), x.begin() + kFew * kIn), many_out(kMany * kOut), few_out(kFew * kOut);
        backend->linear(step.inputs(), matrix(x, kIn), *prepared, nullptr, matrix(many_out, kOut));
        backend->linear(step.inputs(), matrix(few, kIn), *prepared, nullptr, matrix(few_out, kOut));
        const bool tiles = isa == kPlainTiles || isa == "amx";
        EXPECT_EQ(std::memcmp(many_out.data(), few_out.data(), few_out.size() * sizeof(float)) == 0, deterministic || !tiles || dtype == DType::bf16)
            << isa << ' ' << to_string(dtype) << (deterministic ? ", deterministic" : "");
      }
    }
  }
}

}  // namespace
}  // namespace pagemill
