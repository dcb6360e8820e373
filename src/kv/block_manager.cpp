#include "kv/block_manager.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"

namespace pagemill {

namespace {

constexpr int32_t kBlock = limits::kBlockTokens;

int32_t blocks_for(int32_t tokens) { return (tokens + kBlock - 1) / kBlock; }

}  // namespace

BlockManager::BlockManager(BlockManagerConfig config) : config_(std::move(config)) {
  PM_CHECK(!config_.groups.empty(), "a model has at least one KV group");
  int32_t most_blocks = 0;
  for (const KvGroupConfig& group : config_.groups) {
    pools_.emplace_back(group.blocks);
    most_blocks = std::max(most_blocks, group.blocks);
  }
  if (config_.sequence_tokens_max == 0) config_.sequence_tokens_max = most_blocks * kBlock;
  root_ = {config_.hash_seed ^ 0x9E3779B97F4A7C15, config_.hash_seed * 0xD1342543DE82EF95 + 1};
  found_.resize(config_.groups.size());
}

BlockManager::Sequence& BlockManager::at(KvSequenceId id) {
  const size_t slot = (id & 0xFFFFFFFF) - 1;
  PM_CHECK(id != 0 && slot < sequences_.size() && sequences_[slot].open && sequences_[slot].generation == id >> 32,
           "KV sequence {} is not open", id);
  return sequences_[slot];
}

KvSequenceId BlockManager::new_sequence(uint64_t salt) {
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<int32_t>(sequences_.size()));
    Sequence& fresh = sequences_.emplace_back();
    fresh.tables.resize(pools_.size());
    for (Table& table : fresh.tables) table.blocks.reserve(static_cast<size_t>(blocks_for(config_.sequence_tokens_max)));
    free_slots_.reserve(sequences_.capacity());
  }
  const int32_t slot = free_slots_.back();
  free_slots_.pop_back();
  Sequence& sequence = sequences_[static_cast<size_t>(slot)];
  ++sequence.generation;
  sequence.open = true;
  sequence.salt = salt;
  sequence.committed = 0;
  sequence.chain = root_;
  return uint64_t{sequence.generation} << 32 | static_cast<uint32_t>(slot + 1);
}

/// The first block that the row at `position` still sees.
int32_t BlockManager::first_needed(int32_t group, int32_t position) const {
  const int32_t window = config_.groups[static_cast<size_t>(group)].window;
  return window == 0 ? 0 : std::max(0, position - window + 1) / kBlock;
}

KvSequenceId BlockManager::open(std::span<const int32_t> prompt, uint64_t salt, int32_t* cached_tokens, int32_t cached_max) {
  const KvSequenceId id = new_sequence(salt);
  const auto length = static_cast<int32_t>(prompt.size());
  const int32_t blocks_max = std::max(0, std::min(length - 1, cached_max)) / kBlock;
  const int32_t blocks = config_.prefix_cache ? cached_blocks(prompt, salt, blocks_max) : 0;
  take_cached(at(id), blocks);
  if (cached_tokens) *cached_tokens = blocks * kBlock;
  return id;
}

/// How many leading blocks of the prompt every group still holds as far as the next row will see them. Fills chain_ and found_.
int32_t BlockManager::cached_blocks(std::span<const int32_t> prompt, uint64_t salt, int32_t blocks_max) {
  chain_.clear();
  for (auto& found : found_) found.clear();
  BlockHash parent = root_;
  for (int32_t i = 0; i < blocks_max; ++i) {
    const BlockContent content{parent, salt, prompt.subspan(static_cast<size_t>(i * kBlock), kBlock)};
    const BlockHash hash = content.hash();
    bool in_every_full_group = true;
    for (int32_t group = 0; group < groups(); ++group) {
      const int32_t block = pool(group).find(content, hash);
      found_[static_cast<size_t>(group)].push_back(block);
      if (block < 0 && config_.groups[static_cast<size_t>(group)].window == 0) in_every_full_group = false;
    }
    if (!in_every_full_group) break;
    chain_.push_back(hash);
    parent = hash;
  }
  for (auto blocks = static_cast<int32_t>(chain_.size()); blocks > 0; --blocks) {
    bool complete = true;
    for (int32_t group = 0; group < groups() && complete; ++group) {
      for (int32_t i = first_needed(group, blocks * kBlock); i < blocks && complete; ++i) {
        complete = found_[static_cast<size_t>(group)][static_cast<size_t>(i)] >= 0;
      }
    }
    if (complete) return blocks;
  }
  return 0;
}

void BlockManager::take_cached(Sequence& sequence, int32_t blocks) {
  sequence.committed = blocks * kBlock;
  if (blocks > 0) sequence.chain = chain_[static_cast<size_t>(blocks - 1)];
  for (int32_t group = 0; group < groups(); ++group) {
    Table& table = sequence.tables[static_cast<size_t>(group)];
    table.first_kept = std::min(blocks, first_needed(group, blocks * kBlock));
    table.blocks.assign(static_cast<size_t>(blocks), -1);
    for (int32_t i = table.first_kept; i < blocks; ++i) {
      const int32_t block = found_[static_cast<size_t>(group)][static_cast<size_t>(i)];
      table.blocks[static_cast<size_t>(i)] = block;
      pool(group).retain(block);
    }
  }
}

KvSequenceId BlockManager::fork(KvSequenceId parent_id) {
  const KvSequenceId id = new_sequence(at(parent_id).salt);
  const Sequence& parent = at(parent_id);
  Sequence& child = at(id);
  child.committed = parent.committed;
  child.chain = parent.chain;
  child.tail = parent.tail;
  for (int32_t group = 0; group < groups(); ++group) {
    const Table& from = parent.tables[static_cast<size_t>(group)];
    Table& to = child.tables[static_cast<size_t>(group)];
    to.first_kept = from.first_kept;
    to.blocks.assign(from.blocks.begin(), from.blocks.begin() + blocks_for(parent.committed));
    for (const int32_t block : to.blocks) {
      if (block >= 0) pool(group).retain(block);
    }
  }
  return id;
}

/// The next token goes into a block that another table holds too.
bool BlockManager::must_copy(const Sequence& sequence, int32_t group) const {
  if (sequence.committed % kBlock == 0) return false;
  const auto& blocks = sequence.tables[static_cast<size_t>(group)].blocks;
  return pool(group).references(blocks[static_cast<size_t>(sequence.committed / kBlock)]) > 1;
}

int32_t BlockManager::needed(const Sequence& sequence, int32_t count, int32_t group) const {
  const auto have = static_cast<int32_t>(sequence.tables[static_cast<size_t>(group)].blocks.size());
  return std::max(0, blocks_for(sequence.committed + count) - have) + (count > 0 && must_copy(sequence, group) ? 1 : 0);
}

int32_t BlockManager::blocks_needed(KvSequenceId id, int32_t count, int32_t group) const { return needed(at(id), count, group); }

int32_t BlockManager::reservable(KvSequenceId id, int32_t count) const {
  const Sequence& sequence = at(id);
  for (int32_t group = 0; group < groups(); ++group) {
    const int32_t available = blocks_available(group) - (must_copy(sequence, group) ? 1 : 0);
    if (available < 0) return 0;
    const auto have = static_cast<int32_t>(sequence.tables[static_cast<size_t>(group)].blocks.size());
    count = std::min(count, (have + available) * kBlock - sequence.committed);
  }
  return count;
}

bool BlockManager::try_reserve(KvSequenceId id, int32_t count, std::vector<KvCopy>& copies) {
  Sequence& sequence = at(id);
  PM_CHECK(count >= 0 && sequence.committed + count <= config_.sequence_tokens_max, "{} tokens after {} are more than {}",
           count, sequence.committed, config_.sequence_tokens_max);
  for (int32_t group = 0; group < groups(); ++group) {
    if (needed(sequence, count, group) > blocks_available(group)) return false;
  }
  for (int32_t group = 0; group < groups(); ++group) {
    auto& blocks = sequence.tables[static_cast<size_t>(group)].blocks;
    if (count > 0 && must_copy(sequence, group)) {
      int32_t& shared = blocks[static_cast<size_t>(sequence.committed / kBlock)];
      const int32_t own = pool(group).allocate();
      copies.push_back({group, shared, own});
      pool(group).release(shared);
      shared = own;
    }
    while (static_cast<int32_t>(blocks.size()) < blocks_for(sequence.committed + count)) blocks.push_back(pool(group).allocate());
  }
  return true;
}

Result<void> BlockManager::reserve(KvSequenceId id, int32_t count, std::vector<KvCopy>& copies) {
  if (try_reserve(id, count, copies)) return {};
  return fail(ErrorCode::resource_exhausted, fmt::format("no KV blocks for {} more tokens", count));
}

void BlockManager::commit(KvSequenceId id, std::span<const int32_t> tokens) {
  Sequence& sequence = at(id);
  for (const Table& table : sequence.tables) {
    PM_CHECK(blocks_for(sequence.committed + static_cast<int32_t>(tokens.size())) <= static_cast<int32_t>(table.blocks.size()),
             "{} tokens were not reserved", tokens.size());
  }
  for (const int32_t token : tokens) {
    sequence.tail[static_cast<size_t>(sequence.committed % kBlock)] = token;
    if (++sequence.committed % kBlock == 0) block_filled(sequence);
  }
  for (int32_t group = 0; group < groups(); ++group) leave_window(sequence, group);
}

/// The block that ends at `committed` is full: make it known, or share the one that is known already.
void BlockManager::block_filled(Sequence& sequence) {
  if (!config_.prefix_cache) return;
  const BlockContent content{sequence.chain, sequence.salt, sequence.tail};
  const BlockHash hash = content.hash();
  sequence.chain = hash;
  const auto index = static_cast<size_t>(sequence.committed / kBlock - 1);
  for (int32_t group = 0; group < groups(); ++group) {
    int32_t& own = sequence.tables[static_cast<size_t>(group)].blocks[index];
    const int32_t known = pool(group).find(content, hash);
    if (known < 0) {
      pool(group).set_content(own, content, hash);
    } else {
      pool(group).retain(known);
      pool(group).release(own);
      own = known;
    }
  }
}

void BlockManager::leave_window(Sequence& sequence, int32_t group) {
  Table& table = sequence.tables[static_cast<size_t>(group)];
  const int32_t first = std::min(first_needed(group, sequence.committed), static_cast<int32_t>(table.blocks.size()));
  for (; table.first_kept < first; ++table.first_kept) {
    pool(group).release(std::exchange(table.blocks[static_cast<size_t>(table.first_kept)], -1));
  }
}

void BlockManager::trim(KvSequenceId id) {
  Sequence& sequence = at(id);
  for (int32_t group = 0; group < groups(); ++group) {
    auto& blocks = sequence.tables[static_cast<size_t>(group)].blocks;
    while (static_cast<int32_t>(blocks.size()) > blocks_for(sequence.committed)) {
      pool(group).release(blocks.back());
      blocks.pop_back();
    }
  }
}

void BlockManager::close(KvSequenceId id) {
  Sequence& sequence = at(id);
  for (int32_t group = 0; group < groups(); ++group) {
    Table& table = sequence.tables[static_cast<size_t>(group)];
    // From the end: a block is worth nothing without those before it, so it must be evicted before them.
    for (auto block = table.blocks.rbegin(); block != table.blocks.rend(); ++block) {
      if (*block >= 0) pool(group).release(*block);
    }
    table.blocks.clear();
    table.first_kept = 0;
  }
  sequence.open = false;
  free_slots_.push_back(static_cast<int32_t>((id & 0xFFFFFFFF) - 1));
}

std::span<const int32_t> BlockManager::table(KvSequenceId id, int32_t group) const {
  return at(id).tables[static_cast<size_t>(group)].blocks;
}

int32_t BlockManager::committed(KvSequenceId id) const { return at(id).committed; }

void BlockManager::clear_cache() {
  for (BlockPool& each : pools_) each.clear_cache();
}

std::string BlockManager::audit(bool contents) const {
  for (int32_t group = 0; group < groups(); ++group) {
    std::vector<int32_t> references(static_cast<size_t>(counts(group).total), 0);  // [blocks]
    for (const Sequence& sequence : sequences_) {
      if (!sequence.open) continue;
      const Table& table = sequence.tables[static_cast<size_t>(group)];
      const auto length = static_cast<int32_t>(table.blocks.size());
      if (length < blocks_for(sequence.committed)) return fmt::format("group {}: a table is shorter than its tokens", group);
      for (int32_t i = 0; i < length; ++i) {
        const int32_t block = table.blocks[static_cast<size_t>(i)];
        if ((block < 0) != (i < table.first_kept)) return fmt::format("group {}: a table has a hole at block {}", group, i);
        if (block >= 0) ++references[static_cast<size_t>(block)];
      }
    }
    if (std::string found = pool(group).audit(references, contents); !found.empty()) return fmt::format("group {}: {}", group, found);
  }
  return {};
}

}  // namespace pagemill
