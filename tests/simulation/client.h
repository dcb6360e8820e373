// Client: one request of a world, and everything that its reader may expect.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "engine/handle.h"
#include "simulation/fake_device.h"

namespace pagemill::simulation {

inline constexpr int32_t kLengthMax = 2000;
inline constexpr int32_t kContextMax = 2 * kLengthMax;
inline constexpr int32_t kStopToken = 0;

struct ClientPlan {
  EngineRequest request;
  std::optional<TimeNs> cancel_after_ns;       // of its arrival
  std::optional<int32_t> cancel_at_token;
};
/// A request under a tenant and priority of the machine, and when its client gives up.
ClientPlan random_request(SplitMix64& random, const FakeModel& model, int32_t choices_max, int32_t tenants, int32_t priorities);

class Client {
 public:
  Client(const FakeModel& model, RequestId id, ClientPlan plan, TimeNs arrival_ns);

  /// Checks one event; a violation in words, or empty. `now_ns` is not before the event was made.
  std::string use(const EngineEvent& event, TimeNs now_ns);

  bool ended() const { return end_.has_value(); }
  const EndEvent& end() const { return *end_; }
  bool started() const { return end_->usage.prefill_ns > 0; }
  TimeNs start_ns() const { return arrival_ns_ + end_->usage.queued_ns; }
  const EngineRequest& request() const { return plan_.request; }
  const ClientPlan& plan() const { return plan_; }
  int32_t tokens_seen() const { return tokens_seen_; }
  TimeNs arrival_ns() const { return arrival_ns_; }
  void cancelled() { cancelled_ = true; }

 private:
  struct Choice {
    Oracle oracle;
    int32_t tokens = 0;
    bool ended = false;
  };
  std::string use_tokens(const TokenEvent& event);
  std::string use_choice_end(const ChoiceEndEvent& event);
  std::string use_scores(const PromptLogprobsEvent& event);
  std::string use_embedding(const EmbeddingEvent& event);
  std::string use_end(const EndEvent& event, TimeNs now_ns);
  int32_t expected_token(const Choice& choice, int32_t index) const;
  bool is_stop(int32_t token) const;
  void start_choices();

  const FakeModel* model_;
  RequestId id_;
  ClientPlan plan_;
  TimeNs arrival_ns_;
  std::vector<Choice> choices_;
  std::optional<Oracle> scorer_;
  int32_t scored_ = 0;
  int32_t tokens_seen_ = 0;
  bool embedded_ = false, cancelled_ = false;
  std::optional<EndEvent> end_;
};

}  // namespace pagemill::simulation
