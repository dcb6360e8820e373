// CpuKvPool: the KV cache in host memory.
//
// Layout: one buffer per layer, [blocks of the layer's group, kv_heads, 2 (keys, values), kBlockTokens, head_dim] of f32, f16 or
// bf16: what one head's attention reads of a block is one contiguous piece. A slot is block · kBlockTokens + offset.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/memory.h"
#include "base/limits.h"

namespace pagemill {

class CpuKvPool final : public KvPool {
 public:
  static Result<std::unique_ptr<CpuKvPool>> make(const KvPoolSpec& spec);
  /// Bytes of one block of `group` over all its layers.
  static size_t block_bytes(const KvPoolSpec& spec, int32_t group);

  /// Rounds head_dim floats each to the pool's type, to nearest even.
  void store(int32_t layer, int32_t slot, int32_t kv_head, const float* key, const float* value);

  /// The first `tokens` positions of a block as f32, [tokens, head_dim] each: in place where the pool is f32, else
  /// converted into scratch[block_scratch_floats].
  struct BlockView {
    const float* keys;
    const float* values;
  };
  BlockView load(int32_t layer, int32_t block, int32_t kv_head, int32_t tokens, float* scratch) const;
  static int64_t block_scratch_floats(int32_t head_dim) { return int64_t{2} * limits::kBlockTokens * head_dim; }

  void copy_block(int32_t group, int32_t from, int32_t to);

 private:
  CpuKvPool() = default;
  /// The keys of a block's head; its values follow after half_bytes_.
  std::byte* at(int32_t layer, int32_t block, int32_t kv_head) const;

  std::vector<std::unique_ptr<HostBuffer>> layers_;
  size_t row_bytes_ = 0;    // one position of one head
  size_t half_bytes_ = 0;   // the keys (or values) of one head in one block
  size_t block_bytes_ = 0;  // one layer's block
};

}  // namespace pagemill
