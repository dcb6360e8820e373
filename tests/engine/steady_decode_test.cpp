// A steady decode step allocates nothing on the heap and takes no lock: counted on every thread of the process but a reader's,
// so on the engine thread and on those that compute for it. With nothing to do, none of them takes processor time.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <new>
#include <thread>

#include "base/check.h"
#include "engine/backends_under_test.h"
#include "engine/engine_thread.h"
#include "engine/model_runner.h"
#include "simulation/fake_device.h"
#include "support/tiny_model.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<uint64_t> allocations{0}, locks{0}, locks_held_by_others{0};
thread_local bool is_reader = false;      // reads events, as an io thread does: what it does is not the engine's

bool counts() { return counting.load(std::memory_order_relaxed) && !is_reader; }

void* counted_allocation(size_t bytes, size_t align = 0) {
  if (counts()) ++allocations;
  void* memory = align > 0 ? std::aligned_alloc(align, (bytes + align - 1) / align * align) : std::malloc(bytes == 0 ? 1 : bytes);
  if (!memory) std::abort();
  return memory;
}

}  // namespace

void* operator new(size_t bytes) { return counted_allocation(bytes); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return counted_allocation(bytes); }
void* operator new[](size_t bytes) { return counted_allocation(bytes); }
void* operator new(size_t bytes, std::align_val_t align) { return counted_allocation(bytes, static_cast<size_t>(align)); }
void* operator new[](size_t bytes, std::align_val_t align) { return counted_allocation(bytes, static_cast<size_t>(align)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto real = reinterpret_cast<int (*)(pthread_mutex_t*)>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  static const auto try_real = reinterpret_cast<int (*)(pthread_mutex_t*)>(dlsym(RTLD_NEXT, "pthread_mutex_trylock"));
  if (!counts()) return real(mutex);
  ++locks;
  if (const int tried = try_real(mutex); tried != EBUSY) return tried;
  ++locks_held_by_others;
  return real(mutex);
}

namespace pagemill {
namespace {

struct Counted {
  uint64_t allocations = 0, locks = 0, locks_held_by_others = 0, tokens = 0;
};

/// On every thread that is no reader.
void start_counting() {
  allocations = locks = locks_held_by_others = 0;
  counting = true;
}

Counted stop_counting(uint64_t tokens) {
  counting = false;
  return {allocations, locks, locks_held_by_others, tokens};
}

void expect_nothing(const Counted& counted, uint64_t tokens_min) {
  EXPECT_EQ(counted.allocations, 0u);
  EXPECT_EQ(counted.locks, 0u);
  EXPECT_EQ(counted.locks_held_by_others, 0u);
  EXPECT_GE(counted.tokens, tokens_min);
}

/// One of `streams` that are a little different: every fourth is penalised.
EngineRequest stream(int32_t i, int32_t tokens, std::shared_ptr<EventQueue> queue) {
  EngineRequest request;
  request.prompt = {1 + i, 2, 3};
  request.sampling.max_tokens = request.sampling.min_tokens = tokens;
  request.sampling.repetition_penalty = i % 4 == 3 ? 1.1f : 1.0f;
  request.sampling.seed = static_cast<uint64_t>(i);
  request.events = std::move(queue);
  return request;
}

/// Runs `streams` answers of 200 tokens on this thread and counts over the steps from the 20th to the 150th.
Counted steady_decode(StepRunner& runner, const Clock& clock, const EngineModelInfo& info, std::vector<KvGroupConfig> groups, int32_t streams) {
  Admission admission({.model = info, .max_num_seqs = streams});
  EngineCore core({.scheduler = {.max_num_seqs = streams, .max_num_batched_tokens = streams * 4, .max_step_ns = 200 * kNsPerMs},
                   .blocks = {.groups = std::move(groups)}, .hidden = 1}, admission, runner, clock);
  auto queue = std::make_shared<EventQueue>(nullptr);
  for (int32_t i = 0; i < streams; ++i) {
    EngineRequest request = stream(i, 200, queue);
    const auto id = admission.accept(request);
    EXPECT_TRUE(id);
    core.submit(*id, std::move(request), clock.now_ns());
  }
  uint64_t before = 0;
  std::vector<EngineEvent> events;
  for (int step = 0; step < 150; ++step) {
    if (step == 20) {
      before = core.counters().output_tokens;
      start_counting();
    }
    core.step();
    is_reader = true;
    events.clear();
    queue->drain(events);
    is_reader = false;
  }
  return stop_counting(core.counters().output_tokens - before);
}

TEST(SteadyDecodeTest, TheCountersCount) {
  std::mutex mutex;
  const std::unique_lock held(mutex);
  start_counting();
  std::thread other([&] {
    delete new int;
    const std::scoped_lock waits(mutex);
  });
  while (locks_held_by_others == 0) std::this_thread::yield();
  mutex.unlock();
  other.join();
  mutex.lock();
  const Counted counted = stop_counting(0);
  EXPECT_GT(counted.allocations, 0u);
  EXPECT_GE(counted.locks, 2u);
  EXPECT_EQ(counted.locks_held_by_others, 1u);
}

TEST(SteadyDecodeTest, OnTheFakeDevice) {
  for (const int tickets : {1, 2}) {
    SCOPED_TRACE(tickets);
    ManualClock clock(1);
    const std::vector<KvGroupConfig> groups = {{.blocks = 1200}, {.blocks = 900, .window = 33}};
    simulation::FakeDevice device({.model = {.vocab = 512, .groups = groups}, .tickets = tickets}, clock);
    expect_nothing(steady_decode(device, clock, {.name = "fake", .context_max = 512, .vocab = 512, .stop_tokens = {0}}, groups, 64), 130 * 48);
  }
}

/// A tiny model, and all that its engine needs.
struct ModelParts {
  ModelParts(const BackendUnderTest& under_test, int threads) : backend(under_test.make(threads)) {
    const StepShape largest{.rows = 32, .seqs = 8, .logit_rows = 8, .query_rows_max = 32, .context_max = 256};
    auto model = Model::load(*tiny.source, *backend, {.largest_step = largest, .overrides = tiny.overrides, .progress = nullptr});
    PM_CHECK(model, "{}", model.error().message);
    const ModelConfig config = (*model)->config();
    auto kv = backend->allocate_kv({.layers = config.layers, .kv_heads = config.kv_heads, .head_dim = config.head_dim, .dtype = under_test.kv_dtype,
                                    .group_of_layer = std::vector<int32_t>(static_cast<size_t>(config.layers), 0), .blocks = {200}});
    PM_CHECK(kv, "{}", kv.error().message);
    info = {.name = "tiny", .context_max = 256, .vocab = config.vocab, .stop_tokens = {}};
    runner = std::make_unique<ModelRunner>(std::move(*model), std::move(*kv), *backend, *tiny.source, largest, clock);
  }

  TinyModel tiny = open_tiny_model("tiny-qwen2-tied");
  SteadyClock clock;
  std::unique_ptr<Backend> backend;
  EngineModelInfo info;
  std::unique_ptr<ModelRunner> runner;
};

class SteadyDecodeOnBackendTest : public testing::TestWithParam<BackendUnderTest> {};

TEST_P(SteadyDecodeOnBackendTest, OnAModel) {
  for (const int threads : {1, 2}) {
    SCOPED_TRACE(threads);
    ModelParts parts(GetParam(), threads);
    expect_nothing(steady_decode(*parts.runner, parts.clock, parts.info, {{.blocks = 200}}, 8), 130 * 8);
  }
}

TimeNs process_cpu_ns() {
  timespec spent{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
  return spent.tv_sec * kNsPerSecond + spent.tv_nsec;
}

/// Counts from the 20th to the 140th step in a row that decodes every stream. The first step waits until told to go.
class CountingRunner final : public StepRunner {
 public:
  CountingRunner(StepRunner& inner, int32_t streams) : inner_(inner), streams_(streams) {}
  Result<Ticket> begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) override {
    while (!go.load()) std::this_thread::yield();
    in_a_row_ = inputs.shape.rows == streams_ && inputs.shape.logit_rows == streams_ ? in_a_row_ + 1 : 0;
    if (in_a_row_ == 20) start_counting();
    if (in_a_row_ == 140) counted = stop_counting(static_cast<uint64_t>(120 * streams_));
    return inner_.begin(inputs, copies, extras);
  }
  Result<StepResult> finish(Ticket ticket) override { return inner_.finish(ticket); }
  int tickets_max() const override { return inner_.tickets_max(); }

  std::atomic<bool> go{false};
  Counted counted;                         // read once the engine has gone

 private:
  StepRunner& inner_;
  const int32_t streams_;
  int in_a_row_ = 0;
};

/// The whole of it: the engine's thread, two that compute, a reader that is woken through the shipped queue.
TEST_P(SteadyDecodeOnBackendTest, ThroughTheEngineThread) {
  constexpr int32_t kStreams = 4;
  ModelParts parts(GetParam(), 2);
  Counted counted;
  std::atomic<uint64_t> wakes{0};
  is_reader = true;
  {
    CountingRunner* runner = nullptr;
    EngineThread engine(
        [&](LoadReport&) -> Result<EngineParts> {
          EngineParts made;
          auto counting_runner = std::make_unique<CountingRunner>(*parts.runner, kStreams);
          runner = counting_runner.get();
          made.runner = std::move(counting_runner);
          made.core = {.scheduler = {.max_num_seqs = kStreams, .max_num_batched_tokens = 16, .max_step_ns = 200 * kNsPerMs},
                       .blocks = {.groups = {{.blocks = 200}}}, .hidden = 1};
          made.admission = {.model = parts.info, .max_num_seqs = kStreams};
          return made;
        },
        60 * kNsPerSecond, parts.clock);
    while (engine.stats().state == EngineState::loading) std::this_thread::yield();
    auto queue = std::make_shared<EventQueue>([&] { ++wakes; });
    for (int32_t i = 0; i < kStreams; ++i) {
      const auto id = engine.submit(stream(i, 240, queue));
      ASSERT_TRUE(id) << id.error().message;
    }
    runner->go = true;
    std::vector<EngineEvent> events;
    for (size_t ends = 0; ends < kStreams;) {
      events.clear();
      queue->drain(events);
      for (const EngineEvent& event : events) ends += std::holds_alternative<EndEvent>(event.body);
      std::this_thread::yield();
    }
    counted = runner->counted;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const TimeNs before = process_cpu_ns();
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    EXPECT_LT(process_cpu_ns() - before, 5 * kNsPerMs) << "idle, and 1 % of a core is in use";
  }
  is_reader = false;
  expect_nothing(counted, 120 * kStreams);
  EXPECT_GT(wakes, 0u);
}

INSTANTIATE_TEST_SUITE_P(Backends, SteadyDecodeOnBackendTest, testing::ValuesIn(backends_under_test()), [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace pagemill
