// Clients that leave, stall or come in crowds: every request ends once, nothing is kept, others are served.
#include <fstream>
#include <iterator>

#include "api/api_fixture.h"
#include "base/rng.h"
#include "support/paths.h"

namespace pagemill::test {
namespace {

// Sanitizers take ten times as long and keep what was freed.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__clang__)
constexpr bool kSanitized = __has_feature(thread_sanitizer) || __has_feature(address_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  size_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

std::string completion_request(const std::string& body) {
  return "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

class AbuseTest : public ApiTest {
 protected:
  void say_slowly(int tokens, TimeNs per_token_ns) {
    engine_config.script = [=](const EngineRequest&) {
      ScriptedAnswer answer;
      answer.tokens.assign(static_cast<size_t>(tokens), 'a');
      answer.first_token_ns = answer.per_token_ns = per_token_ns;
      return answer;
    };
  }
  void expect_nothing_left() {
    EXPECT_TRUE(eventually([&] { return the_api->under_way() == 0; })) << the_api->under_way();
    EXPECT_TRUE(eventually([&] { return engine->stats().running == 0 && engine->stats().waiting == 0; }));
    EXPECT_EQ(get("/health").status, 200);
  }
};

TEST_F(AbuseTest, DisconnectsInEveryState) {
  say_slowly(200, kNsPerMs);
  engine_config.running_max = 2;  // others are queued
  start();
  SplitMix64 random(1);
  for (int round = 0; round < 200; ++round) {
    RawClient raw(server->port());
    const std::string body = R"({"prompt":"x","max_tokens":200,"n":2,"stream":)" + std::string(round % 2 ? "true}" : "false}");
    const std::string request = completion_request(body);
    // Within the head, within the body, at once after it, and some way into the answer.
    raw.send(request.substr(0, round % 4 == 0 ? random.below(request.size()) : request.size()));
    if (round % 4 == 3) usleep(static_cast<useconds_t>(random.below(20'000)));
    if (round % 3 == 0) raw.reset();
  }
  expect_nothing_left();
}

TEST_F(AbuseTest, TenThousandAbortedRequestsLeakNothing) {
  say_slowly(100'000, kNsPerMs);
  start();
  const std::string request = completion_request(R"({"prompt":"x","max_tokens":3000,"stream":true})");
  constexpr int kRequests = kSanitized ? 1'000 : 10'000;
  size_t half = 0;
  for (int i = 0; i < kRequests; ++i) {
    RawClient raw(server->port());
    raw.send(request);
    if (i % 10 == 0) raw.receive();
    raw.reset();
    if (i % 100 == 99) {
      EXPECT_TRUE(eventually([&] { return the_api->under_way() == 0; }));  // else the last ones' buffers would be counted
    }
    if (i == kRequests / 2) half = resident_bytes();
  }
  expect_nothing_left();
  EXPECT_TRUE(eventually([&] { return server->connections() <= 1; }));
  if (!kSanitized) {
    EXPECT_LT(resident_bytes(), half + half / 50 + (1 << 20)) << "the second half made the process grow";
  }
}

TEST_F(AbuseTest, AStreamThatNobodyReadsIsCutOff) {
  server_options.limits.write_buffer_bytes_max = 200'000;
  engine_config.model.context_max = 1'000'000;
  engine_config.script = [](const EngineRequest&) {
    ScriptedAnswer answer;
    answer.tokens.assign(100'000, 'a');  // with log-probabilities far more than every buffer on the way holds
    return answer;
  };
  server_options.limits.write_stall_timeout_s = 1;
  start();
  RawClient stalled(server->port(), 4'096);
  stalled.send(completion_request(R"({"prompt":"x","max_tokens":900000,"stream":true,"logprobs":5})"));
  ASSERT_TRUE(eventually([&] { return the_api->under_way() == 1; }));
  EXPECT_EQ(get("/version").status, 200);
  EXPECT_TRUE(eventually([&] { return the_api->under_way() == 0; }));
  EXPECT_TRUE(eventually([&] { return engine->stats().running == 0; }));
}

TEST_F(AbuseTest, ASlowReaderStillGetsEveryCharacter) {
  const std::string text = [] {
    std::string made;
    for (int i = 0; made.size() < 400'000; ++i) made += std::to_string(i) + " ";
    return made;
  }();
  engine_config.model.context_max = 1'000'000;
  engine_config.script = [&](const EngineRequest&) { return ScriptedAnswer{.tokens = {text.begin(), text.end()}}; };
  start();
  RawClient slow(server->port(), 4'096);
  slow.send(completion_request(R"({"prompt":"x","max_tokens":900000,"stream":true})"));
  usleep(300'000);
  const auto answer = slow.read_answer();
  std::string said;
  const std::vector<std::string> frames = frames_of(answer.body);
  for (const std::string& frame : frames)
    if (frame != "[DONE]") said += parse_json(frame)->at("choices").at(0).at("text").as_string();
  EXPECT_TRUE(said == text) << said.size() << " of " << text.size();
  EXPECT_EQ(frames.back(), "[DONE]");
  EXPECT_LT(frames.size(), text.size() / 2) << "chunks were not merged while the reader was behind";
}

TEST_F(AbuseTest, AFullQueueSays429AndLosesNothing) {
  say_slowly(20, kNsPerMs);
  engine_config.running_max = 2;
  engine_config.queued_max = 4;
  start();
  std::atomic<int> served = 0, refused = 0, other = 0;
  std::vector<std::thread> clients;
  for (int c = 0; c < 16; ++c)
    clients.emplace_back([&] {
      http::Client own;
      for (int i = 0; i < 20; ++i) {
        const auto answer = own.fetch({.method = "POST", .url = url("/v1/completions"), .headers = {{"Content-Type", "application/json"}}, .body = R"({"prompt":"x","max_tokens":20})"});
        if (answer && answer->status == 200 && parse_json(answer->body)->at("usage").at("completion_tokens") == 20) ++served;
        else if (answer && answer->status == 429 && header(*answer, "Retry-After") == "1") ++refused;
        else ++other;
      }
    });
  for (std::thread& one : clients) one.join();
  EXPECT_EQ(other, 0);
  EXPECT_GT(served, 0);
  EXPECT_GT(refused, 0);
  EXPECT_EQ(served + refused, 320);
  expect_nothing_left();
}

TEST_F(AbuseTest, DrainingFinishesWhatIsUnderWay) {
  say_slowly(50, 5 * kNsPerMs);
  start();
  RawClient raw(server->port());
  raw.send(completion_request(R"({"prompt":"x","max_tokens":50,"stream":true})"));
  ASSERT_FALSE(raw.read_until("data: ").empty());
  engine->drain(engine->clock().now_ns() + 60 * kNsPerSecond);
  EXPECT_EQ(get("/health").status, 503);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"x"})").status, 503);
  server->stop_accepting();
  EXPECT_FALSE(raw.read_until("data: [DONE]\n\n").empty());
  EXPECT_TRUE(eventually([&] { return the_api->under_way() == 0; }));
}

TEST_F(AbuseTest, StoppingEndsStreams) {
  say_slowly(100'000, kNsPerMs);
  start();
  RawClient raw(server->port());
  raw.send(completion_request(R"({"prompt":"x","max_tokens":3000,"stream":true})"));
  ASSERT_FALSE(raw.read_until("data: ").empty());
  stop();
  raw.read_to_end();
}

TEST_F(AbuseTest, MetricsKeepVllmsNamesAndCountWhatHappened) {
  start();
  post("/v1/completions", R"({"prompt":"abc","max_tokens":4})");
  post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"hello"}],"stream":true})");
  get("/nowhere/1");
  get("/nowhere/2");
  const http::Response answer = get("/metrics");
  EXPECT_EQ(header(answer, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  // What vLLM's own dashboards query.
  for (const char* name : {"vllm:e2e_request_latency_seconds_bucket", "vllm:e2e_request_latency_seconds_sum", "vllm:e2e_request_latency_seconds_count", "vllm:inter_token_latency_seconds_bucket",
                           "vllm:time_to_first_token_seconds_bucket", "vllm:time_to_first_token_seconds_sum", "vllm:request_success_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total",
                           "vllm:request_prompt_tokens_bucket", "vllm:request_generation_tokens_bucket", "vllm:request_queue_time_seconds_sum", "vllm:request_prefill_time_seconds_sum",
                           "vllm:request_decode_time_seconds_sum", "vllm:request_max_num_generation_tokens_sum", "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                           "vllm:iteration_tokens_total_count", "vllm:request_time_per_output_token_seconds_bucket", "vllm:request_inference_time_seconds_sum", "vllm:num_preemptions_total",
                           "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "http_requests_total", "http_request_duration_seconds_bucket"})
    EXPECT_NE(answer.body.find(std::string("\n") + name + "{"), std::string::npos) << name;
  EXPECT_NE(answer.body.find("vllm:request_success_total{model_name=\"test-model\",engine=\"0\",finished_reason=\"stop\"} 2"), std::string::npos) << answer.body;
  EXPECT_NE(answer.body.find("http_requests_total{handler=\"other\",method=\"other\",status=\"4xx\"} 2"), std::string::npos);
  EXPECT_EQ(answer.body.find("nowhere"), std::string::npos);
}

/// Every metric that the dashboard in docs/ asks for is one that the server has.
TEST_F(AbuseTest, TheDashboardAsksForMetricsThatExist) {
  start();
  get("/version");
  const std::string exposition = get("/metrics").body;
  std::ifstream file(test::source_path("docs/grafana.json"));
  const std::string dashboard((std::istreambuf_iterator<char>(file)), {});
  ASSERT_TRUE(parse_json(dashboard));
  int found = 0;
  for (const char* prefix : {"vllm:", "http_requests"})
    for (size_t at = 0; (at = dashboard.find(prefix, at)) != std::string::npos;) {
      const size_t end = dashboard.find_first_not_of("abcdefghijklmnopqrstuvwxyz_:0123456789", at);
      EXPECT_NE(exposition.find("\n" + dashboard.substr(at, end - at) + "{"), std::string::npos) << dashboard.substr(at, end - at);
      at = end;
      ++found;
    }
  EXPECT_GT(found, 20);
}

}  // namespace
}  // namespace pagemill::test
