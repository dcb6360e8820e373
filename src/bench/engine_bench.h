// How fast an engine prefills and decodes: wall clock around whole sessions, so sampling and detokenizing are in it.
//
// Prefill is one prompt of fresh random tokens after `depth` cached ones, until the answer's first token. Decode is counted
// between the last stream's first token and the first stream's end, in answers of `decode` tokens after `depth` ones.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/roofline.h"
#include "bench/sample.h"
#include "session/session.h"

namespace pagemill {

struct EngineBenchOptions {
  std::vector<int> prompts{512};           // tokens; a row of prefill for each
  int decode = 128;
  std::vector<int> streams{1};             // a row of decode for each
  int depth = 0;
  int repeat = 3;
  float temperature = 0;
  uint64_t seed = 1;                       // of the random prompts
};

struct Speed {
  Sample tokens_per_s;
  double limit = 0;                        // tokens/s that the machine allows
  double limit_held = 0;                   // that it would allow at the rate which it holds for a second; 0 = no other
  std::string invalid;                     // why it cannot be trusted; empty = it can

  double share() const { return limit > 0 ? tokens_per_s.median() / limit : 0; }
  double share_held() const { return limit_held > 0 ? tokens_per_s.median() / limit_held : 0; }
};

struct EngineBenchRow {
  BenchTest test;
  Speed speed;
};

/// Runs one engine over all rows; one object per bench, on one thread.
class EngineBench {
 public:
  /// All must outlive it.
  EngineBench(EngineHandle& engine, const TextModel& text, EngineModelInfo model, EngineBenchOptions options);
  ~EngineBench();

  /// A short run whose speed does not count.
  Result<void> warm_up();
  /// One repetition over all rows, added to `rows()`. Callers interleave it with whatever they compare with.
  Result<void> run_once();
  /// Fills in limits and verdicts. `read_in_cache` (bytes/s) is how fast something of the weights' size is read over and over:
  /// small models decode from the last-level cache, so only what exceeds that is impossible. The limit stays memory's.
  void judge(const MachineLimits& machine, const ModelWork& work, double read_in_cache);
  /// Prefill first, in the order of the options.
  const std::vector<EngineBenchRow>& rows() const { return rows_; }

 private:
  struct Runner;
  Result<double> prefill_once(int prompt);
  Result<double> decode_once(int streams);

  EngineBenchOptions options_;
  std::vector<EngineBenchRow> rows_;
  std::unique_ptr<Runner> runner_;
};

/// Why a sample cannot be trusted, or "": fewer than 3 runs, a spread above 20 %, more than the machine's limit allows.
std::string distrust(const Sample& sample, double limit);

}  // namespace pagemill
