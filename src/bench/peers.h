// llama.cpp's own benchmarks, run beside ours on the same machine at the same time.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/sample.h"

namespace pagemill {

struct PeerOptions {
  std::filesystem::path llama_bench;          // empty = not run
  std::filesystem::path llama_batched_bench;  // empty = not run
  std::filesystem::path model;
  int threads = 1;
  int prompt = 512, decode = 128, depth = 0;
  std::vector<int> streams{1};
};

/// Tokens per second, a run each time run_once() was called.
struct PeerSpeeds {
  Sample prefill;                  // llama-bench, one stream
  std::map<int, Sample> decode;    // by streams: llama-bench for 1, llama-batched-bench for more
};

/// One run of each program; adds to `speeds`. Errors name the program.
Result<void> run_peers_once(const PeerOptions& options, PeerSpeeds& speeds);

/// `llama-bench -o json`: an array with n_prompt, n_gen and avg_ts.
Result<void> read_llama_bench(std::string_view output, PeerSpeeds& speeds);
/// `llama-batched-bench --output-format jsonl`: among other lines, one object a level with pl and speed_tg. One stream is
/// taken only where llama-bench did not give it.
Result<void> read_llama_batched_bench(std::string_view output, bool one_stream, PeerSpeeds& speeds);

}  // namespace pagemill
