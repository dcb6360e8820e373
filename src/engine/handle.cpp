#include "engine/handle.h"

#include <algorithm>
#include <bit>
#include <utility>

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

void TokenList::append(std::span<const int32_t> tokens) {
  const size_t total = size_ + tokens.size();
  if (total <= few_.size()) {
    std::copy(tokens.begin(), tokens.end(), few_.begin() + static_cast<ptrdiff_t>(size_));
  } else {
    if (size_ <= few_.size()) many_.assign(few_.begin(), few_.begin() + static_cast<ptrdiff_t>(size_));
    many_.insert(many_.end(), tokens.begin(), tokens.end());
  }
  size_ = total;
}

EventQueue::EventQueue(std::function<void()> wake, size_t capacity)
    : wake_(std::move(wake)), ring_(std::bit_ceil(std::max<size_t>(capacity, 2))) {}

struct EventQueue::Last {
  EngineEvent event;
  Last* next = nullptr;
};

EventQueue::~EventQueue() {
  for (Last* node = last_.load(); node;) delete std::exchange(node, node->next);
}

size_t EventQueue::drain(std::vector<EngineEvent>& out) {
  // Before the ring: whoever sees these also sees every push() that came before them.
  Last* last = last_.exchange(nullptr, std::memory_order_acquire);
  const uint64_t head = head_.load(std::memory_order_relaxed);
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  for (uint64_t i = head; i != tail; ++i) out.push_back(std::move(ring_[i & (ring_.size() - 1)]));
  head_.store(tail, std::memory_order_release);
  const size_t first_last = out.size();
  while (last) {
    out.push_back(std::move(last->event));
    delete std::exchange(last, last->next);
  }
  std::reverse(out.begin() + static_cast<ptrdiff_t>(first_last), out.end());
  return static_cast<size_t>(tail - head) + (out.size() - first_last);
}

bool EventQueue::push(EngineEvent& event) {
  if (closed_.load(std::memory_order_relaxed)) return true;
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  if (tail - head_.load(std::memory_order_acquire) == ring_.size()) return false;
  ring_[tail & (ring_.size() - 1)] = std::move(event);
  tail_.store(tail + 1, std::memory_order_release);
  pushed_ = true;
  return true;
}

bool EventQueue::full() const {
  if (closed_.load(std::memory_order_relaxed)) return false;
  return tail_.load(std::memory_order_relaxed) - head_.load(std::memory_order_acquire) == ring_.size();
}

void EventQueue::push_last(EngineEvent event) {
  auto* node = new Last{std::move(event), last_.load(std::memory_order_relaxed)};
  while (!last_.compare_exchange_weak(node->next, node, std::memory_order_release, std::memory_order_relaxed)) {
  }
  pushed_ = true;
}

void EventQueue::flush() {
  if (!pushed_) return;
  pushed_ = false;
  if (wake_) wake_();
}

}  // namespace pagemill
