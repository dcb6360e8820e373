#include "backend/cpu/row_cache.h"

#include "base/check.h"

namespace pagemill {
namespace {

bool holds(const std::unique_ptr<HostBuffer>& memory, size_t bytes) { return bytes == 0 || (memory && memory->size_bytes() >= bytes); }

}  // namespace

Result<void> RowCache::reserve(const Sizes& sizes) {
  for (Entry& entry : entries_) {
    if (!holds(entry.quantized, sizes.quantized_bytes())) {
      entry.of = {};
      PM_ASSIGN(entry.quantized, HostBuffer::make(sizes.quantized_bytes(), "int8 activations"));
    }
    if (!holds(entry.rounded, sizes.rounded_bytes())) {
      entry.of = {};
      PM_ASSIGN(entry.rounded, HostBuffer::make(sizes.rounded_bytes(), "bf16 activations"));
    }
  }
  return {};
}

RowForms RowCache::begin(Matrix matrix, WantedForms wanted) {
  forget(matrix);
  if (!wanted.quantized && !wanted.rounded) return {};
  newest_ = 1 - newest_;
  Entry& entry = entries_[newest_];
  entry.of = matrix;
  entry.forms = {};
  constexpr const char* kTooSmall = "reserve_scratch was not called, or for smaller steps";
  if (wanted.quantized) {
    PM_CHECK(holds(entry.quantized, QuantizedRows::bytes(matrix.rows, matrix.cols)), "{}", kTooSmall);
    entry.forms.quantized = QuantizedRows(entry.quantized->data(), matrix.rows, matrix.cols);
  }
  if (wanted.rounded) {
    PM_CHECK(holds(entry.rounded, RoundedRows::bytes(matrix.rows, matrix.cols)), "{}", kTooSmall);
    entry.forms.rounded = RoundedRows(entry.rounded->data(), matrix.rows, matrix.cols);
  }
  return entry.forms;
}

RowForms RowCache::find(Matrix matrix) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (entry.of.data != matrix.data || entry.of.rows != matrix.rows || entry.of.cols != matrix.cols) continue;
    newest_ = i;
    return entry.forms;
  }
  return {};
}

void RowCache::forget(Matrix matrix) {
  for (Entry& entry : entries_)
    if (entry.of.data == matrix.data) entry.of = {};
}

}  // namespace pagemill
