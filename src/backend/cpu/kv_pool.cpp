#include "backend/cpu/kv_pool.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "base/dtype.h"

namespace pagemill {
namespace {

constexpr int32_t kTokens = limits::kBlockTokens;

bool is_cache_type(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::q8_0; }

size_t half_bytes(const KvPoolSpec& spec) {
  const size_t element = spec.dtype == DType::q8_0 ? 1 : static_cast<size_t>(traits(spec.dtype).block_bytes);
  return element * static_cast<size_t>(kTokens) * static_cast<size_t>(spec.head_dim);
}

size_t half_scales_bytes(const KvPoolSpec& spec) {
  return spec.dtype == DType::q8_0 ? sizeof(uint16_t) * static_cast<size_t>(kTokens) * static_cast<size_t>(spec.head_dim / kKvScaleElems) : 0;
}

size_t layer_block_bytes(const KvPoolSpec& spec) {
  return is_cache_type(spec.dtype) ? 2 * (half_bytes(spec) + half_scales_bytes(spec)) * static_cast<size_t>(spec.kv_heads) : 0;
}

/// Writes `count` floats with `stride` elements between them.
void store_strided(DType dtype, const float* from, int32_t count, std::byte* to, int64_t stride) {
  for (int32_t i = 0; i < count; ++i) {
    if (dtype == DType::f32) {
      std::memcpy(to + i * stride * 4, from + i, sizeof(float));
    } else {
      const uint16_t bits = dtype == DType::f16 ? f32_to_f16(from[i]) : f32_to_bf16(from[i]);
      std::memcpy(to + i * stride * 2, &bits, sizeof bits);
    }
  }
}

float load_element(DType dtype, const std::byte* from, int64_t index) {
  if (dtype == DType::f32) return reinterpret_cast<const float*>(from)[index];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(from)[index];
  return dtype == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

}  // namespace

uint16_t quantise_q8_0(const float* from, int8_t* codes) {
  float largest = 0;
  for (int32_t i = 0; i < kKvScaleElems; ++i) largest = std::max(largest, std::abs(from[i]));
  const uint16_t bits = f32_to_f16(std::min(largest / 127.0f, 65'504.0f));
  const float scale = f16_to_f32(bits), inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (int32_t i = 0; i < kKvScaleElems; ++i) {
    const float code = std::clamp(from[i] * inverse, -127.0f, 127.0f);
    codes[i] = static_cast<int8_t>(std::nearbyint(code == code ? code : 0.0f));
  }
  return bits;
}

size_t CpuKvPool::block_bytes(const KvPoolSpec& spec, int32_t group) {
  size_t layers = 0;
  for (const int32_t of_layer : spec.group_of_layer) layers += of_layer == group;
  return layers * layer_block_bytes(spec);
}

Result<std::unique_ptr<CpuKvPool>> CpuKvPool::make(const KvPoolSpec& spec) {
  PM_CHECK(static_cast<int32_t>(spec.group_of_layer.size()) == spec.layers && spec.kv_heads > 0 && spec.head_dim > 0);
  if (!is_cache_type(spec.dtype))
    return fail(ErrorCode::unsupported, fmt::format("--kv-cache-dtype: the CPU keeps keys and values as f32, f16, bf16 or q8_0, not as {}",
                                                    to_string(spec.dtype)), "--kv-cache-dtype");
  if (spec.dtype == DType::q8_0 && spec.head_dim % kKvScaleElems != 0)
    return fail(ErrorCode::unsupported, fmt::format("--kv-cache-dtype q8_0 needs heads whose size is a multiple of {}, and this model's is {}: "
                                                    "take f16", kKvScaleElems, spec.head_dim), "--kv-cache-dtype");
  std::unique_ptr<CpuKvPool> pool(new CpuKvPool);
  pool->spec = spec;
  pool->half_bytes_ = half_bytes(spec);
  pool->half_scales_bytes_ = half_scales_bytes(spec);
  pool->head_bytes_ = 2 * (pool->half_bytes_ + pool->half_scales_bytes_);
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

KvHeadBlock CpuKvPool::head_block(int32_t layer, int32_t block, int32_t kv_head) const {
  HostBuffer& buffer = *layers_[static_cast<size_t>(layer)];
  const size_t offset = static_cast<size_t>(block) * block_bytes_ + static_cast<size_t>(kv_head) * head_bytes_;
  PM_CHECK(block >= 0 && offset + head_bytes_ <= buffer.size_bytes(), "block {} is outside the KV pool", block);
  std::byte* keys = buffer.data() + offset;
  KvHeadBlock view{.keys = keys, .values = keys + half_bytes_};
  if (half_scales_bytes_ == 0) return view;
  view.key_scales = reinterpret_cast<uint16_t*>(keys + 2 * half_bytes_);
  view.value_scales = reinterpret_cast<uint16_t*>(keys + 2 * half_bytes_ + half_scales_bytes_);
  return view;
}

void CpuKvPool::store(int32_t layer, int32_t slot, int32_t kv_head, const float* key, const float* value) {
  const KvHeadBlock to = head_block(layer, slot / kTokens, kv_head);
  const int32_t dim = spec.head_dim, at = slot % kTokens;
  if (spec.dtype != DType::q8_0) {
    const int64_t element = traits(spec.dtype).block_bytes;
    store_strided(spec.dtype, key, dim, to.keys + at * element, kTokens);
    store_strided(spec.dtype, value, dim, to.values + int64_t{at} * dim * element, 1);
    return;
  }
  for (int32_t part = 0; part < dim / kKvScaleElems; ++part) {
    int8_t codes[kKvScaleElems];
    to.key_scales[part * kTokens + at] = quantise_q8_0(key + part * kKvScaleElems, codes);
    for (int32_t i = 0; i < kKvScaleElems; ++i) to.keys[(part * kKvScaleElems + i) * kTokens + at] = static_cast<std::byte>(codes[i]);
    to.value_scales[at * (dim / kKvScaleElems) + part] = quantise_q8_0(value + part * kKvScaleElems, codes);
    std::memcpy(to.values + int64_t{at} * dim + part * kKvScaleElems, codes, sizeof codes);
  }
}

void CpuKvPool::load(int32_t layer, int32_t block, int32_t kv_head, int32_t tokens, float* keys, float* values) const {
  const KvHeadBlock from = head_block(layer, block, kv_head);
  const int32_t dim = spec.head_dim;
  for (int32_t t = 0; t < tokens; ++t) {
    for (int32_t i = 0; i < dim; ++i) {
      const int64_t key_at = int64_t{i} * kTokens + t, value_at = int64_t{t} * dim + i;
      float &key = keys[value_at], &value = values[value_at];
      if (spec.dtype == DType::q8_0) {
        const int32_t part = i / kKvScaleElems;
        key = static_cast<float>(static_cast<int8_t>(from.keys[key_at])) * f16_to_f32(from.key_scales[part * kTokens + t]);
        value = static_cast<float>(static_cast<int8_t>(from.values[value_at])) * f16_to_f32(from.value_scales[t * (dim / kKvScaleElems) + part]);
      } else {
        key = load_element(spec.dtype, from.keys, key_at);
        value = load_element(spec.dtype, from.values, value_at);
      }
    }
  }
}

void CpuKvPool::copy_block(int32_t group, int32_t from, int32_t to) {
  for (int32_t layer = 0; layer < spec.layers; ++layer)
    if (spec.group_of_layer[static_cast<size_t>(layer)] == group)
      std::memcpy(head_block(layer, to, 0).keys, head_block(layer, from, 0).keys, block_bytes_);
}

}  // namespace pagemill
