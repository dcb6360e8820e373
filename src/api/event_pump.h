// EventPump: brings the engine's events to the requests that wait for them, on the io thread where each lives.
//
// One EventQueue per io thread; the engine wakes an io thread at most once per step, by a write to an eventfd: without a lock.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "http/server.h"
#include "session/session.h"

namespace pagemill::api {

/// Something that waits for engine events. Lives on one io thread.
class EventSink {
 public:
  virtual ~EventSink() = default;
  /// `slot`: which of the sink's engine requests it concerns.
  virtual void on_event(size_t slot, EngineEvent event) = 0;
};

class EventPump {
 public:
  explicit EventPump(http::Server& server);

  // Any thread.
  const std::shared_ptr<EventQueue>& queue(int io_thread) const;
  /// Engine wake-ups do nothing from here on.
  void close();

  // On that io thread only.
  /// Events with the returned user_data go to `sink`, until remove().
  uint64_t add(int io_thread, std::shared_ptr<EventSink> sink, size_t slot);
  void remove(int io_thread, uint64_t user_data);
  /// Sinks that wait on that thread.
  size_t waiting(int io_thread) const;

 private:
  struct Thread;
  static void drain(Thread& thread);

  std::vector<std::shared_ptr<Thread>> threads_;
};

}  // namespace pagemill::api
