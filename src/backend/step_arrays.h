// StepArrays: a step that is spelled out, in vectors of its own. The engine's steps lie in an arena instead (engine/step_arena.h).
#pragma once

#include <cstdint>
#include <vector>

#include "backend/step.h"

namespace pagemill {

/// Fields as in StepInputs; `table` is every group's block table [seqs, stride], `slots` every group's slots.
struct StepArrays {
  std::vector<int32_t> tokens, token_from, positions, seq_of_row, row_begin, context_len, adapters, table, slots, logit_rows;
  std::vector<SamplingRow> sampling;

  /// Views of these arrays, valid until one of them changes.
  StepInputs inputs(int32_t query_rows_max, int32_t context_max, int32_t stride, int32_t groups = 1) const {
    StepInputs step;
    step.shape = {.rows = static_cast<int32_t>(tokens.size()), .seqs = static_cast<int32_t>(context_len.size()), .logit_rows = static_cast<int32_t>(logit_rows.size()),
                  .query_rows_max = query_rows_max, .context_max = context_max};
    step.tokens = tokens;
    step.token_from = token_from;
    step.positions = positions;
    step.seq_of_row = seq_of_row;
    step.row_begin = row_begin;
    step.context_len = context_len;
    step.adapters = adapters;
    step.groups = groups;
    for (int32_t group = 0; group < groups; ++group) step.group[group] = {table, stride, slots};
    step.logit_rows = logit_rows;
    step.sampling = sampling;
    return step;
  }
};

}  // namespace pagemill
