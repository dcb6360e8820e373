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
    row_begin_.push_back(static_cast<int32_t>(tokens_.size()));
    for (size_t i = 0; i < sequence.tokens.size(); ++i) {
      const int32_t position = sequence.first_position + static_cast<int32_t>(i);
      const auto block = static_cast<size_t>(position / limits::kBlockTokens);
      PM_CHECK(block < sequence.blocks.size(), "position {} has no block", position);
      if (sequence.all_logits || i + 1 == sequence.tokens.size()) logit_rows_.push_back(static_cast<int32_t>(tokens_.size()));
      tokens_.push_back(sequence.tokens[i]);
      positions_.push_back(position);
      seq_of_row_.push_back(static_cast<int32_t>(s));
      slots_.push_back(sequence.blocks[block] * limits::kBlockTokens + position % limits::kBlockTokens);
    }
    query_rows_max = std::max(query_rows_max, static_cast<int32_t>(sequence.tokens.size()));
    context_len_.push_back(sequence.first_position + static_cast<int32_t>(sequence.tokens.size()));
    tables_.insert(tables_.end(), sequence.blocks.begin(), sequence.blocks.end());
    tables_.resize((s + 1) * stride, -1);
  }
  row_begin_.push_back(static_cast<int32_t>(tokens_.size()));
  for (int32_t i = 0; i < padding_rows; ++i) {
    tokens_.push_back(0);
    positions_.push_back(-1);
    seq_of_row_.push_back(0);
    slots_.push_back(-1);
  }
  token_from_.assign(tokens_.size(), -1);
  adapters_.assign(sequences.size(), -1);
  sampling_.resize(logit_rows_.size());

  inputs_.shape = {.rows = static_cast<int32_t>(tokens_.size()),
                   .seqs = static_cast<int32_t>(sequences.size()),
                   .logit_rows = static_cast<int32_t>(logit_rows_.size()),
                   .query_rows_max = query_rows_max,
                   .context_max = context_len_.empty() ? 0 : *std::max_element(context_len_.begin(), context_len_.end())};
  inputs_.tokens = tokens_;
  inputs_.token_from = token_from_;
  inputs_.positions = positions_;
  inputs_.seq_of_row = seq_of_row_;
  inputs_.row_begin = row_begin_;
  inputs_.context_len = context_len_;
  inputs_.adapters = adapters_;
  inputs_.groups = groups;
  for (int32_t group = 0; group < groups; ++group) inputs_.group[group] = {tables_, static_cast<int32_t>(stride), slots_};
  inputs_.logit_rows = logit_rows_;
  inputs_.sampling = sampling_;
}

std::vector<int32_t> consecutive_blocks(int32_t begin, int32_t tokens) {
  std::vector<int32_t> blocks(static_cast<size_t>((tokens + limits::kBlockTokens - 1) / limits::kBlockTokens));
  std::iota(blocks.begin(), blocks.end(), begin);
  return blocks;
}

}  // namespace pagemill
