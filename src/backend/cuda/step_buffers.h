// StepBuffers: a step's inputs on their way to the device, and its results on their way back.
//
// Inputs: begin() packs the arrays of StepInputs into one pinned piece, padded to the shape that the kernels will see, and copies
// it to the device at once. There is one piece of pinned memory per step in flight and one on the device: the stream keeps the
// order. Where an array lies depends on the padded shape alone, so that a graph recorded for a shape finds it at the next step.
// Histories, biases and masks have places of their own and are copied only where there are any; history or biases that do not fit
// stay on the host (`fits` is false), and sampling takes them in pieces.
//
// Padding: positions, slots, seq_of_row's rows and logit rows are -1, lengths 0. Kernels leave such rows alone.
#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/handles.h"
#include "backend/step.h"

namespace pagemill::cuda {

struct StepCapacity {
  int32_t rows = 0, seqs = 0, logit_rows = 0, score_rows = 0;
  int32_t stride = 0;               // blocks of the longest table
  int32_t history = 0, bias = 0;    // entries
  int32_t mask_words = 0;           // of one row; there is room for logit_rows of them
  int32_t copies = 0;               // block copies

  static StepCapacity of(const StepShape& largest, int32_t vocab);
  size_t packed_bytes() const;      // of the arrays that go in one copy
  size_t device_bytes() const;      // of everything
};

class StepBuffers {
 public:
  static Result<std::unique_ptr<StepBuffers>> make(const StepCapacity& capacity, int steps_in_flight);

  /// Enqueues the copies of `inputs` for the next slot and returns them as the device sees them, with `padded` as their shape and
  /// `stride` blocks in a table row. Valid until the slot's turn comes again.
  const StepInputs& begin(const StepInputs& inputs, const StepShape& padded, int32_t stride, cudaStream_t stream, DeviceStatus& status);
  bool fits() const { return fits_; }
  /// The inputs given to begin() last.
  const StepInputs& host() const { return *host_; }
  const StepCapacity& capacity() const { return capacity_; }

  /// Pairs (from, to) of one group, on the device.
  const int2* block_copies(std::span<const int2> pairs, cudaStream_t stream, DeviceStatus& status);
  /// History or bias entries from `first` on, where they do not fit together; enqueues their copy.
  const HistoryEntry* history_piece(int32_t first, int32_t count, cudaStream_t stream, DeviceStatus& status);
  const BiasEntry* bias_piece(int32_t first, int32_t count, cudaStream_t stream, DeviceStatus& status);

 private:
  StepBuffers() = default;
  template <class T>
  std::span<T> carve(size_t count);
  template <class T>
  std::span<const T> to_device(std::span<const T> from, size_t padded, T padding);
  template <class T>
  std::span<const T> copy_apart(std::span<const T> from, std::byte* pinned, std::byte* device, cudaStream_t stream, DeviceStatus& status);
  std::byte* pinned() { return pinned_[slot_]->data(); }

  StepCapacity capacity_;
  std::unique_ptr<DeviceMemory> device_;
  std::vector<std::unique_ptr<PinnedMemory>> pinned_;   // per step in flight
  std::vector<StepInputs> inputs_;                      // likewise, as the device sees them
  size_t slot_ = 0, used_ = 0;
  size_t history_at_ = 0, bias_at_ = 0, masks_at_ = 0, copies_at_ = 0;  // bytes from the start, on both sides
  const StepInputs* host_ = nullptr;
  bool fits_ = true;
};

}  // namespace pagemill::cuda
