#include "engine/step_arena.h"

#include <algorithm>

#include "base/check.h"

namespace pagemill {

namespace {

constexpr size_t kAlign = 64;

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// The sequence that logit row `i` of an entry belongs to: its own, or one that will be forked from it.
Sequence& choice_of(const PlanEntry& entry, int32_t i) {
  return entry.logit_rows == 1 ? *entry.sequence : *entry.sequence->request->choices[static_cast<size_t>(i)];
}

/// Answer tokens of the entry's sequence that are under way in steps before this one. (This one's is counted already.)
int32_t in_flight(const PlanEntry& entry) { return entry.sequence->pending - 1; }

}  // namespace

StepArena::StepArena(int32_t rows, int32_t seqs, int32_t blocks, int32_t groups, int32_t vocab)
    : mask_words_((vocab + 31) / 32) {
  const auto r = static_cast<size_t>(rows), s = static_cast<size_t>(seqs);
  const size_t per_row = sizeof(int32_t) * (4 + static_cast<size_t>(groups) + 3);
  const size_t per_seq = sizeof(int32_t) * (3 + static_cast<size_t>(groups * blocks)) + sizeof(SamplingRow) + 16 * sizeof(BiasEntry);
  memory_.resize(r * per_row + s * per_seq + 32 * kAlign);
  pools_.reserve(s);
  failures_.reserve(s);
}

template <class T>
std::span<T> StepArena::carve(size_t count) {
  T* at = reinterpret_cast<T*>(memory_.data() + used_);
  used_ += aligned(count * sizeof(T));
  return {at, count};
}

void StepArena::build(const StepPlan& plan, const BlockManager& blocks) {
  failures_.clear();
  measure(plan, blocks);
  const size_t rows = static_cast<size_t>(plan.rows), seqs = plan.entries.size();
  const auto logit_rows = static_cast<size_t>(plan.logit_rows), score_rows = static_cast<size_t>(plan.score_rows);
  const int32_t groups = blocks.groups();

  size_t bytes = 4 * aligned(rows * 4) + 3 * aligned((seqs + 1) * 4) + aligned(logit_rows * 4) + 2 * aligned(score_rows * 4) +
                 aligned(logit_rows * sizeof(SamplingRow)) + aligned(sizes_.history * sizeof(HistoryEntry)) +
                 aligned(sizes_.bias * sizeof(BiasEntry)) + aligned(sizes_.masks * static_cast<size_t>(mask_words_) * 4) + kAlign;
  for (int32_t group = 0; group < groups; ++group) bytes += aligned(seqs * sizes_.stride[group] * 4) + aligned(rows * 4);
  if (memory_.size() < bytes) memory_.resize(bytes);
  used_ = aligned(reinterpret_cast<uintptr_t>(memory_.data())) - reinterpret_cast<uintptr_t>(memory_.data());

  Arrays& a = arrays_;
  a.tokens = carve<int32_t>(rows);
  a.token_from = carve<int32_t>(rows);
  a.positions = carve<int32_t>(rows);
  a.seq_of_row = carve<int32_t>(rows);
  a.row_begin = carve<int32_t>(seqs + 1);
  a.context_len = carve<int32_t>(seqs);
  a.adapters = carve<int32_t>(seqs);
  for (int32_t group = 0; group < groups; ++group) {
    a.tables[group] = carve<int32_t>(seqs * sizes_.stride[group]);
    a.slots[group] = carve<int32_t>(rows);
  }
  a.logit_rows = carve<int32_t>(logit_rows);
  a.sampling = carve<SamplingRow>(logit_rows);
  a.history = carve<HistoryEntry>(sizes_.history);
  a.bias = carve<BiasEntry>(sizes_.bias);
  a.masks = carve<uint32_t>(sizes_.masks * static_cast<size_t>(mask_words_));
  a.score_rows = carve<int32_t>(score_rows);
  a.score_targets = carve<int32_t>(score_rows);
  PM_CHECK(used_ <= memory_.size(), "a step's arrays take {} of {} bytes", used_, memory_.size());

  inputs_ = {};
  inputs_.shape = {.rows = plan.rows, .seqs = static_cast<int32_t>(seqs), .logit_rows = plan.logit_rows,
                   .query_rows_max = sizes_.query_rows_max, .context_max = sizes_.context_max};
  inputs_.groups = groups;
  fill_rows(plan);
  fill_tables(plan, blocks);
  fill_sampling(plan);
  fill_extras(plan);
  inputs_.tokens = a.tokens;
  inputs_.token_from = a.token_from;
  inputs_.positions = a.positions;
  inputs_.seq_of_row = a.seq_of_row;
  inputs_.row_begin = a.row_begin;
  inputs_.context_len = a.context_len;
  inputs_.adapters = a.adapters;
  inputs_.logit_rows = a.logit_rows;
  inputs_.sampling = a.sampling;
  inputs_.history = a.history;
  inputs_.bias = a.bias;
  inputs_.masks = a.masks;
  inputs_.score_rows = a.score_rows;
}

/// What the sizes of the arrays depend on beside the plan's own counts.
void StepArena::measure(const StepPlan& plan, const BlockManager& blocks) {
  sizes_ = {};
  for (const PlanEntry& entry : plan.entries) {
    sizes_.query_rows_max = std::max(sizes_.query_rows_max, entry.count);
    sizes_.context_max = std::max(sizes_.context_max, entry.first + entry.count);
    for (int32_t group = 0; group < blocks.groups(); ++group) {
      sizes_.stride[group] = std::max(sizes_.stride[group], blocks.table(entry.sequence->kv, group).size());
    }
    for (int32_t i = 0; i < entry.logit_rows; ++i) {
      Sequence& choice = choice_of(entry, i);
      sizes_.history += choice.sampling->history().size();
      sizes_.bias += choice.sampling->bias(in_flight(entry)).size();
      sizes_.masks += choice.constraint != nullptr;
    }
  }
}

void StepArena::fill_rows(const StepPlan& plan) {
  int32_t row = 0;
  for (size_t s = 0; s < plan.entries.size(); ++s) {
    const PlanEntry& entry = plan.entries[s];
    arrays_.row_begin[s] = row;
    arrays_.context_len[s] = entry.first + entry.count;
    arrays_.adapters[s] = -1;
    for (int32_t i = 0; i < entry.count; ++i, ++row) {
      const auto r = static_cast<size_t>(row);
      const bool from_device = i == 0 && entry.token_from >= 0;
      arrays_.tokens[r] = from_device ? 0 : entry.sequence->tokens[static_cast<size_t>(entry.first + i)];
      arrays_.token_from[r] = from_device ? entry.token_from : -1;
      arrays_.positions[r] = entry.first + i;
      arrays_.seq_of_row[r] = static_cast<int32_t>(s);
    }
    for (int32_t i = 0; i < entry.logit_rows; ++i) arrays_.logit_rows[static_cast<size_t>(entry.logit_begin + i)] = row - 1;
  }
  arrays_.row_begin[plan.entries.size()] = row;
}

void StepArena::fill_tables(const StepPlan& plan, const BlockManager& blocks) {
  for (int32_t group = 0; group < blocks.groups(); ++group) {
    const size_t stride = sizes_.stride[group];
    size_t row = 0;
    for (size_t s = 0; s < plan.entries.size(); ++s) {
      const PlanEntry& entry = plan.entries[s];
      const auto table = blocks.table(entry.sequence->kv, group);
      const auto padded = arrays_.tables[group].subspan(s * stride, stride);
      std::fill(std::copy(table.begin(), table.end(), padded.begin()), padded.end(), -1);
      for (int32_t position = entry.first; position < entry.first + entry.count; ++position, ++row) {
        const int32_t block = table[static_cast<size_t>(position / limits::kBlockTokens)];
        arrays_.slots[group][row] = block * limits::kBlockTokens + position % limits::kBlockTokens;
      }
    }
    inputs_.group[group] = {.block_table = arrays_.tables[group], .stride = static_cast<int32_t>(stride), .slots = arrays_.slots[group]};
  }
}

void StepArena::fill_sampling(const StepPlan& plan) {
  history_used_ = bias_used_ = masks_used_ = 0;
  for (const PlanEntry& entry : plan.entries) {
    for (int32_t i = 0; i < entry.logit_rows; ++i) {
      fill_sampling_row(choice_of(entry, i), static_cast<size_t>(entry.logit_begin + i), in_flight(entry));
    }
  }
}

void StepArena::fill_sampling_row(Sequence& sequence, size_t logit_row, int32_t in_flight) {
  SamplingRow row = sequence.sampling->row(in_flight);
  const auto append = [](auto to, size_t& used, auto from, int32_t& begin, int32_t& end) {
    begin = static_cast<int32_t>(used);
    std::copy(from.begin(), from.end(), to.begin() + static_cast<ptrdiff_t>(used));
    used += from.size();
    end = static_cast<int32_t>(used);
  };
  append(arrays_.history, history_used_, sequence.sampling->history(), row.history_begin, row.history_end);
  append(arrays_.bias, bias_used_, sequence.sampling->bias(in_flight), row.bias_begin, row.bias_end);
  if (sequence.constraint) {
    const auto words = static_cast<size_t>(mask_words_);
    row.mask = static_cast<int32_t>(masks_used_);
    if (auto filled = sequence.constraint->fill_mask(arrays_.masks.subspan(masks_used_++ * words, words)); !filled) {
      failures_.push_back({sequence.request, std::move(filled).error()});
      row.mask = -1;
    }
  }
  arrays_.sampling[logit_row] = row;
}

void StepArena::fill_extras(const StepPlan& plan) {
  pools_.clear();
  extras_ = {};
  for (size_t s = 0; s < plan.entries.size(); ++s) {
    const PlanEntry& entry = plan.entries[s];
    Request& request = *entry.sequence->request;
    if (request.spec.pooled_embedding) pools_.push_back({static_cast<int32_t>(s), request.embedding_sum});
    for (int32_t i = 0; i < entry.score_rows; ++i) {
      const int32_t position = entry.score_first + i;
      const auto at = static_cast<size_t>(entry.score_begin + i);
      arrays_.score_rows[at] = arrays_.row_begin[s] + position - entry.first;
      arrays_.score_targets[at] = entry.sequence->tokens[static_cast<size_t>(position + 1)];
    }
    if (entry.score_rows > 0) extras_.score_top = std::max(extras_.score_top, request.spec.sampling.prompt_logprobs);
  }
  extras_.score_targets = arrays_.score_targets;
  extras_.pools = pools_;
}

}  // namespace pagemill
