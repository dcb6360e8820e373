// Outbox: what requests have to tell their readers, pushed once per step.
//
// A request that has something new is marked; flush() pushes its events in order (prompt log-probabilities, embedding, then
// per choice its tokens and its end, then the request's End) as far as its reader's ring has room, and wakes each reader at
// most once. What found no room waits in the sequences and arrives together later.
//
// Invariants:
//   1. Events of a choice leave in order; End leaves last and once.
//   2. A request stays marked until everything it had to say has been taken.
// Owned by the engine thread.
#pragma once

#include <memory>
#include <vector>

#include "engine/sequence.h"

namespace pagemill {

class Outbox {
 public:
  /// Keep lists ready for so many requests with news in one step.
  explicit Outbox(size_t requests) {
    marked_.reserve(requests);
    touched_.reserve(requests);
  }

  void mark(Request& request) {
    if (request.changed) return;
    request.changed = true;
    marked_.push_back(&request);
  }

  /// Calls `delivered(request)` for each whose End has been taken, `stuck(request)` where the ring had no room.
  template <class Delivered, class Stuck>
  void flush(Delivered delivered, Stuck stuck) {
    size_t kept = 0;
    for (Request* request : marked_) {
      if (!deliver(*request)) {
        marked_[kept++] = request;
        stuck(*request);
        continue;
      }
      request->changed = false;
      if (request->ended) delivered(*request);
    }
    marked_.resize(kept);
    wake_readers();
  }

  /// Bytes that the request's reader has left unread beyond its ring.
  static size_t waiting_bytes(const Request& request);
  /// Everything goes out now, room or not: the engine is going away.
  void flush_last();
  /// Something waits for a reader to make room.
  bool waiting() const { return !marked_.empty(); }

 private:
  bool deliver(Request& request);
  void push(Request& request, decltype(EngineEvent::body) body);
  void wake_readers();

  std::vector<Request*> marked_;
  std::vector<std::shared_ptr<EventQueue>> touched_;
  bool last_ = false;
};

}  // namespace pagemill
