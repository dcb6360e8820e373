#include "support/test_step.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/limits.h"

namespace pagemill {

TestStep::TestStep(const std::vector<TestSequence>& sequences, int32_t padding_rows, int32_t groups) {
  size_t stride = 1;
  int32_t query_rows_max = 0;
  for (const TestSequence& sequence : sequences) stride = std::max(stride, sequence.blocks.size());
  for (size_t s = 0; s < sequences.size(); ++s) {
    const TestSequence& sequence = sequences[s];
    arrays_.row_begin.push_back(static_cast<int32_t>(arrays_.tokens.size()));
    for (size_t i = 0; i < sequence.tokens.size(); ++i) {
      const int32_t position = sequence.first_position + static_cast<int32_t>(i);
      const auto block = static_cast<size_t>(position / limits::kBlockTokens);
      PM_CHECK(block < sequence.blocks.size(), "position {} has no block", position);
      if (sequence.all_logits || i + 1 == sequence.tokens.size()) arrays_.logit_rows.push_back(static_cast<int32_t>(arrays_.tokens.size()));
      arrays_.tokens.push_back(sequence.tokens[i]);
      arrays_.positions.push_back(position);
      arrays_.seq_of_row.push_back(static_cast<int32_t>(s));
      arrays_.slots.push_back(sequence.blocks[block] * limits::kBlockTokens + position % limits::kBlockTokens);
    }
    query_rows_max = std::max(query_rows_max, static_cast<int32_t>(sequence.tokens.size()));
    arrays_.context_len.push_back(sequence.first_position + static_cast<int32_t>(sequence.tokens.size()));
    arrays_.table.insert(arrays_.table.end(), sequence.blocks.begin(), sequence.blocks.end());
    arrays_.table.resize((s + 1) * stride, -1);
  }
  arrays_.row_begin.push_back(static_cast<int32_t>(arrays_.tokens.size()));
  for (int32_t i = 0; i < padding_rows; ++i) {
    arrays_.tokens.push_back(0);
    arrays_.positions.push_back(-1);
    arrays_.seq_of_row.push_back(0);
    arrays_.slots.push_back(-1);
  }
  arrays_.token_from.assign(arrays_.tokens.size(), -1);
  arrays_.adapters.assign(sequences.size(), -1);
  arrays_.sampling.resize(arrays_.logit_rows.size());

  inputs_ = arrays_.inputs(query_rows_max, arrays_.context_len.empty() ? 0 : *std::max_element(arrays_.context_len.begin(), arrays_.context_len.end()), static_cast<int32_t>(stride), groups);
}

std::vector<int32_t> consecutive_blocks(int32_t begin, int32_t tokens) {
  std::vector<int32_t> blocks(static_cast<size_t>((tokens + limits::kBlockTokens - 1) / limits::kBlockTokens));
  std::iota(blocks.begin(), blocks.end(), begin);
  return blocks;
}

}  // namespace pagemill
