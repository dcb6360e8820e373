// linear: out = x · weightᵀ on the CPU, for every weight type and ISA.
//
// Threads: called by the pool's owner; work is spread over the pool. Nothing is allocated.
// Numerics: a quantised weight is multiplied with rows rounded to int8 per 32 elements (QuantizedRows), exactly inside a block of
//   32 and in f32 from block to block, ascending; 16-bit and f32 weights with f32 rows, k ascending, but bf16 ones on Isa::avx512_vnni
//   and Isa::amx with rows rounded to bf16, in the order of the ISA's instruction. The value of an output depends on its own row, the weight and
//   the ISA: not on how many rows there are, nor on threads. One exception: where the table says bf16_panels (Isa::amx unless deterministic),
//   many rows (PackedWeight::rounded_from) of a quantised or f16 weight are multiplied as those of a bf16 weight would be.
#pragma once

#include <memory>
#include <new>
#include <span>

#include "backend/cpu/compute_pool.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/linear/packed_weight.h"
#include "backend/cpu/linear/quantized_rows.h"
#include "backend/cpu/linear/rounded_rows.h"

namespace pagemill {

/// The rows, in the forms that the weights of a call want (PackedWeight::wants_quantized, wants_rounded).
struct LinearInput {
  QuantizedRows quantized;        // [rows, in]
  RoundedRows rounded;            // [rows, in]
  const float* floats = nullptr;  // [rows, in], rows floats_stride apart
  int64_t floats_stride = 0;
  int64_t rows = 0;
};

/// One product of a call: out[r][n] = x[r] · weight[n] (+ bias[n]).
struct LinearPart {
  const PackedWeight* weight = nullptr;
  const float* bias = nullptr;  // [out] or null
  float* out = nullptr;         // [rows, out], rows out_stride apart
  int64_t out_stride = 0;
};

/// Memory that the threads of a pool compute in; of a fixed size, whatever is multiplied.
class LinearScratch {
 public:
  explicit LinearScratch(int threads);
  /// 64-byte aligned.
  std::byte* of(int thread) { return memory_.get() + static_cast<size_t>(thread) * kBytes; }
  static constexpr size_t kBytes = 320 * 1024;

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte[], Free> memory_;
};

/// All parts in one phase (q, k and v together). The weights are of one ISA and share `in`.
void linear(ComputePool& pool, LinearScratch& scratch, const LinearInput& x, std::span<const LinearPart> parts);

/// Where act(gate) · up goes: as f32 and in the forms that the next product wants.
struct GatedOut {
  float* floats = nullptr;  // [rows, ffn], rows floats_stride apart
  int64_t floats_stride = 0;
  QuantizedRows quantized;  // [rows, ffn]; ffn is a multiple of 32
  RoundedRows rounded;      // [rows, ffn]
};

/// out = silu(x · gateᵀ) · (x · upᵀ) in one phase.
void linear_gated(ComputePool& pool, LinearScratch& scratch, const LinearInput& x, const PackedWeight& gate, const PackedWeight& up,
                  const GatedOut& out);

/// Rounds `blocks` blocks of 32 that x begins with, to those of a row from `block` on.
void quantize_row(const LinearKernels& kernels, const float* x, const QuantizedRows& to, int64_t row, int64_t block, int64_t blocks);

/// Rounds x [to.rows(), to.cols()], rows x_stride apart, for weights of this table, as a phase of its own. Ops that make a row in cache call
/// quantize_row on it instead.
void quantize_rows(ComputePool& pool, const LinearKernels& kernels, const float* x, int64_t x_stride, const QuantizedRows& to);

/// Rounds a part of a matrix, x [rows, cols], rows x_stride apart, for weights of a table with tiles: into `to` from `row` and `col` on. col and, where
/// the part does not end with the rows, cols are multiples of 32. With the matrix's last row come the zeros that fill its tile up. For ops
/// that make rows in cache: a tile's rows lie side by side, so many at once are better than one. The pool's threads will read them: many rows for few threads
/// go past the caches.
void round_part(const ComputePool& pool, const LinearKernels& kernels, const float* x, int64_t x_stride, int64_t rows, int64_t cols, const RoundedRows& to, int64_t row,
                int64_t col);

/// All of x [to.rows(), to.cols()], rows x_stride apart, as a phase of its own.
void round_rows(ComputePool& pool, const LinearKernels& kernels, const float* x, int64_t x_stride, const RoundedRows& to);

}  // namespace pagemill
