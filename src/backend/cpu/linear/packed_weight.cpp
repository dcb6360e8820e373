#include "backend/cpu/linear/packed_weight.h"

#include "backend/cpu/memory.h"
#include "backend/cpu/reference_weight.h"
#include "base/check.h"
#include "base/dequantize.h"

namespace pagemill {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kChunkBytes = 64u << 20;

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

Result<WeightArena::Piece> WeightArena::allocate(size_t bytes, std::string_view purpose) {
  bytes = aligned(bytes);
  if (bytes > left_) {
    const size_t size = std::max(bytes, kChunkBytes);
    PM_ASSIGN(auto buffer, HostBuffer::make(size, purpose));
    next_ = buffer->data();
    left_ = size;
    chunk_ = std::shared_ptr<HostBuffer>(std::move(buffer));
  }
  Piece piece{next_, chunk_};
  next_ += bytes;
  left_ -= bytes;
  return piece;
}

void WeightArena::close_chunk() {
  chunk_.reset();
  next_ = nullptr;
  left_ = 0;
}

size_t PackedWeight::bytes(Isa, DType dtype, int64_t out, int64_t in) {
  return out == 1 ? static_cast<size_t>(in) * sizeof(float) : static_cast<size_t>(row_bytes(dtype, in)) * static_cast<size_t>(out);
}

Result<std::unique_ptr<PackedWeight>> PackedWeight::make(const WeightBytes& weight, Isa isa, ComputePool&, WeightArena& arena) {
  auto packed = std::make_unique<PackedWeight>();
  packed->source_dtype = weight.dtype;
  packed->out = weight.out;
  packed->in = weight.in;
  packed->isa_ = isa;
  packed->unpermute_head_dim_ = weight.unpermute_head_dim;
  packed->device_bytes = bytes(isa, weight.dtype, weight.out, weight.in);
  if (weight.out == 1) {
    ReferenceWeight reference(weight);
    packed->vector_.assign(reference.row(0, nullptr), reference.row(0, nullptr) + weight.in);
    return packed;
  }
  PM_ASSIGN(packed->piece_, arena.allocate(packed->device_bytes, weight.name));
  std::copy(weight.bytes.begin(), weight.bytes.end(), packed->piece_.data);
  return packed;
}

void PackedWeight::dequantize(int64_t n, float* row) const {
  if (out == 1) {
    std::copy(vector_.begin(), vector_.end(), row);
    return;
  }
  const int64_t in_file = unpermute_head_dim_ == 0 ? n : interleaved_row(n, unpermute_head_dim_);
  const size_t bytes = static_cast<size_t>(row_bytes(source_dtype, in));
  dequantize_row(source_dtype, {piece_.data + static_cast<size_t>(in_file) * bytes, bytes}, {row, static_cast<size_t>(in)});
}

}  // namespace pagemill
