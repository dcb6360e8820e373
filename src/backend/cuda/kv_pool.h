// CudaKvPool: the KV cache on the device. One allocation per group: [layers of the group][blocks][kv_heads][keys, values] pieces
// (kv_layout.h).
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/handles.h"
#include "backend/cuda/kernels.h"

namespace pagemill::cuda {

class CudaKvPool final : public KvPool {
 public:
  /// Zeroed on `stream`.
  static Result<std::unique_ptr<CudaKvPool>> make(const KvPoolSpec& spec, cudaStream_t stream);
  static size_t block_bytes(const KvPoolSpec& spec, int32_t group);

  KvLayer layer(int32_t layer) const;
  cudaError_t copy_blocks(const KernelContext& context, int32_t group, const int2* pairs, int count) const;

 private:
  CudaKvPool() = default;
  struct Group {
    std::unique_ptr<DeviceMemory> memory;
    int32_t layers = 0;
    size_t layer_stride = 0;
  };
  std::vector<Group> groups_;
  std::vector<int32_t> index_in_group_;  // [layers]
  size_t layer_block_bytes_ = 0;
};

}  // namespace pagemill::cuda
