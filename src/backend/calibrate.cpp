#include "backend/calibrate.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <thread>

#include "backend/calibrate_kernels.h"
#include "backend/calibrate_parts.h"
#include "backend/cpu_features.h"
#include "base/machine.h"

namespace pagemill {
namespace {

using namespace calibrate;
using SteadyTime = std::chrono::steady_clock::time_point;

constexpr size_t kPassBytes = size_t{128} << 20;     // what one sample reads
constexpr size_t kBufferBytesMax = size_t{2} << 30;
constexpr size_t kBufferBytesMin = 2 * kPassBytes;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr auto kComputeSample = std::chrono::milliseconds(6);
constexpr int kRoundsMin = 5;

/// Threads that start a job together; run() returns the seconds from the first start to the last end.
class Team {
 public:
  explicit Team(int threads) : starts_(threads), ends_(threads), gate_(threads) {
    for (int i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { serve(i); });
  }
  ~Team() {
    job_ = nullptr;
    gate_.arrive_and_wait();
    for (std::thread& helper : helpers_) helper.join();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return static_cast<int>(starts_.size()); }

  double run(const std::function<void(int)>& job) {
    job_ = &job;
    take_part(0);
    const auto first = *std::min_element(starts_.begin(), starts_.end());
    const auto last = *std::max_element(ends_.begin(), ends_.end());
    return std::chrono::duration<double>(last - first).count();
  }

 private:
  bool take_part(int index) {
    gate_.arrive_and_wait();
    if (job_ == nullptr) return false;
    starts_[index] = std::chrono::steady_clock::now();
    (*job_)(index);
    ends_[index] = std::chrono::steady_clock::now();
    gate_.arrive_and_wait();
    return true;
  }
  void serve(int index) {
    while (take_part(index)) {
    }
  }

  const std::function<void(int)>* job_ = nullptr;
  std::vector<SteadyTime> starts_, ends_;
  std::barrier<> gate_;
  std::vector<std::thread> helpers_;
};

/// Anonymous memory, written once by the threads that will read it, with or without huge pages.
class Buffer {
 public:
  Buffer(size_t bytes, bool huge_pages, Team& team) : bytes_(bytes) {
    base_ = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) {
      bytes_ = 0;
      return;
    }
    const auto address = reinterpret_cast<uintptr_t>(base_);
    data_ = reinterpret_cast<std::byte*>((address + kHugePage - 1) / kHugePage * kHugePage);
    madvise(data_, bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    const size_t pages = bytes / kHugePage;
    team.run([&](int index) {
      for (size_t page = index; page < pages; page += team.size()) std::fill_n(data_ + page * kHugePage, kHugePage, std::byte{0x3c});
    });
  }
  ~Buffer() {
    if (bytes_ != 0) munmap(base_, bytes_ + kHugePage);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  size_t size() const { return bytes_; }  // 0 where the memory was refused
  const std::byte* data() const { return data_; }

 private:
  void* base_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

enum class Target { int8, float16, float32, read_one, read_all };

struct Probe {
  std::string variant;
  Target target;
  std::function<double()> sample;  // the rate of one run
  std::vector<double> rates;
};

bool allowed(Need need, const CpuFeatures& cpu) {
  switch (need) {
    case Need::nothing: return true;
    case Need::avx2: return cpu.avx2;
    case Need::avx_vnni: return cpu.avx_vnni;
    case Need::avx512: return cpu.avx512;
    case Need::avx512_vnni: return cpu.avx512_vnni;
    case Need::avx512_bf16: return cpu.avx512_bf16;
    case Need::amx: return amx_usable().has_value();
  }
  return false;
}

/// The tables that this CPU may use, the widest last.
std::vector<LoopTable> tables(const CpuFeatures& cpu) {
  std::vector<LoopTable> list;
  for (const LoopTable& table : {kSse2Loops, kAvx2Loops, kAvxVnniLoops, kAvx512Loops, kAvx512VnniLoops, kAvx512Bf16Loops, kAmxLoops})
    if (allowed(table.needs, cpu)) list.push_back(table);
  return list;
}

/// The widest table that has loops of reading: not every one has.
const LoopTable& widest_reads(const std::vector<LoopTable>& loops) {
  return *std::find_if(loops.rbegin(), loops.rend(), [](const LoopTable& table) { return table.read_count > 0; });
}

/// Iterations that take about as long as one sample should.
uint64_t fit_iterations(const ComputeLoop& loop) {
  for (uint64_t iterations = 1 << 10;; iterations *= 2) {
    const auto start = std::chrono::steady_clock::now();
    loop.run(iterations);
    if (std::chrono::steady_clock::now() - start >= kComputeSample / 2) return iterations;
  }
}

Target target_of(Kind kind) {
  switch (kind) {
    case Kind::int8: return Target::int8;
    case Kind::float16: return Target::float16;
    case Kind::float32: break;
  }
  return Target::float32;
}

Probe compute_probe(const ComputeLoop& loop, Team& team) {
  const uint64_t iterations = fit_iterations(loop);
  return {loop.name, target_of(loop.kind), [&loop, &team, iterations] {
            const double seconds = team.run([&](int) { loop.run(iterations); });
            return loop.ops * static_cast<double>(iterations) * team.size() / seconds;
          }, {}};
}

Probe read_probe(const ReadLoop& loop, const char* pages, Parts& parts, Team& team, bool all) {
  const int threads = all ? team.size() : 1;
  auto sample = [&loop, &parts, &team, threads] {
    const size_t slice = kPassBytes / threads / kReadGranule * kReadGranule;
    const std::byte* from = parts.next();
    double alone = 0;
    const double together = team.run([&](int index) {
      if (index >= threads) return;
      const auto start = std::chrono::steady_clock::now();
      loop.run(from + index * slice, slice);
      if (threads == 1) alone = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    });
    return static_cast<double>(slice) * threads / (threads == 1 ? alone : together);
  };
  return {std::string(loop.name) + ", " + pages + (all ? ", all threads" : ", one thread"),
          all ? Target::read_all : Target::read_one, std::move(sample), {}};
}

/// Four times the last-level cache where the memory allows it, in whole passes.
size_t buffer_bytes() {
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  size_t bytes = std::max(kBufferBytesMin * 2, 4 * static_cast<size_t>(std::max(cache, 0L)));
  bytes = std::min(bytes, kBufferBytesMax);
  if (const uint64_t available = available_memory_bytes(); available != 0) bytes = std::min<size_t>(bytes, available / 4);
  return std::max(bytes / kPassBytes * kPassBytes, kBufferBytesMin);
}

LimitRate summarise(const Probe& probe) {
  std::vector<double> rates = probe.rates;
  std::sort(rates.begin(), rates.end());
  const size_t n = rates.size();
  return {probe.variant, rates[n - 1], n % 2 == 1 ? rates[n / 2] : (rates[n / 2 - 1] + rates[n / 2]) / 2, rates[0]};
}

void keep_best(LimitRate& best, const LimitRate& rate) {
  if (rate.best > best.best) best = rate;
}

}  // namespace

MachineLimits measure_machine(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  MachineLimits limits;
  const CpuFeatures& cpu = cpu_features();
  limits.cpu_model = cpu_model_name();
  limits.isa_best = describe(cpu);
  limits.threads = usable_threads();

  Team team(limits.threads);
  const size_t bytes = buffer_bytes();
  const Buffer huge(bytes, true, team), plain(bytes / 2, false, team);
  Parts huge_parts(huge.data(), huge.size(), kPassBytes), plain_parts(plain.data(), plain.size(), kPassBytes);
  const std::vector<LoopTable> loops = tables(cpu);
  std::vector<Probe> probes;
  for (const LoopTable& table : loops)
    for (int i = 0; i < table.compute_count; ++i) probes.push_back(compute_probe(table.compute[i], team));
  const LoopTable& widest = widest_reads(loops);
  for (const bool all : {false, true}) {
    for (int i = 0; i < widest.read_count; ++i)
      if (huge.size() != 0) probes.push_back(read_probe(widest.read[i], "huge pages", huge_parts, team, all));
    if (plain.size() != 0) probes.push_back(read_probe(widest.read[0], "4 KiB pages", plain_parts, team, all));
  }

  // Rounds over all variants, so that a busy moment of the machine hits each of them alike.
  for (int round = 0; round < kRoundsMin || std::chrono::steady_clock::now() < end; ++round)
    for (Probe& probe : probes) probe.rates.push_back(probe.sample());

  for (const Probe& probe : probes) {
    const LimitRate rate = summarise(probe);
    limits.variants.push_back(rate);
    switch (probe.target) {
      case Target::int8: keep_best(limits.int8_ops, rate); break;
      case Target::float16: keep_best(limits.float16_ops, rate); break;
      case Target::float32: keep_best(limits.float32_ops, rate); break;
      case Target::read_one: keep_best(limits.read_one_thread, rate); break;
      case Target::read_all: keep_best(limits.read_all_threads, rate); break;
    }
  }
  keep_best(limits.read_all_threads, limits.read_one_thread);
  keep_best(limits.float16_ops, limits.float32_ops);
  return limits;
}

MachineLimits best_of(MachineLimits a, const MachineLimits& b) {
  for (LimitRate MachineLimits::*const limit : {&MachineLimits::read_one_thread, &MachineLimits::read_all_threads, &MachineLimits::int8_ops,
                                                &MachineLimits::float16_ops, &MachineLimits::float16_held, &MachineLimits::float32_ops})
    keep_best(a.*limit, b.*limit);
  a.variants.insert(a.variants.end(), b.variants.begin(), b.variants.end());
  return a;
}

LimitRate measure_reread(size_t bytes, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  const std::vector<LoopTable> loops = tables(cpu_features());
  const ReadLoop& loop = widest_reads(loops).read[0];
  Team team(usable_threads());
  const size_t slice = std::max(bytes / team.size() / kReadGranule, size_t{1}) * kReadGranule;
  const Buffer buffer(std::max(slice * team.size() / kHugePage + 1, size_t{1}) * kHugePage, true, team);
  Probe probe{std::string(loop.name) + ", again and again", Target::read_all, {}, {}};
  if (buffer.size() == 0) return {probe.variant};
  while (probe.rates.size() < kRoundsMin || std::chrono::steady_clock::now() < end) {
    const double took = team.run([&](int index) { loop.run(buffer.data() + index * slice, slice); });
    probe.rates.push_back(static_cast<double>(slice) * team.size() / took);
  }
  return summarise(probe);
}

}  // namespace pagemill
