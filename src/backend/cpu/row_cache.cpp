#include "backend/cpu/row_cache.h"

#include "base/check.h"

namespace pagemill {

Result<void> RowCache::reserve(int64_t rows, int64_t cols) {
  const size_t bytes = QuantizedRows::bytes(rows, cols);
  for (Entry& entry : entries_) {
    if (entry.memory && entry.memory->size_bytes() >= bytes) continue;
    entry.of = nullptr;
    PM_ASSIGN(entry.memory, HostBuffer::make(bytes, "int8 activations"));
  }
  return {};
}

QuantizedRows RowCache::begin(Matrix matrix, const QuantizedRows& reading) {
  forget(matrix);
  size_t at = 1 - newest_;
  if (reading && entries_[at].of != nullptr && entries_[at].rows.block(0, 0) == reading.block(0, 0)) at = newest_;
  Entry& entry = entries_[at];
  PM_CHECK(entry.memory && entry.memory->size_bytes() >= QuantizedRows::bytes(matrix.rows, matrix.cols),
           "reserve_scratch was not called, or for smaller steps");
  newest_ = at;
  entry.of = matrix.data;
  entry.rows = QuantizedRows(entry.memory->data(), matrix.rows, matrix.cols);
  return entry.rows;
}

QuantizedRows RowCache::find(Matrix matrix) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (entry.of != matrix.data || entry.rows.rows() != matrix.rows || entry.rows.cols() != matrix.cols) continue;
    newest_ = i;
    return entry.rows;
  }
  return {};
}

void RowCache::forget(Matrix matrix) {
  for (Entry& entry : entries_)
    if (entry.of == matrix.data) entry.of = nullptr;
}

}  // namespace pagemill
