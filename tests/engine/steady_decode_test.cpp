// A steady decode step allocates nothing on the heap and takes no lock: counted, on the thread that steps.
#include <dlfcn.h>
#include <pthread.h>

#include <cstdlib>
#include <new>

#include "engine/core.h"
#include "engine/model_runner.h"
#include "simulation/fake_device.h"
#include "support/tiny_model.h"

namespace {

thread_local bool counting = false;
thread_local uint64_t allocations = 0;
thread_local uint64_t locks = 0;

void* counted_allocation(size_t bytes, size_t align = 0) {
  if (counting) ++allocations;
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
  if (counting) ++locks;
  return real(mutex);
}

namespace pagemill {
namespace {

struct Counted {
  uint64_t allocations = 0, locks = 0, steps = 0, tokens = 0;
};

/// Runs `streams` answers of 200 tokens and counts over the steps from the 20th to the 150th.
Counted steady_decode(StepRunner& runner, const Clock& clock, const EngineModelInfo& info, std::vector<KvGroupConfig> groups, int32_t streams) {
  Admission admission({.model = info, .max_num_seqs = streams});
  EngineCore core({.scheduler = {.max_num_seqs = streams, .max_num_batched_tokens = streams * 4, .max_step_ns = 0},
                   .blocks = {.groups = std::move(groups)}, .hidden = 1}, admission, runner, clock);
  auto queue = std::make_shared<EventQueue>(nullptr);
  for (int32_t i = 0; i < streams; ++i) {
    EngineRequest request;
    request.prompt = {1 + i, 2, 3};
    request.sampling.max_tokens = request.sampling.min_tokens = 200;
    request.sampling.repetition_penalty = i % 4 == 3 ? 1.1f : 1.0f;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.events = queue;
    const auto id = admission.accept(request);
    EXPECT_TRUE(id);
    core.submit(*id, std::move(request), clock.now_ns());
  }
  Counted counted;
  std::vector<EngineEvent> events;
  for (int step = 0; step < 150; ++step) {
    const uint64_t tokens = core.counters().output_tokens;
    counting = step >= 20;
    core.step();
    counting = false;
    if (step >= 20) {
      ++counted.steps;
      counted.tokens += core.counters().output_tokens - tokens;
    }
    events.clear();
    queue->drain(events);
  }
  counted.allocations = std::exchange(allocations, 0);
  counted.locks = std::exchange(locks, 0);
  return counted;
}

TEST(SteadyDecodeTest, TheCountersCount) {
  counting = true;
  std::mutex mutex;
  mutex.lock();
  mutex.unlock();
  delete new int;
  counting = false;
  EXPECT_GT(std::exchange(allocations, 0), 0u);
  EXPECT_GT(std::exchange(locks, 0), 0u);
}

TEST(SteadyDecodeTest, OnTheFakeDevice) {
  for (const int tickets : {1, 2}) {
    ManualClock clock(1);
    const std::vector<KvGroupConfig> groups = {{.blocks = 1200}, {.blocks = 900, .window = 33}};
    simulation::FakeDevice device({.model = {.vocab = 512, .groups = groups}, .tickets = tickets}, clock);
    const Counted counted = steady_decode(device, clock, {.name = "fake", .context_max = 512, .vocab = 512, .stop_tokens = {0}}, groups, 64);
    EXPECT_EQ(counted.allocations, 0u) << tickets << " tickets";
    EXPECT_EQ(counted.locks, 0u) << tickets << " tickets";
    EXPECT_GT(counted.tokens, 130u * 48u);
  }
}

TEST(SteadyDecodeTest, OnAModel) {
  const TinyModel tiny = open_tiny_model("tiny-qwen2-tied");
  const auto backend = make_reference_backend(1);
  const StepShape largest{.rows = 32, .seqs = 8, .logit_rows = 8, .query_rows_max = 32, .context_max = 256};
  auto model = Model::load(*tiny.source, *backend, {.largest_step = largest, .overrides = tiny.overrides, .progress = nullptr});
  ASSERT_TRUE(model) << model.error().message;
  const ModelConfig config = (*model)->config();
  auto kv = backend->allocate_kv({.layers = config.layers, .kv_heads = config.kv_heads, .head_dim = config.head_dim, .dtype = DType::f32,
                                  .group_of_layer = std::vector<int32_t>(static_cast<size_t>(config.layers), 0), .blocks = {200}});
  ASSERT_TRUE(kv);
  SteadyClock clock;
  ModelRunner runner(std::move(*model), std::move(*kv), *backend, *tiny.source, largest, clock);
  const Counted counted = steady_decode(runner, clock, {.name = "tiny", .context_max = 256, .vocab = config.vocab, .stop_tokens = {}}, {{.blocks = 200}}, 8);
  EXPECT_EQ(counted.allocations, 0u);
  EXPECT_EQ(counted.locks, 0u);
  EXPECT_EQ(counted.tokens, 130u * 8u);
}

}  // namespace
}  // namespace pagemill
