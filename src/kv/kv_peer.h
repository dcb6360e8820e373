// KvPeer: how tests plant faults in a BlockManager. No production code uses it.
#pragma once

#include "kv/block_manager.h"

namespace pagemill {

struct KvPeer {
  /// A block that nobody holds any more and that never comes back.
  static bool leak_block(BlockManager& manager, int32_t group) { return manager.pool(group).allocate() >= 0; }

  /// Gives the last block of a sequence back while its table still holds it.
  static bool free_twice(BlockManager& manager, KvSequenceId id, int32_t group) {
    const auto table = manager.table(id, group);
    if (table.empty() || table.back() < 0) return false;
    manager.pool(group).release(table.back());
    return true;
  }

  /// Lets the two blocks cached last claim each other's content, as a prefix cache would that trusts what it did not verify.
  static bool swap_contents(BlockManager& manager, int32_t group) {
    BlockPool& pool = manager.pool(group);
    const int32_t a = pool.newest_, b = a < 0 ? -1 : pool.at(a).older;
    if (b < 0) return false;
    const BlockPool::Block was_a = pool.at(a), was_b = pool.at(b);
    pool.forget_content(a);
    pool.forget_content(b);
    put(pool, a, was_b);
    put(pool, b, was_a);
    return true;
  }

 private:
  static void put(BlockPool& pool, int32_t block, const BlockPool::Block& as) {
    pool.at(block).references = 1;
    pool.set_content(block, {as.parent, as.salt, as.tokens}, as.hash);
    pool.at(block).references = 0;
  }
};

}  // namespace pagemill
