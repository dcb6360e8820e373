#include "engine/warm_up.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/limits.h"

namespace pagemill {

WarmUpStep::WarmUpStep(const StepShape& wanted, int32_t blocks) {
  PM_CHECK(blocks > 0 && wanted.rows > 0);
  const bool decode = wanted.query_rows_max == 1;
  const int32_t rows = decode ? wanted.rows : static_cast<int32_t>(std::min<int64_t>(wanted.rows, int64_t{blocks} * limits::kBlockTokens)), seqs = decode ? rows : 1;
  const auto all = static_cast<size_t>(rows);
  tokens_.assign(all, 0);
  token_from_.assign(all, -1);
  positions_.assign(all, 0);
  seq_of_row_.assign(all, 0);
  slots_.assign(all, -1);
  std::vector<int32_t>& counted = decode ? seq_of_row_ : positions_;
  std::iota(counted.begin(), counted.end(), 0);
  if (!decode) std::iota(slots_.begin(), slots_.end(), 0);
  for (int32_t s = 0; s <= seqs; ++s) row_begin_.push_back(decode ? s : s * rows);
  context_len_.assign(static_cast<size_t>(seqs), decode ? 1 : rows);
  adapters_.assign(static_cast<size_t>(seqs), -1);
  // A decode step's context is as long as its tables reach; its sequences see one token, of the first block.
  const int32_t context = decode ? wanted.context_max : rows, stride = (context + limits::kBlockTokens - 1) / limits::kBlockTokens;
  table_.assign(static_cast<size_t>(seqs) * static_cast<size_t>(stride), 0);
  if (!decode) std::iota(table_.begin(), table_.end(), 0);
  for (int32_t s = 0; s < seqs; ++s) logit_rows_.push_back(decode ? s : rows - 1);
  sampling_.assign(static_cast<size_t>(seqs), SamplingRow{});

  inputs_.shape = {.rows = rows, .seqs = seqs, .logit_rows = seqs, .query_rows_max = decode ? 1 : rows, .context_max = context};
  inputs_.tokens = tokens_;
  inputs_.token_from = token_from_;
  inputs_.positions = positions_;
  inputs_.seq_of_row = seq_of_row_;
  inputs_.row_begin = row_begin_;
  inputs_.context_len = context_len_;
  inputs_.adapters = adapters_;
  inputs_.group[0] = {.block_table = table_, .stride = stride, .slots = slots_};
  inputs_.logit_rows = logit_rows_;
  inputs_.sampling = sampling_;
}

}  // namespace pagemill
