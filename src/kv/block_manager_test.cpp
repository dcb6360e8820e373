#include "kv/block_manager.h"

#include <numeric>

#include "kv/kv_peer.h"

namespace pagemill {
namespace {

constexpr int32_t kBlock = limits::kBlockTokens;

std::vector<int32_t> tokens(int32_t count, int32_t first = 0) {
  std::vector<int32_t> out(static_cast<size_t>(count));
  std::iota(out.begin(), out.end(), first);
  return out;
}

struct BlockManagerTest : testing::Test {
  std::vector<KvCopy> copies;

  /// Opens a sequence and computes its whole prompt.
  static KvSequenceId fill(BlockManager& manager, const std::vector<int32_t>& prompt, uint64_t salt = 0) {
    std::vector<KvCopy> none;
    int32_t cached = 0;
    const KvSequenceId id = manager.open(prompt, salt, &cached);
    const auto rest = std::span(prompt).subspan(static_cast<size_t>(cached));
    EXPECT_TRUE(manager.reserve(id, static_cast<int32_t>(rest.size()), none));
    manager.commit(id, rest);
    EXPECT_EQ(manager.audit(), "");
    return id;
  }
  static int32_t cached_of(BlockManager& manager, const std::vector<int32_t>& prompt, uint64_t salt = 0) {
    int32_t cached = -1;
    manager.close(manager.open(prompt, salt, &cached));
    return cached;
  }
};

TEST_F(BlockManagerTest, CountsBlocksAsTheyAreTakenAndGivenBack) {
  BlockManager manager({.groups = {{.blocks = 8}}});
  const KvSequenceId id = fill(manager, tokens(kBlock * 2 + 1));
  EXPECT_EQ(manager.counts(0).live, 3);
  EXPECT_EQ(manager.committed(id), kBlock * 2 + 1);
  manager.close(id);
  EXPECT_EQ(manager.counts(0).live, 0);
  EXPECT_EQ(manager.counts(0).cached, 2);
  EXPECT_EQ(manager.counts(0).free, 6);
  manager.clear_cache();
  EXPECT_EQ(manager.counts(0).free, 8);
  EXPECT_EQ(manager.audit(), "");
}

TEST_F(BlockManagerTest, FindsTheLongestCachedPrefixButNeverTheLastToken) {
  BlockManager manager({.groups = {{.blocks = 16}}});
  manager.close(fill(manager, tokens(kBlock * 3)));
  EXPECT_EQ(cached_of(manager, tokens(kBlock * 3)), kBlock * 2);
  EXPECT_EQ(cached_of(manager, tokens(kBlock * 3 + 1)), kBlock * 3);
  auto other = tokens(kBlock * 3 + 1);
  other[kBlock + 3] = 9999;
  EXPECT_EQ(cached_of(manager, other), kBlock);
  int32_t cached = -1;
  manager.close(manager.open(tokens(kBlock * 3 + 1), 0, &cached, kBlock + 5));
  EXPECT_EQ(cached, kBlock);
}

TEST_F(BlockManagerTest, SaltsKeepCachesApart) {
  BlockManager manager({.groups = {{.blocks = 16}}});
  manager.close(fill(manager, tokens(kBlock * 2 + 1), 1));
  EXPECT_EQ(cached_of(manager, tokens(kBlock * 2 + 1), 2), 0);
  EXPECT_EQ(cached_of(manager, tokens(kBlock * 2 + 1), 1), kBlock * 2);
}

TEST_F(BlockManagerTest, WithoutPrefixCacheNothingStays) {
  BlockManager manager({.groups = {{.blocks = 16}}, .prefix_cache = false});
  manager.close(fill(manager, tokens(kBlock * 2 + 1)));
  EXPECT_EQ(manager.counts(0).free, 16);
}

TEST_F(BlockManagerTest, EvictsTheOldestAndTheTailOfAChainFirst) {
  BlockManager manager({.groups = {{.blocks = 4}}});
  manager.close(fill(manager, tokens(kBlock * 2)));        // two cached blocks
  manager.close(fill(manager, tokens(kBlock * 2, 500)));   // two more: the pool is full
  const KvSequenceId id = fill(manager, tokens(kBlock, 900));  // evicts the tail of the first chain
  EXPECT_EQ(cached_of(manager, tokens(kBlock * 2 + 1)), kBlock);
  EXPECT_EQ(cached_of(manager, tokens(kBlock * 2 + 1, 500)), kBlock * 2);
  manager.close(id);
}

TEST_F(BlockManagerTest, FailedReserveChangesNothing) {
  BlockManager manager({.groups = {{.blocks = 4}, {.blocks = 2, .window = kBlock}}, .sequence_tokens_max = 256});
  const KvSequenceId id = fill(manager, tokens(kBlock));
  const KvCounts before = manager.counts(0);
  auto failed = manager.reserve(id, kBlock * 2, copies);   // the second group has one block left
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::resource_exhausted);
  EXPECT_EQ(manager.counts(0).live, before.live);
  EXPECT_TRUE(copies.empty());
  EXPECT_TRUE(manager.reserve(id, kBlock, copies));
  EXPECT_EQ(manager.audit(), "");
}

TEST_F(BlockManagerTest, ForkSharesAndCopiesOnWrite) {
  BlockManager manager({.groups = {{.blocks = 8}}});
  const KvSequenceId a = fill(manager, tokens(kBlock + 3));
  const KvSequenceId b = manager.fork(a);
  EXPECT_EQ(manager.counts(0).live, 2);
  EXPECT_EQ(manager.blocks_needed(b, 1, 0), 1);
  ASSERT_TRUE(manager.reserve(b, 1, copies));
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from, manager.table(a, 0)[1]);
  EXPECT_EQ(copies[0].to, manager.table(b, 0)[1]);
  EXPECT_EQ(manager.table(a, 0)[0], manager.table(b, 0)[0]);
  copies.clear();
  ASSERT_TRUE(manager.reserve(a, 1, copies));              // alone by now: writes in place
  EXPECT_TRUE(copies.empty());
  EXPECT_EQ(manager.audit(), "");
  manager.close(a);
  manager.close(b);
  EXPECT_EQ(manager.audit(), "");
}

TEST_F(BlockManagerTest, ForkedChoicesThatFillTheSameBlockShareItAgain) {
  BlockManager manager({.groups = {{.blocks = 8}}});
  const KvSequenceId a = fill(manager, tokens(kBlock - 1));
  const KvSequenceId b = manager.fork(a);
  const std::vector<int32_t> next = {77};
  ASSERT_TRUE(manager.reserve(a, 1, copies));
  ASSERT_TRUE(manager.reserve(b, 1, copies));
  manager.commit(a, next);
  EXPECT_EQ(manager.counts(0).live, 2);
  manager.commit(b, next);
  EXPECT_EQ(manager.counts(0).live, 1);
  EXPECT_EQ(manager.table(a, 0)[0], manager.table(b, 0)[0]);
  EXPECT_EQ(manager.audit(), "");
}

TEST_F(BlockManagerTest, TrimGivesBackWhatWasNotCommitted) {
  BlockManager manager({.groups = {{.blocks = 8}}});
  const KvSequenceId id = fill(manager, tokens(kBlock));
  ASSERT_TRUE(manager.reserve(id, kBlock * 3, copies));
  EXPECT_EQ(manager.counts(0).live, 4);
  manager.commit(id, tokens(1, 40));
  manager.trim(id);
  EXPECT_EQ(manager.counts(0).live, 2);
  EXPECT_EQ(manager.audit(), "");
}

TEST_F(BlockManagerTest, WindowedGroupsGiveBlocksBack) {
  BlockManager manager({.groups = {{.blocks = 16}, {.blocks = 16, .window = kBlock + 4}}});
  const KvSequenceId id = fill(manager, tokens(kBlock * 5));
  // The row at 80 sees 61 … 80: blocks 3 and 4.
  EXPECT_EQ(manager.table(id, 1)[2], -1);
  EXPECT_GE(manager.table(id, 1)[3], 0);
  EXPECT_EQ(manager.counts(1).live, 2);
  EXPECT_EQ(manager.counts(0).live, 5);
  manager.close(id);
  EXPECT_EQ(cached_of(manager, tokens(kBlock * 5 + 1)), kBlock * 5);
}

TEST_F(BlockManagerTest, HitNeedsTheWindowsBlocksOnly) {
  BlockManager manager({.groups = {{.blocks = 16}, {.blocks = 4, .window = kBlock}}, .sequence_tokens_max = 256});
  const KvSequenceId a = fill(manager, tokens(kBlock));
  for (int32_t i = 1; i < 5; ++i) {                        // block by block: the window's blocks are used again
    ASSERT_TRUE(manager.reserve(a, kBlock, copies));
    manager.commit(a, tokens(kBlock, kBlock * i));
  }
  manager.close(a);
  EXPECT_EQ(cached_of(manager, tokens(kBlock * 5 + 1)), kBlock * 5);
  EXPECT_EQ(cached_of(manager, tokens(kBlock + 1)), 0);    // its windowed block was evicted
  EXPECT_EQ(manager.audit(), "");
}

TEST_F(BlockManagerTest, SteadyDecodeNeverAllocates) {
  BlockManager manager({.groups = {{.blocks = 64}}});
  const KvSequenceId id = fill(manager, tokens(3));
  const int32_t* blocks = manager.table(id, 0).data();
  for (int32_t i = 0; i < 900; ++i) {
    ASSERT_TRUE(manager.try_reserve(id, 1, copies));
    manager.commit(id, tokens(1, i));
  }
  EXPECT_EQ(manager.table(id, 0).data(), blocks);
}

TEST_F(BlockManagerTest, AuditFindsPlantedFaults) {
  const auto fresh = [&](BlockManager& manager) { manager.close(fill(manager, tokens(kBlock * 3))); return fill(manager, tokens(kBlock * 2, 700)); };
  BlockManager leaked({.groups = {{.blocks = 16}}}), freed({.groups = {{.blocks = 16}}}), swapped({.groups = {{.blocks = 16}}});
  fresh(leaked);
  ASSERT_TRUE(KvPeer::leak_block(leaked, 0));
  EXPECT_NE(leaked.audit(), "");
  ASSERT_TRUE(KvPeer::free_twice(freed, fresh(freed), 0));
  EXPECT_NE(freed.audit(), "");
  // A wrong content that is consistent in itself is for those who check what a hit gives (the simulation).
  fresh(swapped);
  ASSERT_TRUE(KvPeer::swap_contents(swapped, 0));
  EXPECT_EQ(swapped.audit(), "");
}

}  // namespace
}  // namespace pagemill
