// EngineHandle: submit, cancel, an event queue. All that the rest of the program knows of the engine. Token ids in, token ids out.
//
// Invariants: an accepted request gets exactly one End event, whatever happens to it: finished, cancelled, past its deadline, a failed
// device, shutdown. Events of one choice arrive in order, ChoiceEnd is its last, nothing arrives after End. Text lives in
// session/.
//
// Threads: every function may be called from any thread and none waits for the engine thread. Events are read from an
// EventQueue, which belongs to one reading thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/limits.h"
#include "base/result.h"
#include "constrain/token_constraint.h"
#include "sample/params.h"

namespace pagemill {

using RequestId = uint64_t;

enum class FinishReason { stop, length, cancelled, deadline, error };
std::string_view to_string(FinishReason reason);

class EventQueue;

struct EngineRequest {
  std::string model;                     // empty = the only one loaded
  std::vector<int32_t> prompt;           // token ids, at least one
  SamplingParams sampling;               // already validated
  std::shared_ptr<TokenConstraint> constraint;  // prototype, cloned per choice; null = free
  uint64_t tenant = 0;                   // fairness is between tenants
  uint64_t cache_salt = 0;               // prompts share cached blocks only under the same salt
  int32_t priority = 0;                  // lower runs first, as in vLLM
  TimeNs deadline_ns = 0;                // on the engine's clock; 0 = none
  bool pooled_embedding = false;         // no tokens: the End event is preceded by one EmbeddingEvent
  std::shared_ptr<EventQueue> events;    // where its events go
  uint64_t user_data = 0;                // given back in each event, for the reader to find its stream
};

struct EngineUsage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;             // of the prompt, found in the prefix cache
  int32_t output_tokens = 0;             // over all choices
  TimeNs queued_ns = 0, prefill_ns = 0, decode_ns = 0;
  int32_t preemptions = 0;
};

struct TokenLogprob {
  int32_t token = -1;
  float logprob = 0;
  int32_t rank = 0;
  std::vector<TopLogprob> top;           // as many as were asked for
};

/// Token ids of one event. The usual few lie inside, so that streaming a token touches no heap.
class TokenList {
 public:
  TokenList() = default;
  TokenList(std::initializer_list<int32_t> tokens) { append({tokens.begin(), tokens.size()}); }
  explicit TokenList(std::span<const int32_t> tokens) { append(tokens); }

  void push_back(int32_t token) { append({&token, 1}); }
  void append(std::span<const int32_t> tokens);
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const int32_t* data() const { return size_ <= few_.size() ? few_.data() : many_.data(); }
  const int32_t* begin() const { return data(); }
  const int32_t* end() const { return data() + size_; }
  int32_t operator[](size_t i) const { return data()[i]; }
  int32_t back() const { return data()[size_ - 1]; }
  operator std::span<const int32_t>() const { return {data(), size_}; }

 private:
  std::array<int32_t, 4> few_{};         // all of them while they fit
  std::vector<int32_t> many_;            // all of them once they do not
  size_t size_ = 0;
};

struct TokenEvent {
  int32_t choice = 0;
  TokenList tokens;                      // one, or several that a slow reader let pile up; without the stop token
  std::vector<TokenLogprob> logprobs;    // one per token where asked for, else empty
};
struct PromptLogprobsEvent {
  int32_t first = 1;                     // position of the first entry; position 0 has no log-probability
  std::vector<TokenLogprob> logprobs;
};
struct EmbeddingEvent {
  std::vector<float> values;             // mean over the prompt's normed hidden states, L2-normalised
};
struct ChoiceEndEvent {
  int32_t choice = 0;
  FinishReason reason = FinishReason::stop;
  int32_t stop_token = -1;               // which token ended it, -1 = none
};
struct EndEvent {
  FinishReason reason = FinishReason::stop;  // cancelled, deadline and error concern the whole request
  Error error;                           // with reason error
  EngineUsage usage;
};
struct EngineEvent {
  RequestId request = 0;
  uint64_t user_data = 0;
  std::variant<TokenEvent, PromptLogprobsEvent, EmbeddingEvent, ChoiceEndEvent, EndEvent> body;
};

/// A bounded ring from the engine thread to one reader. The engine never waits on it: where it is full, tokens wait in
/// their sequence and arrive together; a stream with more than limits::kStreamBufferBytes waiting is cancelled.
class EventQueue {
 public:
  /// `wake` is called by the engine at most once per step, after new events were put in; it must not block.
  explicit EventQueue(std::function<void()> wake, size_t capacity = 4096);
  ~EventQueue();

  /// Reader: moves everything that is there to the end of `out`; returns how many.
  size_t drain(std::vector<EngineEvent>& out);
  /// Reader: it will read no more; what still comes is dropped. The requests should be cancelled too.
  void close() { closed_.store(true, std::memory_order_relaxed); }

  /// Engine: false where the ring is full (`event` is untouched then).
  bool push(EngineEvent& event);
  /// Engine, when it goes away: takes the event even where the ring is full. No push() may follow.
  void push_last(EngineEvent event);
  /// Engine: push() would fail.
  bool full() const;
  /// Engine: something was pushed since the last flush.
  bool pushed() const { return pushed_; }
  /// Engine: calls `wake` if anything was pushed since the last flush.
  void flush();

 private:
  std::function<void()> wake_;
  std::vector<EngineEvent> ring_;        // [capacity], a power of two
  alignas(64) std::atomic<uint64_t> head_{0};  // next to read
  alignas(64) std::atomic<uint64_t> tail_{0};  // next to write
  struct Last;                           // a list of push_last()'s events, newest first
  std::atomic<Last*> last_{nullptr};
  std::atomic<bool> closed_{false};
  bool pushed_ = false;                  // engine thread only
};

enum class EngineState { loading, ready, draining, stalled, failed };
std::string_view to_string(EngineState state);

struct EngineModelInfo {
  std::string name;
  int32_t context_max = 0;               // tokens of prompt and answer that a request may have here
  int32_t vocab = 0;
  std::vector<int32_t> stop_tokens;      // end of sequence, end of turn
};

/// A snapshot; counters only grow.
struct EngineStats {
  EngineState state = EngineState::loading;
  double load_progress = 0;              // 0 … 1
  std::string load_phase;                // "reading weights", …
  int32_t running = 0, waiting = 0;
  int64_t waiting_prompt_tokens = 0;
  double kv_usage = 0;                   // live blocks / total
  int32_t kv_blocks_total = 0, kv_blocks_live = 0, kv_blocks_cached = 0;
  uint64_t steps = 0, prompt_tokens = 0, output_tokens = 0, preemptions = 0;
  uint64_t prefix_queries_tokens = 0, prefix_hits_tokens = 0;
  uint64_t finished_stop = 0, finished_length = 0, finished_cancelled = 0, finished_error = 0, rejected = 0;
  TimeNs last_step_end_ns = 0;
  Error failure;                         // with state failed: why
};

class EngineHandle {
 public:
  virtual ~EngineHandle() = default;

  /// Accepts the request, or refuses it at once: invalid_argument, context_too_long, resource_exhausted (a queue bound),
  /// unavailable (loading, draining). After an accepted submit exactly one EndEvent comes.
  virtual Result<RequestId> submit(EngineRequest request) = 0;
  /// Takes effect at the next step, from every state; unknown or ended ids are ignored. The End event still comes.
  virtual void cancel(RequestId request) = 0;
  /// Nobody wants more of this choice (a stop string was found in its text). Takes effect at the next step: it ends with reason stop,
  /// the request with its last choice. Before the choice's first token, and for unknown or ended ones, ignored.
  virtual void end_choice(RequestId request, int32_t choice) = 0;

  virtual std::vector<EngineModelInfo> models() const = 0;
  virtual EngineStats stats() const = 0;
  virtual const Clock& clock() const = 0;

  /// No new requests; running ones go on until `deadline_ns`, then they are cancelled. Returns at once.
  virtual void drain(TimeNs deadline_ns) = 0;
};

}  // namespace pagemill
