// EngineThread on the fake device: many threads submit, cancel, read and ask at the same time.
#include "engine/engine_thread.h"

#include <sys/resource.h>

#include "base/rng.h"
#include "simulation/fake_device.h"

namespace pagemill {
namespace {

using simulation::FakeDevice;
using simulation::FakeDeviceConfig;

constexpr TimeNs kStallNs = 10 * kNsPerSecond;

/// Holds finish() back while told to.
class Gate final : public StepRunner {
 public:
  Gate(FakeDeviceConfig config, ManualClock& clock) : device_(config, clock) {}
  Result<Ticket> begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) override {
    return device_.begin(inputs, copies, extras);
  }
  Result<StepResult> finish(Ticket ticket) override {
    reached.store(true);
    while (closed.load()) std::this_thread::yield();
    return device_.finish(ticket);
  }
  int tickets_max() const override { return device_.tickets_max(); }

  std::atomic<bool> closed{false}, reached{false};

 private:
  FakeDevice device_;
};

struct EngineThreadTest : testing::Test {
  ManualClock clock{1};
  FakeDeviceConfig device{.model = {.vocab = 512, .groups = {{.blocks = 128}}}, .tickets = 2};
  Gate* gate = nullptr;                    // valid while the engine is

  std::unique_ptr<EngineThread> make(int32_t queued_max = 4096) {
    std::atomic<Gate*> made{nullptr};
    auto engine = std::make_unique<EngineThread>(
        [this, queued_max, &made](LoadReport& report) -> Result<EngineParts> {
          report.phase("making believe");
          EngineParts parts;
          auto runner = std::make_unique<Gate>(device, clock);
          made.store(runner.get());
          parts.runner = std::move(runner);
          parts.core = {.scheduler = {.max_num_seqs = 8, .max_num_batched_tokens = 64}, .blocks = {.groups = device.model.groups}, .hidden = 1};
          parts.admission = {.model = {.name = "fake", .context_max = 512, .vocab = 512, .stop_tokens = {0}},
                             .max_num_seqs = 8, .queued_requests_max = queued_max};
          return parts;
        },
        kStallNs, clock);
    while (engine->stats().state == EngineState::loading) std::this_thread::yield();
    gate = made.load();
    return engine;
  }
  static EngineRequest request(std::shared_ptr<EventQueue> queue, uint64_t seed, int32_t max_tokens = 30) {
    EngineRequest r;
    r.prompt.assign(1 + seed % 60, static_cast<int32_t>(1 + seed % 500));
    r.sampling.max_tokens = max_tokens;
    r.sampling.seed = seed;
    r.events = std::move(queue);
    return r;
  }
  /// Reads until `ends` requests have ended; how often each did, and why.
  static std::map<RequestId, std::vector<EndEvent>> read_ends(EventQueue& queue, size_t ends) {
    std::map<RequestId, std::vector<EndEvent>> seen;
    std::vector<EngineEvent> events;
    while (seen.size() < ends) {
      events.clear();
      queue.drain(events);
      for (const EngineEvent& event : events) {
        if (const auto* end = std::get_if<EndEvent>(&event.body)) seen[event.request].push_back(*end);
      }
      if (events.empty()) std::this_thread::yield();
    }
    return seen;
  }
};

TEST_F(EngineThreadTest, ManyThreadsEachGetTheirEnds) {
  auto engine = make();
  std::atomic<bool> over{false};
  std::thread asker([&] {
    while (!over.load()) {
      const EngineStats stats = engine->stats();
      EXPECT_LE(stats.kv_blocks_live, stats.kv_blocks_total);
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> clients;
  for (uint64_t client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      SplitMix64 random(client);
      auto queue = std::make_shared<EventQueue>(nullptr, 16);
      std::set<RequestId> ids;
      for (int i = 0; i < 60; ++i) {
        const auto id = engine->submit(request(queue, random()));
        ASSERT_TRUE(id) << id.error().message;
        ids.insert(*id);
        if (random.below(3) == 0) engine->cancel(*id);
      }
      const auto ends = read_ends(*queue, ids.size());
      for (const auto& [id, each] : ends) {
        EXPECT_TRUE(ids.contains(id));
        EXPECT_EQ(each.size(), 1u);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  over = true;
  asker.join();
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.finished_stop + stats.finished_length + stats.finished_cancelled, 240u);
}

TEST_F(EngineThreadTest, WakesAReaderAtMostOncePerStep) {
  auto engine = make();
  std::atomic<int> wakes{0};
  auto queue = std::make_shared<EventQueue>([&] { ++wakes; });
  for (uint64_t i = 0; i < 6; ++i) ASSERT_TRUE(engine->submit(request(queue, i)));
  read_ends(*queue, 6);
  engine.reset();
  EXPECT_GT(wakes.load(), 0);
  EXPECT_LE(wakes.load(), 6 * 32 + 1);
}

TEST_F(EngineThreadTest, DestroyingTheEngineEndsEveryRequest) {
  auto engine = make();
  auto queue = std::make_shared<EventQueue>(nullptr, 4);
  gate->closed = true;
  for (uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(engine->submit(request(queue, i, 400)));
  while (!gate->reached.load()) std::this_thread::yield();
  gate->closed = false;
  engine.reset();
  const auto ends = read_ends(*queue, 40);
  for (const auto& [id, each] : ends) EXPECT_EQ(each.size(), 1u);
}

TEST_F(EngineThreadTest, DrainingRefusesAndFinishesWhatRuns) {
  auto engine = make();
  auto queue = std::make_shared<EventQueue>(nullptr);
  for (uint64_t i = 1; i <= 20; ++i) ASSERT_TRUE(engine->submit(request(queue, i)));
  engine->drain(clock.now_ns() + 3600 * kNsPerSecond);
  EXPECT_EQ(engine->stats().state, EngineState::draining);
  const auto refused = engine->submit(request(queue, 99));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unavailable);
  for (const auto& [id, each] : read_ends(*queue, 20)) EXPECT_NE(each.at(0).reason, FinishReason::cancelled);
}

TEST_F(EngineThreadTest, DrainDeadlineCancelsTheRest) {
  auto engine = make();
  auto queue = std::make_shared<EventQueue>(nullptr);
  gate->closed = true;
  EngineRequest endless = request(queue, 1, 450);
  endless.sampling.min_tokens = 450;
  ASSERT_TRUE(engine->submit(endless));
  while (!gate->reached.load()) std::this_thread::yield();
  engine->drain(clock.now_ns() + 1);
  gate->closed = false;
  EXPECT_EQ(read_ends(*queue, 1).begin()->second.at(0).reason, FinishReason::cancelled);
}

TEST_F(EngineThreadTest, AStepThatDoesNotComeBackIsAStall) {
  auto engine = make();
  auto queue = std::make_shared<EventQueue>(nullptr);
  gate->closed = true;
  ASSERT_TRUE(engine->submit(request(queue, 3)));
  while (!gate->reached.load()) std::this_thread::yield();
  EXPECT_EQ(engine->stats().state, EngineState::ready);
  clock.advance_ns(kStallNs + 1);
  EXPECT_EQ(engine->stats().state, EngineState::stalled);
  EXPECT_EQ(engine->submit(request(queue, 4)).error().code, ErrorCode::unavailable);
  gate->closed = false;
  read_ends(*queue, 1);
  clock.advance_ns(kStallNs + 1);            // idle for long is not stalled
  while (engine->stats().state == EngineState::stalled) std::this_thread::yield();
  EXPECT_TRUE(engine->submit(request(queue, 5)));
}

TEST_F(EngineThreadTest, AFailedLoadSaysWhy) {
  EngineThread engine([](LoadReport&) -> Result<EngineParts> { return fail(ErrorCode::invalid_file, "no such luck"); }, kStallNs, clock);
  while (engine.stats().state == EngineState::loading) std::this_thread::yield();
  EXPECT_EQ(engine.stats().state, EngineState::failed);
  EXPECT_EQ(engine.stats().failure.message, "no such luck");
  EXPECT_EQ(engine.submit(request(std::make_shared<EventQueue>(nullptr), 1)).error().code, ErrorCode::unavailable);
  EXPECT_TRUE(engine.models().empty());
}

TEST_F(EngineThreadTest, WhileLoadingNothingIsTaken) {
  std::atomic<bool> go{false};
  EngineThread engine(
      [&](LoadReport& report) -> Result<EngineParts> {
        report.phase("thinking");
        while (!go.load() && report.progress(0.5)) std::this_thread::yield();
        return fail(ErrorCode::cancelled, "enough");
      },
      kStallNs, clock);
  while (engine.stats().load_progress == 0) std::this_thread::yield();
  EXPECT_EQ(engine.stats().load_phase, "thinking");
  EXPECT_EQ(engine.submit(request(std::make_shared<EventQueue>(nullptr), 1)).error().code, ErrorCode::unavailable);
}  // the destructor ends the load by its next progress report

TEST_F(EngineThreadTest, AnIdleEngineTakesNoProcessorTime) {
  auto engine = make();
  auto queue = std::make_shared<EventQueue>(nullptr);
  ASSERT_TRUE(engine->submit(request(queue, 3)));
  read_ends(*queue, 1);
  const auto cpu_ns = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * kNsPerSecond + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
  };
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const TimeNs before = cpu_ns();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_LT(cpu_ns() - before, 5 * kNsPerMs) << "1 % of a core";
}

TEST(EventQueueTest, KeepsOrderAcrossTheRingAndWhatIsLeftBehind) {
  EventQueue queue(nullptr, 4);
  const auto event = [](RequestId id) { return EngineEvent{.request = id, .user_data = 0, .body = TokenEvent{.choice = 0, .tokens = {1, 2, 3, 4, 5}, .logprobs = {}}}; };
  RequestId next = 0;
  for (; !queue.full(); ++next) {
    EngineEvent e = event(next);
    ASSERT_TRUE(queue.push(e));
  }
  EngineEvent refused = event(99);
  EXPECT_FALSE(queue.push(refused));
  EXPECT_EQ(std::get<TokenEvent>(refused.body).tokens.size(), 5u) << "untouched";
  for (int i = 0; i < 3; ++i) queue.push_last(event(next++));
  std::vector<EngineEvent> out;
  EXPECT_EQ(queue.drain(out), 7u);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i].request, i);
}

TEST(TokenListTest, GrowsFromInsideToTheHeap) {
  TokenList list;
  std::vector<int32_t> expected;
  for (int32_t i = 0; i < 40; ++i) {
    list.push_back(i);
    expected.push_back(i);
    EXPECT_THAT(std::vector<int32_t>(list.begin(), list.end()), testing::ContainerEq(expected));
  }
  const TokenList copy = list;
  EXPECT_EQ(copy.back(), 39);
}

}  // namespace
}  // namespace pagemill
