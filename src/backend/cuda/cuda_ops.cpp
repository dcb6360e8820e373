// The ops of a step, in its order: each checks its shapes and chooses a launcher of kernels.h.
#include <algorithm>
#include <cstring>

#include "backend/cuda/cuda_backend.h"
#include "base/check.h"
#include "base/limits.h"

namespace pagemill::cuda {

namespace {

const CudaWeight& as_cuda(const Weight& weight) { return static_cast<const CudaWeight&>(weight); }
const float* bias_of(const Weight* bias) { return bias == nullptr ? nullptr : as_cuda(*bias).vector; }
CudaKvPool& pool_of(KvView kv) { return static_cast<CudaKvPool&>(*kv.pool); }

}  // namespace

void CudaBackend::check(const Matrix& matrix, int64_t rows, int64_t cols) const {
  PM_CHECK(matrix.dtype == options_.dtype && matrix.rows == rows && matrix.cols == cols, "[{}, {}] {} where [{}, {}] {} is needed", matrix.rows,
           matrix.cols, to_string(matrix.dtype), rows, cols, to_string(options_.dtype));
}

void CudaBackend::embed(const StepInputs& step, const Weight& table, Matrix out) {
  if (failed()) return;
  check(out, step.shape.rows, table.in);
  launched(cuda::embed(context_, {.type = type(), .tokens = step.tokens.data(), .token_from = step.token_from.data(), .positions = step.positions.data(),
                                  .sampled = scratch<SampledToken>(plan_.sampled), .table = as_cuda(table).matrix, .out = out.data,
                                  .rows = static_cast<int>(out.rows), .hidden = static_cast<int>(out.cols)}), "embed");
}

void CudaBackend::rms_norm(Matrix x, const Weight& weight, float eps, Matrix out) {
  if (failed()) return;
  check(x, out.rows, weight.in);
  check(out, x.rows, weight.in);
  launched(cuda::rms_norm(context_, {.type = type(), .x = x.data, .delta = nullptr, .weight = as_cuda(weight).vector, .out = out.data,
                                     .rows = static_cast<int>(x.rows), .hidden = static_cast<int>(x.cols), .eps = eps}), "rms_norm");
}

void CudaBackend::add_rms_norm(Matrix x, Matrix delta, const Weight& weight, float eps, Matrix out) {
  if (failed()) return;
  check(x, out.rows, weight.in);
  check(delta, out.rows, weight.in);
  check(out, x.rows, weight.in);
  launched(cuda::rms_norm(context_, {.type = type(), .x = x.data, .delta = delta.data, .weight = as_cuda(weight).vector, .out = out.data,
                                     .rows = static_cast<int>(x.rows), .hidden = static_cast<int>(x.cols), .eps = eps}), "add_rms_norm");
}

void CudaBackend::linear(const StepInputs&, Matrix x, const Weight& weight, const Weight* bias, Matrix out) {
  if (failed() || out.rows == 0) return;
  check(x, out.rows, weight.in);
  PM_CHECK(out.cols == weight.out && (out.dtype == options_.dtype || out.dtype == DType::f32));
  PM_CHECK(bias == nullptr || (bias->out == 1 && bias->in == weight.out));
  const bool out_f32 = out.dtype == DType::f32;
  const auto rows = static_cast<int>(x.rows), in = static_cast<int>(weight.in), out_features = static_cast<int>(weight.out);
  if (!takes_skinny(x.rows, Product::plain)) {
    const CublasLt::Product product{.type = type(), .x = x.data, .weight = as_cuda(weight).matrix, .bias = bias == nullptr ? nullptr : as_cuda(*bias).matrix,
                                    .out = out.data, .out_f32 = out_f32, .rows = rows, .in = in, .out_features = out_features};
    if (cublas_->multiply(product, scratch<std::byte>(plan_.cublas), kCublasWorkspaceBytes, stream_.get(), status_)) return;
  }
  launched(linear_skinny(context_, {.type = type(), .x = x.data, .weight = as_cuda(weight).matrix, .bias = bias_of(bias), .residual = nullptr,
                                    .out = out.data, .out_f32 = out_f32, .rows = rows, .in = in, .out_features = out_features}), "linear");
}

/// Once per step and table.
void CudaBackend::compute_angles(const StepInputs& step, const RopeTable& rope) {
  if (angles_of_ == &rope) return;
  angles_of_ = &rope;
  const float* frequencies = rope_frequencies(rope);
  PM_CHECK(frequencies != nullptr, "prepare_rope was not called");
  const auto half = static_cast<int>(rope.inv_freq.size());
  launched(rope_angles(context_, {.positions = step.positions.data(), .inv_freq = frequencies, .scale = rope.scale, .angles = scratch<float2>(plan_.angles),
                                  .rows = step.shape.rows, .half = half}), "rope_angles");
}

void CudaBackend::rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v, KvView kv) {
  if (failed()) return;
  const int64_t rows = step.shape.rows, kv_cols = int64_t{shape.kv_heads} * shape.head_dim;
  check(q, rows, int64_t{shape.heads} * shape.head_dim);
  check(k, rows, kv_cols);
  check(v, rows, kv_cols);
  PM_CHECK(static_cast<int32_t>(rope.inv_freq.size()) == shape.head_dim / 2);
  compute_angles(step, rope);
  const CudaKvPool& pool = pool_of(kv);
  const int32_t group = pool.spec.group_of_layer[static_cast<size_t>(shape.layer)];
  launched(cuda::rope_store(context_, {.type = type(), .q_from = q.data, .k = k.data, .v = v.data, .stride = 0, .bias = {}, .q = q.data,
                                       .angles = scratch<float2>(plan_.angles), .slots = step.group[group].slots.data(), .kv = pool.layer(shape.layer),
                                       .rows = static_cast<int>(rows), .heads = shape.heads}), "rope_store");
}

/// Where the weights of q, k and v lie behind each other, cuBLASLt makes all three in one product: k and v alone are too narrow to fill the
/// device. False if it cannot be done, and nothing was enqueued then.
bool CudaBackend::qkv_in_one_product(const StepInputs& step, Matrix x, const QkvWeights& weights, const AttentionShape& shape, const RopeTable& rope, Matrix q,
                                     KvView kv) {
  const int64_t q_cols = int64_t{shape.heads} * shape.head_dim, kv_cols = int64_t{shape.kv_heads} * shape.head_dim, cols = q_cols + 2 * kv_cols;
  const auto* const base = static_cast<const std::byte*>(as_cuda(*weights.q).matrix);
  const int64_t row_bytes_there = weights.q->in * 2;
  const bool adjacent = as_cuda(*weights.k).matrix == base + q_cols * row_bytes_there && as_cuda(*weights.v).matrix == base + (q_cols + kv_cols) * row_bytes_there;
  if (!cublas_ || !adjacent || cols > kQkvWidths * heads_ * head_dim_ || shape.head_dim % 16 != 0) return false;
  auto* const product = scratch<std::byte>(plan_.qkv);
  if (!cublas_->multiply({.type = type(), .x = x.data, .weight = base, .bias = nullptr, .out = product, .out_f32 = false, .rows = static_cast<int>(x.rows),
                          .in = static_cast<int>(x.cols), .out_features = static_cast<int>(cols)},
                         scratch<std::byte>(plan_.cublas), kCublasWorkspaceBytes, stream_.get(), status_))
    return false;
  compute_angles(step, rope);
  const CudaKvPool& pool = pool_of(kv);
  const int32_t group = pool.spec.group_of_layer[static_cast<size_t>(shape.layer)];
  launched(cuda::rope_store(context_, {.type = type(), .q_from = product, .k = product + q_cols * 2, .v = product + (q_cols + kv_cols) * 2, .stride = static_cast<int>(cols),
                                       .bias = {bias_of(weights.q_bias), bias_of(weights.k_bias), bias_of(weights.v_bias)}, .q = q.data,
                                       .angles = scratch<float2>(plan_.angles), .slots = step.group[group].slots.data(), .kv = pool.layer(shape.layer),
                                       .rows = static_cast<int>(x.rows), .heads = shape.heads}), "rope_store");
  return true;
}

void CudaBackend::linear_qkv_rope_store(const StepInputs& step, Matrix x, const QkvWeights& weights, const AttentionShape& shape, const RopeTable& rope,
                                        Matrix q, Matrix k, Matrix v, KvView kv) {
  if (failed()) return;
  check(x, step.shape.rows, weights.q->in);
  check(q, x.rows, int64_t{shape.heads} * shape.head_dim);
  if (!takes_skinny(x.rows, Product::qkv) || shape.head_dim % 16 != 0) {
    if (qkv_in_one_product(step, x, weights, shape, rope, q, kv)) return;
    return Backend::linear_qkv_rope_store(step, x, weights, shape, rope, q, k, v, kv);
  }
  compute_angles(step, rope);
  const CudaKvPool& pool = pool_of(kv);
  const int32_t group = pool.spec.group_of_layer[static_cast<size_t>(shape.layer)];
  launched(qkv_skinny(context_, {.type = type(), .x = x.data,
                                 .weight = {as_cuda(*weights.q).matrix, as_cuda(*weights.k).matrix, as_cuda(*weights.v).matrix},
                                 .bias = {bias_of(weights.q_bias), bias_of(weights.k_bias), bias_of(weights.v_bias)},
                                 .angles = scratch<float2>(plan_.angles), .slots = step.group[group].slots.data(), .q = q.data,
                                 .kv = pool.layer(shape.layer), .rows = static_cast<int>(x.rows), .in = static_cast<int>(x.cols), .heads = shape.heads}), "qkv");
}

void CudaBackend::attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) {
  if (failed()) return;
  const int64_t cols = int64_t{shape.heads} * shape.head_dim;
  check(q, step.shape.rows, cols);
  check(out, step.shape.rows, cols);
  const CudaKvPool& pool = pool_of(kv);
  const GroupTables& tables = step.group[pool.spec.group_of_layer[static_cast<size_t>(shape.layer)]];
  launched(cuda::attention(context_, {.type = type(), .q = q.data, .out = out.data, .kv = pool.layer(shape.layer), .block_table = tables.block_table.data(),
                                      .table_stride = tables.stride, .positions = step.positions.data(), .seq_of_row = step.seq_of_row.data(),
                                      .row_begin = step.row_begin.data(), .rows = step.shape.rows, .seqs = step.shape.seqs, .heads = shape.heads,
                                      .context_max = step.shape.context_max, .query_rows_max = step.shape.query_rows_max, .scale = shape.scale,
                                      .window = shape.window, .workspace = scratch<std::byte>(plan_.attention)}), "attention");
}

void CudaBackend::gated_activation(Activation activation, Matrix gate, Matrix up, Matrix out) {
  if (failed()) return;
  PM_CHECK(activation == Activation::silu);
  check(gate, out.rows, out.cols);
  check(up, out.rows, out.cols);
  launched(gated_silu(context_, type(), gate.data, up.data, out.data, out.rows * out.cols), "gated_silu");
}

void CudaBackend::linear_gated(const StepInputs& step, Matrix x, const Weight& gate, const Weight& up, Activation activation, Matrix out, Matrix scratch_matrix) {
  if (failed()) return;
  PM_CHECK(activation == Activation::silu);
  check(x, out.rows, gate.in);
  check(out, x.rows, gate.out);
  const GatedArgs args{.type = type(), .x = x.data, .gate = as_cuda(gate).matrix, .up = as_cuda(up).matrix, .out = out.data,
                       .rows = static_cast<int>(x.rows), .in = static_cast<int>(gate.in), .ffn = static_cast<int>(gate.out)};
  if (gate.out % 8 == 0 && has_gated_many(context_, args.rows, args.ffn)) return launched(gated_many(context_, args), "gated");
  if (!takes_skinny(x.rows, Product::gated) || gate.out % 8 != 0) return Backend::linear_gated(step, x, gate, up, activation, out, scratch_matrix);
  launched(gated_skinny(context_, args), "gated");
}

void CudaBackend::add(Matrix x, Matrix delta) {
  if (failed()) return;
  check(x, delta.rows, delta.cols);
  check(delta, x.rows, x.cols);
  launched(cuda::add(context_, type(), x.data, delta.data, x.rows * x.cols), "add");
}

void CudaBackend::gather_rows(const StepInputs&, Matrix x, std::span<const int32_t> rows, Matrix out) {
  if (failed() || rows.empty()) return;
  check(out, static_cast<int64_t>(rows.size()), x.cols);
  launched(cuda::gather_rows(context_, type(), x.data, static_cast<int>(x.rows), rows.data(), static_cast<int>(rows.size()), static_cast<int>(x.cols), out.data), "gather_rows");
}

/// Histories and biases that do not fit together go in pieces of whole rows, each behind the kernel of the one before.
void CudaBackend::sample(const StepInputs& step, Matrix logits) {
  if (failed()) return;
  PM_CHECK(logits.dtype == DType::f32 && logits.rows >= static_cast<int64_t>(step.sampling.size()));
  results_[(begun_ - 1) % kStepsInFlight].rows = buffers_->host().sampling.size();
  SampleArgs args{.logits = reinterpret_cast<float*>(logits.data), .sampling = step.sampling.data(), .history = step.history.data(), .bias = step.bias.data(),
                  .masks = step.masks.data(), .saved_history = scratch<float>(plan_.saved_history), .saved_bias = scratch<float>(plan_.saved_bias),
                  .tokens = scratch<SampledToken>(plan_.sampled), .top = scratch<TopLogprob>(plan_.top), .rows = static_cast<int>(step.sampling.size()),
                  .vocab = static_cast<int>(logits.cols)};
  if (buffers_->fits()) return launched(cuda::sample(context_, args), "sample");

  const std::span<const SamplingRow> host = buffers_->host().sampling;
  const StepCapacity& capacity = buffers_->capacity();
  for (size_t first = 0; first < host.size();) {
    size_t last = first + 1;
    const int32_t history = host[first].history_begin, bias = host[first].bias_begin;
    while (last < host.size() && host[last].history_end - history <= capacity.history && host[last].bias_end - bias <= capacity.bias) ++last;
    SampleArgs piece = args;
    // Entries keep their numbers: the pointers are moved back instead.
    piece.history = buffers_->history_piece(history, host[last - 1].history_end - history, stream_.get(), status_) - history;
    piece.bias = buffers_->bias_piece(bias, host[last - 1].bias_end - bias, stream_.get(), status_) - bias;
    piece.saved_history -= history;
    piece.saved_bias -= bias;
    piece.logits += first * static_cast<size_t>(logits.cols);
    piece.sampling += first;
    piece.tokens += first;
    piece.top += first * limits::kTopLogprobs;
    piece.rows = static_cast<int>(last - first);
    launched(cuda::sample(context_, piece), "sample");
    first = last;
  }
}

Result<void> CudaBackend::logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) {
  PM_TRY(status_.result());
  PM_CHECK(logits.dtype == DType::f32 && logits.rows >= static_cast<int64_t>(targets.size()) && out.size() == targets.size());
  const size_t count = targets.size();
  auto* const tokens = reinterpret_cast<SampledToken*>(bounce_->data());
  const size_t top_at = (count * sizeof(SampledToken) + 255) / 256 * 256, targets_at = top_at + count * limits::kTopLogprobs * sizeof(TopLogprob);
  auto* const best = reinterpret_cast<TopLogprob*>(bounce_->data() + top_at);
  PM_CHECK(targets_at + targets.size_bytes() <= bounce_->size_bytes());
  std::memcpy(bounce_->data() + targets_at, targets.data(), targets.size_bytes());
  const cudaStream_t stream = stream_.get();
  const char* const doing = "computing log-probabilities";
  status_.take(cudaMemcpyAsync(scratch<int32_t>(plan_.targets), bounce_->data() + targets_at, targets.size_bytes(), cudaMemcpyHostToDevice, stream), doing);
  status_.take(cuda::logprobs(context_, {.logits = reinterpret_cast<const float*>(logits.data), .targets = scratch<int32_t>(plan_.targets), .top_count = top,
                                         .tokens = scratch<SampledToken>(plan_.scored), .top = scratch<TopLogprob>(plan_.scored_top),
                                         .rows = static_cast<int>(count), .vocab = static_cast<int>(logits.cols)}), doing);
  status_.take(cudaMemcpyAsync(tokens, scratch<SampledToken>(plan_.scored), count * sizeof(SampledToken), cudaMemcpyDeviceToHost, stream), doing);
  if (top > 0)
    status_.take(cudaMemcpyAsync(best, scratch<TopLogprob>(plan_.scored_top), count * limits::kTopLogprobs * sizeof(TopLogprob), cudaMemcpyDeviceToHost, stream), doing);
  status_.take(cudaStreamSynchronize(stream), doing);
  PM_TRY(status_.result());
  for (size_t row = 0; row < count; ++row) {
    out[row] = {.chosen = tokens[row].logprob, .rank = tokens[row].rank, .top = {}};
    if (top > 0) out[row].top.assign(best + row * limits::kTopLogprobs, best + row * limits::kTopLogprobs + std::min<int64_t>(top, logits.cols));
  }
  return {};
}

Result<void> CudaBackend::read(Matrix matrix, std::span<float> out) {
  PM_TRY(status_.result());
  PM_CHECK(static_cast<int64_t>(out.size()) == matrix.rows * matrix.cols && (matrix.dtype == options_.dtype || matrix.dtype == DType::f32));
  const size_t at_once = bounce_->size_bytes() / sizeof(float);
  for (size_t first = 0; first < out.size(); first += at_once) {
    const size_t count = std::min(at_once, out.size() - first);
    const auto* from = reinterpret_cast<const float*>(matrix.data) + first;
    if (matrix.dtype != DType::f32) {
      float* const floats = scratch<float>(plan_.floats);
      status_.take(to_f32(context_, type(), matrix.data + 2 * first, floats, static_cast<int64_t>(count)), "reading a matrix");
      from = floats;
    }
    status_.take(cudaMemcpyAsync(bounce_->data(), from, count * sizeof(float), cudaMemcpyDeviceToHost, stream_.get()), "reading a matrix");
    status_.take(cudaStreamSynchronize(stream_.get()), "reading a matrix");
    PM_TRY(status_.result());
    std::memcpy(out.data() + first, bounce_->data(), count * sizeof(float));
  }
  return {};
}

}  // namespace pagemill::cuda
