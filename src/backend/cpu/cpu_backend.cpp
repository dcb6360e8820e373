// Memory, weights, steps and sampling of the CPU backend; its arithmetic is in cpu_ops.cpp and cpu_attention.cpp.
#include "backend/cpu/cpu_backend.h"

#include <algorithm>

#include "backend/cpu_features.h"
#include "base/check.h"
#include "base/machine.h"

namespace pagemill {

CpuBackend::CpuBackend(Isa isa, int threads, bool deterministic)
    : CpuBackend(threads, op_kernels(isa), linear_kernels(isa, deterministic), std::string(to_string(isa))) {}

CpuBackend::CpuBackend(int threads, const OpKernels& ops, const LinearKernels& matrices, std::string name)
    : kernels_(ops), matrices_(matrices), pool_(threads), linear_scratch_(pool_.threads()), sampler_(pool_) {
  device_.kind = DeviceKind::cpu;
  device_.name = cpu_model_name();
  device_.isa = std::move(name);
  device_.memory_total_bytes = total_memory_bytes();
}

const DeviceInfo& CpuBackend::device() const {
  device_.memory_free_bytes = available_memory_bytes();
  return device_;
}

Result<std::unique_ptr<DeviceBuffer>> CpuBackend::allocate(size_t bytes, std::string_view purpose) { return HostBuffer::make(bytes, purpose); }

WantedForms CpuBackend::wanted_forms(int64_t rows, int64_t cols) const {
  if (rows == 0) return {};
  WantedForms wanted;
  for (const WeightRows& weight : weight_rows_) {
    if (weight.cols != cols) continue;
    if (rows >= weight.rounded_from) wanted.rounded = true;
    else if (weight.quantized) wanted.quantized = true;
  }
  return wanted;
}

RowCache::Sizes CpuBackend::form_sizes(int64_t rows, int64_t quantized_cols, int64_t rounded_cols) const {
  // Where quantised weights have bf16 panels, more rows than the vector kernels take need no int8 form.
  return {.quantized_rows = matrices_.takes_bf16_panels(rows) ? kBf16PanelRows - 1 : rows, .quantized_cols = quantized_cols, .rounded_rows = rows, .rounded_cols = rounded_cols};
}

Result<void> CpuBackend::reserve_forms() {
  int64_t quantized = 0, rounded = 0;
  for (const WeightRows& weight : weight_rows_) {
    if (weight.quantized) quantized = std::max(quantized, weight.cols);
    if (weight.rounded_from != PackedWeight::kNever) rounded = std::max(rounded, weight.cols);
  }
  return row_cache_.reserve(form_sizes(std::max<int64_t>(rows_max_, 1), quantized, rounded));
}

Result<std::unique_ptr<Weight>> CpuBackend::prepare_weight(const WeightBytes& weight) {
  PM_ASSIGN(auto packed, PackedWeight::make(weight, matrices_, pool_, arena_));
  const WeightRows rows{weight.in, packed->wants_quantized(1), packed->rounded_from()};
  const bool reads_forms = rows.quantized || rows.rounded_from != PackedWeight::kNever;
  if (reads_forms && std::find(weight_rows_.begin(), weight_rows_.end(), rows) == weight_rows_.end()) {
    weight_rows_.push_back(rows);
    PM_TRY(reserve_forms());
  }
  return packed;
}

size_t CpuBackend::weight_bytes(DType dtype, int64_t out, int64_t in) const { return PackedWeight::bytes(matrices_, dtype, out, in); }

Result<std::unique_ptr<KvPool>> CpuBackend::allocate_kv(const KvPoolSpec& spec) { return CpuKvPool::make(spec); }

size_t CpuBackend::kv_block_bytes(const KvPoolSpec& spec, int32_t group) const { return CpuKvPool::block_bytes(spec, group); }

Result<void> CpuBackend::reserve_floats(std::unique_ptr<HostBuffer>& buffer, int64_t floats, std::string_view purpose) {
  const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
  if (buffer && buffer->size_bytes() >= bytes) return {};
  PM_ASSIGN(buffer, HostBuffer::make(bytes, purpose));
  return {};
}

void CpuBackend::copy_blocks(KvView kv, std::span<const BlockCopy> copies) {
  auto& pool = static_cast<CpuKvPool&>(*kv.pool);
  for (const BlockCopy& copy : copies) pool.copy_block(copy.group, copy.from, copy.to);
}

void CpuBackend::sample(const StepInputs& step, Matrix logits) { sampler_.sample(step, logits); }

Result<void> CpuBackend::finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) {
  return sampler_.finish(tokens, logprobs);
}

Result<void> CpuBackend::logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) {
  return sampler_.logprobs(logits, targets, top, out);
}

Result<void> CpuBackend::read(Matrix matrix, std::span<float> out) {
  PM_CHECK(matrix.dtype == DType::f32 && static_cast<int64_t>(out.size()) == matrix.rows * matrix.cols);
  const auto* from = reinterpret_cast<const float*>(matrix.data);
  std::copy(from, from + out.size(), out.begin());
  return {};
}

Result<std::unique_ptr<Backend>> make_cpu_backend(std::string_view isa, int threads, bool deterministic) {
  if (isa == "reference") return make_reference_backend(threads);
  PM_ASSIGN(const Isa chosen, parse_isa(isa));
  return std::make_unique<CpuBackend>(chosen, threads, deterministic);
}

}  // namespace pagemill
