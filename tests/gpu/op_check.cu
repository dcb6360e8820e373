// Every kernel against plain loops in double, on fresh random data, outputs poisoned first. Exit code 1 if anything is wrong.
//   op_check [--portable] [--small] [--tiny] [--verbose] [rows] [linear] [qkv] [attention] [sampling]   (nothing named = everything)
// --portable runs the kernels that older GPUs get; --small keeps to shapes that compute-sanitizer bears, --tiny to fewer for the emulated device.
#include <cstdio>
#include <set>

#include "backend/cpu/sample.h"
#include "backend/cuda/kv_layout.h"
#include "gpu_support.h"

namespace pagemill::gpu_test {
namespace {

using cuda::ElementType;
using cuda::KernelContext;

struct Options {
  KernelContext context;
  bool small = false, tiny = false;
  Report report;
};

const char* name_of(ElementType type) { return type == ElementType::f16 ? "f16" : "bf16"; }
/// Rounding of inputs is in the reference too; what is left is the output's rounding and the order of sums.
double limit_of(ElementType type) { return type == ElementType::f16 ? 6e-4 : 4e-3; }

template <class... Parts>
std::string label(Parts... parts) {
  std::string text;
  ((text += (text.empty() ? "" : " ") + [&] {
     if constexpr (std::is_convertible_v<Parts, std::string>) return std::string(parts);
     else return std::to_string(parts);
   }()), ...);
  return text;
}

/// out[m, n] = Σ x[m, k] · w[n, k]
std::vector<float> product(const std::vector<float>& x, const std::vector<float>& w, int rows, int in, int out) {
  std::vector<float> y(static_cast<size_t>(rows) * out);
  parallel(out, [&](int64_t n) {
    for (int m = 0; m < rows; ++m) {
      double sum = 0;
      const float *a = &x[static_cast<size_t>(m) * in], *b = &w[static_cast<size_t>(n) * in];
      for (int k = 0; k < in; ++k) sum += double{a[k]} * b[k];
      y[static_cast<size_t>(m) * out + static_cast<size_t>(n)] = static_cast<float>(sum);
    }
  });
  return y;
}

void check_rows(Options& o, ElementType type) {
  const int rows = 5, vocab = 50;
  for (const int hidden : {64, 576, 3584, 4096, 8192}) {
    const Values table = random_values(type, int64_t{vocab} * hidden, 1, 1), x = random_values(type, int64_t{rows} * hidden, 2, 2);
    const Values delta = random_values(type, int64_t{rows} * hidden, 3, 2);
    std::vector<float> weight(static_cast<size_t>(hidden));
    for (int i = 0; i < hidden; ++i) weight[static_cast<size_t>(i)] = 1 + 0.5f * uniform(4, static_cast<uint64_t>(i));
    Array<uint16_t> d_table(table.bits), d_x(x.bits), d_delta(delta.bits), d_out(x.bits.size());
    Array<float> d_weight(weight);

    // Embedding: a plain token, one taken from the step before, padding, one of an ended sequence, another plain one.
    Array<int32_t> tokens(std::vector<int32_t>{7, 0, 0, 0, 49}), from(std::vector<int32_t>{-1, 2, -1, 1, -1}), positions(std::vector<int32_t>{0, 5, -1, 3, 4});
    Array<SampledToken> sampled(std::vector<SampledToken>{{3, 0, 0}, {-1, 0, 0}, {9, 0, 0}});
    d_out.poison();
    GPU_CHECK(cuda::embed(o.context, {type, tokens.get(), from.get(), positions.get(), sampled.get(), d_table.get(), d_out.get(), rows, hidden}));
    const int expected_row[5] = {7, 9, -1, 0, 49};
    std::vector<float> expected(x.bits.size());
    for (int r = 0; r < rows; ++r)
      for (int i = 0; i < hidden; ++i)
        expected[static_cast<size_t>(r * hidden + i)] = expected_row[r] < 0 ? 0 : table.floats[static_cast<size_t>(expected_row[r] * hidden + i)];
    o.report.add(label("embed", name_of(type), hidden), relative_error(floats_of(type, d_out.read()), expected), 0);

    for (const bool with_delta : {false, true}) {
      d_x.set(x.bits);
      d_out.poison();
      GPU_CHECK(cuda::rms_norm(o.context, {type, d_x.get(), with_delta ? d_delta.get() : nullptr, d_weight.get(), d_out.get(), rows, hidden, 1e-5f}));
      std::vector<float> sum = x.floats;
      if (with_delta)
        for (size_t i = 0; i < sum.size(); ++i) sum[i] = to_float(type, to_bits(type, sum[i] + delta.floats[i]));
      for (int r = 0; r < rows; ++r) {
        double squares = 0;
        for (int i = 0; i < hidden; ++i) squares += double{sum[static_cast<size_t>(r * hidden + i)]} * sum[static_cast<size_t>(r * hidden + i)];
        const double scale = 1 / std::sqrt(squares / hidden + 1e-5);
        for (int i = 0; i < hidden; ++i)
          expected[static_cast<size_t>(r * hidden + i)] = static_cast<float>(sum[static_cast<size_t>(r * hidden + i)] * scale * weight[static_cast<size_t>(i)]);
      }
      o.report.add(label(with_delta ? "add_rms_norm" : "rms_norm", name_of(type), hidden), relative_error(floats_of(type, d_out.read()), expected), limit_of(type));
      if (!with_delta) continue;
      o.report.add(label("residual", name_of(type), hidden), relative_error(floats_of(type, d_x.read()), sum), 0);
      // The sum is rounded before it is normed: at once gives the same bits as one after the other.
      const auto at_once = d_out.read();
      d_out.poison();
      GPU_CHECK(cuda::rms_norm(o.context, {type, d_x.get(), nullptr, d_weight.get(), d_out.get(), rows, hidden, 1e-5f}));
      o.report.add(label("add_rms_norm in two steps", name_of(type), hidden), d_out.read() == at_once ? 0 : 1, 0);
    }

    d_x.set(x.bits);
    GPU_CHECK(cuda::add(o.context, type, d_x.get(), d_delta.get(), int64_t{rows} * hidden));
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = to_float(type, to_bits(type, x.floats[i] + delta.floats[i]));
    o.report.add(label("add", name_of(type), hidden), relative_error(floats_of(type, d_x.read()), expected), 0);
    d_x.set(x.bits);
    d_out.poison();
    GPU_CHECK(cuda::gated_silu(o.context, type, d_x.get(), d_delta.get(), d_out.get(), int64_t{rows} * hidden));
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = x.floats[i] / (1 + std::exp(-x.floats[i])) * delta.floats[i];
    o.report.add(label("gated_silu", name_of(type), hidden), relative_error(floats_of(type, d_out.read()), expected), limit_of(type));

    Array<int32_t> picks(std::vector<int32_t>{4, 0, 4, -1, rows});
    Array<uint16_t> picked(static_cast<size_t>(5 * hidden));
    picked.poison();
    GPU_CHECK(cuda::gather_rows(o.context, type, d_x.get(), rows, picks.get(), 5, hidden, picked.get()));
    const auto got = picked.read();
    bool equal = true;
    const int source[5] = {4, 0, 4, -1, -1};  // what lies outside gives zeros
    for (int r = 0; r < 5; ++r)
      for (int i = 0; i < hidden; ++i) equal &= got[static_cast<size_t>(r * hidden + i)] == (source[r] < 0 ? 0 : x.bits[static_cast<size_t>(source[r] * hidden + i)]);
    o.report.add(label("gather_rows", name_of(type), hidden), equal ? 0 : 1, 0);
  }
}

void check_linear(Options& o, ElementType type, int rows, int in, int out) {
  const Values x = random_values(type, int64_t{rows} * in, 11, 1), w = random_values(type, int64_t{out} * in, 12, 0.05f);
  const Values residual = random_values(type, int64_t{rows} * out, 13, 1);
  std::vector<float> bias(static_cast<size_t>(out));
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = uniform(14, i);
  Array<uint16_t> d_x(x.bits), d_w(w.bits), d_residual(residual.bits), d_out(residual.bits.size());
  Array<float> d_bias(bias), d_f32(residual.bits.size());
  const std::vector<float> plain = product(x.floats, w.floats, rows, in, out);
  d_f32.poison();
  GPU_CHECK(cuda::linear_skinny(o.context, {type, d_x.get(), d_w.get(), nullptr, nullptr, d_f32.get(), true, rows, in, out}));
  o.report.add(label("linear f32", name_of(type), rows, in, out), relative_error(d_f32.read(), plain), 1e-5);
  d_out.poison();
  GPU_CHECK(cuda::linear_skinny(o.context, {type, d_x.get(), d_w.get(), d_bias.get(), d_residual.get(), d_out.get(), false, rows, in, out}));
  std::vector<float> expected = plain;
  for (int m = 0; m < rows; ++m)
    for (int n = 0; n < out; ++n) {
      const size_t i = static_cast<size_t>(m) * out + n;
      expected[i] += bias[static_cast<size_t>(n)] + residual.floats[i];
    }
  o.report.add(label("linear bias residual", name_of(type), rows, in, out), relative_error(floats_of(type, d_out.read()), expected), limit_of(type));
}

void check_gated(Options& o, ElementType type, int rows, int in, int ffn) {
  const Values x = random_values(type, int64_t{rows} * in, 21, 1), g = random_values(type, int64_t{ffn} * in, 22, 0.1f), u = random_values(type, int64_t{ffn} * in, 23, 0.1f);
  Array<uint16_t> d_x(x.bits), d_g(g.bits), d_u(u.bits), d_out(static_cast<size_t>(rows) * ffn);
  d_out.poison();
  GPU_CHECK(cuda::gated_skinny(o.context, {type, d_x.get(), d_g.get(), d_u.get(), d_out.get(), rows, in, ffn}));
  std::vector<float> expected = product(x.floats, g.floats, rows, in, ffn);
  const std::vector<float> up = product(x.floats, u.floats, rows, in, ffn);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = expected[i] / (1 + std::exp(-expected[i])) * up[i];
  o.report.add(label("gated", name_of(type), rows, in, ffn), relative_error(floats_of(type, d_out.read()), expected), 2 * limit_of(type));
}

/// The kernel for many rows, where the device has it: even where has_gated_many() would leave it to cuBLASLt.
[[maybe_unused]] void check_gated_many(Options& o, ElementType type, int rows, int in, int ffn) {
  const Values x = random_values(type, int64_t{rows} * in, 24, 1), g = random_values(type, int64_t{ffn} * in, 25, 0.1f), u = random_values(type, int64_t{ffn} * in, 26, 0.1f);
  Array<uint16_t> d_x(x.bits), d_g(g.bits), d_u(u.bits), d_out(static_cast<size_t>(rows) * ffn);
  d_out.poison();
  GPU_CHECK(cuda::gated_many(o.context, {type, d_x.get(), d_g.get(), d_u.get(), d_out.get(), rows, in, ffn}));
  std::vector<float> expected = product(x.floats, g.floats, rows, in, ffn);
  const std::vector<float> up = product(x.floats, u.floats, rows, in, ffn);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = expected[i] / (1 + std::exp(-expected[i])) * up[i];
  o.report.add(label("gated_many", name_of(type), rows, in, ffn), relative_error(floats_of(type, d_out.read()), expected), 2 * limit_of(type));
}

/// Reads a KV layer back: [tokens of the pool, kv_heads, dim].
std::vector<float> read_kv(ElementType type, const Array<uint16_t>& pool, int blocks, int kv_heads, int dim, int values) {
  const auto raw = pool.read();
  const auto* bytes = reinterpret_cast<const unsigned char*>(raw.data());
  std::vector<float> out(static_cast<size_t>(blocks) * 16 * kv_heads * dim);
  for (int b = 0; b < blocks; ++b)
    for (int h = 0; h < kv_heads; ++h)
      for (int t = 0; t < 16; ++t)
        for (int d = 0; d < dim; ++d) {
          uint16_t bits;
          std::memcpy(&bits, bytes + cuda::kv_piece_offset(kv_heads, dim, b, h, values) + cuda::kv_element_offset(dim, t, d), 2);
          out[((static_cast<size_t>(b) * 16 + t) * kv_heads + h) * dim + d] = to_float(type, bits);
        }
  return out;
}

void check_qkv(Options& o, ElementType type, int rows, int in, int heads, int kv_heads, int dim) {
  const int half = dim / 2, blocks = rows / 16 + 3;
  const Values x = random_values(type, int64_t{rows} * in, 31, 1);
  const int outs[3] = {heads * dim, kv_heads * dim, kv_heads * dim};
  Values w[3];
  std::vector<float> bias[3], y[3];
  std::vector<float2> angles(static_cast<size_t>(rows) * half);
  std::vector<int32_t> positions(static_cast<size_t>(rows)), slots(static_cast<size_t>(rows));
  for (int r = 0; r < rows; ++r) {
    positions[static_cast<size_t>(r)] = 1000 + 37 * r;
    slots[static_cast<size_t>(r)] = r == 1 ? -1 : (r * 11 + 3) % (blocks * 16);
  }
  std::vector<float> inv_freq(static_cast<size_t>(half));
  for (int i = 0; i < half; ++i) inv_freq[static_cast<size_t>(i)] = std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(dim));
  Array<float> d_freq(inv_freq);
  Array<int32_t> d_positions(positions), d_slots(slots);
  Array<float2> d_angles(angles.size());
  GPU_CHECK(cuda::rope_angles(o.context, {d_positions.get(), d_freq.get(), 1.1f, d_angles.get(), rows, half}));
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < half; ++i) {
      const float angle = static_cast<float>(positions[static_cast<size_t>(r)]) * inv_freq[static_cast<size_t>(i)];
      angles[static_cast<size_t>(r * half + i)] = {std::cos(angle) * 1.1f, std::sin(angle) * 1.1f};
    }
  const auto got_angles = d_angles.read();
  double worst = 0;
  for (size_t i = 0; i < angles.size(); ++i) worst = std::max({worst, std::abs(double{got_angles[i].x} - angles[i].x), std::abs(double{got_angles[i].y} - angles[i].y)});
  o.report.add(label("rope_angles", dim), worst, 1e-6);

  std::vector<std::unique_ptr<Array<uint16_t>>> d_w;
  std::vector<std::unique_ptr<Array<float>>> d_bias;
  for (int i = 0; i < 3; ++i) {
    w[i] = random_values(type, int64_t{outs[i]} * in, 32 + static_cast<uint64_t>(i), 0.1f);
    for (int n = 0; n < outs[i]; ++n) bias[i].push_back(uniform(40 + static_cast<uint64_t>(i), static_cast<uint64_t>(n)));
    y[i] = product(x.floats, w[i].floats, rows, in, outs[i]);
    for (int r = 0; r < rows; ++r)
      for (int n = 0; n < outs[i]; ++n) y[i][static_cast<size_t>(r) * outs[i] + n] += bias[i][static_cast<size_t>(n)];
    d_w.push_back(std::make_unique<Array<uint16_t>>(w[i].bits));
    d_bias.push_back(std::make_unique<Array<float>>(bias[i]));
  }
  // The op on its own gets the same q, k, v, rounded.
  std::vector<uint16_t> rounded[3];
  for (int i = 0; i < 3; ++i)
    for (const float v : y[i]) rounded[i].push_back(to_bits(type, v));
  for (int i = 0; i < 2; ++i)
    for (int r = 0; r < rows; ++r)
      for (int h = 0; h < outs[i] / dim; ++h)
        for (int d = 0; d < half; ++d) {
          float& low = y[i][static_cast<size_t>(r) * outs[i] + h * dim + d];
          float& high = y[i][static_cast<size_t>(r) * outs[i] + h * dim + d + half];
          const float2 turn = angles[static_cast<size_t>(r * half + d)];
          const float a = low, b = high;
          low = a * turn.x - b * turn.y;
          high = b * turn.x + a * turn.y;
        }
  const auto compare = [&](const char* what, const Array<uint16_t>& q, const Array<uint16_t>& pool) {
    o.report.add(label(what, "q", name_of(type), rows, dim), relative_error(floats_of(type, q.read()), y[0]), 2 * limit_of(type));
    for (int which = 1; which < 3; ++which) {
      const auto stored = read_kv(type, pool, blocks, kv_heads, dim, which - 1);
      std::vector<float> got, expected;
      for (int r = 0; r < rows; ++r)
        for (int i = 0; i < outs[which]; ++i) {
          if (slots[static_cast<size_t>(r)] < 0) continue;
          got.push_back(stored[static_cast<size_t>(slots[static_cast<size_t>(r)]) * outs[which] + i]);
          expected.push_back(y[which][static_cast<size_t>(r) * outs[which] + i]);
        }
      o.report.add(label(what, which == 1 ? "k" : "v", name_of(type), rows, dim), relative_error(got, expected), 2 * limit_of(type));
    }
  };
  Array<uint16_t> d_x(x.bits), d_q(static_cast<size_t>(rows) * outs[0]), pool(static_cast<size_t>(blocks) * 2 * kv_heads * 16 * dim);
  d_q.poison();
  pool.poison();
  GPU_CHECK(cuda::qkv_skinny(o.context, {type, d_x.get(), {d_w[0]->get(), d_w[1]->get(), d_w[2]->get()}, {d_bias[0]->get(), d_bias[1]->get(), d_bias[2]->get()},
                                         d_angles.get(), d_slots.get(), d_q.get(), {pool.get(), kv_heads, dim}, rows, in, heads}));
  compare("qkv", d_q, pool);
  pool.poison();
  Array<uint16_t> d_k(rounded[1]), d_v(rounded[2]);
  d_q.set(rounded[0]);
  GPU_CHECK(cuda::rope_store(o.context, {type, d_q.get(), d_k.get(), d_v.get(), 0, {}, d_q.get(), d_angles.get(), d_slots.get(), {pool.get(), kv_heads, dim}, rows, heads}));
  compare("rope_store", d_q, pool);

  // As columns of one product, without their biases.
  const int cols = outs[0] + 2 * outs[1];
  std::vector<uint16_t> columns(static_cast<size_t>(rows) * cols);
  for (int r = 0; r < rows; ++r)
    for (int i = 0, at = 0; i < 3; at += outs[i], ++i)
      for (int n = 0; n < outs[i]; ++n)
        columns[static_cast<size_t>(r) * cols + at + n] = to_bits(type, to_float(type, rounded[i][static_cast<size_t>(r) * outs[i] + n]) - bias[i][static_cast<size_t>(n)]);
  Array<uint16_t> d_columns(columns);
  d_q.poison();
  pool.poison();
  GPU_CHECK(cuda::rope_store(o.context, {type, d_columns.get(), d_columns.get() + outs[0], d_columns.get() + outs[0] + outs[1], cols, {d_bias[0]->get(), d_bias[1]->get(), d_bias[2]->get()},
                                         d_q.get(), d_angles.get(), d_slots.get(), {pool.get(), kv_heads, dim}, rows, heads}));
  compare("rope_store of one product", d_q, pool);

  Array<int2> pairs(std::vector<int2>{{0, blocks - 1}});
  const auto before = read_kv(type, pool, blocks, kv_heads, dim, 1);
  GPU_CHECK(cuda::copy_blocks(o.context, pool.get(), pool.size() * 2, 1, cuda::kv_layer_block_bytes(kv_heads, dim), pairs.get(), 1));
  const auto after = read_kv(type, pool, blocks, kv_heads, dim, 1);
  const auto block_floats = static_cast<ptrdiff_t>(16) * kv_heads * dim;
  o.report.add(label("copy_blocks", name_of(type), dim), std::memcmp(&*(after.end() - block_floats), before.data(), static_cast<size_t>(block_floats) * 4) == 0 ? 0 : 1, 0);
}

struct AttentionCase {
  int heads, kv_heads, dim, window;
  std::vector<int> rows, cached;  // per sequence: rows in this step, tokens before them
};

void check_attention(Options& o, ElementType type, const AttentionCase& c) {
  const auto seqs = static_cast<int>(c.rows.size());
  int rows = 0, context_max = 0, rows_max = 0, blocks = 1;
  for (int s = 0; s < seqs; ++s) {
    rows += c.rows[static_cast<size_t>(s)];
    rows_max = std::max(rows_max, c.rows[static_cast<size_t>(s)]);
    context_max = std::max(context_max, c.rows[static_cast<size_t>(s)] + c.cached[static_cast<size_t>(s)]);
    blocks += (c.rows[static_cast<size_t>(s)] + c.cached[static_cast<size_t>(s)] + 15) / 16;
  }
  const int stride = (context_max + 15) / 16 + 1, group = c.heads / c.kv_heads;
  std::vector<int32_t> table(static_cast<size_t>(seqs * stride), -1), positions, seq_of_row, row_begin{0};
  int next = 0;
  for (int s = 0; s < seqs; ++s) {
    const int context = c.rows[static_cast<size_t>(s)] + c.cached[static_cast<size_t>(s)];
    for (int b = 0; b < (context + 15) / 16; ++b) table[static_cast<size_t>(s * stride + b)] = (next++ * 7 + 3) % blocks;
    for (int r = 0; r < c.rows[static_cast<size_t>(s)]; ++r) {
      positions.push_back(c.cached[static_cast<size_t>(s)] + r);
      seq_of_row.push_back(s);
    }
    row_begin.push_back(static_cast<int32_t>(positions.size()));
  }
  if (blocks % 7 == 0) return;  // the walk above would repeat blocks
  // Peaked: keys long enough that few tokens matter.
  const Values q = random_values(type, int64_t{rows} * c.heads * c.dim, 51, 2), kv = random_values(type, int64_t{blocks} * 2 * c.kv_heads * 16 * c.dim, 52, 2);
  std::vector<uint16_t> pool_bits = kv.bits;
  Array<uint16_t> d_q(q.bits), pool(pool_bits), d_out(q.bits.size());
  Array<int32_t> d_table(table), d_positions(positions), d_seq(seq_of_row), d_begin(row_begin);
  const size_t workspace_bytes = cuda::attention_workspace_bytes(c.heads, c.dim);
  Array<uint8_t> workspace(std::vector<uint8_t>(workspace_bytes, 0));
  const auto keys = read_kv(type, pool, blocks, c.kv_heads, c.dim, 0), values = read_kv(type, pool, blocks, c.kv_heads, c.dim, 1);
  const float scale = 1 / std::sqrt(static_cast<float>(c.dim));
  std::vector<float> expected(q.bits.size());
  parallel(int64_t{rows} * c.heads, [&](int64_t item) {
    const int row = static_cast<int>(item / c.heads), head = static_cast<int>(item % c.heads), position = positions[static_cast<size_t>(row)];
    const int first = c.window > 0 ? std::max(0, position + 1 - c.window) : 0;
    std::vector<double> scores;
    const auto at = [&](int token) {
      const int block = table[static_cast<size_t>(seq_of_row[static_cast<size_t>(row)] * stride + token / 16)];
      return (static_cast<size_t>(block * 16 + token % 16) * c.kv_heads + head / group) * c.dim;
    };
    double top = -1e300, sum = 0;
    for (int token = first; token <= position; ++token) {
      double dot = 0;
      for (int d = 0; d < c.dim; ++d) dot += double{q.floats[static_cast<size_t>(item) * c.dim + d]} * keys[at(token) + static_cast<size_t>(d)];
      scores.push_back(dot * scale);
      top = std::max(top, scores.back());
    }
    for (double& s : scores) sum += s = std::exp(s - top);
    for (int d = 0; d < c.dim; ++d) {
      double value = 0;
      for (int token = first; token <= position; ++token) value += scores[static_cast<size_t>(token - first)] * values[at(token) + static_cast<size_t>(d)];
      expected[static_cast<size_t>(item) * c.dim + d] = static_cast<float>(value / sum);
    }
  });
  cuda::AttentionArgs args{type, d_q.get(), d_out.get(), {pool.get(), c.kv_heads, c.dim}, d_table.get(), stride, d_positions.get(), d_seq.get(),
                           d_begin.get(), rows, seqs, c.heads, context_max, rows_max, scale, c.window, workspace.get()};
  const std::string shape = label(name_of(type), "heads", c.heads, c.kv_heads, "dim", c.dim, "window", c.window, "seqs", seqs, "rows", rows, "context", context_max);
  // Weights are rounded to the element type before they meet the values.
  const double limit = 2 * limit_of(type);
  d_out.poison();
  GPU_CHECK(cuda::attention(o.context, args));
  o.report.add("attention " + shape, relative_error(floats_of(type, d_out.read()), expected), limit);
  KernelContext fixed = o.context;
  fixed.deterministic = true;
  d_out.poison();
  GPU_CHECK(cuda::attention(fixed, args));
  o.report.add("attention deterministic " + shape, relative_error(floats_of(type, d_out.read()), expected), limit);
}

/// Deterministic mode: a row alone and among others gives the same bits.
void check_invariance(Options& o, ElementType type) {
  const int in = 576, out = 200;
  const Values x = random_values(type, int64_t{130} * in, 61, 1), w = random_values(type, int64_t{out} * in, 62, 0.1f);
  Array<uint16_t> d_x(x.bits), d_w(w.bits);
  KernelContext fixed = o.context;
  fixed.deterministic = true;
  const auto run = [&](int first, int rows) {
    Array<float> d_out(static_cast<size_t>(rows) * out);
    GPU_CHECK(cuda::linear_skinny(fixed, {type, d_x.get() + static_cast<size_t>(first) * in, d_w.get(), nullptr, nullptr, d_out.get(), true, rows, in, out}));
    return d_out.read();
  };
  const auto alone = run(67, 1);
  for (const int rows : {7, 16, 30, 64, 130}) {
    const int first = std::max(0, 67 - rows + 1);
    const auto among = run(rows == 130 ? 0 : first, rows);
    const size_t at = static_cast<size_t>(67 - (rows == 130 ? 0 : first)) * out;
    o.report.add(label("linear invariant", name_of(type), rows), std::memcmp(&among[at], alone.data(), out * 4) == 0 ? 0 : 1, 0);
  }
}

void check_sampling(Options& o, int vocab) {
  struct Case { float temperature, top_p, min_p, typical; int top_k; float repetition, presence, frequency; bool mask, bias; int logprobs; };
  std::vector<Case> cases;
  for (const float temperature : {0.0f, 0.7f, 1.0f, 2.5f})
    for (const float top_p : {1.0f, 0.8f, 0.1f})
      for (const int top_k : {0, 1, 20, vocab / 2})
        for (const float min_p : {0.0f, 0.05f})
          for (const float typical : {1.0f, 0.6f}) {
            const size_t n = cases.size();
            cases.push_back({temperature, top_p, min_p, typical, top_k, n % 3 ? 1.0f : 1.3f, n % 4 ? 0.0f : 0.4f, n % 5 ? 0.0f : 0.2f, n % 2 == 0, n % 7 == 0, n % 3 == 0 ? 5 : n % 11 == 0 ? 20 : -1});
          }
  const auto rows = static_cast<int>(cases.size());
  const int words = (vocab + 31) / 32;
  std::vector<float> logits(static_cast<size_t>(rows) * vocab);
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < vocab; ++i) {
      const uint64_t at = static_cast<uint64_t>(r) * vocab + i;
      float v = 6 * (uniform(71, at) + uniform(72, at) + uniform(73, at));
      if (r % 6 == 1) v = std::round(v);           // ties
      if (r % 6 == 2) v *= 4;                      // peaked
      if (r % 6 == 3 && i % 97 == 0) v = i % 2 ? NAN : INFINITY;
      if (r % 6 == 4) v = -v * v;
      if (r % 13 == 5) v = 1.5f;                   // all equal
      logits[static_cast<size_t>(at)] = v;
    }
  std::vector<SamplingRow> sampling(static_cast<size_t>(rows));
  std::vector<HistoryEntry> history;
  std::vector<BiasEntry> bias;
  std::vector<uint32_t> masks;
  for (int r = 0; r < rows; ++r) {
    const Case& c = cases[static_cast<size_t>(r)];
    SamplingRow& s = sampling[static_cast<size_t>(r)];
    s = {.temperature = c.temperature, .top_p = c.top_p, .min_p = c.min_p, .typical_p = c.typical, .top_k = c.top_k, .repetition_penalty = c.repetition,
         .presence_penalty = c.presence, .frequency_penalty = c.frequency, .seed = mix(static_cast<uint64_t>(r)), .position = static_cast<uint64_t>(r * 3)};
    s.history_begin = static_cast<int32_t>(history.size());
    if (c.repetition != 1 || c.presence != 0 || c.frequency != 0)
      for (int t = r % 5; t < vocab; t += 1 + vocab / 50) history.push_back({t, t % 3});
    s.history_end = static_cast<int32_t>(history.size());
    s.bias_begin = static_cast<int32_t>(bias.size());
    if (c.bias) {
      for (int t = 0; t < vocab; t += 1 + vocab / 30) bias.push_back({t, 3 * uniform(74, static_cast<uint64_t>(t))});
      bias.push_back({0, -INFINITY});
    }
    s.bias_end = static_cast<int32_t>(bias.size());
    if (c.mask) {
      s.mask = static_cast<int32_t>(masks.size()) / words;
      for (int i = 0; i < words; ++i) masks.push_back(r % 10 == 0 && r % 20 != 0 ? 0u : static_cast<uint32_t>(mix(static_cast<uint64_t>(r * words + i))));
    }
    s.logprobs = c.logprobs;
  }
  Array<float> d_logits(logits), saved_history(history.size()), saved_bias(bias.size());
  Array<SamplingRow> d_sampling(sampling);
  Array<HistoryEntry> d_history(history);
  Array<BiasEntry> d_bias(bias);
  Array<uint32_t> d_masks(masks);
  Array<SampledToken> tokens(static_cast<size_t>(rows));
  Array<TopLogprob> top(static_cast<size_t>(rows) * limits::kTopLogprobs);
  top.poison();  // rows that ask for none leave it alone
  GPU_CHECK(cuda::sample(o.context, {d_logits.get(), d_sampling.get(), d_history.get(), d_bias.get(), d_masks.get(), saved_history.get(), saved_bias.get(),
                                     tokens.get(), top.get(), rows, vocab}));
  const auto got = tokens.read();
  const auto got_top = top.read();
  SampleScratch scratch(vocab);
  int wrong_tokens = 0, wrong_ranks = 0, wrong_top = 0;
  double worst = 0;
  for (int r = 0; r < rows; ++r) {
    const SamplingRow& s = sampling[static_cast<size_t>(r)];
    LogprobRow logprobs;
    const auto span_of = [](auto& all, int begin, int end) { return std::span(all).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)); };
    const auto mask = s.mask < 0 ? std::span<const uint32_t>{} : std::span<const uint32_t>(masks).subspan(static_cast<size_t>(s.mask * words), static_cast<size_t>(words));
    const SampledToken expected = sample_row(span_of(logits, r * vocab, (r + 1) * vocab), s, span_of(history, s.history_begin, s.history_end),
                                             span_of(bias, s.bias_begin, s.bias_end), mask, scratch, &logprobs);
    const SampledToken& mine = got[static_cast<size_t>(r)];
    if (mine.token != expected.token) {
      if (wrong_tokens++ < 5) std::printf("row %d: token %d, the reference's %d (T %g top_p %g top_k %d min_p %g typical %g)\n", r, mine.token, expected.token, s.temperature, s.top_p, s.top_k, s.min_p, s.typical_p);
      continue;
    }
    if (s.logprobs < 0 || expected.token < 0) continue;
    wrong_ranks += mine.rank != expected.rank;
    if (std::isfinite(expected.logprob)) worst = std::max(worst, std::abs(double{mine.logprob} - expected.logprob));
    for (size_t i = 0; i < logprobs.top.size(); ++i) {
      const TopLogprob& t = got_top[static_cast<size_t>(r) * limits::kTopLogprobs + i];
      wrong_top += t.token != logprobs.top[i].token;
      if (std::isfinite(logprobs.top[i].logprob)) worst = std::max(worst, std::abs(double{t.logprob} - logprobs.top[i].logprob));
    }
  }
  o.report.add(label("sample tokens, vocabulary", vocab), wrong_tokens, 0);
  o.report.add(label("sample ranks, vocabulary", vocab), wrong_ranks, 0);
  o.report.add(label("sample top log-probabilities, vocabulary", vocab), wrong_top, 0);
  o.report.add(label("sample log-probabilities, vocabulary", vocab), worst, 1e-5);
  const auto restored = d_logits.read();
  o.report.add(label("sample restores the logits, vocabulary", vocab), std::memcmp(restored.data(), logits.data(), logits.size() * 4) == 0 ? 0 : 1, 0);
}

constexpr ElementType kTypes[2] = {ElementType::f16, ElementType::bf16};

void check_all_rows(Options& o) {
  for (const ElementType type : kTypes) check_rows(o, type);
}
void check_products(Options& o) {
  for (const ElementType type : kTypes) {
    for (const int rows : o.tiny ? std::vector{1, 8, 9, 17, 33, 65} : std::vector{1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65})
      for (const auto& [in, out] : {std::pair{64, 24}, {72, 100}, {576, 576}, {1536, 200}, {40, 1000}})
        if (!o.tiny || in < 100) check_linear(o, type, rows, in, out);
    if (!o.small)
      for (const int rows : {1, 8, 16, 40, 64})
        for (const auto& [in, out] : {std::pair{3584, 4608}, {18944, 3584}, {4096, 6144}}) check_linear(o, type, rows, in, out);
    for (const int rows : {1, 8, 9, 16, 17, 40, 64}) {
      if (!o.tiny) check_gated(o, type, rows, 576, 1536);
      check_gated(o, type, rows, 72, 40);
      if (!o.small) check_gated(o, type, rows, 3584, 18944 / 4);
    }
    check_invariance(o, type);
#if PM_NVCC
    if (o.context.arch == 90) {
      for (const int rows : {1, 128, 129, 256, 300, 530})
        for (const auto& [in, ffn] : {std::pair{576, 1536}, {72, 40}, {448, 200}}) check_gated_many(o, type, rows, in, ffn);
      if (!o.small) check_gated_many(o, type, 300, 3584, 18944 / 4);
      if (!o.small) check_gated_many(o, type, 2304, 256, 1000);  // more than a band
    }
#endif
  }
}
void check_all_qkv(Options& o) {
  for (const ElementType type : kTypes)
    for (const int rows : o.tiny ? std::vector{1, 9, 70} : std::vector{1, 5, 8, 16, 17, 33, 64, 70}) {
      check_qkv(o, type, rows, 64, 9, 3, 64);
      check_qkv(o, type, rows, 128, 4, 4, 96);
      if (!o.small) check_qkv(o, type, rows, 896, 28, 4, 128);
      check_qkv(o, type, rows, 64, 4, 2, 256);
    }
}
void check_all_attention(Options& o) {
  for (const ElementType type : kTypes)
    for (const int dim : {64, 96, 128, 256})
      for (const auto& [heads, kv_heads] : {std::pair{2, 2}, {6, 2}, {8, 2}, {14, 2}, {16, 2}, {20, 1}})
        for (const int window : {0, 20, 40}) {
          if (o.tiny && (type == ElementType::bf16 || heads == 8 || heads == 16 || window == 40)) continue;
          check_attention(o, type, {heads, kv_heads, dim, window, {1, 1, 1}, {0, 33, 150}});
          check_attention(o, type, {heads, kv_heads, dim, window, {1, 1, 1, 1, 1, 1, 1}, {1, 14, 15, 16, 17, 63, 64}});
          check_attention(o, type, {heads, kv_heads, dim, window, {17, 1, 40, 2}, {0, 65, 31, 80}});
          if (!o.small) check_attention(o, type, {heads, kv_heads, dim, window, {255, 1, 130}, {0, 700, 257}});
        }
  if (o.small) return;
  check_attention(o, ElementType::bf16, {28, 4, 128, 0, {1}, {5000}});
  check_attention(o, ElementType::f16, {32, 8, 128, 0, {600, 300}, {1000, 0}});
}
void check_all_sampling(Options& o) {
  for (const int vocab : o.tiny ? std::vector{33, 1000} : std::vector{33, 1000, 5000}) check_sampling(o, vocab);
  if (!o.small) check_sampling(o, 152064);
}

struct Section {
  const char *name, *title;
  void (*check)(Options&);
};
constexpr Section kSections[] = {{"rows", "rows", check_all_rows}, {"linear", "matrix products", check_products}, {"qkv", "qkv, rope, kv store", check_all_qkv},
                                 {"attention", "attention", check_all_attention}, {"sampling", "sampling", check_all_sampling}};

}  // namespace
}  // namespace pagemill::gpu_test

int main(int argc, char** argv) {
  using namespace pagemill::gpu_test;
  Options options;
  options.context = context_of_device();
  std::set<std::string> wanted;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--portable") {
      options.context.arch = 80;
      options.context.programmatic = false;
    } else if (word == "--small" || word == "--tiny") {
      options.small = true;
      options.tiny = options.tiny || word == "--tiny";
    } else if (word == "--verbose") {
      options.report.verbose = true;
    } else if (std::any_of(std::begin(kSections), std::end(kSections), [&](const Section& each) { return word == each.name; })) {
      wanted.insert(word);
    } else {
      std::fprintf(stderr, "op_check [--portable] [--small] [--tiny] [--verbose] [rows] [linear] [qkv] [attention] [sampling]\n");
      return 2;
    }
  }
  for (const Section& each : kSections) {
    if (!wanted.empty() && !wanted.contains(each.name)) continue;
    each.check(options);
    options.report.close(each.title);
  }
  std::printf("failures,%d\n", options.report.total_failures);
  return options.report.total_failures == 0 ? 0 : 1;
}
