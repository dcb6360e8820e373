#include "bench/peers.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/test_files.h"
#include "bench/child.h"

namespace pagemill {
namespace {

// What the programs print, shortened to a few of their keys.
constexpr const char* kBench = R"([
  {"build_commit": "abc", "model_type": "llama ?B Q4_1", "n_threads": 2, "n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ns": 1, "avg_ts": 331.25, "samples_ts": [ 331.25 ]},
  {"build_commit": "abc", "model_type": "llama ?B Q4_1", "n_threads": 2, "n_prompt": 0, "n_gen": 128, "n_depth": 0, "avg_ns": 1, "avg_ts": 126.5, "samples_ts": [ 126.5 ]}
])";
constexpr const char* kBatched = R"(main: n_kv_max = 2048, n_batch = 2048, n_ubatch = 512, flash_attn = 1, is_pp_shared = 0, n_gpu_layers = 0, n_threads = 2, n_threads_batch = 2

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|     1 |    128 |    1 |    129 |    0.100 |    10.00 |    1.000 |   134.00 |    1.100 |   117.00 |
|     1 |    128 |    4 |    516 |    0.100 |    40.00 |    3.000 |   168.25 |    3.100 |   166.00 |
)";
constexpr BenchTest kPrefill{BenchTest::prefill, 512};
constexpr BenchTest decode_of(int streams) { return {BenchTest::decode, streams}; }

TEST(Peers, ReadsLlamaBench) {
  PeerSpeeds speeds;
  ASSERT_TRUE(read_llama_bench(kBench, speeds));
  EXPECT_EQ(speeds[kPrefill].median(), 331.25);
  EXPECT_EQ(speeds[decode_of(1)].median(), 126.5);
  for (const char* wrong : {"", "{}", "[1]", R"([{"n_prompt": 1, "n_gen": 0}])", R"([{"n_prompt": "x", "n_gen": 0, "avg_ts": 1}])"})
    EXPECT_FALSE(read_llama_bench(wrong, speeds)) << wrong;
}

TEST(Peers, ReadsLlamaBatchedBench) {
  PeerSpeeds speeds;
  ASSERT_TRUE(read_llama_batched_bench(kBatched, speeds));
  EXPECT_EQ(speeds[decode_of(1)].runs, std::vector<double>{134});
  EXPECT_EQ(speeds[decode_of(4)].runs, std::vector<double>{168.25});
  EXPECT_EQ(speeds.size(), 2u);
  EXPECT_FALSE(read_llama_batched_bench("| 1 | 2 |\n|---|---|\n", speeds));
  EXPECT_FALSE(read_llama_batched_bench("", speeds));
}

/// A program in a folder of its own that prints `out` and `errors`, and keeps its arguments in a file beside it. --help names `flag`.
std::filesystem::path program(const std::filesystem::path& folder, const std::string& name, const std::string& out, const std::string& errors,
                              const std::string& flag = "", int status = 0) {
  std::filesystem::create_directories(folder);
  const std::filesystem::path path = folder / name;
  std::ofstream(path) << "#!/bin/sh\nif [ \"$1\" = --help ]; then echo '" << flag << "'; exit 0; fi\necho \"$@\" > '" << path.string()
                      << ".args'\ncat <<'TEXT'\n" << out << "\nTEXT\ncat >&2 <<'TEXT'\n" << errors << "\nTEXT\nexit " << status << "\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

std::string arguments_of(const std::filesystem::path& program) {
  std::string arguments;
  std::ifstream args(program.string() + ".args");
  std::getline(args, arguments);
  return arguments;
}

TEST(Peers, RunsTheProgramsWithOurShapes) {
  const TemporaryFolder temporary;
  const auto& folder = temporary.path();
  program(folder / "bin", "llama-bench", kBench, "loading ...", "-d, --n-depth");
  program(folder / "bin", "llama-batched-bench", "", kBatched);
  const auto peer = parse_peer("theirs=" + folder.string());
  ASSERT_TRUE(peer) << peer.error().message;
  EXPECT_EQ(peer->name, "theirs");
  PeerOptions options{.model = "m.gguf", .threads = 2, .prompts = {512, 2048}, .streams = {1, 4}};
  PeerSpeeds speeds;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(run_peer_once(*peer, options, speeds));
  EXPECT_EQ(speeds[kPrefill].runs.size(), 3u);
  EXPECT_EQ(speeds[decode_of(4)].runs.size(), 3u);
  EXPECT_EQ(arguments_of(peer->llama_bench), "-m m.gguf -p 512,2048 -n 128 -t 2 -fa 1 -ngl 0 -r 1 -o json");
  EXPECT_EQ(arguments_of(peer->llama_batched_bench), "-m m.gguf -c 516 -npp 1 -ntg 128 -npl 4 -t 2 -tb 2 -fa on -ngl 0");
  options.depth = 64;
  ASSERT_TRUE(run_peer_once(*peer, options, speeds));
  EXPECT_EQ(arguments_of(peer->llama_bench), "-m m.gguf -p 512,2048 -n 128 -t 2 -fa 1 -ngl 0 -r 1 -o json -d 64");
}

TEST(Peers, APeerThatKnowsNoDepthDecodesThereInABatchOfOne) {
  const TemporaryFolder temporary;
  const auto& folder = temporary.path();
  program(folder, "llama-bench", kBench, "");
  program(folder, "llama-batched-bench", "", kBatched);
  const auto peer = parse_peer("ik=" + folder.string() + ",rtr");
  ASSERT_TRUE(peer) << peer.error().message;
  PeerSpeeds speeds;
  ASSERT_TRUE(run_peer_once(*peer, {.model = "m.gguf", .depth = 64, .streams = {1, 4}}, speeds));
  EXPECT_EQ(arguments_of(peer->llama_bench), "") << "not run";
  EXPECT_EQ(arguments_of(peer->llama_batched_bench), "-m m.gguf -c 768 -npp 64 -ntg 128 -npl 1,4 -t 1 -tb 1 -fa on -ngl 0 -rtr");
  EXPECT_FALSE(speeds.contains(kPrefill));
  ASSERT_TRUE(run_peer_once(*peer, {.model = "m.gguf"}, speeds));
  EXPECT_EQ(arguments_of(peer->llama_bench), "-m m.gguf -p 512 -n 128 -t 1 -fa 1 -ngl 0 -r 1 -o json -rtr 1");
}

TEST(Peers, WhatIsNoPeerIsRefused) {
  for (const std::string text : {"", "no-equals", "=/tmp", "a=/nonexistent-folder"}) {
    const auto peer = parse_peer(text);
    ASSERT_FALSE(peer) << text;
    EXPECT_EQ(peer.error().field, "--peer");
  }
  EXPECT_FALSE(parse_peer("a=~/nonexistent-folder-of-a-peer"));
  EXPECT_FALSE(parse_peer("a=" + TemporaryFolder().path().string())) << "an empty folder";
}

TEST(Peers, AProgramThatFailsIsNamed) {
  const TemporaryFolder temporary;
  const auto& folder = temporary.path();
  program(folder, "llama-bench", "", "error: no such model", "", 3);
  PeerSpeeds speeds;
  auto result = run_peer_once(*parse_peer("a=" + folder.string()), {}, speeds);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("llama-bench failed with status 3: error: no such model"), std::string::npos) << result.error().message;
  program(folder, "llama-bench", "no JSON", "");
  result = run_peer_once(*parse_peer("a=" + folder.string()), {}, speeds);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("llama-bench"), std::string::npos);
}

TEST(Child, CollectsOutput) {
  EXPECT_EQ(run_and_read("printf", {"%s", "a b\n"})->out, "a b\n");
  EXPECT_EQ(run_and_read("head", {"-c", "2000000", "/dev/zero"})->out.size(), 2'000'000u);
  EXPECT_FALSE(run_and_read("head", {"-c", "20000000", "/dev/zero"}));
  EXPECT_FALSE(run_and_read("sh", {"-c", "kill -9 $$"}));
  EXPECT_FALSE(run_and_read("/nonexistent/program", {}));
  const auto both = run_and_read("sh", {"-c", "head -c 1000000 /dev/zero >&2; echo out; echo error >&2"});
  ASSERT_TRUE(both);
  EXPECT_EQ(both->out, "out\n");
  EXPECT_EQ(both->errors.size(), 1'000'006u);
}

}  // namespace
}  // namespace pagemill
