// BlockManager: which physical KV block holds which tokens of which sequence. Host bookkeeping only: no device pointer,
// no clock, no thread; it runs the same in the simulation, under the fuzzer and in the server.
//
// Nouns. A *block* is kBlockTokens positions of every layer of one *group* (layers that keep all positions; layers that
// keep the last `window`; …). A sequence has one table per group. A full block whose content is known has a *hash* over
// its parent's hash, its tokens and the sequence's salt; such a block outlives its sequence as *cached* until it is needed.
//
// Invariants, true between any two calls, for each group:
//   1. free + cached + live = total.
//   2. A live block's reference count is the number of tables that hold it; a cached or free block's is 0.
//   3. A block is found by a hash only if its tokens, its parent's hash and its salt are equal (verified, not trusted).
//   4. A block that more than one table holds is never written: `reserve` copies it first (copy-on-write).
//   5. An operation that fails changes nothing.
// Not thread-safe: owned by the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"

namespace pagemill {

struct KvGroupConfig {
  int32_t blocks = 0;      // total physical blocks
  int32_t window = 0;      // positions kept; 0 = all
};

struct BlockManagerConfig {
  std::vector<KvGroupConfig> groups;
  bool prefix_cache = true;
};

/// A sequence's handle inside the manager; 0 is none.
using KvSequenceId = uint64_t;

struct KvCounts {
  int32_t total = 0, free = 0, cached = 0, live = 0;
};

/// A copy that must run on the device before the step that writes to `to`.
struct KvCopy {
  int32_t group = 0, from = 0, to = 0;
};

class BlockManager {
 public:
  explicit BlockManager(BlockManagerConfig config);
  ~BlockManager();

  /// Registers a sequence and takes over as many whole blocks of its prompt as the cache holds (never the block of the
  /// last prompt token: its logits are needed). Returns the handle; `cached_tokens` says how many need no computing.
  KvSequenceId open(std::span<const int32_t> prompt, uint64_t salt, int32_t* cached_tokens);
  /// A second sequence that shares every block of the first so far (n > 1, beams). Partial blocks are copied on write.
  KvSequenceId fork(KvSequenceId sequence);
  /// Makes room for `count` more tokens after those committed. Fails with resource_exhausted where the blocks are not
  /// there. Copies that the next step has to make are appended to `copies`.
  Result<void> reserve(KvSequenceId sequence, int32_t count, std::vector<KvCopy>& copies);
  /// Declares the next tokens.size() ≤ reserved positions as computed, with these tokens; gives blocks behind a window back.
  void commit(KvSequenceId sequence, std::span<const int32_t> tokens);
  /// Gives back what was reserved and not committed (speculation, a row that was dropped).
  void trim(KvSequenceId sequence);
  /// Ends a sequence. Its full blocks stay cached.
  void close(KvSequenceId sequence);

  /// Physical blocks of the sequence's table in a group: index = position / kBlockTokens; -1 where a window left it.
  std::span<const int32_t> table(KvSequenceId sequence, int32_t group) const;
  int32_t committed(KvSequenceId sequence) const;

  /// Blocks that reserve() would need for `count` more tokens, and what could be had at most (free + cached).
  int32_t blocks_needed(KvSequenceId sequence, int32_t count, int32_t group) const;
  int32_t blocks_available(int32_t group) const;
  KvCounts counts(int32_t group) const;

  /// Drops everything cached that no sequence uses.
  void clear_cache();
  /// Verifies the invariants above; the first violation in words, or empty. O(blocks).
  std::string audit() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pagemill
