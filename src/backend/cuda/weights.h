// Weights on the device, and how they get there.
//
// A matrix is [out, in] of f16 or bf16, rows one behind the other; a vector (norm weight, bias) is f32 with a copy in the matrix
// type beside it, which cuBLASLt's epilogue takes. GGUF's quantised types are dequantised on the way.
//
// WeightLoader: threads copy or convert pieces of the mapped file into pinned buffers, two each, and the device copies from there
// while they fill the next. Used by the loader thread alone.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/compute_pool.h"
#include "backend/cuda/handles.h"

namespace pagemill::cuda {

class CudaWeight final : public Weight {
 public:
  const void* matrix = nullptr;    // of the device's type; for a vector the 16-bit copy
  const float* vector = nullptr;   // null for a matrix
  std::shared_ptr<DeviceMemory> memory;
};

/// Device bytes of a weight with this shape.
size_t cuda_weight_bytes(int64_t out, int64_t in);

class WeightLoader {
 public:
  /// `type`: f16 or bf16.
  static Result<std::unique_ptr<WeightLoader>> make(int device, DType type, int threads);
  ~WeightLoader();

  /// One region for the weights to come; what does not fit there gets memory of its own.
  Result<void> reserve(size_t bytes);
  /// Returns once the file's bytes have been read; the copies may still be under way.
  Result<std::unique_ptr<CudaWeight>> load(const WeightBytes& weight);
  /// Waits for the copies. Their errors show here at the latest.
  Result<void> finish();

 private:
  /// One pinned buffer and the copy that reads it.
  struct Lane {
    std::unique_ptr<PinnedMemory> buffer;
    Event copied;
  };
  WeightLoader(int device, DType type, int threads) : device_(device), type_(type), pool_(threads) {}
  Result<std::byte*> place(CudaWeight& weight, size_t bytes);
  cudaError_t load_rows(const WeightBytes& weight, int64_t first, int64_t count, std::byte* to, int thread);
  Result<void> load_vector(const WeightBytes& weight, std::byte* to);

  const int device_;
  const DType type_;
  ComputePool pool_;
  Stream stream_;
  std::vector<Lane> lanes_;                  // [threads, 2]
  std::vector<int> next_lane_;               // [threads]
  std::vector<std::vector<float>> floats_;   // [threads] one row
  std::shared_ptr<DeviceMemory> region_;     // reserved
  size_t region_used_ = 0;
  std::shared_ptr<DeviceMemory> slab_;       // without a region, small weights share one
  size_t slab_used_ = 0;
};

}  // namespace pagemill::cuda
