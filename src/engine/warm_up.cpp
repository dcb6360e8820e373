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
  arrays_.tokens.assign(all, 0);
  arrays_.token_from.assign(all, -1);
  arrays_.positions.assign(all, 0);
  arrays_.seq_of_row.assign(all, 0);
  arrays_.slots.assign(all, -1);
  std::vector<int32_t>& counted = decode ? arrays_.seq_of_row : arrays_.positions;
  std::iota(counted.begin(), counted.end(), 0);
  if (!decode) std::iota(arrays_.slots.begin(), arrays_.slots.end(), 0);
  for (int32_t s = 0; s <= seqs; ++s) arrays_.row_begin.push_back(decode ? s : s * rows);
  arrays_.context_len.assign(static_cast<size_t>(seqs), decode ? 1 : rows);
  arrays_.adapters.assign(static_cast<size_t>(seqs), -1);
  // A decode step's context is as long as its tables reach; its sequences see one token, of the first block.
  const int32_t context = decode ? wanted.context_max : rows, stride = (context + limits::kBlockTokens - 1) / limits::kBlockTokens;
  arrays_.table.assign(static_cast<size_t>(seqs) * static_cast<size_t>(stride), 0);
  if (!decode) std::iota(arrays_.table.begin(), arrays_.table.end(), 0);
  for (int32_t s = 0; s < seqs; ++s) arrays_.logit_rows.push_back(decode ? s : rows - 1);
  arrays_.sampling.assign(static_cast<size_t>(seqs), SamplingRow{});

  inputs_ = arrays_.inputs(decode ? 1 : rows, context, stride);
}

}  // namespace pagemill
