// RowCache: the forms of matrices that the next products read, made by the op that writes the matrix while its rows are in cache.
//
// A product wants its rows as int8 (QuantizedRows) or as bf16 (RoundedRows) where its weight says so; the products with one matrix may want both.
// Whoever writes a matrix that may be such an input (a norm, attention, a gated activation) asks begin() for places and fills them
// beside the f32 form; the product asks find(). A form holds exactly what rounding the f32 form gives, so it changes no value
// whether one was there.
//
// Invariant: a matrix that find() knows has not been written since. Ops that write a matrix call begin() or forget().
// Threads: the backend's owner. begin() never allocates: reserve() at load.
#pragma once

#include <array>
#include <memory>

#include "backend/backend.h"
#include "backend/cpu/linear/quantized_rows.h"
#include "backend/cpu/linear/rounded_rows.h"
#include "backend/cpu/memory.h"

namespace pagemill {

/// What a matrix is beside f32; empty where it is not.
struct RowForms {
  QuantizedRows quantized;
  RoundedRows rounded;
};

struct WantedForms {
  bool quantized = false, rounded = false;
};

class RowCache {
 public:
  /// The largest matrices of each form: rows and elements of a row, 0 where there are none.
  struct Sizes {
    int64_t quantized_rows = 0, quantized_cols = 0;
    int64_t rounded_rows = 0, rounded_cols = 0;
    size_t quantized_bytes() const { return QuantizedRows::bytes(quantized_rows, quantized_cols); }
    size_t rounded_bytes() const { return RoundedRows::bytes(rounded_rows, rounded_cols); }
  };
  Result<void> reserve(const Sizes& sizes);
  static size_t bytes(const Sizes& sizes) { return kPlaces * (sizes.quantized_bytes() + sizes.rounded_bytes()); }

  /// Where the forms of `matrix` go, which is being written. Replaces those of the matrix that was not the last to be found or begun: an op may read the one
  /// that it found last while it fills these.
  RowForms begin(Matrix matrix, WantedForms wanted);
  /// The forms of the matrix that somebody made.
  RowForms find(Matrix matrix);
  /// `matrix` is being written, in f32 alone.
  void forget(Matrix matrix);

 private:
  static constexpr size_t kPlaces = 2;  // one is read while the other is written
  struct Entry {
    Matrix of;
    RowForms forms;
    std::unique_ptr<HostBuffer> quantized, rounded;  // memory of the forms
  };
  std::array<Entry, kPlaces> entries_;
  size_t newest_ = 0;
};

}  // namespace pagemill
