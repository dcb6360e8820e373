#include "backend/cuda/step_buffers.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/limits.h"

namespace pagemill::cuda {

namespace {

constexpr size_t kAlign = 256;
constexpr int32_t kHistoryMin = 1 << 18, kBiasMin = 1 << 13;

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
template <class T>
size_t bytes_of(int64_t count) { return aligned(static_cast<size_t>(count) * sizeof(T)); }

}  // namespace

StepCapacity StepCapacity::of(const StepShape& largest, int32_t vocab) {
  // One row's own history and biases always fit.
  return {.rows = largest.rows, .seqs = largest.seqs, .logit_rows = largest.logit_rows, .score_rows = largest.rows,
          .stride = (largest.context_max + limits::kBlockTokens - 1) / limits::kBlockTokens + 1,
          .history = std::max(kHistoryMin, vocab), .bias = std::max(kBiasMin, vocab), .mask_words = (vocab + 31) / 32,
          .copies = std::max(largest.logit_rows, largest.seqs)};
}

size_t StepCapacity::packed_bytes() const {
  return 5 * bytes_of<int32_t>(rows) + 2 * bytes_of<int32_t>(seqs + 1) + bytes_of<int32_t>(int64_t{seqs} * stride) + bytes_of<int32_t>(logit_rows) +
         bytes_of<int32_t>(score_rows) + bytes_of<SamplingRow>(logit_rows);
}
size_t StepCapacity::device_bytes() const {
  return packed_bytes() + bytes_of<HistoryEntry>(history) + bytes_of<BiasEntry>(bias) + bytes_of<uint32_t>(int64_t{logit_rows} * mask_words) +
         bytes_of<int2>(copies);
}

Result<std::unique_ptr<StepBuffers>> StepBuffers::make(const StepCapacity& capacity, int steps_in_flight) {
  std::unique_ptr<StepBuffers> buffers(new StepBuffers);
  buffers->capacity_ = capacity;
  PM_ASSIGN(buffers->device_, DeviceMemory::make(capacity.device_bytes(), "the inputs of a step"));
  for (int i = 0; i < steps_in_flight; ++i) {
    PM_ASSIGN(auto pinned, PinnedMemory::make(capacity.device_bytes(), "the inputs of a step"));
    buffers->pinned_.push_back(std::move(pinned));
  }
  buffers->inputs_.resize(static_cast<size_t>(steps_in_flight));
  buffers->history_at_ = capacity.packed_bytes();
  buffers->bias_at_ = buffers->history_at_ + bytes_of<HistoryEntry>(capacity.history);
  buffers->masks_at_ = buffers->bias_at_ + bytes_of<BiasEntry>(capacity.bias);
  buffers->copies_at_ = buffers->masks_at_ + bytes_of<uint32_t>(int64_t{capacity.logit_rows} * capacity.mask_words);
  return buffers;
}

template <class T>
std::span<T> StepBuffers::carve(size_t count) {
  T* const at = reinterpret_cast<T*>(pinned() + used_);
  used_ += aligned(count * sizeof(T));
  PM_CHECK(used_ <= history_at_, "a step larger than the largest");
  return {at, count};
}

/// Packs an array, padded; where it will be on the device.
template <class T>
std::span<const T> StepBuffers::to_device(std::span<const T> from, size_t padded, T padding) {
  const auto* const there = reinterpret_cast<const T*>(device_->data() + used_);
  const std::span<T> to = carve<T>(padded);
  const size_t count = std::min(from.size(), padded);
  std::copy_n(from.begin(), count, to.begin());
  std::fill(to.begin() + static_cast<ptrdiff_t>(count), to.end(), padding);
  return {there, padded};
}

template <class T>
std::span<const T> StepBuffers::copy_apart(std::span<const T> from, std::byte* pinned, std::byte* device, cudaStream_t stream, DeviceStatus& status) {
  if (!from.empty()) {
    std::memcpy(pinned, from.data(), from.size_bytes());
    status.take(cudaMemcpyAsync(device, pinned, from.size_bytes(), cudaMemcpyHostToDevice, stream), "copying a step's inputs");
  }
  return {reinterpret_cast<const T*>(device), from.size()};
}

const StepInputs& StepBuffers::begin(const StepInputs& inputs, const StepShape& padded, int32_t stride, cudaStream_t stream, DeviceStatus& status) {
  PM_CHECK(inputs.groups == 1, "{} KV groups", inputs.groups);
  PM_CHECK(stride >= inputs.group[0].stride && stride <= capacity_.stride);
  slot_ = (slot_ + 1) % pinned_.size();
  host_ = &inputs;
  used_ = 0;
  const auto rows = static_cast<size_t>(padded.rows), seqs = static_cast<size_t>(padded.seqs), logit_rows = static_cast<size_t>(padded.logit_rows);
  StepInputs& there = inputs_[slot_];
  there = {};
  there.shape = padded;
  there.tokens = to_device(inputs.tokens, rows, 0);
  there.token_from = to_device(inputs.token_from, rows, -1);
  there.positions = to_device(inputs.positions, rows, -1);
  there.seq_of_row = to_device(inputs.seq_of_row, rows, 0);
  there.row_begin = to_device(inputs.row_begin, seqs + 1, inputs.shape.rows);
  there.context_len = to_device(inputs.context_len, seqs, 0);
  there.groups = 1;
  there.group[0].slots = to_device(inputs.group[0].slots, rows, -1);
  there.group[0].stride = stride;
  {
    const auto* const table = reinterpret_cast<const int32_t*>(device_->data() + used_);
    const auto from_stride = static_cast<size_t>(inputs.group[0].stride), to_stride = static_cast<size_t>(stride);
    const std::span<int32_t> to = carve<int32_t>(seqs * to_stride);
    const size_t given = from_stride == 0 ? 0 : inputs.group[0].block_table.size() / from_stride;
    for (size_t s = 0; s < std::min(given, seqs); ++s) {
      const auto row = inputs.group[0].block_table.subspan(s * from_stride, from_stride);
      std::fill(std::copy(row.begin(), row.end(), to.begin() + static_cast<ptrdiff_t>(s * to_stride)), to.begin() + static_cast<ptrdiff_t>((s + 1) * to_stride), -1);
    }
    there.group[0].block_table = {table, to.size()};
  }
  there.logit_rows = to_device(inputs.logit_rows, logit_rows, -1);
  there.score_rows = to_device(inputs.score_rows, inputs.score_rows.size(), -1);
  there.sampling = to_device(inputs.sampling, inputs.sampling.empty() ? 0 : logit_rows, SamplingRow{});
  status.take(cudaMemcpyAsync(device_->data(), pinned(), used_, cudaMemcpyHostToDevice, stream), "copying a step's inputs");

  const auto capacity = [](int32_t entries) { return static_cast<size_t>(entries); };
  fits_ = inputs.history.size() <= capacity(capacity_.history) && inputs.bias.size() <= capacity(capacity_.bias);
  there.history = {reinterpret_cast<const HistoryEntry*>(device_->data() + history_at_), inputs.history.size()};
  there.bias = {reinterpret_cast<const BiasEntry*>(device_->data() + bias_at_), inputs.bias.size()};
  if (fits_) {
    copy_apart(inputs.history, pinned() + history_at_, device_->data() + history_at_, stream, status);
    copy_apart(inputs.bias, pinned() + bias_at_, device_->data() + bias_at_, stream, status);
  }
  PM_CHECK(inputs.masks.size() <= static_cast<size_t>(capacity_.logit_rows) * static_cast<size_t>(capacity_.mask_words));
  there.masks = copy_apart(inputs.masks, pinned() + masks_at_, device_->data() + masks_at_, stream, status);
  return there;
}

const int2* StepBuffers::block_copies(std::span<const int2> pairs, cudaStream_t stream, DeviceStatus& status) {
  PM_CHECK(pairs.size() <= static_cast<size_t>(capacity_.copies));
  return copy_apart(pairs, pinned() + copies_at_, device_->data() + copies_at_, stream, status).data();
}

// The host's own arrays are pageable: the runtime takes them over before the call returns.
const HistoryEntry* StepBuffers::history_piece(int32_t first, int32_t count, cudaStream_t stream, DeviceStatus& status) {
  PM_CHECK(count <= capacity_.history);
  auto* const there = device_->data() + history_at_;
  if (count > 0)
    status.take(cudaMemcpyAsync(there, host_->history.data() + first, static_cast<size_t>(count) * sizeof(HistoryEntry), cudaMemcpyHostToDevice, stream), "copying penalties");
  return reinterpret_cast<const HistoryEntry*>(there);
}
const BiasEntry* StepBuffers::bias_piece(int32_t first, int32_t count, cudaStream_t stream, DeviceStatus& status) {
  PM_CHECK(count <= capacity_.bias);
  auto* const there = device_->data() + bias_at_;
  if (count > 0)
    status.take(cudaMemcpyAsync(there, host_->bias.data() + first, static_cast<size_t>(count) * sizeof(BiasEntry), cudaMemcpyHostToDevice, stream), "copying biases");
  return reinterpret_cast<const BiasEntry*>(there);
}

}  // namespace pagemill::cuda
