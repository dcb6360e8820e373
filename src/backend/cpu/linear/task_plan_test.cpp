// What any plan must keep: every unit and row is computed once, tasks never grow, threads end about together.
#include "backend/cpu/linear/task_plan.h"

#include <numeric>
#include <ostream>
#include <vector>

#include "base/rng.h"

namespace pagemill {

void PrintTo(const PhaseShape& phase, std::ostream* out) {
  *out << phase.units << " units, " << phase.rows << " rows, " << phase.threads << " threads, " << phase.units_together << " together, chunks of " << phase.chunk_most << " at most";
}

namespace {

struct Task {
  int64_t items = 0;
  int64_t time = 0;  // in rows', item_cost included
};

std::vector<Task> tasks_of(const PhaseShape& phase) {
  const TaskPlan plan(phase);
  std::vector<Task> tasks(static_cast<size_t>(plan.tasks()));
  for (size_t i = 0; i < tasks.size(); ++i) {
    plan.for_parts(static_cast<int64_t>(i), [&](int64_t begin, int64_t end, int64_t row, int64_t row_end) {
      tasks[i].items += end - begin;
      tasks[i].time += (end - begin) * (row_end - row + phase.item_cost);
    });
  }
  return tasks;
}

/// The share of the threads' time that is work, if they are equally fast and the next task goes to whoever is free.
double busy(const PhaseShape& phase) {
  std::vector<int64_t> threads(static_cast<size_t>(phase.threads));
  for (const Task& task : tasks_of(phase)) *std::min_element(threads.begin(), threads.end()) += task.time;
  const auto all = static_cast<double>(std::accumulate(threads.begin(), threads.end(), int64_t{0}));
  return all / static_cast<double>(*std::max_element(threads.begin(), threads.end()) * phase.threads);
}

std::vector<PhaseShape> shapes() {
  SplitMix64 random(3);
  std::vector<PhaseShape> list;
  for (int i = 0; i < 3000; ++i) {
    PhaseShape phase{.units = 1 + static_cast<int64_t>(random.below(i % 5 == 0 ? 5000 : 160)), .rows = 1 + static_cast<int64_t>(random.below(i % 3 == 0 ? 2100 : 60)),
                     .threads = 1 + static_cast<int64_t>(random.below(i % 7 == 0 ? 130 : 17)), .units_together = 1 + static_cast<int64_t>(random.below(4))};
    if (i % 2 == 0) {
      phase.chunk_most = 512;
      phase.item_cost = 32;
    }
    list.push_back(phase);
  }
  return list;
}

TEST(TaskPlan, CoversEveryUnitWithEveryRowOnce) {
  for (const PhaseShape& phase : shapes()) {
    const TaskPlan plan(phase);
    ASSERT_TRUE(plan.chunk_rows() > 0 && plan.chunk_rows() % kChunkStep == 0 && plan.chunk_rows() <= phase.chunk_most);
    // Items come in order: chunk by chunk, each unit in turn.
    int64_t unit = 0, row = 0;
    for (int64_t task = 0; task < plan.tasks(); ++task) {
      plan.for_parts(task, [&](int64_t begin, int64_t end, int64_t first, int64_t row_end) {
        ASSERT_TRUE(begin == unit && end > begin && end <= phase.units && first == row) << testing::PrintToString(phase);
        ASSERT_EQ(row_end, std::min(phase.rows, first + plan.chunk_rows()));
        unit = end;
        if (unit < phase.units) return;
        unit = 0;
        row = row_end;
      });
    }
    ASSERT_TRUE(unit == 0 && row == phase.rows) << testing::PrintToString(phase);
  }
}

TEST(TaskPlan, TasksNeverGrowAndStayWithinTheirMost) {
  for (const PhaseShape& phase : shapes()) {
    int64_t before = phase.rows >= kPanelRows ? phase.units_together : kTaskUnits;
    for (const Task& task : tasks_of(phase)) {
      ASSERT_TRUE(task.items > 0 && task.items <= before) << testing::PrintToString(phase);
      before = task.items;
    }
  }
}

TEST(TaskPlan, FromPanelsOnThreadsTakeHalfOfTheirShareAtOnceAndEndAsIfEachItemWereATask) {
  for (PhaseShape phase : shapes()) {
    const TaskPlan plan(phase);
    if (phase.rows < kPanelRows || (phase.rows > plan.chunk_rows() && phase.rows % plan.chunk_rows() != 0)) continue;  // equal items alone
    const int64_t items = phase.units * ((phase.rows + plan.chunk_rows() - 1) / plan.chunk_rows()), share = (items + 2 * phase.threads - 1) / (2 * phase.threads);
    ASSERT_EQ(tasks_of(phase).front().items, std::clamp<int64_t>(share, 1, phase.units_together)) << testing::PrintToString(phase);
    const double together = busy(phase);
    phase.units_together = 1;
    ASSERT_DOUBLE_EQ(together, busy(phase)) << testing::PrintToString(phase);
  }
}

TEST(TaskPlan, PhasesOfPromptsEndEvenly) {
  // Units of q·k·v, output and down, gate·up of 0.5B and of 7B, and a large vocabulary.
  for (const int64_t units : {36, 28, 152, 144, 112, 592, 4748}) {
    for (const int64_t rows : {128, 205, 256, 512, 1000, 2048}) {
      for (const int64_t threads : {2, 4, 6, 8, 16, 24}) {
        for (const auto& [together, chunk_most, item_cost] : {std::array<int64_t, 3>{1, 256, 16}, {4, 256, 16}, {4, 512, 32}}) {
          const PhaseShape phase{units, rows, threads, together, chunk_most, item_cost};
          EXPECT_GE(busy(phase), rows < 512 ? 0.75 : 0.87) << testing::PrintToString(phase);
          const bool long_chunks = TaskPlan(phase).chunk_rows() >= std::min(chunk_most, rows) / 2;
          EXPECT_TRUE(long_chunks || units < 4 * threads) << testing::PrintToString(phase) << ": chunks of " << TaskPlan(phase).chunk_rows();
        }
      }
    }
  }
}

TEST(TaskPlan, FewUnitsAreCutAlongRowsAndManyAreNot) {
  const PhaseShape vectors{.rows = 512, .threads = 16}, tiles{.rows = 512, .threads = 16, .units_together = 4, .chunk_most = 512, .item_cost = 32};
  for (PhaseShape phase : {vectors, tiles}) {
    // Output and down of 0.5B, q·k·v: a task for each unit would leave 16 threads idle for an eighth and a quarter of the time.
    for (const int64_t units : {28, 36}) {
      phase.units = units;
      EXPECT_LT(TaskPlan(phase).chunk_rows(), phase.chunk_most) << units;
      EXPECT_GE(busy(phase), 0.93) << units;
    }
    for (const int64_t units : {112, 144, 592}) {
      phase.units = units;
      EXPECT_EQ(TaskPlan(phase).chunk_rows(), phase.chunk_most) << units;
    }
  }
}

}  // namespace
}  // namespace pagemill
