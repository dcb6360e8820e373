#include "kv/block_pool.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "base/check.h"

namespace pagemill {

namespace {

/// Folded 128-bit product, the mixing step of wyhash (Wang Yi, public domain).
uint64_t fold(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace

BlockHash BlockContent::hash() const {
  constexpr uint64_t kOdd[4] = {0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3};
  uint64_t low = fold(parent.low ^ kOdd[0], salt ^ kOdd[1]);
  uint64_t high = fold(parent.high ^ kOdd[2], salt ^ kOdd[3]);
  for (size_t i = 0; i + 1 < tokens.size(); i += 2) {
    const uint64_t pair = static_cast<uint32_t>(tokens[i]) | uint64_t{static_cast<uint32_t>(tokens[i + 1])} << 32;
    low = fold(low ^ pair, kOdd[1]) + kOdd[2];
    high = fold(high ^ pair, kOdd[3]) + kOdd[0];
  }
  return {fold(low, high ^ kOdd[0]), fold(high, low ^ kOdd[2])};
}

BlockPool::BlockPool(int32_t total) {
  PM_CHECK(total > 0, "a KV group needs blocks, not {}", total);
  blocks_.resize(static_cast<size_t>(total));
  buckets_.assign(std::bit_ceil(static_cast<size_t>(total)) * 2, -1);
  free_.reserve(static_cast<size_t>(total));
  for (int32_t block = total - 1; block >= 0; --block) free_.push_back(block);
  counts_ = {.total = total, .free = total};
}

int32_t BlockPool::allocate() {
  int32_t block = -1;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
    --counts_.free;
  } else if (oldest_ >= 0) {
    block = oldest_;
    list_remove(block);
    forget_content(block);
    --counts_.cached;
  } else {
    return -1;
  }
  ++counts_.live;
  at(block).references = 1;
  return block;
}

void BlockPool::retain(int32_t block) {
  Block& b = at(block);
  if (b.references++ > 0) return;
  PM_CHECK(b.known, "block {} is free and cannot be shared", block);
  list_remove(block);
  --counts_.cached;
  ++counts_.live;
}

void BlockPool::release(int32_t block) {
  Block& b = at(block);
  PM_CHECK(b.references > 0, "block {} is released more often than it is held", block);
  if (--b.references > 0) return;
  --counts_.live;
  if (b.known) {
    list_append(block);
    ++counts_.cached;
  } else {
    free_.push_back(block);
    ++counts_.free;
  }
}

int32_t BlockPool::find(const BlockContent& content, const BlockHash& hash) const {
  for (int32_t i = buckets_[hash.low & (buckets_.size() - 1)]; i >= 0; i = at(i).next_in_bucket) {
    const Block& b = at(i);
    if (b.hash == hash && b.parent == content.parent && b.salt == content.salt &&
        std::equal(b.tokens.begin(), b.tokens.end(), content.tokens.begin(), content.tokens.end())) {
      return i;
    }
  }
  return -1;
}

void BlockPool::set_content(int32_t block, const BlockContent& content, const BlockHash& hash) {
  Block& b = at(block);
  PM_CHECK(b.references > 0 && !b.known, "block {} already has a content", block);
  b.known = true;
  b.salt = content.salt;
  b.hash = hash;
  b.parent = content.parent;
  std::copy(content.tokens.begin(), content.tokens.end(), b.tokens.begin());
  b.next_in_bucket = std::exchange(bucket(hash), block);
}

void BlockPool::clear_cache() {
  while (oldest_ >= 0) {
    const int32_t block = oldest_;
    list_remove(block);
    forget_content(block);
    free_.push_back(block);
    --counts_.cached;
    ++counts_.free;
  }
}

void BlockPool::list_append(int32_t block) {
  Block& b = at(block);
  b.older = newest_;
  b.newer = -1;
  (newest_ >= 0 ? at(newest_).newer : oldest_) = block;
  newest_ = block;
}

void BlockPool::list_remove(int32_t block) {
  Block& b = at(block);
  (b.older >= 0 ? at(b.older).newer : oldest_) = b.newer;
  (b.newer >= 0 ? at(b.newer).older : newest_) = b.older;
  b.older = b.newer = -1;
}

void BlockPool::forget_content(int32_t block) {
  Block& b = at(block);
  int32_t* link = &bucket(b.hash);
  while (*link != block) link = &at(*link).next_in_bucket;
  *link = b.next_in_bucket;
  b.next_in_bucket = -1;
  b.known = false;
}

std::string BlockPool::audit(std::span<const int32_t> references, bool contents) const {
  int32_t live = 0, cached = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& b = blocks_[i];
    if (b.references != references[i]) return fmt::format("block {} counts {} holders, {} tables hold it", i, b.references, references[i]);
    live += b.references > 0;
  }
  int32_t previous = -1;
  for (int32_t i = oldest_; i >= 0; previous = i, i = at(i).newer) {
    const Block& b = at(i);
    if (b.references > 0 || !b.known || b.older != previous) return fmt::format("block {} is wrongly in the list of cached blocks", i);
    if (++cached > counts_.total) return "the list of cached blocks has a cycle";
  }
  for (const int32_t i : free_) {
    if (at(i).references > 0 || at(i).known) return fmt::format("block {} is in the free list and in use", i);
  }
  const auto free = static_cast<int32_t>(free_.size());
  if (live != counts_.live || cached != counts_.cached || free != counts_.free || live + cached + free != counts_.total) {
    return fmt::format("{} live + {} cached + {} free of {} blocks, counted as {} + {} + {}", live, cached, free, counts_.total,
                       counts_.live, counts_.cached, counts_.free);
  }
  return contents ? audit_contents() : std::string{};
}

/// Every known block is found under the hash of what it holds, and no other block is in the index.
std::string BlockPool::audit_contents() const {
  int32_t known = 0, indexed = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& b = blocks_[i];
    known += b.known;
    if (b.known && b.hash != BlockContent{b.parent, b.salt, b.tokens}.hash()) return fmt::format("block {}: hash and content differ", i);
  }
  for (const int32_t first : buckets_) {
    for (int32_t i = first; i >= 0; i = at(i).next_in_bucket) {
      if (!at(i).known || ++indexed > counts_.total) return fmt::format("block {} is wrongly in the index", i);
      if (find({at(i).parent, at(i).salt, at(i).tokens}, at(i).hash) != i) return fmt::format("block {} is in the index twice", i);
    }
  }
  return indexed == known ? std::string{} : fmt::format("{} blocks have a known content, {} are in the index", known, indexed);
}

}  // namespace pagemill
