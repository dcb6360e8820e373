// CorePeer: how tests reach into an EngineCore, to look and to plant faults.
#pragma once

#include "engine/core.h"
#include "kv/kv_peer.h"

namespace pagemill {

struct CorePeer {
  static const auto& requests(const EngineCore& core) { return core.requests_; }
  static size_t deadlines(const EngineCore& core) { return core.deadlines_.size(); }
  static BlockManager& blocks(EngineCore& core) { return core.blocks_; }

  /// A running sequence's blocks are given back while it still uses them.
  static bool free_twice(EngineCore& core) {
    for (const Sequence* sequence : core.scheduler_.running_sequences()) {
      if (KvPeer::free_twice(core.blocks_, sequence->kv, 0)) return true;
    }
    return false;
  }

  /// A running request ends in every way but for its End event.
  static bool lose_end(EngineCore& core) {
    for (const auto& [id, request] : core.requests_) {
      if (request->ended || !request->started) continue;
      core.end_request(*request, FinishReason::cancelled);
      request->unsent_end.reset();
      return true;
    }
    return false;
  }
};

}  // namespace pagemill
