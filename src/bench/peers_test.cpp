#include "bench/peers.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bench/child.h"

namespace pagemill {
namespace {

// What the programs print, shortened to a few of their keys.
constexpr const char* kBench = R"([
  {"build_commit": "abc", "model_type": "llama ?B Q4_1", "n_threads": 2, "n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ns": 1, "avg_ts": 331.25, "samples_ts": [ 331.25 ]},
  {"build_commit": "abc", "model_type": "llama ?B Q4_1", "n_threads": 2, "n_prompt": 0, "n_gen": 128, "n_depth": 0, "avg_ns": 1, "avg_ts": 126.5, "samples_ts": [ 126.5 ]}
])";
constexpr const char* kBatched =
    "some log line\n"
    R"({"n_kv_max": 2048, "n_batch": 2048, "pp": 1, "tg": 128, "pl": 1, "n_kv": 129, "t_pp": 0.1, "speed_pp": 10.0, "t_tg": 1.0, "speed_tg": 134.0, "t": 1.1, "speed": 117.0})"
    "\n"
    R"({"n_kv_max": 2048, "n_batch": 2048, "pp": 1, "tg": 128, "pl": 4, "n_kv": 516, "t_pp": 0.1, "speed_pp": 40.0, "t_tg": 3.0, "speed_tg": 168.0, "t": 3.1, "speed": 166.0})"
    "\n";

TEST(Peers, ReadsLlamaBench) {
  PeerSpeeds speeds;
  ASSERT_TRUE(read_llama_bench(kBench, speeds));
  EXPECT_EQ(speeds.prefill.median(), 331.25);
  EXPECT_EQ(speeds.decode[1].median(), 126.5);
  for (const char* wrong : {"", "{}", "[1]", R"([{"n_prompt": 1, "n_gen": 0}])", R"([{"n_prompt": "x", "n_gen": 0, "avg_ts": 1}])"})
    EXPECT_FALSE(read_llama_bench(wrong, speeds)) << wrong;
}

TEST(Peers, ReadsLlamaBatchedBench) {
  PeerSpeeds speeds;
  ASSERT_TRUE(read_llama_batched_bench(kBatched, true, speeds));
  EXPECT_EQ(speeds.decode[1].median(), 134);
  EXPECT_EQ(speeds.decode[4].median(), 168);
  PeerSpeeds others;
  ASSERT_TRUE(read_llama_batched_bench(kBatched, false, others));
  EXPECT_FALSE(others.decode.contains(1));
  EXPECT_FALSE(read_llama_batched_bench("{\"pl\": 2}\n", true, speeds));
}

/// A program that prints `text` and keeps its arguments in a file beside it.
std::filesystem::path program(const std::string& name, const std::string& text, int status = 0) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / name;
  std::ofstream(path) << "#!/bin/sh\necho \"$@\" > '" << path.string() << ".args'\ncat <<'TEXT'\n" << text << "\nTEXT\nexit " << status << "\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

TEST(Peers, RunsTheProgramsWithOurShapes) {
  PeerOptions options;
  options.llama_bench = program("llama-bench", kBench);
  options.llama_batched_bench = program("llama-batched-bench", kBatched);
  options.model = "m.gguf";
  options.threads = 2;
  options.streams = {1, 4};
  PeerSpeeds speeds;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(run_peers_once(options, speeds));
  EXPECT_EQ(speeds.prefill.runs.size(), 3u);
  EXPECT_EQ(speeds.decode[1].runs, (std::vector<double>{126.5, 126.5, 126.5}));
  EXPECT_EQ(speeds.decode[4].runs.size(), 3u);
  std::string arguments;
  std::ifstream args(options.llama_batched_bench.string() + ".args");
  std::getline(args, arguments);
  EXPECT_EQ(arguments, "-m m.gguf -c 516 -npp 1 -ntg 128 -npl 1,4 -t 2 -tb 2 -fa on -ngl 0 --output-format jsonl");
}

TEST(Peers, AProgramThatFailsIsNamed) {
  PeerOptions options;
  PeerSpeeds speeds;
  options.llama_bench = program("failing", "", 3);
  auto result = run_peers_once(options, speeds);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("failing failed with status 3"), std::string::npos);
  options.llama_bench = "/nonexistent/llama-bench";
  EXPECT_FALSE(run_peers_once(options, speeds));
  options.llama_bench = program("talkative", "no JSON");
  result = run_peers_once(options, speeds);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("talkative"), std::string::npos);
}

TEST(Child, CollectsOutput) {
  EXPECT_EQ(*run_and_read("printf", {"%s", "a b\n"}), "a b\n");
  EXPECT_EQ(run_and_read("head", {"-c", "2000000", "/dev/zero"})->size(), 2'000'000u);
  EXPECT_FALSE(run_and_read("head", {"-c", "20000000", "/dev/zero"}));
  EXPECT_FALSE(run_and_read("sh", {"-c", "kill -9 $$"}));
}

}  // namespace
}  // namespace pagemill
