// StepArena: the memory of one step's StepInputs, one contiguous piece that a device takes in one copy.
//
// build() turns a plan into arrays. Tables are padded to the longest of the step.
//
// Invariants:
//   1. The inputs stay valid until the next build(): an engine keeps one arena per ticket.
//   2. The arena grows to the largest step seen and never shrinks; the constructor reserves what a steady decode needs, so that
//      none of its steps allocates.
//   3. Every slot and table entry that a row uses is a block that its sequence holds.
// Owned by the engine thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "backend/step.h"
#include "engine/runner.h"
#include "engine/scheduler.h"
#include "kv/block_manager.h"

namespace pagemill {

class StepArena {
 public:
  /// For steps of up to `rows` rows, `seqs` sequences and tables of `blocks` per group.
  StepArena(int32_t rows, int32_t seqs, int32_t blocks, int32_t groups, int32_t vocab);

  /// A request whose constraint could not say what may come next; its row is computed without a mask and must be dropped.
  struct Failure {
    Request* request = nullptr;
    Error error;
  };

  void build(const StepPlan& plan, const BlockManager& blocks);
  const StepInputs& inputs() const { return inputs_; }
  const StepExtras& extras() const { return extras_; }
  std::vector<Failure>& failures() { return failures_; }

 private:
  void measure(const StepPlan& plan, const BlockManager& blocks);
  void fill_rows(const StepPlan& plan);
  void fill_tables(const StepPlan& plan, const BlockManager& blocks);
  void fill_sampling(const StepPlan& plan);
  void fill_sampling_row(Sequence& sequence, size_t logit_row, int32_t in_flight);
  void fill_extras(const StepPlan& plan);
  template <class T>
  std::span<T> carve(size_t count);

  int32_t mask_words_ = 0;
  std::vector<std::byte> memory_;
  size_t used_ = 0;
  StepInputs inputs_;
  StepExtras extras_;
  std::vector<StepExtras::Pool> pools_;
  std::vector<Failure> failures_;

  // Writable views of what inputs_ shows.
  struct Arrays {
    std::span<int32_t> tokens, token_from, positions, seq_of_row, row_begin, context_len, adapters, logit_rows, score_rows, score_targets;
    std::span<int32_t> tables[kKvGroupsMax], slots[kKvGroupsMax];
    std::span<SamplingRow> sampling;
    std::span<HistoryEntry> history;
    std::span<BiasEntry> bias;
    std::span<uint32_t> masks;
  } arrays_;
  struct Sizes {
    size_t history = 0, bias = 0, masks = 0;
    size_t stride[kKvGroupsMax] = {};
    int32_t query_rows_max = 0, context_max = 0;
  } sizes_;
  size_t history_used_ = 0, bias_used_ = 0, masks_used_ = 0;
};

}  // namespace pagemill
