#include "api/serving_metrics.h"

#include <fmt/format.h>

namespace pagemill::api {
namespace {

// The bounds are vLLM's: a dashboard's quantiles depend on them.
const std::vector<double> kFirstTokenBounds{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560};
const std::vector<double> kTokenBounds{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
const std::vector<double> kRequestBounds{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const std::vector<double> kLengthBounds{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
const std::vector<double> kChoiceBounds{1, 2, 5, 10, 20};
const std::vector<double> kHttpBounds{0.1, 0.5, 1};

MetricLabels with(MetricLabels labels, std::string name, std::string value) {
  labels.emplace_back(std::move(name), std::move(value));
  return labels;
}

std::string_view finished_reason(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::error: return "error";
    case FinishReason::cancelled:
    case FinishReason::deadline: return "abort";
  }
  return "error";
}

double seconds_of(TimeNs ns) { return static_cast<double>(ns) / static_cast<double>(kNsPerSecond); }

/// Registers what mirrors the engine's own numbers.
void mirror(MetricRegistry& registry, const EngineHandle& engine, const MetricLabels& labels) {
  Gauge& running = registry.gauge("vllm:num_requests_running", "Number of requests in model execution batches.", labels);
  Gauge& waiting = registry.gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", labels);
  Gauge& kv_usage = registry.gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", labels);
  Gauge& kv_blocks = registry.gauge("pagemill:kv_blocks_total", "Blocks of the KV pool.", labels);
  Gauge& kv_live = registry.gauge("pagemill:kv_blocks_live", "Blocks of the KV pool that requests hold.", labels);
  Gauge& waiting_tokens = registry.gauge("pagemill:waiting_prompt_tokens", "Prompt tokens of the requests that wait.", labels);
  Gauge& ready = registry.gauge("pagemill:ready", "1 once the model is loaded and steps are made.", labels);
  Counter& prompt = registry.counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.", labels);
  Counter& generation = registry.counter("vllm:generation_tokens_total", "Number of generation tokens processed.", labels);
  Counter& preemptions = registry.counter("vllm:num_preemptions_total", "Cumulative number of preemption from the engine.", labels);
  Counter& queries = registry.counter("vllm:prefix_cache_queries_total", "Prefix cache queries, in terms of number of queried tokens.", labels);
  Counter& hits = registry.counter("vllm:prefix_cache_hits_total", "Prefix cache hits, in terms of number of cached tokens.", labels);
  Counter& rejected = registry.counter("pagemill:requests_rejected_total", "Requests refused because the queue was full.", labels);
  Histogram& iteration = registry.histogram("vllm:iteration_tokens_total", "Number of tokens per engine step.",
                                            {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}, labels);
  registry.on_collect([&engine, &running, &waiting, &kv_usage, &kv_blocks, &kv_live, &waiting_tokens, &ready, &prompt, &generation, &preemptions, &queries,
                       &hits, &rejected, &iteration, seen = EngineStats{}]() mutable {
    const EngineStats stats = engine.stats();
    running.set(stats.running);
    waiting.set(stats.waiting);
    kv_usage.set(stats.kv_usage);
    kv_blocks.set(stats.kv_blocks_total);
    kv_live.set(stats.kv_blocks_live);
    waiting_tokens.set(static_cast<double>(stats.waiting_prompt_tokens));
    ready.set(stats.state == EngineState::ready ? 1 : 0);
    prompt.advance_to(stats.prompt_tokens);
    generation.advance_to(stats.output_tokens);
    preemptions.advance_to(stats.preemptions);
    queries.advance_to(stats.prefix_queries_tokens);
    hits.advance_to(stats.prefix_hits_tokens);
    rejected.advance_to(stats.rejected);
    // The engine counts steps and tokens, not each step's tokens: the steps since the last scrape enter at their mean.
    if (const uint64_t steps = stats.steps - seen.steps; steps > 0) {
      const uint64_t tokens = stats.prompt_tokens + stats.output_tokens - seen.prompt_tokens - seen.output_tokens;
      iteration.observe(static_cast<double>(tokens) / static_cast<double>(steps), steps);
    }
    seen = stats;
  });
}

}  // namespace

ServingMetrics::ServingMetrics(MetricRegistry& registry, const EngineHandle& engine, const std::string& model_name)
    : time_to_first_token(registry.histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", kFirstTokenBounds, {{"model_name", model_name}, {"engine", "0"}})),
      inter_token_latency(registry.histogram("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", kTokenBounds, {{"model_name", model_name}, {"engine", "0"}})),
      registry_(registry),
      labels_({{"model_name", model_name}, {"engine", "0"}}),
      time_per_output_token_(registry.histogram("vllm:request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request.", kTokenBounds, labels_)),
      e2e_latency_(registry.histogram("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", kRequestBounds, labels_)),
      queue_time_(registry.histogram("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", kRequestBounds, labels_)),
      inference_time_(registry.histogram("vllm:request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", kRequestBounds, labels_)),
      prefill_time_(registry.histogram("vllm:request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", kRequestBounds, labels_)),
      decode_time_(registry.histogram("vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", kRequestBounds, labels_)),
      prompt_tokens_(registry.histogram("vllm:request_prompt_tokens", "Number of prefill tokens processed.", kLengthBounds, labels_)),
      generation_tokens_(registry.histogram("vllm:request_generation_tokens", "Number of generation tokens processed.", kLengthBounds, labels_)),
      params_n_(registry.histogram("vllm:request_params_n", "Histogram of the n request parameter.", kChoiceBounds, labels_)),
      params_max_tokens_(registry.histogram("vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.", kLengthBounds, labels_)),
      max_generation_tokens_(registry.histogram("vllm:request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.", kLengthBounds, labels_)) {
  for (const FinishReason reason : {FinishReason::stop, FinishReason::length, FinishReason::cancelled, FinishReason::error})
    registry.counter("vllm:request_success_total", "Count of successfully processed requests.", with(labels_, "finished_reason", std::string(finished_reason(reason))));
  mirror(registry, engine, labels_);
}

void ServingMetrics::count_http(std::string_view handler, std::string_view method, int status, double seconds) {
  const MetricLabels labels{{"handler", std::string(handler)}, {"method", std::string(method)}, {"status", fmt::format("{}xx", status / 100)}};
  registry_.counter("http_requests_total", "Total number of requests by method, status and handler.", labels).add();
  registry_.histogram("http_request_duration_seconds", "Latency with only few buckets by handler.", kHttpBounds, {labels[0], labels[1]}).observe(seconds);
}

void ServingMetrics::count_started(int32_t n, int32_t max_tokens) {
  params_n_.observe(n);
  if (max_tokens > 0) params_max_tokens_.observe(max_tokens);
}

void ServingMetrics::count_finished(FinishReason reason, const EngineUsage& usage, double seconds) {
  registry_.counter("vllm:request_success_total", "", with(labels_, "finished_reason", std::string(finished_reason(reason)))).add();
  e2e_latency_.observe(seconds);
  queue_time_.observe(seconds_of(usage.queued_ns));
  prefill_time_.observe(seconds_of(usage.prefill_ns));
  decode_time_.observe(seconds_of(usage.decode_ns));
  inference_time_.observe(seconds_of(usage.prefill_ns + usage.decode_ns));
  prompt_tokens_.observe(usage.prompt_tokens);
  generation_tokens_.observe(usage.output_tokens);
  max_generation_tokens_.observe(usage.output_tokens);
  if (usage.output_tokens > 1) time_per_output_token_.observe(seconds_of(usage.decode_ns) / (usage.output_tokens - 1));
}

}  // namespace pagemill::api
