// Admission: what a submit is checked against before the engine thread hears of it, and the queue's bounds.
//
// Invariants:
//   1. A request is counted from the moment of acceptance to its first step, or its end: a burst cannot slip in between the check
//      and the work. It counts once for each of its choices (n).
//   2. The counts are within the bounds, but that the queue's only request may be of any size.
//   3. Ids ascend in the order of acceptance and are given once.
// Safe from any thread; takes no lock.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/handle.h"

namespace pagemill {

struct AdmissionConfig {
  EngineModelInfo model;
  int32_t max_num_seqs = 1;
  int32_t queued_requests_max = limits::kQueuedRequests;
  int64_t queued_tokens_max = limits::kQueuedPromptTokens;
};

class Admission {
 public:
  explicit Admission(AdmissionConfig config) : config_(std::move(config)) {}

  /// Checks the request and counts it as queued.
  Result<RequestId> accept(const EngineRequest& request);
  /// An accepted request has left the queue: it started, or it ended there.
  void leave(int32_t prompt_tokens, int32_t choices) {
    queued_requests_.fetch_sub(choices, std::memory_order_relaxed);
    queued_tokens_.fetch_sub(prompt_tokens, std::memory_order_relaxed);
  }

  const AdmissionConfig& config() const { return config_; }
  int32_t queued_requests() const { return queued_requests_.load(std::memory_order_relaxed); }
  int64_t queued_tokens() const { return queued_tokens_.load(std::memory_order_relaxed); }
  uint64_t rejected() const { return rejected_.load(std::memory_order_relaxed); }

 private:
  Result<void> check(const EngineRequest& request) const;
  Result<void> count(int32_t prompt_tokens, int32_t choices);

  const AdmissionConfig config_;
  std::atomic<RequestId> last_id_{0};
  std::atomic<int32_t> queued_requests_{0};
  std::atomic<int64_t> queued_tokens_{0};
  std::atomic<uint64_t> rejected_{0};
};

}  // namespace pagemill
