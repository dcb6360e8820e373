#include "backend/cpu/linear/packed_weight.h"

#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <numeric>
#include <vector>

#include "backend/cpu/memory.h"
#include "backend/cpu/reference_weight.h"
#include "base/check.h"

namespace pagemill {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHugePage = 2u << 20;
constexpr size_t kChunkBytes = 64u << 20;
constexpr size_t kTaskBytes = 256u << 10;  // of the source, that a task packs: stays in the second-level cache between being read and packed

size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

struct GroupShape {
  int lanes = 0;
  int64_t groups = 0;
  size_t bytes = 0;  // of one
};

GroupShape group_shape(const LinearKernels& kernels, DType dtype, int64_t out, int64_t in) {
  GroupShape shape;
  if (traits(dtype).quantized) {
    shape.lanes = kernels.lanes;
    shape.bytes = kernels.quantized[static_cast<int>(dtype)].group_bytes(in);
  } else {
    shape.lanes = static_cast<int>(kFloatLanes);
    shape.bytes = kernels.floats[static_cast<int>(dtype)].group_bytes(in);
  }
  shape.groups = (out + shape.lanes - 1) / shape.lanes;
  return shape;
}

/// Rows first … last - 1 of the weight: read from the file into `buffer`, which they fit, else as they lie in memory.
const std::byte* file_rows(const WeightBytes& weight, int64_t first, int64_t last, size_t row_size, std::byte* buffer) {
  const std::byte* from = weight.bytes.data() + static_cast<size_t>(first) * row_size;
  if (weight.read && weight.read(from, {buffer, static_cast<size_t>(last - first) * row_size})) return buffer;
  return from;
}

/// Numbers of f16 as those of bf16, `from` may be `to`; false where bf16 lacks one of them.
bool narrow_f16(const std::byte* from, int64_t count, std::byte* to) {
  constexpr int64_t kPiece = 64;
  for (int64_t at = 0; at < count; at += kPiece, from += kPiece * 2, to += kPiece * 2) {
    const auto n = static_cast<size_t>(std::min(kPiece, count - at));
    uint16_t in[kPiece], out[kPiece];
    std::memcpy(in, from, n * 2);
    uint32_t lost = 0;
    for (size_t i = 0; i < n; ++i) {
      const auto bits = std::bit_cast<uint32_t>(f16_to_f32(in[i]));
      lost |= bits;
      out[i] = static_cast<uint16_t>(bits >> 16);
    }
    if ((lost & 0xffff) != 0) return false;
    std::memcpy(to, out, n * 2);
  }
  return true;
}

}  // namespace

Result<WeightArena::Piece> WeightArena::allocate(size_t bytes, std::string_view purpose) {
  bytes = rounded(bytes, kAlign);
  if (bytes <= left_) {
    const Piece piece{next_, chunk_};
    next_ += bytes;
    left_ -= bytes;
    return piece;
  }
  const size_t size = rounded(std::max(bytes, kChunkBytes), kHugePage);
  PM_ASSIGN(auto buffer, HostBuffer::make(size + kHugePage, purpose));
  auto* start = reinterpret_cast<std::byte*>(rounded(reinterpret_cast<uintptr_t>(buffer->data()), kHugePage));
  madvise(start, size, MADV_HUGEPAGE);  // advice: without huge pages it works too
  const Piece piece{start, std::shared_ptr<HostBuffer>(std::move(buffer))};
  if (size - bytes > left_) {  // else what is left of the old chunk serves more
    chunk_ = piece.keep;
    next_ = start + bytes;
    left_ = size - bytes;
  }
  return piece;
}

void WeightArena::close_chunk() {
  chunk_.reset();
  next_ = nullptr;
  left_ = 0;
}

size_t PackedWeight::bytes(const LinearKernels& kernels, DType dtype, int64_t out, int64_t in) {
  if (out == 1) return static_cast<size_t>(in) * sizeof(float);
  const GroupShape shape = group_shape(kernels, dtype, out, in);
  return shape.bytes * static_cast<size_t>(shape.groups);
}

size_t PackedWeight::bytes(Isa isa, DType dtype, int64_t out, int64_t in) { return bytes(linear_kernels(isa), dtype, out, in); }

Result<std::unique_ptr<PackedWeight>> PackedWeight::make(const WeightBytes& weight, Isa isa, ComputePool& pool, WeightArena& arena) {
  return make(weight, linear_kernels(isa), pool, arena);
}

Result<std::unique_ptr<PackedWeight>> PackedWeight::make(const WeightBytes& weight, const LinearKernels& kernels, ComputePool& pool,
                                                         WeightArena& arena) {
  PM_CHECK(weight.out > 0 && weight.in > 0, "{}", weight.name);
  PM_CHECK(weight.bytes.size() == static_cast<size_t>(row_bytes(weight.dtype, weight.in)) * static_cast<size_t>(weight.out), "{}", weight.name);
  auto packed = std::make_unique<PackedWeight>();
  packed->source_dtype = weight.dtype;
  packed->out = weight.out;
  packed->in = weight.in;
  packed->kernels_ = &kernels;
  packed->packed_dtype_ = weight.dtype;
  packed->device_bytes = bytes(kernels, weight.dtype, weight.out, weight.in);
  if (weight.out == 1) {
    const ReferenceWeight reference(weight);
    packed->vector_.assign(reference.row(0, nullptr), reference.row(0, nullptr) + weight.in);
    return packed;
  }
  const GroupShape shape = group_shape(kernels, weight.dtype, weight.out, weight.in);
  packed->lanes_ = shape.lanes;
  packed->groups_ = shape.groups;
  packed->group_bytes_ = shape.bytes;
  PM_ASSIGN(packed->piece_, arena.allocate(packed->device_bytes, weight.name));
  const bool rounds = kernels.floats[static_cast<int>(DType::bf16)].multiply_rounded != nullptr;
  if (weight.dtype == DType::f16 && rounds && bytes(kernels, DType::bf16, weight.out, weight.in) == packed->device_bytes) {
    packed->packed_dtype_ = DType::bf16;
    if (packed->pack(weight, pool)) return packed;
    packed->packed_dtype_ = weight.dtype;
    std::memset(packed->piece_.data + static_cast<size_t>(shape.groups - 1) * shape.bytes, 0, shape.bytes);  // lanes past the end are zero
  }
  packed->pack(weight, pool);
  return packed;
}

bool PackedWeight::pack(const WeightBytes& weight, ComputePool& pool) {
  const auto row_size = static_cast<size_t>(row_bytes(source_dtype, in));
  const auto packer = is_quantized() ? kernels_->quantized[static_cast<int>(source_dtype)].pack : float_kernels().pack;
  const bool narrow = packed_dtype_ != source_dtype;
  std::atomic<bool> fits = true;
  PM_CHECK(weight.unpermute_head_dim == 0 || (weight.unpermute_head_dim % 2 == 0 && out % weight.unpermute_head_dim == 0), "{}", weight.name);
  // Permutation stays within a head: a task packs whole ones, so that its rows lie together in the file.
  const int64_t head_groups = weight.unpermute_head_dim == 0 ? 1 : std::lcm(weight.unpermute_head_dim, int64_t{lanes_}) / lanes_;
  const auto fitting = static_cast<int64_t>(kTaskBytes / (row_size * static_cast<size_t>(lanes_)));
  const int64_t per_task = std::max<int64_t>(1, fitting / head_groups) * head_groups;
  // Read, not mapped: mapping and giving back a page costs more than copying it, and weights are never held twice.
  std::vector<std::unique_ptr<std::byte[]>> buffers(static_cast<size_t>(pool.threads()));
  pool.run({"pack", in, out}, (groups_ + per_task - 1) / per_task, [&](int64_t task, int thread) {
    if (!fits.load(std::memory_order_relaxed)) return;
    const int64_t begin = task * per_task, end = std::min(groups_, begin + per_task);
    const int64_t first = begin * lanes_, last = std::min(end * lanes_, out);
    auto& buffer = buffers[static_cast<size_t>(thread)];
    if (!buffer) buffer = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(per_task * lanes_) * row_size);
    const std::byte* from = file_rows(weight, first, last, row_size, buffer.get());
    if (narrow) {
      if (!narrow_f16(from, (last - first) * in, buffer.get())) {
        fits.store(false, std::memory_order_relaxed);
        return;
      }
      from = buffer.get();
    }
    for (int64_t index = begin; index < end; ++index) {
      const std::byte* rows[kFloatLanes] = {};
      for (int64_t lane = 0; lane < lanes_ && index * lanes_ + lane < out; ++lane) {
        const int64_t n = index * lanes_ + lane;
        const int64_t in_file = weight.unpermute_head_dim == 0 ? n : interleaved_row(n, weight.unpermute_head_dim);
        rows[lane] = from + static_cast<size_t>(in_file - first) * row_size;
      }
      packer(rows, in, piece_.data + static_cast<size_t>(index) * group_bytes_);
    }
  });
  return fits;
}

void PackedWeight::dequantize(int64_t n, float* row) const {
  if (out == 1) {
    std::copy(vector_.begin(), vector_.end(), row);
    return;
  }
  PM_CHECK(n >= 0 && n < out, "row {} of {}", n, out);
  const auto convert = is_quantized() ? kernels_->quantized[static_cast<int>(source_dtype)].dequantize : float_kernels().dequantize;
  convert(group(n / lanes_), static_cast<int>(n % lanes_), in, row);
}

}  // namespace pagemill
