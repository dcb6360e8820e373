// PackedWeight: a weight in the layout of one ISA's kernels, and where it lives.
//
// Threads: made on the loader thread (packing is spread over the pool); read-only afterwards.
// Ownership: holds its part of the arena's memory. The source bytes are not read again once it is made.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/compute_pool.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/linear/kernels.h"

namespace pagemill {

/// Memory for weights, handed out front to back from large chunks in huge pages. A chunk lives as long as a weight in it.
class WeightArena {
 public:
  struct Piece {
    std::byte* data = nullptr;
    std::shared_ptr<void> keep;
  };
  /// Zeroed, 64-byte aligned. `purpose` is for the error.
  Result<Piece> allocate(size_t bytes, std::string_view purpose);
  /// What comes next starts a chunk of its own: call it between models, so that each frees all that it took.
  void close_chunk();

 private:
  std::shared_ptr<void> chunk_;
  std::byte* next_ = nullptr;
  size_t left_ = 0;
};

class PackedWeight final : public Weight {
 public:
  static Result<std::unique_ptr<PackedWeight>> make(const WeightBytes& weight, Isa isa, ComputePool& pool, WeightArena& arena);
  static Result<std::unique_ptr<PackedWeight>> make(const WeightBytes& weight, const LinearKernels& kernels, ComputePool& pool,
                                                    WeightArena& arena);
  /// What make() takes of the arena; for a vector, of the heap.
  static size_t bytes(Isa isa, DType dtype, int64_t out, int64_t in);
  static size_t bytes(const LinearKernels& kernels, DType dtype, int64_t out, int64_t in);

  /// A vector (out = 1: norms, biases) as f32 [in]; null for a matrix.
  const float* vector() const { return vector_.empty() ? nullptr : vector_.data(); }
  /// Row n as f32, equal to dequantize_row of the file's bit for bit: embeddings.   out [in]
  void dequantize(int64_t n, float* row) const;
  /// Whether linear() multiplies it with int8 rows (LinearInput::quantized) where there are `rows` of them; else with those rounded to bf16
  /// (LinearInput::rounded), where wants_rounded(), or with f32 ones (LinearInput::floats).
  bool wants_quantized(int64_t rows) const { return is_quantized() && !wants_rounded(rows); }
  bool wants_rounded(int64_t rows) const { return rows >= rounded_from(); }
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  /// Rows from which on it wants them rounded to bf16: 1, those that panels of bf16 pay for, or kNever.
  int64_t rounded_from() const {
    if (out > 1 && has_bf16_panels() && kernels_->bf16_panels) return is_quantized() ? kBf16PanelRows : kBf16PanelRowsOfF16;
    return out > 1 && !has_bf16_panels() && float_kernels().multiply_rounded != nullptr ? 1 : kNever;
  }
  /// Whether it is unpacked to bf16 panels for as many rows as want that (LinearKernels::bf16_panels).
  bool has_bf16_panels() const { return is_quantized() || float_kernels().unpack_bf16 != nullptr; }
  bool is_quantized() const { return out > 1 && traits(source_dtype).quantized; }
  /// What it is packed as: the file's type, but bf16 for f16 whose every number bf16 has (a checkpoint in bf16 that was written as F16) where the ISA
  /// multiplies bf16 with rows of bf16. Nothing is lost, and the products are twice as fast.
  DType packed_dtype() const { return packed_dtype_; }
  const LinearKernels& kernels() const { return *kernels_; }
  Isa isa() const { return kernels_->isa; }

  // For linear().
  int64_t groups() const { return groups_; }
  const std::byte* group(int64_t index) const { return piece_.data + static_cast<size_t>(index) * group_bytes_; }
  int lanes() const { return lanes_; }

 private:
  /// False where packed_dtype_ lacks a number of the weight: what has been written then says nothing.
  bool pack(const WeightBytes& weight, ComputePool& pool);
  const FloatKernels& float_kernels() const { return kernels_->floats[static_cast<int>(packed_dtype_)]; }

  const LinearKernels* kernels_ = nullptr;
  std::vector<float> vector_;
  WeightArena::Piece piece_;
  DType packed_dtype_{};
  int lanes_ = 0;  // rows of a group
  int64_t groups_ = 0;
  size_t group_bytes_ = 0;
};

}  // namespace pagemill
