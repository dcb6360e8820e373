// The metrics of serving under vLLM's names and bucket bounds, so that its dashboards work on this server.
#pragma once

#include <string>

#include "base/metrics.h"
#include "session/session.h"

namespace pagemill::api {

/// References into a registry. Any thread.
class ServingMetrics {
 public:
  /// Mirrors `engine`'s counters at each exposition; both must outlive the registry's last one.
  ServingMetrics(MetricRegistry& registry, const EngineHandle& engine, const std::string& model_name);

  void count_http(std::string_view handler, std::string_view method, int status, double seconds);
  /// The start of a request that passed validation.
  void count_started(int32_t n, int32_t max_tokens);
  /// Its end, once per engine request.
  void count_finished(FinishReason reason, const EngineUsage& usage, double seconds);

  Histogram& time_to_first_token;
  Histogram& inter_token_latency;

 private:
  MetricRegistry& registry_;
  MetricLabels labels_;
  Histogram& time_per_output_token_;
  Histogram& e2e_latency_;
  Histogram& queue_time_;
  Histogram& inference_time_;
  Histogram& prefill_time_;
  Histogram& decode_time_;
  Histogram& prompt_tokens_;
  Histogram& generation_tokens_;
  Histogram& params_n_;
  Histogram& params_max_tokens_;
  Histogram& max_generation_tokens_;
};

}  // namespace pagemill::api
