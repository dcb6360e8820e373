// This machine's limits, measured: what every speed is shown against.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"

namespace pagemill {

/// One measured limit: the best of several runs, with the middle and the worst beside it.
struct LimitRate {
  std::string variant;     // "avx512_vnni 4x6 tile", "read, 2 threads", …
  double best = 0;         // bytes/s or operations/s (a multiply-add counts as two)
  double median = 0;
  double worst = 0;
};

struct MachineLimits {
  std::string cpu_model;
  std::string isa_best;               // the widest ISA that this CPU has
  int threads = 0;                    // what affinity and cgroup quota allow
  LimitRate read_one_thread;          // bytes/s from DRAM
  LimitRate read_all_threads;
  LimitRate int8_ops;                 // best variant of the best ISA, all threads
  LimitRate float16_ops;              // bf16 or f16 products; equal to f32 where the CPU has neither
  LimitRate float16_held;             // float16_ops for a second on end, where less is held than reached: a GPU's power sets its clock
  LimitRate float32_ops;
  std::vector<LimitRate> variants;    // everything that was tried
};

/// Takes about `seconds` in all and the whole machine; the shares it gives are of what was free meanwhile.
MachineLimits measure_machine(double seconds = 3.0);

/// The better of two measurements for each limit; `a`'s machine. A machine that was busy during one of them shows its real limits in
/// the other.
MachineLimits best_of(MachineLimits a, const MachineLimits& b);

/// How fast all threads read the same `bytes` over and over: memory's speed, or that of the caches where they hold them.
LimitRate measure_reread(size_t bytes, double seconds = 0.5);

}  // namespace pagemill
