#include "api/event_pump.h"

namespace pagemill::api {

struct EventPump::Thread {
  struct Target {
    std::shared_ptr<EventSink> sink;
    size_t slot = 0;
  };
  std::shared_ptr<EventQueue> queue;
  std::unordered_map<uint64_t, Target> targets;  // by user_data
  std::vector<EngineEvent> events;               // drained and not yet delivered
  uint64_t next = 1;
  std::atomic<bool> closed{false};
};

EventPump::EventPump(http::Server& server) {
  for (int i = 0; i < server.io_threads(); ++i) {
    auto thread = std::make_shared<Thread>();
    thread->queue = std::make_shared<EventQueue>(server.make_wakeup(i, [weak = std::weak_ptr(thread)] {
      if (const auto alive = weak.lock(); alive && !alive->closed) drain(*alive);
    }));
    threads_.push_back(std::move(thread));
  }
}

void EventPump::close() {
  for (const auto& thread : threads_) thread->closed = true;
}

const std::shared_ptr<EventQueue>& EventPump::queue(int io_thread) const { return threads_[static_cast<size_t>(io_thread)]->queue; }

uint64_t EventPump::add(int io_thread, std::shared_ptr<EventSink> sink, size_t slot) {
  Thread& thread = *threads_[static_cast<size_t>(io_thread)];
  const uint64_t user_data = thread.next++;
  thread.targets.emplace(user_data, Thread::Target{std::move(sink), slot});
  return user_data;
}

void EventPump::remove(int io_thread, uint64_t user_data) { threads_[static_cast<size_t>(io_thread)]->targets.erase(user_data); }

size_t EventPump::waiting(int io_thread) const { return threads_[static_cast<size_t>(io_thread)]->targets.size(); }

void EventPump::drain(Thread& thread) {
  thread.events.clear();
  thread.queue->drain(thread.events);
  for (EngineEvent& event : thread.events) {
    const auto found = thread.targets.find(event.user_data);
    if (found == thread.targets.end()) continue;  // its client is gone
    const Thread::Target target = found->second;  // on_event() may remove it
    target.sink->on_event(target.slot, std::move(event));
  }
}

}  // namespace pagemill::api
