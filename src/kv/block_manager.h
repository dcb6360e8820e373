// BlockManager: which physical KV block holds which tokens of which sequence. Host bookkeeping only: no device pointer,
// no clock, no thread; it runs the same in the simulation, under the fuzzer and in the server.
//
// Nouns. A *block* is kBlockTokens positions of every layer of one *group* (layers that keep all positions; layers that
// keep the last `window`; …). A sequence has one table per group. A full block whose content is known has a *hash* over
// its parent's hash, its tokens and the sequence's salt; such a block outlives its sequence as *cached* until it is needed.
// Two sequences that compute the same block keep one of the two: the second gives its own back and shares the first's.
//
// Invariants, true between any two calls, for each group:
//   1. free + cached + live = total.
//   2. A live block's reference count is the number of tables that hold it; a cached or free block's is 0.
//   3. A block is found by a hash only if its tokens, its parent's hash and its salt are equal (verified, not trusted).
//   4. A block that more than one table holds is never written: `reserve` copies it first (copy-on-write).
//   5. An operation that fails changes nothing.
// Memory: pools and tables are sized up front; reserve, commit and trim never allocate. Not thread-safe: owned by the
// engine thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kv/block_pool.h"

namespace pagemill {

struct KvGroupConfig {
  int32_t blocks = 0;      // total physical blocks
  int32_t window = 0;      // positions kept; 0 = all
};

struct BlockManagerConfig {
  std::vector<KvGroupConfig> groups;
  bool prefix_cache = true;
  int32_t sequence_tokens_max = 0;  // sizes the tables; 0 = what the groups' blocks hold
  uint64_t hash_seed = 0;  // a secret makes hashes unpredictable; any value is correct
};

/// A sequence's handle inside the manager; 0 is none.
using KvSequenceId = uint64_t;

/// A copy that must run on the device before the step that writes to `to`.
struct KvCopy {
  int32_t group = 0, from = 0, to = 0;
};

class BlockManager {
 public:
  explicit BlockManager(BlockManagerConfig config);

  /// Registers a sequence and takes over as many whole blocks of its prompt as the cache holds (never the block of the
  /// last prompt token: its logits are needed), at most `cached_max` tokens. `cached_tokens` says how many need no
  /// computing; they count as committed.
  KvSequenceId open(std::span<const int32_t> prompt, uint64_t salt, int32_t* cached_tokens, int32_t cached_max = INT32_MAX);
  /// A second sequence that shares every committed block of the first (n > 1, beams). Partial blocks are copied on write.
  /// The first may have nothing reserved meanwhile.
  KvSequenceId fork(KvSequenceId sequence);
  /// Makes room for `count` more tokens after those committed. Fails with resource_exhausted where the blocks are not
  /// there. Copies that the next step has to make are appended to `copies`.
  Result<void> reserve(KvSequenceId sequence, int32_t count, std::vector<KvCopy>& copies);
  /// As reserve(), without an error to build: false where it fails.
  bool try_reserve(KvSequenceId sequence, int32_t count, std::vector<KvCopy>& copies);
  /// Declares the next tokens.size() ≤ reserved positions as computed, with these tokens; gives blocks behind a window back.
  void commit(KvSequenceId sequence, std::span<const int32_t> tokens);
  /// Gives back what was reserved and not committed (speculation, a row that was dropped).
  void trim(KvSequenceId sequence);
  /// Ends a sequence. Its full blocks stay cached.
  void close(KvSequenceId sequence);

  /// Physical blocks of the sequence's table in a group: index = position / kBlockTokens; -1 where a window left it.
  std::span<const int32_t> table(KvSequenceId sequence, int32_t group) const;
  int32_t committed(KvSequenceId sequence) const;
  /// How many tables hold a block.
  int32_t holders(int32_t group, int32_t block) const { return pool(group).references(block); }

  /// Blocks that reserve() would need for `count` more tokens, and what could be had at most (free + cached).
  int32_t blocks_needed(KvSequenceId sequence, int32_t count, int32_t group) const;
  /// The most tokens ≤ `count` that reserve() would grant now.
  int32_t reservable(KvSequenceId sequence, int32_t count) const;
  int32_t blocks_available(int32_t group) const { return pool(group).available(); }
  KvCounts counts(int32_t group) const { return pool(group).counts(); }
  int32_t groups() const { return static_cast<int32_t>(pools_.size()); }
  const BlockManagerConfig& config() const { return config_; }

  /// Drops everything cached that no sequence uses.
  void clear_cache();
  /// Verifies the invariants above; the first violation in words, or empty. O(blocks). Without `contents` the third, which is
  /// most of the work, is left out.
  std::string audit(bool contents = true) const;

 private:
  friend struct KvPeer;  // tests plant faults through it

  struct Table {
    std::vector<int32_t> blocks;
    int32_t first_kept = 0;        // blocks before it have left the window
  };
  struct Sequence {
    uint32_t generation = 0;       // an id is good for one life of its slot
    bool open = false;
    uint64_t salt = 0;
    int32_t committed = 0;         // tokens
    BlockHash chain;               // of the last full block
    std::array<int32_t, limits::kBlockTokens> tail{};  // tokens after it: committed % kBlockTokens of them
    std::vector<Table> tables;     // [groups]
  };

  const BlockPool& pool(int32_t group) const { return pools_[static_cast<size_t>(group)]; }
  BlockPool& pool(int32_t group) { return pools_[static_cast<size_t>(group)]; }
  Sequence& at(KvSequenceId id);
  const Sequence& at(KvSequenceId id) const { return const_cast<BlockManager*>(this)->at(id); }
  KvSequenceId new_sequence(uint64_t salt);
  int32_t first_needed(int32_t group, int32_t position) const;
  bool must_copy(const Sequence& sequence, int32_t group) const;
  int32_t needed(const Sequence& sequence, int32_t count, int32_t group) const;
  int32_t cached_blocks(std::span<const int32_t> prompt, uint64_t salt, int32_t blocks_max);
  void take_cached(Sequence& sequence, int32_t blocks);
  void block_filled(Sequence& sequence);
  void leave_window(Sequence& sequence, int32_t group);

  BlockManagerConfig config_;
  std::vector<BlockPool> pools_;       // [groups]
  std::vector<Sequence> sequences_;    // slots
  std::vector<int32_t> free_slots_;
  BlockHash root_;                     // parent of every first block
  // Scratch of open(): the blocks of the prompt's chain.
  std::vector<BlockHash> chain_;       // [blocks]
  std::vector<std::vector<int32_t>> found_;  // [groups][blocks] physical block or -1
};

}  // namespace pagemill
