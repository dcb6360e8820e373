// TaskPlan: how a phase of products is cut into tasks. Pure arithmetic: what is computed does not depend on it, only when and by whom.
//
// A unit is 32 outputs of a weight (in a gated product of both), a chunk is neighbouring rows of x, an item a unit with a chunk. Items are counted
// chunk by chunk, so that all threads read the same rows of x; a task is neighbouring items. Tasks are handed out in order and their sizes never grow.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "backend/cpu/linear/kernels.h"

namespace pagemill {

/// Below kPanelRows a task takes so many units at most.
inline constexpr int64_t kTaskUnits = 16;
/// With fewer rows memory is what is waited for.
inline constexpr int64_t kPairRows = QuantizedRows::kTile;
/// From kPanelRows on a task takes so many units at most.
inline constexpr int64_t kUnitsTogether = 4;
/// A chunk begins at a multiple of so many rows.
inline constexpr int64_t kChunkStep = 32;

/// A phase: what is to be done, and what of it is better done at once.
struct PhaseShape {
  int64_t units = 0, rows = 0;
  int64_t threads = 1;
  int64_t units_together = 1;  // that gain by being multiplied with the same rows in one task
  int64_t chunk_most = 256;    // rows of a chunk, a multiple of kChunkStep
  int64_t item_cost = 16;      // what an item takes beside its rows (its weights are read and unpacked), in rows' time
};

class TaskPlan {
 public:
  explicit TaskPlan(const PhaseShape& phase);

  int64_t tasks() const { return tasks_; }
  /// Rows of every chunk but the last, which has what is left.
  int64_t chunk_rows() const { return chunk_rows_; }
  /// Calls body(first unit, end unit, first row, end row) for each chunk that a task has items of.
  template <class Body>
  void for_parts(int64_t task, Body&& body) const {
    const auto [begin, end] = items_of(task);
    for (int64_t item = begin, stop; item < end; item = stop) {
      const int64_t chunk = item / units_, unit = item - chunk * units_, row = chunk * chunk_rows_;
      stop = std::min(end, (chunk + 1) * units_);
      body(unit, unit + stop - item, row, std::min(rows_, row + chunk_rows_));
    }
  }

 private:
  struct Items {
    int64_t begin = 0, end = 0;
  };
  Items items_of(int64_t task) const;
  /// `count` more tasks of `size` items, as far as there are items.
  void add_tasks(int64_t size, int64_t count);

  // Tasks of one size that follow one another.
  struct Run {
    int64_t size = 0, first_task = 0, first_item = 0;
  };
  std::array<Run, kUnitsTogether> runs_{};
  size_t run_count_ = 0;
  int64_t units_ = 0, rows_ = 0, chunk_rows_ = 0, items_ = 0;
  int64_t tasks_ = 0, planned_ = 0;  // planned_: items of those tasks
};

}  // namespace pagemill
