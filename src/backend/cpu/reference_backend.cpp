// Memory, weights, steps and sampling of the reference backend; its arithmetic is in reference_ops.cpp.
#include "backend/cpu/reference_backend.h"

#include <algorithm>

#include "backend/cpu_features.h"
#include "base/check.h"
#include "base/machine.h"

namespace pagemill {
namespace {

std::span<const float> logit_row(Matrix logits, size_t row) {
  return {reinterpret_cast<const float*>(logits.data) + row * static_cast<size_t>(logits.cols), static_cast<size_t>(logits.cols)};
}

}  // namespace

ReferenceBackend::ReferenceBackend(int threads)
    : pool_(threads), scratch_(static_cast<size_t>(pool_.threads())), sample_scratch_(static_cast<size_t>(pool_.threads())) {
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
  for (SampleScratch& buffer : sample_scratch_) buffer.reserve(vocab);
  if (sampled_.capacity() < static_cast<size_t>(largest.logit_rows)) {
    sampled_.reserve(static_cast<size_t>(largest.logit_rows));
    sampled_logprobs_.resize(static_cast<size_t>(largest.logit_rows));
    for (LogprobRow& row : sampled_logprobs_) row.top.reserve(limits::kTopLogprobs);
  }
  return {};
}

void ReferenceBackend::copy_blocks(KvView kv, std::span<const BlockCopy> copies) {
  auto& pool = static_cast<CpuKvPool&>(*kv.pool);
  for (const BlockCopy& copy : copies) pool.copy_block(copy.group, copy.from, copy.to);
}

void ReferenceBackend::sample(const StepInputs& step, Matrix logits) {
  const size_t rows = step.sampling.size();
  PM_CHECK(logits.dtype == DType::f32 && logits.rows >= static_cast<int64_t>(rows));
  PM_CHECK(sampled_logprobs_.size() >= rows, "reserve_scratch was not called, or for fewer logit rows");
  sampled_.resize(rows);
  const size_t mask_words = (static_cast<size_t>(logits.cols) + 31) / 32;
  pool_.run(static_cast<int64_t>(rows), [&](int64_t task, int thread) {
    const auto row = static_cast<size_t>(task);
    const SamplingRow& how = step.sampling[row];
    if (how.logprobs < 0) sampled_logprobs_[row].top.clear();  // an earlier step's
    const auto history = step.history.subspan(static_cast<size_t>(how.history_begin), static_cast<size_t>(how.history_end - how.history_begin));
    const auto bias = step.bias.subspan(static_cast<size_t>(how.bias_begin), static_cast<size_t>(how.bias_end - how.bias_begin));
    const auto mask = how.mask < 0 ? std::span<const uint32_t>{} : step.masks.subspan(static_cast<size_t>(how.mask) * mask_words, mask_words);
    const auto in_vocabulary = [&](const auto& entry) { return entry.token >= 0 && entry.token < logits.cols; };
    PM_CHECK(std::all_of(history.begin(), history.end(), in_vocabulary), "a penalty on a token outside of the vocabulary");
    PM_CHECK(std::all_of(bias.begin(), bias.end(), in_vocabulary), "a bias on a token outside of the vocabulary");
    sampled_[row] = sample_row(logit_row(logits, row), how, history, bias, mask, sample_scratch_[static_cast<size_t>(thread)],
                               &sampled_logprobs_[row]);
  });
}

Result<void> ReferenceBackend::finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) {
  PM_CHECK(tokens.size() == sampled_.size() && (logprobs.empty() || logprobs.size() == sampled_.size()));
  std::copy(sampled_.begin(), sampled_.end(), tokens.begin());
  for (size_t row = 0; row < logprobs.size(); ++row) logprobs[row] = sampled_logprobs_[row];
  return {};
}

Result<void> ReferenceBackend::logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) {
  PM_CHECK(logits.dtype == DType::f32 && logits.rows >= static_cast<int64_t>(targets.size()) && out.size() == targets.size());
  pool_.run(static_cast<int64_t>(targets.size()), [&](int64_t task, int thread) {
    const auto row = static_cast<size_t>(task);
    logprob_row(logit_row(logits, row), targets[row], top, out[row], sample_scratch_[static_cast<size_t>(thread)]);
  });
  return {};
}

Result<void> ReferenceBackend::read(Matrix matrix, std::span<float> out) {
  PM_CHECK(matrix.dtype == DType::f32 && static_cast<int64_t>(out.size()) == matrix.rows * matrix.cols);
  const auto* from = reinterpret_cast<const float*>(matrix.data);
  std::copy(from, from + out.size(), out.begin());
  return {};
}

std::unique_ptr<Backend> make_reference_backend(int threads) { return std::make_unique<ReferenceBackend>(threads); }

}  // namespace pagemill
