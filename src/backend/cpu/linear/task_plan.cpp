#include "backend/cpu/linear/task_plan.h"

#include "base/check.h"

namespace pagemill {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Items of a plan's chunks: the last chunk may have fewer rows.
struct Chunks {
  int64_t items = 0, time = 0;            // of the whole ones; time in rows', of one item
  int64_t last_items = 0, last_time = 0;  // of the last one, if it is short
};

Chunks cut(const PhaseShape& phase, int64_t chunk) {
  const int64_t count = divide_up(phase.rows, chunk), last = phase.rows - (count - 1) * chunk;
  const int64_t time = std::min(chunk, phase.rows) + phase.item_cost;
  if (count == 1 || last == chunk) return {phase.units * count, time};
  return {phase.units * (count - 1), time, phase.units, last + phase.item_cost};
}

/// Twice the time that a phase takes if tasks of one item are handed out: the mean of what it is for equally fast threads and of what it is where chance
/// decides which end first (each is half of a last item late).
int64_t twice_the_end(const Chunks& chunks, int64_t threads) {
  const int64_t mean = (chunks.items * chunks.time + chunks.last_items * chunks.last_time) / threads;
  const int64_t whole = divide_up(chunks.items, threads) * chunks.time;
  if (chunks.last_items == 0) return whole + mean + chunks.time / 2;
  // Threads that have a whole item less than others take short ones instead.
  const int64_t idle = divide_up(chunks.items, threads) * threads - chunks.items;
  const int64_t left = std::max<int64_t>(0, chunks.last_items - idle * (chunks.time / chunks.last_time));
  return whole + divide_up(left, threads) * chunks.last_time + mean + chunks.last_time / 2;
}

/// Long chunks cost less for each row, short ones let threads end together. The estimate is rough: a shorter chunk must be better by a 64th.
int64_t best_chunk(const PhaseShape& phase) {
  int64_t best = phase.chunk_most, earliest = twice_the_end(cut(phase, best), phase.threads);
  for (int64_t chunk = std::min(best, divide_up(phase.rows, kChunkStep) * kChunkStep) - kChunkStep; chunk > 0; chunk -= kChunkStep) {
    const int64_t end = twice_the_end(cut(phase, chunk), phase.threads);
    if (end + earliest / 64 >= earliest) continue;
    earliest = end;
    best = chunk;
  }
  return best;
}

}  // namespace

TaskPlan::TaskPlan(const PhaseShape& phase) : units_(phase.units), rows_(phase.rows) {
  PM_CHECK(phase.threads > 0 && phase.units_together <= kUnitsTogether && phase.chunk_most % kChunkStep == 0);
  chunk_rows_ = best_chunk(phase);
  items_ = units_ * divide_up(rows_, chunk_rows_);
  const int64_t threads = phase.threads;
  if (rows_ >= kPanelRows) {
    // Rounds in which each thread takes half of its share of what is left, as far as that is more than an item: rows of x are shared, and all
    // threads end as if each item were a task. The last chunk's items may be short: they count by their time.
    const Chunks chunks = cut(phase, chunk_rows_);
    int64_t left = chunks.items + divide_up(chunks.last_items * chunks.last_time, chunks.time);
    for (int64_t size = phase.units_together; size > 1; --size) {
      const int64_t enough = left - 2 * threads * (size - 1);
      if (enough <= 0) continue;
      const int64_t tasks = divide_up(enough, threads * size) * threads;
      add_tasks(size, tasks);
      left -= tasks * size;
    }
    add_tasks(1, items_ - planned_);
  } else if (rows_ >= kPairRows) {
    const int64_t size = std::clamp<int64_t>(items_ / (threads * 8), 1, kTaskUnits);
    add_tasks(size, divide_up(items_, size));
  } else {
    // Long tasks are long streams from memory; the last units of each thread are handed out in pieces then, so that all threads end together.
    const int64_t size = std::clamp<int64_t>(items_ / (threads * 4), 1, kTaskUnits), piece = std::max<int64_t>(1, size / 4);
    add_tasks(size, std::max<int64_t>(0, items_ - threads * size) / size);
    add_tasks(piece, divide_up(items_ - planned_, piece));
  }
}

void TaskPlan::add_tasks(int64_t size, int64_t count) {
  if (count <= 0) return;
  runs_[run_count_++] = {size, tasks_, planned_};
  tasks_ += count;
  planned_ = std::min(items_, planned_ + size * count);
}

TaskPlan::Items TaskPlan::items_of(int64_t task) const {
  size_t at = run_count_ - 1;
  while (task < runs_[at].first_task) --at;
  const Run& run = runs_[at];
  const int64_t begin = run.first_item + (task - run.first_task) * run.size;
  return {begin, std::min(items_, begin + run.size)};
}

}  // namespace pagemill
