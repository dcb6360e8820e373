// CpuKvPool: the KV cache in host memory, for every CPU backend.
//
// Layout: one buffer per layer, [blocks of the layer's group, kv_heads]; one head of one block is one contiguous piece:
//   f32, f16, bf16   keys [head_dim, kBlockTokens], values [kBlockTokens, head_dim]
//   q8_0             keys [head_dim, kBlockTokens] and values [kBlockTokens, head_dim] of int8, then their scales in f16:
//                    [head_dim / 32, kBlockTokens] and [kBlockTokens, head_dim / 32]
// Keys lie transposed: a query's scores against a block's tokens and its sum of the block's values are then the same
// product, 16 columns wide (attention.h). A slot is block · kBlockTokens + offset.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/memory.h"
#include "base/limits.h"

namespace pagemill {

inline constexpr int32_t kKvScaleElems = 32;  // elements that share a scale in q8_0

/// One head of one block.
struct KvHeadBlock {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  uint16_t* key_scales = nullptr;    // q8_0 only
  uint16_t* value_scales = nullptr;  // q8_0 only
};

class CpuKvPool final : public KvPool {
 public:
  /// Refuses types that it has not, by name.
  static Result<std::unique_ptr<CpuKvPool>> make(const KvPoolSpec& spec);
  /// Bytes of one block of `group` over all its layers; 0 for a type that make() refuses.
  static size_t block_bytes(const KvPoolSpec& spec, int32_t group);

  KvHeadBlock head_block(int32_t layer, int32_t block, int32_t kv_head) const;

  /// Rounds head_dim floats each to the pool's type: 16 bits to nearest even, q8_0 as quantise_q8_0() does.
  void store(int32_t layer, int32_t slot, int32_t kv_head, const float* key, const float* value);
  /// The first `tokens` positions of a block as f32, [tokens, head_dim] each.
  void load(int32_t layer, int32_t block, int32_t kv_head, int32_t tokens, float* keys, float* values) const;

  void copy_block(int32_t group, int32_t from, int32_t to);

 private:
  CpuKvPool() = default;

  std::vector<std::unique_ptr<HostBuffer>> layers_;
  size_t half_bytes_ = 0;         // the keys (or values) of one head in one block, without scales
  size_t half_scales_bytes_ = 0;  // their scales
  size_t head_bytes_ = 0;         // one head of one block
  size_t block_bytes_ = 0;        // one layer's block
};

/// 32 floats as int8 with one scale: scale = max |x| / 127 rounded to f16, codes x / scale to nearest even. Kept finite.
uint16_t quantise_q8_0(const float* from, int8_t* codes);

}  // namespace pagemill
