// Times the kernels at the true shapes of Qwen2.5-7B and Llama-3-8B on random data, as CSV beside the limits measured in the same run.
//   op_bench [--small] [--portable] [--plain-launch] [limits] [linear] [gated] [attention] [prefill] [rows] [sample] [step]   (nothing named = everything)
// --small: a tiny model, each op once or twice; its times mean nothing, it only shows that all of this runs (on the emulated device).
// Each figure is the median of 5 replays of a CUDA graph of many launches that walk through more weights than L2 holds.
#include <cstdio>
#include <functional>
#include <map>
#include <set>

#include "backend/cuda/device_math.h"
#include "gpu_support.h"

namespace pagemill::gpu_test {
namespace {

using cuda::ElementType;
using cuda::KernelContext;

struct ModelShape {
  const char* name;
  int hidden, ffn, heads, kv_heads, dim, layers, vocab;
  int qkv_out() const { return (heads + 2 * kv_heads) * dim; }
};
const std::vector<ModelShape> kModels = {{"qwen2.5-7b", 3584, 18944, 28, 4, 128, 28, 152064}, {"llama-3-8b", 4096, 14336, 32, 8, 128, 32, 128256}};
const std::vector<ModelShape> kTinyModels = {{"tiny", 64, 128, 7, 1, 64, 2, 512}};

bool small = false;
const std::vector<ModelShape>& models() { return small ? kTinyModels : kModels; }
int repeats(int count) { return small ? 1 : count; }

__global__ void fill_kernel(uint32_t* to, size_t words, uint32_t seed) {
  // Two 16-bit floats of magnitude 2^-6 … 2^-5 with random signs and mantissas, valid as f16 and as bf16.
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < words; i += size_t{gridDim.x} * blockDim.x) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + seed;
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    x ^= x >> 16;
    to[i] = (x & 0x807F807Fu) | 0x3C803C80u;
  }
}
__global__ void __launch_bounds__(512) read_kernel(const uint4* from, size_t vectors, uint32_t* to) {
  constexpr int kLoads = 8;
  uint32_t all = 0;
  const size_t step = size_t{gridDim.x} * blockDim.x;
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < vectors; i += step * kLoads) {
    uint4 v[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) v[j] = i + j * step < vectors ? cuda::ptx::load_16_once(from + i + j * step) : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < kLoads; ++j) all |= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (all == 0x12345678u) *to = all;
}

/// --rows 1,16: only those.
std::vector<int> chosen_rows;
std::vector<int> rows_wanted(std::vector<int> all, std::vector<int> of_tiny) {
  if (small) all = std::move(of_tiny);
  if (!chosen_rows.empty()) all = chosen_rows;
  return all;
}

class Bench {
 public:
  explicit Bench(KernelContext context) : context_(context), pool_bytes_(small ? size_t{2} << 20 : size_t{4} << 30), pool_(pool_bytes_) {
    fill(pool_.get(), pool_bytes_);
    GPU_CHECK(cudaDeviceSynchronize());
  }
  KernelContext& context() { return context_; }
  void fill(void* to, size_t bytes) {
    GPU_CHECK(cuda::launch(fill_kernel, {.grid = small ? 4u : 2048u, .block = 256}, context_.stream, static_cast<uint32_t*>(to), bytes / 4, seed_++));
  }
  /// Random 16-bit data that was not touched for a while: consecutive calls walk through 2 GB.
  const void* fresh(size_t bytes) {
    bytes = (bytes + 255) / 256 * 256;
    if (at_ + bytes > pool_bytes_) at_ = 0;
    const void* data = pool_.get() + at_;
    at_ += bytes;
    return data;
  }
  /// Median µs of one call of `launches`, which enqueues `count` ops.
  double time(const std::function<void()>& launches, int count) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    GPU_CHECK(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal));
    launches();
    GPU_CHECK(cudaStreamEndCapture(context_.stream, &graph));
    GPU_CHECK(cudaGraphInstantiate(&exec, graph, 0));
    cudaEvent_t begin, end;
    GPU_CHECK(cudaEventCreateWithFlags(&begin, 0));
    GPU_CHECK(cudaEventCreateWithFlags(&end, 0));
    std::vector<double> times;
    for (int i = 0; i < (small ? 2 : 6); ++i) {
      GPU_CHECK(cudaEventRecord(begin, context_.stream));
      GPU_CHECK(cudaGraphLaunch(exec, context_.stream));
      GPU_CHECK(cudaEventRecord(end, context_.stream));
      GPU_CHECK(cudaEventSynchronize(end));
      float ms = 0;
      GPU_CHECK(cudaEventElapsedTime(&ms, begin, end));
      if (i > 0) times.push_back(ms * 1000.0 / count);
    }
    std::sort(times.begin(), times.end());
    spread_ = (times.back() - times.front()) / times[times.size() / 2];
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    return times[times.size() / 2];
  }
  double bandwidth = 0;  // bytes per µs
  double spread() const { return spread_; }

  void print(const char* model, const char* op, int rows, double us, double bytes, const char* note = "") {
    std::printf("%s,%s,%d,%.2f,%.0f,%.1f,%.1f%s\n", model, op, rows, us, bytes / us * 1e-3, 100 * bytes / us / bandwidth, 100 * spread_, note);
    std::fflush(stdout);
  }

 private:
  KernelContext context_;
  const size_t pool_bytes_;
  Array<uint8_t> pool_;
  size_t at_ = 0;
  uint32_t seed_ = 1;
  double spread_ = 0;
};

void bench_limits(Bench& b) {
  Array<uint32_t> sink(4);
  const size_t bytes = small ? size_t{1} << 20 : size_t{2} << 30;
  double best = 1e30;
  for (const int per_sm : {1, 2, 4}) {
    const double us = b.time([&] {
      for (int i = 0; i < 4; ++i)
        GPU_CHECK(cuda::launch(read_kernel, {.grid = static_cast<unsigned>(per_sm * b.context().multiprocessors), .block = 512}, b.context().stream,
                               static_cast<const uint4*>(b.fresh(bytes)), bytes / 16, sink.get()));
    }, 4);
    best = std::min(best, us);
  }
  b.bandwidth = bytes / best;
  std::printf("limit,read bandwidth TB/s,%.3f\n", b.bandwidth * 1e-6);
}

struct Buffers {
  Array<uint8_t> x, residual, q, out, normed, ffn, workspace;
  Array<float> logits, weight;
  Array<float2> angles;
  Array<int32_t> slots, positions, tokens, seq, begin, table, from;
  Array<SampledToken> sampled;
  Array<SamplingRow> sampling;
  Array<TopLogprob> top;
  Buffers(Bench& b, const ModelShape& m, int rows, int context)
      : x(size_t{2} * rows * m.hidden), residual(x.size()), q(size_t{2} * rows * m.qkv_out()), out(q.size()), normed(x.size()), ffn(size_t{4} * rows * m.ffn),
        workspace(std::vector<uint8_t>(cuda::attention_workspace_bytes(m.heads, m.dim), 0)), logits(size_t{static_cast<size_t>(std::min(rows, 256))} * m.vocab),
        weight(std::vector<float>(static_cast<size_t>(std::max(m.hidden, m.ffn)), 1.0f)), angles(static_cast<size_t>(rows) * m.dim / 2),
        slots(static_cast<size_t>(rows)), positions(std::vector<int32_t>(static_cast<size_t>(rows), context - 1)), tokens(std::vector<int32_t>(static_cast<size_t>(rows), 5)),
        seq(static_cast<size_t>(rows)), begin(static_cast<size_t>(rows) + 1), table(static_cast<size_t>(rows) * blocks(context)), from(std::vector<int32_t>(static_cast<size_t>(rows), -1)),
        sampled(static_cast<size_t>(rows)), sampling(std::vector<SamplingRow>(static_cast<size_t>(rows), SamplingRow{.temperature = 0})),
        top(static_cast<size_t>(rows) * limits::kTopLogprobs) {
    b.fill(x.get(), x.size());
    b.fill(q.get(), q.size());
    b.fill(ffn.get(), ffn.size());
    std::vector<int32_t> s, v, t, z(1, 0);
    for (int r = 0; r < rows; ++r) {
      s.push_back(r * blocks(context) * 16 + context - 1);
      v.push_back(r);
      z.push_back(r + 1);
      for (int i = 0; i < blocks(context); ++i) t.push_back(r * blocks(context) + i);
    }
    slots.set(s);
    seq.set(v);
    begin.set(z);
    table.set(t);
  }
  static int blocks(int context) { return (context + 15) / 16; }
};

void bench_linear(Bench& b) {
  for (const ModelShape& m : models()) {
    for (const int rows : rows_wanted({1, 8, 16, 32, 64}, {1, 9, 33})) {
      Buffers buffers(b, m, rows, 16);
      Array<uint8_t> kv(cuda::kv_layer_block_bytes(m.kv_heads, m.dim) * static_cast<size_t>(rows));
      const KernelContext& c = b.context();
      KernelContext from_l2 = c;
      from_l2.keep_row = false;
      const auto repeat = [&](const char* op, double weights, auto enqueue) {
        const int count = repeats(std::max(4, static_cast<int>(2e9 / weights)));
        const double us = b.time([&] { for (int i = 0; i < count; ++i) GPU_CHECK(enqueue()); }, count);
        b.print(m.name, op, rows, us, weights);
      };
      const size_t hidden = static_cast<size_t>(m.hidden) * 2;
      repeat("qkv", static_cast<double>(hidden) * m.qkv_out(), [&] {
        const auto* w = static_cast<const uint8_t*>(b.fresh(hidden * static_cast<size_t>(m.qkv_out())));
        const size_t q = hidden * static_cast<size_t>(m.heads * m.dim), k = hidden * static_cast<size_t>(m.kv_heads * m.dim);
        return cuda::qkv_skinny(c, {ElementType::bf16, buffers.x.get(), {w, w + q, w + q + k}, {nullptr, nullptr, nullptr}, buffers.angles.get(), buffers.slots.get(),
                                    buffers.q.get(), {kv.get(), m.kv_heads, m.dim}, rows, m.hidden, m.heads});
      });
      const auto plain = [&](const char* op, int in, int out) {
        repeat(op, 2.0 * in * out, [&, in, out] {
          return cuda::linear_skinny(c, {ElementType::bf16, in == m.ffn ? buffers.ffn.get() : buffers.q.get(), b.fresh(size_t{2} * in * out), nullptr, nullptr, buffers.out.get(), false, rows, in, out});
        });
      };
      plain("o", m.heads * m.dim, m.hidden);
      const auto gate_up = [&](const char* op, const KernelContext& how) {
        repeat(op, 2.0 * static_cast<double>(hidden) * m.ffn, [&] {
          const auto* w = static_cast<const uint8_t*>(b.fresh(2 * hidden * static_cast<size_t>(m.ffn)));
          return cuda::gated_skinny(how, {ElementType::bf16, buffers.x.get(), w, w + hidden * static_cast<size_t>(m.ffn), buffers.ffn.get(), rows, m.hidden, m.ffn});
        });
      };
      const auto lm_head = [&](const char* op, const KernelContext& how) {
        repeat(op, static_cast<double>(hidden) * m.vocab, [&] {
          return cuda::linear_skinny(how, {ElementType::bf16, buffers.x.get(), b.fresh(hidden * static_cast<size_t>(m.vocab)), nullptr, nullptr, buffers.logits.get(), true, rows, m.hidden, m.vocab});
        });
      };
      gate_up("gate_up", c);
      plain("down", m.ffn, m.hidden);
      lm_head("lm_head", c);
      if (rows > 1) continue;
      // In turn with the same that reads x once per tile, as before a single row was kept.
      for (int turn = 0; turn < 2; ++turn) {
        gate_up("gate_up x from L2", from_l2);
        gate_up("gate_up x kept", c);
        lm_head("lm_head x from L2", from_l2);
        lm_head("lm_head x kept", c);
      }
    }
  }
}

/// Gate, up and SiLU of many rows in one product, long enough for the card to settle at its power limit.
void bench_gated(Bench& b) {
  if (b.context().arch != 90) return;
  for (const ModelShape& m : models()) {
    for (const int rows : rows_wanted({256, 512, 1024, 2048, 8192}, {48})) {
      Array<uint8_t> x(size_t{2} * rows * m.hidden), out(size_t{2} * rows * m.ffn);
      b.fill(x.get(), x.size());
      const size_t half = size_t{2} * m.hidden * m.ffn;
      const double flops = 4.0 * rows * m.ffn * m.hidden;
      for (const bool settled : {false, true}) {
        const int count = std::max(4, static_cast<int>((settled ? 3e14 : 1.5e13) / flops));
        const double us = b.time([&] {
          for (int i = 0; i < count; ++i) {
            const auto* w = static_cast<const uint8_t*>(b.fresh(2 * half));
            GPU_CHECK(cuda::gated_many(b.context(), {ElementType::bf16, x.get(), w, w + half, out.get(), rows, m.hidden, m.ffn}));
          }
        }, count);
        std::printf("%s,gated_many%s,%d,%.2f,%.1f TFLOP/s,,%.1f\n", m.name, settled ? " settled" : "", rows, us, flops / us * 1e-6, 100 * b.spread());
        std::fflush(stdout);
      }
    }
  }
}

cuda::AttentionArgs attention_args(const ModelShape& m, Buffers& buffers, void* kv, int rows, int context) {
  return {ElementType::bf16, buffers.q.get(), buffers.out.get(), {kv, m.kv_heads, m.dim}, buffers.table.get(), Buffers::blocks(context), buffers.positions.get(),
          buffers.seq.get(), buffers.begin.get(), rows, rows, m.heads, context, 1, 0.0884f, 0, buffers.workspace.get()};
}

void bench_attention(Bench& b) {
  for (const ModelShape& m : models()) {
    using Case = std::pair<int, int>;
    for (const auto& [rows, context] : small ? std::vector<Case>{{1, 40}, {3, 200}} : std::vector<Case>{{1, 512}, {1, 8192}, {16, 512}, {64, 512}, {256, 512}, {16, 8192}}) {
      Buffers buffers(b, m, rows, context);
      const size_t bytes = cuda::kv_layer_block_bytes(m.kv_heads, m.dim) * static_cast<size_t>(rows) * static_cast<size_t>(Buffers::blocks(context));
      const int count = repeats(std::max(4, static_cast<int>(std::min(2e9 / static_cast<double>(bytes), 200.0))));
      const double us = b.time([&] {
        for (int i = 0; i < count; ++i)
          GPU_CHECK(cuda::decode_attention(b.context(), attention_args(m, buffers, const_cast<void*>(b.fresh(bytes)), rows, context)));
      }, count);
      b.print(m.name, ("decode_attention@" + std::to_string(context)).c_str(), rows, us, static_cast<double>(bytes));
    }
  }
}

void bench_prefill(Bench& b) {
  for (const ModelShape& m : models()) {
    for (const int rows : rows_wanted({512, 2048, 8192, 32768}, {48})) {
      const int blocks = rows / 16;
      Array<uint8_t> q(size_t{2} * rows * m.heads * m.dim), out(q.size()), workspace(std::vector<uint8_t>(cuda::attention_workspace_bytes(m.heads, m.dim), 0));
      b.fill(q.get(), q.size());
      std::vector<int32_t> positions, table, seq(static_cast<size_t>(rows), 0);
      for (int r = 0; r < rows; ++r) positions.push_back(r);
      for (int i = 0; i < blocks; ++i) table.push_back(i);
      Array<int32_t> d_positions(positions), d_table(table), d_seq(seq), begin(std::vector<int32_t>{0, rows});
      const size_t bytes = cuda::kv_layer_block_bytes(m.kv_heads, m.dim) * static_cast<size_t>(blocks);
      const int count = repeats(rows > 8192 ? 2 : 8);
      const double us = b.time([&] {
        for (int i = 0; i < count; ++i)
          GPU_CHECK(cuda::prefill_attention(b.context(), {ElementType::bf16, q.get(), out.get(), {const_cast<void*>(b.fresh(bytes)), m.kv_heads, m.dim}, d_table.get(), blocks,
                                            d_positions.get(), d_seq.get(), begin.get(), rows, 1, m.heads, rows, rows, 0.0884f, 0, workspace.get()}));
      }, count);
      const double flops = 2.0 * rows * rows * m.heads * m.dim;
      std::printf("%s,prefill_attention,%d,%.1f,%.1f TFLOP/s,,%.1f\n", m.name, rows, us, flops / us * 1e-6, 100 * b.spread());
      std::fflush(stdout);
    }
  }
}

void bench_rows(Bench& b) {
  const ModelShape& m = models()[0];
  for (const int rows : rows_wanted({1, 16, 64, 256, 8192}, {1, 3})) {
    Array<uint8_t> x(size_t{2} * rows * m.hidden), delta(x.size()), out(x.size());
    b.fill(delta.get(), delta.size());
    Array<float> weight(std::vector<float>(static_cast<size_t>(m.hidden), 1.0f));
    const double us = b.time([&] {
      for (int i = 0; i < repeats(50); ++i) GPU_CHECK(cuda::rms_norm(b.context(), {ElementType::bf16, x.get(), delta.get(), weight.get(), out.get(), rows, m.hidden, 1e-6f}));
    }, repeats(50));
    b.print(m.name, "add_rms_norm", rows, us, 4.0 * static_cast<double>(x.size()));
  }
}

void bench_sample(Bench& b) {
  const ModelShape& m = models()[0];
  struct Mode { const char* name; SamplingRow row; };
  const Mode modes[] = {{"greedy", {.temperature = 0}}, {"temperature", {.temperature = 0.7f, .seed = 5}}, {"top_p", {.temperature = 0.7f, .top_p = 0.8f, .seed = 5}},
                        {"top_k20 top_p", {.temperature = 0.7f, .top_p = 0.8f, .top_k = 20, .seed = 5}}};
  for (const int rows : rows_wanted({1, 64, 256}, {1, 2})) {
    std::vector<float> logits(static_cast<size_t>(rows) * m.vocab);
    parallel(static_cast<int64_t>(logits.size()), [&](int64_t i) { logits[static_cast<size_t>(i)] = 4 * (uniform(1, static_cast<uint64_t>(i)) + uniform(2, static_cast<uint64_t>(i)) + uniform(3, static_cast<uint64_t>(i))); });
    Array<float> d_logits(logits);
    Array<SampledToken> tokens(static_cast<size_t>(rows));
    Array<TopLogprob> top(static_cast<size_t>(rows) * limits::kTopLogprobs);
    for (const Mode& mode : modes) {
      Array<SamplingRow> sampling(std::vector<SamplingRow>(static_cast<size_t>(rows), mode.row));
      const double us = b.time([&] {
        for (int i = 0; i < repeats(4); ++i) GPU_CHECK(cuda::sample(b.context(), {d_logits.get(), sampling.get(), nullptr, nullptr, nullptr, nullptr, nullptr, tokens.get(), top.get(), rows, m.vocab}));
      }, repeats(4));
      b.print(m.name, (std::string("sample ") + mode.name).c_str(), rows, us, 4.0 * static_cast<double>(logits.size()));
    }
  }
}

/// A whole decode step as the engine enqueues it, in one graph: what batch-size goals are about. Weights of all layers are distinct.
void bench_step(Bench& b) {
  for (const ModelShape& m : models()) {
    const size_t row = static_cast<size_t>(m.hidden) * 2, per_layer = row * static_cast<size_t>(m.qkv_out() + m.heads * m.dim + 3 * m.ffn), head = row * static_cast<size_t>(m.vocab);
    Array<uint8_t> weights(per_layer * static_cast<size_t>(m.layers) + head);
    b.fill(weights.get(), weights.size());
    {
      Array<uint32_t> sink(4);
      const double us = b.time([&] {
        GPU_CHECK(cuda::launch(read_kernel, {.grid = static_cast<unsigned>(2 * b.context().multiprocessors), .block = 512}, b.context().stream,
                               reinterpret_cast<const uint4*>(weights.get()), weights.size() / 16, sink.get()));
      }, 1);
      b.print(m.name, "read all weights", 0, us, static_cast<double>(weights.size()));
    }
    for (const int rows : rows_wanted({1, 8, 16, 32}, {1, 9})) {  // more are cuBLASLt's, by the engine
      const int context = small ? 40 : 576;
      Buffers buffers(b, m, rows, context);
      const size_t kv_layer = cuda::kv_layer_block_bytes(m.kv_heads, m.dim) * static_cast<size_t>(rows) * static_cast<size_t>(Buffers::blocks(context));
      Array<uint8_t> kv(kv_layer * static_cast<size_t>(m.layers));
      b.fill(kv.get(), kv.size());
      Array<float> freq(std::vector<float>(static_cast<size_t>(m.dim / 2), 0.01f));
      const KernelContext& c = b.context();
      const auto type = ElementType::bf16;
      const auto step = [&](bool products, bool attention, bool others) {
        GPU_CHECK(cuda::rope_angles(c, {buffers.positions.get(), freq.get(), 1, buffers.angles.get(), rows, m.dim / 2}));
        GPU_CHECK(cuda::embed(c, {type, buffers.tokens.get(), buffers.from.get(), buffers.positions.get(), buffers.sampled.get(), weights.get(), buffers.residual.get(), rows, m.hidden}));
        const uint8_t* w = weights.get();
        const auto norm = [&](const void* delta) {
          if (others) GPU_CHECK(cuda::rms_norm(c, {type, buffers.residual.get(), delta, buffers.weight.get(), buffers.normed.get(), rows, m.hidden, 1e-6f}));
        };
        norm(nullptr);
        for (int layer = 0; layer < m.layers; ++layer) {
          const size_t q = row * static_cast<size_t>(m.heads * m.dim), k = row * static_cast<size_t>(m.kv_heads * m.dim), f = row * static_cast<size_t>(m.ffn);
          uint8_t* layer_kv = kv.get() + kv_layer * static_cast<size_t>(layer);
          if (products) GPU_CHECK(cuda::qkv_skinny(c, {type, buffers.normed.get(), {w, w + q, w + q + k}, {nullptr, nullptr, nullptr}, buffers.angles.get(), buffers.slots.get(), buffers.q.get(),
                                         {layer_kv, m.kv_heads, m.dim}, rows, m.hidden, m.heads}));
          w += q + 2 * k;
          if (attention) GPU_CHECK(cuda::decode_attention(c, attention_args(m, buffers, layer_kv, rows, context)));
          if (products) GPU_CHECK(cuda::linear_skinny(c, {type, buffers.out.get(), w, nullptr, nullptr, buffers.x.get(), false, rows, m.heads * m.dim, m.hidden}));
          w += q;
          norm(buffers.x.get());
          if (products) GPU_CHECK(cuda::gated_skinny(c, {type, buffers.normed.get(), w, w + f, buffers.ffn.get(), rows, m.hidden, m.ffn}));
          w += 2 * f;
          if (products) GPU_CHECK(cuda::linear_skinny(c, {type, buffers.ffn.get(), w, nullptr, nullptr, buffers.x.get(), false, rows, m.ffn, m.hidden}));
          w += f;
          norm(buffers.x.get());
        }
        if (products) GPU_CHECK(cuda::linear_skinny(c, {type, buffers.normed.get(), w, nullptr, nullptr, buffers.logits.get(), true, rows, m.hidden, m.vocab}));
        if (others) GPU_CHECK(cuda::sample(c, {buffers.logits.get(), buffers.sampling.get(), nullptr, nullptr, nullptr, nullptr, nullptr, buffers.sampled.get(), buffers.top.get(), rows, m.vocab}));
      };
      const double bytes = static_cast<double>(weights.size()) + static_cast<double>(kv_layer) * m.layers;
      const double us = b.time([&] { step(true, true, true); }, 1);
      b.print(m.name, "decode step", rows, us, bytes, (", " + std::to_string(rows * 1e6 / us) + " tokens/s").c_str());
      b.print(m.name, "  products alone", rows, b.time([&] { step(true, false, false); }, 1), static_cast<double>(weights.size()));
      b.print(m.name, "  attention alone", rows, b.time([&] { step(false, true, false); }, 1), static_cast<double>(kv_layer) * m.layers);
      b.print(m.name, "  others alone", rows, b.time([&] { step(false, false, true); }, 1), 0);
    }
  }
}

}  // namespace
}  // namespace pagemill::gpu_test

int main(int argc, char** argv) {
  using namespace pagemill::gpu_test;
  pagemill::cuda::KernelContext context = context_of_device();
  std::set<std::string> wanted;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--small") small = true;
    else if (word == "--portable") context.arch = 80;
    else if (word == "--plain-launch") context.programmatic = false;
    else if (word == "--rows" && i + 1 < argc) {
      for (const char* at = argv[++i]; at != nullptr; at = std::strchr(at, ',') == nullptr ? nullptr : std::strchr(at, ',') + 1) chosen_rows.push_back(std::atoi(at));
    } else wanted.insert(word);
  }
  Bench bench(context);
  bench_limits(bench);
  std::printf("model,op,rows,us,GB/s,%% of read bandwidth,spread %%\n");
  const std::pair<const char*, void (*)(Bench&)> parts[] = {{"linear", bench_linear}, {"gated", bench_gated}, {"attention", bench_attention}, {"prefill", bench_prefill},
                                                           {"rows", bench_rows}, {"sample", bench_sample}, {"step", bench_step}};
  for (const auto& [name, run] : parts)
    if (wanted.empty() || wanted.contains(name)) run(bench);
  return 0;
}
