// How much a long prompt disturbs answers under way: the inter-token times of running streams without it and while it is read.
// Target: p99 with ≤ 3 × p99 without + one --max-step-ms.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "engine/engine.h"

namespace pagemill {
namespace {

struct Options {
  std::string model;
  int32_t streams = 8;
  int32_t prompt = 0;                    // 0 = the whole context
  double quiet_s = 10;
  double max_step_ms = 200;
  std::string isa = "auto";
  int threads = 0;
};

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {}

  Result<int> run() {
    PM_ASSIGN(auto backend, make_cpu_backend(options_.isa, options_.threads));
    engine_ = make_engine({.model = options_.model, .max_num_seqs = options_.streams + 1, .max_num_batched_tokens = 2048,
                           .max_step_ms = options_.max_step_ms, .prefix_caching = false},
                          std::move(backend));
    PM_TRY(wait_until_loaded(*engine_));
    const EngineModelInfo info = engine_->models().at(0);
    const int32_t prompt = options_.prompt > 0 ? options_.prompt : info.context_max - 1;
    for (int32_t i = 0; i < options_.streams; ++i) {
      PM_ASSIGN(const RequestId id, submit(8, info.context_max - 8));
      last_[id] = 0;
    }
    until([&] { return std::all_of(last_.begin(), last_.end(), [](const auto& each) { return each.second != 0; }); });
    const std::vector<double> quiet = measure([&, end = now() + static_cast<TimeNs>(options_.quiet_s * 1e9)] { return now() >= end; });
    const TimeNs submitted = now();
    PM_ASSIGN(long_, submit(prompt, 1));
    const std::vector<double> busy = measure([&] { return long_ended_; });
    const double seconds = static_cast<double>(now() - submitted) * 1e-9;

    const double p99_quiet = percentile(quiet, 0.99), p99_busy = percentile(busy, 0.99), bound = 3 * p99_quiet + options_.max_step_ms;
    fmt::print("model               {}\nstreams             {}\nprompt tokens       {} read in {:.1f} s\n", info.name, options_.streams, prompt, seconds);
    fmt::print("inter-token, alone  p50 {:7.1f} ms  p99 {:7.1f} ms  ({} intervals)\n", percentile(quiet, 0.5), p99_quiet, quiet.size());
    fmt::print("inter-token, with   p50 {:7.1f} ms  p99 {:7.1f} ms  ({} intervals)\n", percentile(busy, 0.5), p99_busy, busy.size());
    if (quiet.size() < 200 || busy.size() < 200) {
      fmt::print("INVALID: fewer than 200 intervals do not show a p99\n");
      return 2;
    }
    fmt::print("bound               3 × {:.1f} + {:.0f} = {:.1f} ms: {}\n", p99_quiet, options_.max_step_ms, bound, p99_busy <= bound ? "kept" : "BROKEN");
    return p99_busy <= bound ? 0 : 1;
  }

 private:
  static TimeNs now() { return SteadyClock::instance().now_ns(); }
  static double percentile(std::vector<double> values, double share) {
    if (values.empty()) return 0;
    const auto at = values.begin() + static_cast<ptrdiff_t>(share * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), at, values.end());
    return *at;
  }
  Result<RequestId> submit(int32_t prompt, int32_t output) {
    EngineRequest request;
    for (int32_t i = 0; i < prompt; ++i) request.prompt.push_back(100 + i * 37 % 9000);
    request.sampling.max_tokens = output;
    request.sampling.min_tokens = output;
    request.events = queue_;
    return engine_->submit(std::move(request));
  }
  /// Reads events until `over`; the intervals between tokens of the running streams, in ms.
  template <class Over>
  std::vector<double> measure(Over over) {
    intervals_.clear();
    until(over);
    return intervals_;
  }
  template <class Over>
  void until(Over over) {
    std::vector<EngineEvent> events;
    while (!over()) {
      {
        std::unique_lock lock(mutex_);
        woken_.wait_for(lock, std::chrono::milliseconds(20), [&] { return std::exchange(news_, false); });
      }
      events.clear();
      queue_->drain(events);
      for (const EngineEvent& event : events) {
        if (event.request == long_) long_ended_ |= std::holds_alternative<EndEvent>(event.body);
        const auto last = last_.find(event.request);
        if (last == last_.end() || !std::holds_alternative<TokenEvent>(event.body)) continue;
        if (last->second != 0) intervals_.push_back(static_cast<double>(now() - last->second) * 1e-6);
        last->second = now();
      }
    }
  }

  const Options options_;
  std::mutex mutex_;
  std::condition_variable woken_;
  bool news_ = false;
  std::shared_ptr<EventQueue> queue_ = std::make_shared<EventQueue>([this] {
    { const std::scoped_lock lock(mutex_); news_ = true; }
    woken_.notify_one();
  });
  std::map<RequestId, TimeNs> last_;     // of the running streams: when their last token came
  std::vector<double> intervals_;
  RequestId long_ = 0;
  bool long_ended_ = false;
  std::unique_ptr<EngineHandle> engine_; // last: its thread wakes us
};

}  // namespace
}  // namespace pagemill

int main(int argc, char** argv) {
  pagemill::Options options;
  CLI::App app("Measure how much a long prompt disturbs answers under way.");
  app.add_option("model", options.model, "A GGUF file")->required();
  app.add_option("--streams", options.streams)->capture_default_str();
  app.add_option("--prompt", options.prompt, "Tokens of the long prompt (default: the whole context)");
  app.add_option("--quiet", options.quiet_s, "Seconds to measure without it")->capture_default_str();
  app.add_option("--max-step-ms", options.max_step_ms)->capture_default_str();
  app.add_option("--isa", options.isa, "As of pagemill serve")->capture_default_str();
  app.add_option("--threads", options.threads, "0 = all that may be used")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto status = pagemill::Bench(options).run();
  if (!status) fmt::print(stderr, "{}\n", status.error().message);
  return status.value_or(1);
}
