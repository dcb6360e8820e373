// BlockPool: the physical blocks of one KV group, which of them are free, cached or live, and an index of the full ones
// by their content.
//
// A block is *free* (content worthless), *cached* (nobody's, content known, may be taken over or evicted) or *live* (held
// by `references` tables). The cached ones form a list in the order of their release: eviction takes the oldest.
//
// Invariants: free + cached + live = total. Exactly the known blocks (free ones never) are in the index, no two with equal
// content. find() compares parent, salt and tokens: equal hashes alone never make a hit.
// Everything is allocated in the constructor; nothing after. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/limits.h"

namespace pagemill {

/// Names a chain of blocks: everything from the sequence's first token to the end of this block, and the salt.
struct BlockHash {
  uint64_t low = 0, high = 0;
  bool operator==(const BlockHash&) const = default;
};

/// What a full block holds. `tokens` has limits::kBlockTokens entries.
struct BlockContent {
  BlockHash parent;                // of the block before; the chain's root before the first
  uint64_t salt = 0;
  std::span<const int32_t> tokens;

  BlockHash hash() const;
};

struct KvCounts {
  int32_t total = 0, free = 0, cached = 0, live = 0;
};

class BlockPool {
 public:
  explicit BlockPool(int32_t total);

  /// A block with unknown content and one reference: a free one, else the oldest cached one; -1 if all are live.
  int32_t allocate();
  /// One more holder of a live or cached block.
  void retain(int32_t block);
  /// One holder less. The last one leaves the block cached if its content is known, else free.
  void release(int32_t block);

  /// The block with this content, or -1.
  int32_t find(const BlockContent& content, const BlockHash& hash) const;
  /// Makes the content of a live block known. No known block may have the same.
  void set_content(int32_t block, const BlockContent& content, const BlockHash& hash);
  /// Frees every cached block.
  void clear_cache();

  int32_t references(int32_t block) const { return blocks_[static_cast<size_t>(block)].references; }
  int32_t available() const { return counts_.total - counts_.live; }
  const KvCounts& counts() const { return counts_; }
  /// Verifies the invariants; `references` is what the tables hold of each block. Empty, or the first violation in words.
  /// Without `contents` the hashes and the index are taken on trust, which is several times faster.
  std::string audit(std::span<const int32_t> references, bool contents) const;

 private:
  friend struct KvPeer;  // tests plant faults through it

  std::string audit_contents() const;
  struct Block {
    int32_t references = 0;
    int32_t older = -1, newer = -1;  // neighbours in the list of cached blocks
    int32_t next_in_bucket = -1;
    bool known = false;
    uint64_t salt = 0;
    BlockHash hash, parent;
    std::array<int32_t, limits::kBlockTokens> tokens{};
  };

  Block& at(int32_t block) { return blocks_[static_cast<size_t>(block)]; }
  const Block& at(int32_t block) const { return blocks_[static_cast<size_t>(block)]; }
  int32_t& bucket(const BlockHash& hash) { return buckets_[hash.low & (buckets_.size() - 1)]; }
  void list_append(int32_t block);
  void list_remove(int32_t block);
  void forget_content(int32_t block);

  std::vector<Block> blocks_;
  std::vector<int32_t> buckets_;   // first block of each, -1 = none; a power of two
  std::vector<int32_t> free_;      // a stack
  int32_t oldest_ = -1, newest_ = -1;
  KvCounts counts_;
};

}  // namespace pagemill
