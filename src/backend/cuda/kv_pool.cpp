#include "backend/cuda/kv_pool.h"

#include <algorithm>

#include "base/check.h"

namespace pagemill::cuda {

size_t CudaKvPool::block_bytes(const KvPoolSpec& spec, int32_t group) {
  const auto layers = std::count(spec.group_of_layer.begin(), spec.group_of_layer.end(), group);
  return kv_layer_block_bytes(spec.kv_heads, spec.head_dim) * static_cast<size_t>(layers);
}

Result<std::unique_ptr<CudaKvPool>> CudaKvPool::make(const KvPoolSpec& spec, cudaStream_t stream) {
  std::unique_ptr<CudaKvPool> pool(new CudaKvPool);
  pool->spec = spec;
  pool->layer_block_bytes_ = kv_layer_block_bytes(spec.kv_heads, spec.head_dim);
  pool->groups_.resize(spec.blocks.size());
  for (const int32_t group : spec.group_of_layer) {
    PM_CHECK(group >= 0 && static_cast<size_t>(group) < pool->groups_.size());
    pool->index_in_group_.push_back(pool->groups_[static_cast<size_t>(group)].layers++);
  }
  for (size_t g = 0; g < pool->groups_.size(); ++g) {
    Group& group = pool->groups_[g];
    group.layer_stride = pool->layer_block_bytes_ * static_cast<size_t>(spec.blocks[g]);
    const size_t bytes = group.layer_stride * static_cast<size_t>(group.layers);
    PM_ASSIGN(group.memory, DeviceMemory::make(bytes, "the KV pool"));
    if (bytes > 0) PM_TRY(as_result(cudaMemsetAsync(group.memory->data(), 0, bytes, stream), "clearing the KV pool"));
    pool->device_bytes += bytes;
  }
  return pool;
}

KvLayer CudaKvPool::layer(int32_t layer) const {
  const auto at = static_cast<size_t>(layer);
  const Group& group = groups_[static_cast<size_t>(spec.group_of_layer[at])];
  return {group.memory->data() + group.layer_stride * static_cast<size_t>(index_in_group_[at]), spec.kv_heads, spec.head_dim};
}

cudaError_t CudaKvPool::copy_blocks(const KernelContext& context, int32_t group, const int2* pairs, int count) const {
  const Group& g = groups_[static_cast<size_t>(group)];
  return cuda::copy_blocks(context, g.memory->data(), g.layer_stride, g.layers, layer_block_bytes_, pairs, count);
}

}  // namespace pagemill::cuda
