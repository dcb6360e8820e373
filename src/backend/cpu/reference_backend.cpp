// Memory, weights, steps and sampling of the reference backend; its arithmetic is in reference_ops.cpp.
#include "backend/cpu/reference_backend.h"

#include <algorithm>

#include "backend/cpu_features.h"
#include "base/check.h"
#include "base/machine.h"

namespace pagemill {

ReferenceBackend::ReferenceBackend(int threads)
    : pool_(threads), scratch_(static_cast<size_t>(pool_.threads())), sampler_(pool_) {
  device_.kind = DeviceKind::cpu;
  device_.name = cpu_model_name();
  device_.isa = "reference";
  device_.memory_total_bytes = total_memory_bytes();
}

const DeviceInfo& ReferenceBackend::device() const {
  device_.memory_free_bytes = available_memory_bytes();
  return device_;
}

void ReferenceBackend::reserve_floats(int64_t floats) {
  for (std::vector<float>& buffer : scratch_)
    if (static_cast<int64_t>(buffer.size()) < floats) buffer.resize(static_cast<size_t>(floats));
}

float* ReferenceBackend::scratch(int thread, int64_t floats) {
  std::vector<float>& buffer = scratch_[static_cast<size_t>(thread)];
  PM_CHECK(static_cast<int64_t>(buffer.size()) >= floats, "reserve_scratch was not called, or for smaller steps");
  return buffer.data();
}

Result<std::unique_ptr<DeviceBuffer>> ReferenceBackend::allocate(size_t bytes, std::string_view purpose) {
  return HostBuffer::make(bytes, purpose);
}

Result<std::unique_ptr<Weight>> ReferenceBackend::prepare_weight(const WeightBytes& weight) {
  reserve_floats(kWeightRows * weight.in);
  return std::make_unique<ReferenceWeight>(weight);
}

size_t ReferenceBackend::weight_bytes(DType dtype, int64_t out, int64_t in) const {
  return ReferenceWeight::device_bytes_of(dtype, out, in);
}

Result<std::unique_ptr<KvPool>> ReferenceBackend::allocate_kv(const KvPoolSpec& spec) { return CpuKvPool::make(spec); }

size_t ReferenceBackend::kv_block_bytes(const KvPoolSpec& spec, int32_t group) const { return CpuKvPool::block_bytes(spec, group); }

Result<void> ReferenceBackend::reserve_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t, int32_t vocab) {
  reserve_floats(attention_scratch_floats(heads, head_dim));
  sampler_.reserve(largest.logit_rows, vocab);
  return {};
}

void ReferenceBackend::copy_blocks(KvView kv, std::span<const BlockCopy> copies) {
  auto& pool = static_cast<CpuKvPool&>(*kv.pool);
  for (const BlockCopy& copy : copies) pool.copy_block(copy.group, copy.from, copy.to);
}

void ReferenceBackend::sample(const StepInputs& step, Matrix logits) { sampler_.sample(step, logits); }

Result<void> ReferenceBackend::finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) {
  return sampler_.finish(tokens, logprobs);
}

Result<void> ReferenceBackend::logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) {
  return sampler_.logprobs(logits, targets, top, out);
}

Result<void> ReferenceBackend::read(Matrix matrix, std::span<float> out) {
  PM_CHECK(matrix.dtype == DType::f32 && static_cast<int64_t>(out.size()) == matrix.rows * matrix.cols);
  const auto* from = reinterpret_cast<const float*>(matrix.data);
  std::copy(from, from + out.size(), out.begin());
  return {};
}

std::unique_ptr<Backend> make_reference_backend(int threads) { return std::make_unique<ReferenceBackend>(threads); }

}  // namespace pagemill
