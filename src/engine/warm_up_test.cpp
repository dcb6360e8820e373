#include "engine/warm_up.h"

#include <gtest/gtest.h>

namespace pagemill {
namespace {

TEST(WarmUpStep, DecodeStepsStoreNothingAndSeeOneToken) {
  const WarmUpStep step({.rows = 3, .seqs = 3, .logit_rows = 3, .query_rows_max = 1, .context_max = 1000}, 5);
  const StepInputs& inputs = step.inputs();
  EXPECT_EQ(inputs.shape, (StepShape{.rows = 3, .seqs = 3, .logit_rows = 3, .query_rows_max = 1, .context_max = 1000}));
  ASSERT_EQ(inputs.row_begin.size(), 4u);
  ASSERT_EQ(inputs.group[0].stride, 63);  // 1,000 tokens in blocks of 16
  ASSERT_EQ(inputs.group[0].block_table.size(), 3u * 63);
  for (size_t s = 0; s < 3; ++s) {
    EXPECT_EQ(inputs.row_begin[s], static_cast<int32_t>(s));
    EXPECT_EQ(inputs.seq_of_row[s], static_cast<int32_t>(s));
    EXPECT_EQ(inputs.positions[s], 0);
    EXPECT_EQ(inputs.context_len[s], 1);
    EXPECT_EQ(inputs.group[0].slots[s], -1);
    EXPECT_EQ(inputs.logit_rows[s], static_cast<int32_t>(s));
  }
  for (const int32_t block : inputs.group[0].block_table) EXPECT_EQ(block, 0);
  EXPECT_EQ(inputs.sampling.size(), 3u);
}

TEST(WarmUpStep, PromptsAreCutToThePool) {
  const WarmUpStep step({.rows = 100, .seqs = 1, .logit_rows = 1, .query_rows_max = 100, .context_max = 100}, 3);
  const StepInputs& inputs = step.inputs();
  EXPECT_EQ(inputs.shape, (StepShape{.rows = 48, .seqs = 1, .logit_rows = 1, .query_rows_max = 48, .context_max = 48}));
  ASSERT_EQ(inputs.tokens.size(), 48u);
  ASSERT_EQ(inputs.group[0].block_table.size(), 3u);
  for (int32_t row = 0; row < 48; ++row) {
    EXPECT_EQ(inputs.positions[static_cast<size_t>(row)], row);
    EXPECT_EQ(inputs.group[0].slots[static_cast<size_t>(row)], row);
    EXPECT_EQ(inputs.seq_of_row[static_cast<size_t>(row)], 0);
  }
  for (int32_t block = 0; block < 3; ++block) EXPECT_EQ(inputs.group[0].block_table[static_cast<size_t>(block)], block);
  EXPECT_EQ(inputs.row_begin[1], 48);
  EXPECT_EQ(inputs.context_len[0], 48);
  EXPECT_EQ(inputs.logit_rows[0], 47);
}

}  // namespace
}  // namespace pagemill
