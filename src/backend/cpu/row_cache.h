// RowCache: int8 forms of the matrices that the next products read, made by the op that writes the matrix while its rows are in cache.
//
// A product with a quantised weight wants its rows as QuantizedRows. Whoever writes a matrix that may be such an input (a norm,
// attention, a gated activation) asks begin() for a place and fills it beside the f32 form; linear() asks find(). A
// quantised form holds exactly what quantising the f32 form gives, so it changes no value whether one was there.
//
// Invariant: a matrix that find() knows has not been written since. Ops that write a matrix call begin() or forget().
// Threads: the backend's owner. begin() never allocates: reserve() at load.
#pragma once

#include <array>
#include <memory>

#include "backend/backend.h"
#include "backend/cpu/linear/quantized_rows.h"
#include "backend/cpu/memory.h"

namespace pagemill {

class RowCache {
 public:
  /// Places for matrices of up to rows · cols elements.
  Result<void> reserve(int64_t rows, int64_t cols);

  /// Where the int8 form of `matrix` goes, which is being written. Replaces the form that was asked for longest ago; `reading` stays.
  QuantizedRows begin(Matrix matrix, const QuantizedRows& reading = {});
  /// The int8 form of the matrix; empty where nobody made one.
  QuantizedRows find(Matrix matrix);
  /// `matrix` is being written, without an int8 form.
  void forget(Matrix matrix);

  static size_t bytes(int64_t rows, int64_t cols) { return 2 * QuantizedRows::bytes(rows, cols); }

 private:
  // One is read while the other is written.
  struct Entry {
    const std::byte* of = nullptr;
    QuantizedRows rows;
    std::unique_ptr<HostBuffer> memory;
  };
  std::array<Entry, 2> entries_;
  size_t newest_ = 0;
};

}  // namespace pagemill
