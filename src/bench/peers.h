// llama.cpp's own benchmarks, or a fork's, run beside ours on the same machine at the same time.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "bench/sample.h"

namespace pagemill {

/// A build of llama.cpp or of a fork.
struct Peer {
  std::string name;
  std::filesystem::path llama_bench, llama_batched_bench, llama_perplexity;  // empty = its folder has none
  bool repack = false;             // -rtr: ik_llama.cpp repacks weights at load
};

/// NAME=DIR or NAME=DIR,rtr. The programs lie in DIR, DIR/bin or DIR/build/bin; at least one of them is there.
Result<Peer> parse_peer(std::string_view text);

struct PeerOptions {
  std::filesystem::path model;
  int threads = 1;
  std::vector<int> prompts{512};   // as in EngineBenchOptions
  int decode = 128, depth = 0;
  std::vector<int> streams{1};
};

/// Tokens per second, a run each time run_peer_once() was called.
using PeerSpeeds = std::map<BenchTest, Sample>;

/// One run of each program: llama-bench for prefill and one stream, llama-batched-bench for more streams (and for one where the
/// former is missing, or there is a depth that it does not know of). Adds to `speeds`. Errors name the program.
Result<void> run_peer_once(const Peer& peer, const PeerOptions& options, PeerSpeeds& speeds);

/// `llama-bench -o json`: an array with n_prompt, n_gen and avg_ts.
Result<void> read_llama_bench(std::string_view output, PeerSpeeds& speeds);
/// llama-batched-bench's table: among other lines, | PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | …, a line a level.
Result<void> read_llama_batched_bench(std::string_view output, PeerSpeeds& speeds);

}  // namespace pagemill
