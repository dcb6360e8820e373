// Inbox: commands from any thread to the engine thread. Lock-free in both directions: a thread that is suspended in the
// middle of a push holds up nobody.
//
// Invariants: commands of one sender arrive in the order they were sent; each arrives once.
#pragma once

#include <atomic>
#include <utility>
#include <variant>
#include <vector>

#include "engine/handle.h"

namespace pagemill {

struct SubmitCommand {
  RequestId id = 0;
  EngineRequest request;
  TimeNs arrival_ns = 0;
};
struct CancelCommand {
  RequestId id = 0;
};
struct EndChoiceCommand {
  RequestId id = 0;
  int32_t choice = 0;
};
struct DrainCommand {
  TimeNs deadline_ns = 0;
};
using EngineCommand = std::variant<SubmitCommand, CancelCommand, EndChoiceCommand, DrainCommand>;

class Inbox {
 public:
  Inbox() = default;
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  ~Inbox() {
    take([](EngineCommand&) {});
  }

  void push(EngineCommand command) {
    Node* node = new Node{std::move(command), newest_.load(std::memory_order_relaxed)};
    while (!newest_.compare_exchange_weak(node->older, node, std::memory_order_release, std::memory_order_relaxed)) {
    }
  }

  /// The one reader: calls `use(command)` for everything that is there, oldest first.
  template <class Use>
  void take(Use use) {
    Node* newest = newest_.exchange(nullptr, std::memory_order_acquire);
    Node* oldest = nullptr;
    while (newest) {
      Node* older = std::exchange(newest->older, oldest);
      oldest = std::exchange(newest, older);
    }
    while (oldest) {
      use(oldest->command);
      delete std::exchange(oldest, oldest->older);
    }
  }

 private:
  struct Node {
    EngineCommand command;
    Node* older = nullptr;
  };
  std::atomic<Node*> newest_{nullptr};
};

}  // namespace pagemill
