#include "backend/cpu/kv_pool.h"

#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "base/dequantize.h"

namespace pagemill {
namespace {

size_t layer_block_bytes(const KvPoolSpec& spec) {
  return static_cast<size_t>(row_bytes(spec.dtype, spec.head_dim)) * limits::kBlockTokens * 2 * static_cast<size_t>(spec.kv_heads);
}

void store_row(DType dtype, const float* from, int32_t count, std::byte* to) {
  if (dtype == DType::f32) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int32_t i = 0; i < count; ++i) {
    const uint16_t bits = dtype == DType::f16 ? f32_to_f16(from[i]) : f32_to_bf16(from[i]);
    std::memcpy(to + static_cast<size_t>(i) * sizeof bits, &bits, sizeof bits);
  }
}

}  // namespace

size_t CpuKvPool::block_bytes(const KvPoolSpec& spec, int32_t group) {
  size_t layers = 0;
  for (const int32_t of_layer : spec.group_of_layer) layers += of_layer == group;
  return layers * layer_block_bytes(spec);
}

Result<std::unique_ptr<CpuKvPool>> CpuKvPool::make(const KvPoolSpec& spec) {
  PM_CHECK(static_cast<int32_t>(spec.group_of_layer.size()) == spec.layers && spec.kv_heads > 0 && spec.head_dim > 0);
  if (spec.dtype != DType::f32 && spec.dtype != DType::f16 && spec.dtype != DType::bf16)
    return fail(ErrorCode::unsupported,
                fmt::format("the CPU backend keeps keys and values as f32, f16 or bf16, not as {}", to_string(spec.dtype)));
  std::unique_ptr<CpuKvPool> pool(new CpuKvPool);
  pool->spec = spec;
  pool->row_bytes_ = static_cast<size_t>(row_bytes(spec.dtype, spec.head_dim));
  pool->half_bytes_ = pool->row_bytes_ * limits::kBlockTokens;
  pool->block_bytes_ = layer_block_bytes(spec);
  for (const int32_t group : spec.group_of_layer) {
    PM_CHECK(group >= 0 && group < static_cast<int32_t>(spec.blocks.size()));
    const size_t bytes = pool->block_bytes_ * static_cast<size_t>(spec.blocks[static_cast<size_t>(group)]);
    PM_ASSIGN(auto buffer, HostBuffer::make(bytes, "the KV pool"));
    pool->layers_.push_back(std::move(buffer));
    pool->device_bytes += bytes;
  }
  return pool;
}

std::byte* CpuKvPool::at(int32_t layer, int32_t block, int32_t kv_head) const {
  HostBuffer& buffer = *layers_[static_cast<size_t>(layer)];
  const size_t offset = static_cast<size_t>(block) * block_bytes_ + static_cast<size_t>(kv_head) * 2 * half_bytes_;
  PM_CHECK(block >= 0 && offset + 2 * half_bytes_ <= buffer.size_bytes(), "block {} is outside the KV pool", block);
  return buffer.data() + offset;
}

void CpuKvPool::store(int32_t layer, int32_t slot, int32_t kv_head, const float* key, const float* value) {
  std::byte* keys = at(layer, slot / limits::kBlockTokens, kv_head);
  const size_t offset = static_cast<size_t>(slot % limits::kBlockTokens) * row_bytes_;
  store_row(spec.dtype, key, spec.head_dim, keys + offset);
  store_row(spec.dtype, value, spec.head_dim, keys + half_bytes_ + offset);
}

CpuKvPool::BlockView CpuKvPool::load(int32_t layer, int32_t block, int32_t kv_head, int32_t tokens, float* scratch) const {
  const std::byte* keys = at(layer, block, kv_head);
  const std::byte* values = keys + half_bytes_;
  if (spec.dtype == DType::f32) return {reinterpret_cast<const float*>(keys), reinterpret_cast<const float*>(values)};
  const size_t count = static_cast<size_t>(tokens) * static_cast<size_t>(spec.head_dim);
  const size_t bytes = static_cast<size_t>(tokens) * row_bytes_;
  float* value_floats = scratch + limits::kBlockTokens * int64_t{spec.head_dim};
  dequantize_row(spec.dtype, {keys, bytes}, {scratch, count});
  dequantize_row(spec.dtype, {values, bytes}, {value_floats, count});
  return {scratch, value_floats};
}

void CpuKvPool::copy_block(int32_t group, int32_t from, int32_t to) {
  for (int32_t layer = 0; layer < spec.layers; ++layer)
    if (spec.group_of_layer[static_cast<size_t>(layer)] == group)
      std::memcpy(at(layer, to, 0), at(layer, from, 0), block_bytes_);
}

}  // namespace pagemill
