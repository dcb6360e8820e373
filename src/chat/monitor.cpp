#include "chat/monitor.h"

#include "chat/store.h"

namespace pagemill::chat {
namespace {

constexpr size_t kSamplesKept = 300;

json::value or_null(const std::optional<double>& value) { return value ? json::value(*value) : json::value(nullptr); }

}  // namespace

Monitor::Monitor(EngineHandle& engine, EventHub& hub) : engine_(engine), hub_(hub) {}

void Monitor::sample() {
  const MachineSample machine = sampler_.sample();
  const EngineStats stats = engine_.stats();
  const TimeNs now = SteadyClock::instance().now_ns();
  const double seconds = before_ns_ ? static_cast<double>(now - before_ns_) / kNsPerSecond : 0;
  const auto rate = [&](uint64_t total, uint64_t then) { return seconds > 0 ? static_cast<double>(total - then) / seconds : 0.0; };
  const uint64_t asked = stats.prefix_queries_tokens - before_.prefix_queries_tokens;
  json::array gpus;
  for (const GpuSample& gpu : machine.gpus)
    gpus.push_back(json::object{{"index", gpu.index}, {"utilization", or_null(gpu.utilization)}, {"memory_used", gpu.memory_used_bytes}, {"memory_total", gpu.memory_total_bytes}, {"power_w", or_null(gpu.power_w)}, {"temperature_c", or_null(gpu.temperature_c)}});
  json::object sample{{"t_ms", now_ms()},
                      {"cpu", machine.cpu_utilization},
                      {"memory_used", machine.memory_used_bytes},
                      {"memory_total", machine.memory_total_bytes},
                      {"rss", machine.process_rss_bytes},
                      {"kv_usage", stats.kv_usage},
                      {"running", stats.running},
                      {"waiting", stats.waiting},
                      {"prompt_tokens_per_second", rate(stats.prompt_tokens, before_.prompt_tokens)},
                      {"answer_tokens_per_second", rate(stats.output_tokens, before_.output_tokens)},
                      {"prefix_hit_rate", asked && seconds > 0 ? json::value(static_cast<double>(stats.prefix_hits_tokens - before_.prefix_hits_tokens) / static_cast<double>(asked)) : json::value(nullptr)},
                      {"gpus", std::move(gpus)}};
  before_ = stats;
  before_ns_ = now;
  if (hub_.anybody_live()) hub_.publish_live(sample);
  std::lock_guard lock(mutex_);
  samples_.push_back(std::move(sample));
  if (samples_.size() > kSamplesKept) samples_.pop_front();
}

json::object Monitor::machine_json() const {
  const MachineInfo& info = sampler_.info();
  json::array gpus, samples;
  for (const GpuInfo& gpu : info.gpus) gpus.push_back(json::object{{"index", gpu.index}, {"name", gpu.name}, {"memory_total", gpu.memory_total_bytes}});
  {
    std::lock_guard lock(mutex_);
    for (const json::object& one : samples_) samples.push_back(one);
  }
  return {{"cpu", json::object{{"name", info.cpu_name}, {"threads", info.cpu_threads}}}, {"memory_total", info.memory_total_bytes}, {"gpus", std::move(gpus)}, {"samples", std::move(samples)}};
}

}  // namespace pagemill::chat
