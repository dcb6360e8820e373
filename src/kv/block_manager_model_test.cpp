// Random operations on a BlockManager beside a model: a device whose every slot remembers the whole prefix that was
// written there. Whatever a sequence's table names must hold exactly that sequence's prefix.
#include <map>

#include "base/rng.h"
#include "kv/block_manager.h"
#include "kv/kv_peer.h"

namespace pagemill {
namespace {

constexpr int32_t kBlock = limits::kBlockTokens;

/// A number for the tokens before and at a position, and the salt.
uint64_t extend(uint64_t prefix, int32_t token) { return SplitMix64(prefix ^ static_cast<uint64_t>(token) * 0x9E3779B97F4A7C15)(); }

class Model {
 public:
  Model(BlockManagerConfig config, uint64_t seed) : manager_(config), random_(seed) {
    for (const KvGroupConfig& group : config.groups) device_.emplace_back(static_cast<size_t>(group.blocks * kBlock), 0);
  }

  /// One random operation; the first violation in words.
  std::string step() {
    switch (random_.below(sequences_.size() < 12 ? 10 : 9)) {
      case 0: close(); break;
      case 1: fork(); break;
      case 2: if (!sequences_.empty()) manager_.trim(any()->id); break;
      case 3: case 4: case 5: case 6: case 7: case 8: if (!sequences_.empty()) extend_one(*any()); break;
      default: open(); break;
    }
    if (std::string found = manager_.audit(); !found.empty()) return found;
    return check_contents();
  }
  int64_t hits() const { return hits_; }
  int64_t copies() const { return copied_; }
  BlockManager& manager() { return manager_; }
  KvSequenceId some_sequence() { return sequences_.empty() ? 0 : sequences_.front().id; }

 private:
  struct Sequence {
    KvSequenceId id;
    std::vector<int32_t> tokens;       // committed and, for an unfinished prompt, still to come
    std::vector<uint64_t> prefixes;    // of the committed ones
    uint64_t salt;
  };

  Sequence* any() { return &sequences_[random_.below(sequences_.size())]; }

  void open() {
    Sequence s;
    s.salt = random_.below(2);
    const auto family = static_cast<int32_t>(random_.below(3));
    const auto length = 1 + static_cast<int32_t>(random_.below(kBlock * 6));
    for (int32_t i = 0; i < length; ++i) s.tokens.push_back(random_.below(200) == 0 ? 7 : family * 1000 + i);
    int32_t cached = 0;
    s.id = manager_.open(s.tokens, s.salt, &cached);
    EXPECT_LT(cached, length);
    hits_ += cached;
    for (int32_t i = 0; i < cached; ++i) push_prefix(s, s.tokens[static_cast<size_t>(i)]);
    sequences_.push_back(std::move(s));
  }

  static void push_prefix(Sequence& s, int32_t token) {
    s.prefixes.push_back(extend(s.prefixes.empty() ? s.salt + 1 : s.prefixes.back(), token));
  }

  void fork() {
    if (sequences_.empty() || sequences_.size() >= 12) return;
    Sequence child = *any();
    manager_.trim(child.id);
    child.id = manager_.fork(child.id);
    sequences_.push_back(std::move(child));
  }

  void close() {
    if (sequences_.empty()) return;
    const size_t i = random_.below(sequences_.size());
    manager_.close(sequences_[i].id);
    sequences_.erase(sequences_.begin() + static_cast<ptrdiff_t>(i));
  }

  void extend_one(Sequence& s) {
    const auto count = 1 + static_cast<int32_t>(random_.below(random_.below(3) == 0 ? 40 : 4));
    const int32_t committed = manager_.committed(s.id);
    if (committed + count > manager_.config().sequence_tokens_max) return;
    std::vector<KvCopy> copies;
    if (!manager_.try_reserve(s.id, count, copies)) {
      EXPECT_TRUE(copies.empty());
      return;
    }
    copied_ += static_cast<int64_t>(copies.size());
    for (const KvCopy& copy : copies) {
      auto& slots = device_[static_cast<size_t>(copy.group)];
      std::copy_n(slots.begin() + copy.from * kBlock, kBlock, slots.begin() + copy.to * kBlock);
    }
    const auto used = static_cast<int32_t>(random_.below(static_cast<uint64_t>(count) + 1));
    std::vector<int32_t> tokens;
    for (int32_t i = committed; i < committed + used; ++i) {
      if (static_cast<size_t>(i) == s.tokens.size()) s.tokens.push_back(static_cast<int32_t>(random_.below(2)));
      tokens.push_back(s.tokens[static_cast<size_t>(i)]);
      push_prefix(s, tokens.back());
      for (int32_t group = 0; group < manager_.groups(); ++group) {
        const int32_t block = manager_.table(s.id, group)[static_cast<size_t>(i / kBlock)];
        device_[static_cast<size_t>(group)][static_cast<size_t>(block * kBlock + i % kBlock)] = s.prefixes.back();
      }
    }
    manager_.commit(s.id, tokens);
  }

  std::string check_contents() {
    for (const Sequence& s : sequences_) {
      const int32_t committed = manager_.committed(s.id);
      for (int32_t group = 0; group < manager_.groups(); ++group) {
        const int32_t window = manager_.config().groups[static_cast<size_t>(group)].window;
        const auto table = manager_.table(s.id, group);
        for (int32_t i = window ? std::max(0, committed - window + 1) : 0; i < committed; ++i) {
          const int32_t block = table[static_cast<size_t>(i / kBlock)];
          if (block < 0) return "a block inside the window is gone";
          if (device_[static_cast<size_t>(group)][static_cast<size_t>(block * kBlock + i % kBlock)] != s.prefixes[static_cast<size_t>(i)]) {
            return "a block holds another prefix";
          }
        }
      }
    }
    return {};
  }

  BlockManager manager_;
  SplitMix64 random_;
  std::vector<std::vector<uint64_t>> device_;   // [groups][slots]
  std::vector<Sequence> sequences_;
  int64_t hits_ = 0, copied_ = 0;
};

const BlockManagerConfig kConfigs[] = {
    {.groups = {{.blocks = 40}}, .sequence_tokens_max = 640},
    {.groups = {{.blocks = 40}, {.blocks = 20, .window = 21}}, .sequence_tokens_max = 640},
    {.groups = {{.blocks = 24, .window = 50}, {.blocks = 20, .window = 16}, {.blocks = 60}}, .sequence_tokens_max = 960},
    {.groups = {{.blocks = 30, .window = 33}}, .sequence_tokens_max = 480},
};

TEST(BlockManagerModelTest, EveryTableHoldsItsOwnSequence) {
  for (const BlockManagerConfig& config : kConfigs) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      Model model(config, seed);
      for (int i = 0; i < 3000; ++i) {
        const std::string found = model.step();
        ASSERT_EQ(found, "") << "seed " << seed << " operation " << i;
      }
      EXPECT_GT(model.hits(), 0);
      EXPECT_GT(model.copies(), 0);
    }
  }
}

TEST(BlockManagerModelTest, FindsPlantedFaults) {
  for (int fault = 0; fault < 3; ++fault) {
    Model model(kConfigs[0], 5);
    for (int i = 0; i < 500; ++i) ASSERT_EQ(model.step(), "");
    bool planted = false;
    std::string found;
    for (int i = 0; i < 3000 && found.empty(); ++i) {
      if (!planted || fault == 2) {  // a swapped block may be evicted before anyone looks for it
        BlockManager& manager = model.manager();
        planted |= fault == 0  ? KvPeer::leak_block(manager, 0)
                  : fault == 1 ? model.some_sequence() && KvPeer::free_twice(manager, model.some_sequence(), 0)
                               : KvPeer::swap_contents(manager, 0);
      }
      found = model.step();
    }
    EXPECT_TRUE(planted);
    EXPECT_NE(found, "") << "fault " << fault;
  }
}

}  // namespace
}  // namespace pagemill
