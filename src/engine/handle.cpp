#include "engine/handle.h"

#include <bit>

namespace pagemill {

std::string_view to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
    case FinishReason::deadline: return "deadline";
    case FinishReason::error: return "error";
  }
  return "error";
}

std::string_view to_string(EngineState state) {
  switch (state) {
    case EngineState::loading: return "loading";
    case EngineState::ready: return "ready";
    case EngineState::draining: return "draining";
    case EngineState::stalled: return "stalled";
    case EngineState::failed: return "failed";
  }
  return "failed";
}

EventQueue::EventQueue(std::function<void()> wake, size_t capacity)
    : wake_(std::move(wake)), ring_(std::bit_ceil(std::max<size_t>(capacity, 2))) {}

EventQueue::~EventQueue() = default;

size_t EventQueue::drain(std::vector<EngineEvent>& out) {
  const uint64_t head = head_.load(std::memory_order_relaxed);
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  for (uint64_t i = head; i != tail; ++i) out.push_back(std::move(ring_[i & (ring_.size() - 1)]));
  head_.store(tail, std::memory_order_release);
  return static_cast<size_t>(tail - head);
}

bool EventQueue::push(EngineEvent& event) {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  if (tail - head_.load(std::memory_order_acquire) == ring_.size()) return false;
  ring_[tail & (ring_.size() - 1)] = std::move(event);
  tail_.store(tail + 1, std::memory_order_release);
  pushed_ = true;
  return true;
}

void EventQueue::flush() {
  if (!pushed_) return;
  pushed_ = false;
  if (wake_) wake_();
}

}  // namespace pagemill
