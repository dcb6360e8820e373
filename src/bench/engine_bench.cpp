#include "bench/engine_bench.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include <fmt/format.h>

#include "base/rng.h"

namespace pagemill {
namespace {

constexpr int kRepeatMin = 3;
constexpr double kSpreadMax = 0.20;
constexpr double kOverLimit = 1.02;  // the limit is measured too
constexpr double kStuckSeconds = 600;

double seconds_between(TimeNs from, TimeNs to) { return static_cast<double>(to - from) / kNsPerSecond; }

/// What one stream did, in the reader's time.
struct Stream {
  std::unique_ptr<Session> session;
  std::vector<std::pair<TimeNs, int>> arrivals;  // when, how many tokens
  TimeNs ended = 0;
  EngineUsage usage;
};

struct Run {
  TimeNs start = 0;
  std::vector<Stream> streams;

  TimeNs last_first_token() const {
    TimeNs last = start;
    for (const Stream& stream : streams) last = std::max(last, stream.arrivals.front().first);
    return last;
  }
  TimeNs first_end() const {
    TimeNs first = streams.front().arrivals.back().first;
    for (const Stream& stream : streams) first = std::min(first, stream.arrivals.back().first);
    return first;
  }
};

/// Tokens per second between the last stream's first token and the first stream's last one.
double decode_rate(const Run& run) {
  const TimeNs from = run.last_first_token(), to = run.first_end();
  int64_t tokens = 0;
  for (const Stream& stream : run.streams)
    for (const auto& [at, count] : stream.arrivals)
      if (at > from && at <= to) tokens += count;
  return to > from ? static_cast<double>(tokens) / seconds_between(from, to) : 0;
}

/// Prompt tokens that were computed, not found in the cache, per second.
double prefill_rate(const Run& run) {
  int64_t tokens = 0;
  for (const Stream& stream : run.streams) tokens += stream.usage.prompt_tokens - stream.usage.cached_tokens;
  return static_cast<double>(tokens) / seconds_between(run.start, run.last_first_token());
}

}  // namespace

std::string distrust(const Sample& sample, double limit) {
  const int runs = static_cast<int>(sample.runs.size());
  if (runs < kRepeatMin) return fmt::format("{} run{}; it takes {} to see a spread", runs, runs == 1 ? "" : "s", kRepeatMin);
  if (sample.median() <= 0) return "nothing was measured";
  if (sample.spread() > kSpreadMax) return fmt::format("the runs differ by {:.0f} %, more than {:.0f} %", sample.spread() * 100, kSpreadMax * 100);
  if (sample.median() > kOverLimit * limit) return fmt::format("{:.2f} times what the machine allows", sample.median() / limit);
  return {};
}

/// Drives sessions and waits for their events on the calling thread.
struct EngineBench::Runner {
  struct Waker {
    std::mutex mutex;
    std::condition_variable changed;
    bool set = false;
  };

  EngineHandle& engine;
  const TextModel& text;
  EngineModelInfo model;
  float temperature;
  SplitMix64 rng;
  std::shared_ptr<Waker> waker = std::make_shared<Waker>();
  std::shared_ptr<EventQueue> events;
  uint64_t first_id = 1;  // user_data of the run's first stream: late events of former runs are told apart

  Runner(EngineHandle& e, const TextModel& t, EngineModelInfo m, float temp, uint64_t seed)
      : engine(e), text(t), model(std::move(m)), temperature(temp), rng(seed) {
    events = std::make_shared<EventQueue>([w = waker] {
      { std::lock_guard lock(w->mutex); w->set = true; }
      w->changed.notify_one();
    });
  }

  std::vector<int32_t> random_tokens(int count) {
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(rng.below(model.vocab));
    return tokens;
  }

  Result<Run> run(const std::vector<std::vector<int32_t>>& prompts, int decode) {
    Run run;
    std::vector<PreparedRequest> prepared;
    for (const std::vector<int32_t>& prompt : prompts) {
      SessionRequest request;
      request.prompt = TokenPrompt{prompt};
      request.sampling.temperature = temperature;
      request.sampling.max_tokens = decode;
      request.sampling.ignore_eos = true;
      request.sampling.seed = rng();
      PM_ASSIGN(PreparedRequest ready, prepare(text, model, std::move(request)));
      prepared.push_back(std::move(ready));
    }
    run.start = SteadyClock::instance().now_ns();
    const uint64_t base = first_id;
    first_id += prepared.size();
    for (size_t i = 0; i < prepared.size(); ++i) {
      PM_ASSIGN(auto session, Session::start(engine, text, std::move(prepared[i]), events, base + i));
      run.streams.push_back({std::move(session), {}, 0, {}});
    }
    PM_TRY(wait_for(run, base));
    for (const Stream& stream : run.streams)
      if (stream.arrivals.empty()) return fail(ErrorCode::internal, "A stream ended without a token.");
    return run;
  }

  Result<void> wait_for(Run& run, uint64_t base) {
    size_t left = run.streams.size();
    std::vector<EngineEvent> raw;
    while (left > 0) {
      {
        std::unique_lock lock(waker->mutex);
        if (!waker->changed.wait_for(lock, std::chrono::duration<double>(kStuckSeconds), [&] { return waker->set; }))
          return fail(ErrorCode::deadline_exceeded, fmt::format("The engine gave no token for {} s.", kStuckSeconds));
        waker->set = false;
      }
      raw.clear();
      events->drain(raw);
      const TimeNs now = SteadyClock::instance().now_ns();
      for (EngineEvent& event : raw) {
        if (event.user_data < base || event.user_data >= base + run.streams.size()) continue;
        PM_ASSIGN(const bool ended, take(run.streams[event.user_data - base], std::move(event), now));
        left -= ended ? 1 : 0;
      }
    }
    return {};
  }

  /// True when the stream has ended.
  static Result<bool> take(Stream& stream, EngineEvent event, TimeNs now) {
    std::vector<SessionEvent> out;
    stream.session->on_event(std::move(event), out);
    bool ended = false;
    for (const SessionEvent& item : out) {
      if (const auto* piece = std::get_if<TextEvent>(&item); piece != nullptr && !piece->tokens.empty())
        stream.arrivals.emplace_back(now, static_cast<int>(piece->tokens.size()));
      const auto* end = std::get_if<SessionEnd>(&item);
      if (end == nullptr) continue;
      if (end->reason == FinishReason::error) return tl::unexpected(end->error);
      stream.usage = end->usage;
      ended = true;
    }
    return ended;
  }
};

EngineBench::EngineBench(EngineHandle& engine, const TextModel& text, EngineModelInfo model, EngineBenchOptions options)
    : options_(std::move(options)), runner_(std::make_unique<Runner>(engine, text, std::move(model), options_.temperature, options_.seed)) {
  for (const int prompt : options_.prompts) rows_.push_back({{BenchTest::prefill, prompt}, {}});
  for (const int streams : options_.streams) rows_.push_back({{BenchTest::decode, streams}, {}});
}

EngineBench::~EngineBench() = default;

Result<void> EngineBench::warm_up() {
  PM_TRY(runner_->run({runner_->random_tokens(64)}, std::min(options_.decode, 8)));
  return {};
}

Result<void> EngineBench::run_once() {
  for (EngineBenchRow& row : rows_) {
    PM_ASSIGN(const double rate, row.test.kind == BenchTest::prefill ? prefill_once(row.test.size) : decode_once(row.test.size));
    row.speed.tokens_per_s.runs.push_back(rate);
  }
  return {};
}

Result<double> EngineBench::prefill_once(int prompt) {
  // The context that the prompt continues: its KV is in the prefix cache once it has run.
  std::vector<int32_t> tokens = runner_->random_tokens(options_.depth);
  if (options_.depth > 0) PM_TRY(runner_->run({tokens}, 1));
  const std::vector<int32_t> fresh = runner_->random_tokens(prompt);
  tokens.insert(tokens.end(), fresh.begin(), fresh.end());
  PM_ASSIGN(const Run run, runner_->run({std::move(tokens)}, 1));
  return prefill_rate(run);
}

Result<double> EngineBench::decode_once(int streams) {
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < streams; ++i) prompts.push_back(runner_->random_tokens(std::max(options_.depth, 1)));
  PM_ASSIGN(const Run run, runner_->run(prompts, options_.decode));
  return decode_rate(run);
}

void EngineBench::judge(const MachineLimits& machine, const ModelWork& work, double read_in_cache) {
  MachineLimits cached = machine;
  cached.read_all_threads.best = std::max(read_in_cache, machine.read_all_threads.best);
  MachineLimits held = machine;
  held.float16_ops.best = machine.float16_held.median;
  const double context = options_.depth + options_.decode / 2.0;
  for (EngineBenchRow& row : rows_) {
    const bool decode = row.test.kind == BenchTest::decode;
    row.speed.limit = decode ? decode_limit(machine, work, row.test.size, context) : prefill_limit(machine, work, row.test.size, options_.depth);
    if (held.float16_ops.best > 0)
      row.speed.limit_held = decode ? decode_limit(held, work, row.test.size, context) : prefill_limit(held, work, row.test.size, options_.depth);
    row.speed.invalid = distrust(row.speed.tokens_per_s, decode ? decode_limit(cached, work, row.test.size, context) : row.speed.limit);
  }
}

}  // namespace pagemill
