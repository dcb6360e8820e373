// Who may do what: every route and credential from the one table; Host, Origin, limits, and what the log holds.
#include <fstream>
#include <sstream>

#include "api/admission.h"
#include "api/api_fixture.h"

namespace pagemill::test {
namespace {

constexpr const char* kInference = "sk-inference-secret";
constexpr const char* kMetrics = "sk-metrics-secret";
constexpr const char* kUnknown = "sk-unknown-secret";

class SecurityTest : public ApiTest {
 protected:
  void use_keys() {
    keys = {*make_static_key(kInference, 1u << static_cast<uint32_t>(Scope::inference)), *make_static_key(kMetrics, 1u << static_cast<uint32_t>(Scope::metrics))};
  }
  http::Response request(const api::RouteInfo& route, std::vector<http::Header> headers, const std::string& query = {}) {
    std::string path(route.path);
    if (const size_t brace = path.find('{'); brace != std::string::npos) path = path.substr(0, brace) + "test-model";
    if (route.method == "POST") headers.emplace_back("Content-Type", "application/json");
    auto answer = client.fetch({.method = std::string(route.method), .url = url(path) + query, .headers = headers, .body = route.method == "POST" ? "{}" : ""});
    EXPECT_TRUE(answer) << answer.error().message;
    return answer ? *answer : http::Response{0, {}, ""};
  }
};

TEST_F(SecurityTest, EveryRouteWithEveryCredentialInEveryCarrier) {
  use_keys();
  start();
  using Carrier = std::function<std::vector<http::Header>(std::string)>;
  const std::vector<std::pair<bool, Carrier>> carriers{
      {true, [](const std::string& key) { return std::vector<http::Header>{{"Authorization", "Bearer " + key}}; }},
      {true, [](const std::string& key) { return std::vector<http::Header>{{"X-Api-Key", key}}; }},
      {false, [](const std::string& key) { return std::vector<http::Header>{{"Authorization", "Basic " + key}}; }},
      {false, [](const std::string& key) { return std::vector<http::Header>{{"Cookie", "api_key=" + key}}; }},
      {false, [](const std::string& key) { return std::vector<http::Header>{{"Api-Key", key}}; }},
  };
  int walked = 0;
  for (const api::RouteInfo& route : api::routes()) {
    ++walked;
    EXPECT_TRUE(route.scope != Scope::none || route.path == "/health") << route.path << " is open";
    const auto expect = [&](const http::Response& answer, bool known, bool allowed, const std::string& what) {
      if (route.scope == Scope::none || (known && allowed)) EXPECT_TRUE(answer.status == 200 || answer.status == 400) << route.path << " " << what << answer.status;
      else EXPECT_EQ(answer.status, known ? 403 : 401) << route.path << " " << what;
    };
    for (const auto& [carries, carrier] : carriers) {
      expect(request(route, carrier(kInference)), carries, route.scope == Scope::inference, "inference key");
      expect(request(route, carrier(kMetrics)), carries, route.scope == Scope::metrics, "metrics key");
      expect(request(route, carrier(kUnknown)), false, false, "unknown key");
    }
    expect(request(route, {}), false, false, "no key");
    expect(request(route, {}, std::string("?api_key=") + kInference), false, false, "key in the query");
  }
  EXPECT_EQ(walked, 12);
}

TEST_F(SecurityTest, TheBodyOf401IsVllms) {
  use_keys();
  start();
  const http::Response answer = post("/v1/chat/completions", "{}");
  EXPECT_EQ(answer.status, 401);
  EXPECT_EQ(answer.body, R"({"error":"Unauthorized"})");
  EXPECT_EQ(header(answer, "WWW-Authenticate"), "Bearer");
}

TEST_F(SecurityTest, HostsThatAreNotOursAreRefused) {
  options.allowed_hosts = {"llm.example"};
  start();
  for (const auto& [host, status] : {std::pair{"localhost:8080", 200}, {"127.0.0.1", 200}, {"[::1]:80", 200}, {"10.1.2.3:9", 200}, {"LLM.example:443", 200}, {"app.localhost", 200},
                                     {"evil.example", 421}, {"llm.example.evil", 421}, {"localhost.evil", 421}, {"127.0.0.1.evil", 421}, {"[::1", 421}, {"x", 421}}) {
    RawClient raw(server->port());
    raw.send(std::string("GET /health HTTP/1.1\r\nHost: ") + host + "\r\n\r\n");
    EXPECT_EQ(raw.read_answer().status, status) << host;
  }
}

TEST_F(SecurityTest, CorsIsOffUnlessAllowed) {
  start();
  const http::Response none = get("/version", {{"Origin", "https://page.example"}});
  EXPECT_EQ(header(none, "Access-Control-Allow-Origin"), "");
  stop();
  options.allowed_origins = {"https://page.example"};
  start();
  EXPECT_EQ(header(get("/version", {{"Origin", "https://page.example"}}), "Access-Control-Allow-Origin"), "https://page.example");
  EXPECT_EQ(header(get("/version", {{"Origin", "https://page.example.evil"}}), "Access-Control-Allow-Origin"), "");
  const auto preflight = client.fetch({.method = "OPTIONS", .url = url("/v1/chat/completions"), .headers = {{"Origin", "https://page.example"}, {"Access-Control-Request-Method", "POST"}}});
  EXPECT_EQ(preflight->status, 204);
  EXPECT_EQ(header(*preflight, "Access-Control-Allow-Methods"), "POST");
}

TEST_F(SecurityTest, AKeyHasItsShare) {
  StaticKey key = *make_static_key("sk-limited-key");
  key.limits.concurrent_requests_max = 1;
  keys = {key};
  engine_config.script = [](const EngineRequest&) {
    ScriptedAnswer answer;
    answer.tokens.assign(1'000, 'a');
    answer.per_token_ns = 20 * kNsPerMs;
    return answer;
  };
  start();
  const std::string body = R"({"prompt":"x","max_tokens":1000,"stream":true})";
  const std::string head = "Host: localhost\r\nAuthorization: Bearer sk-limited-key\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  RawClient first(server->port());
  first.send("POST /v1/completions HTTP/1.1\r\n" + head + body);
  EXPECT_TRUE(first.read_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
  const http::Response second = post("/v1/completions", body, {{"Authorization", "Bearer sk-limited-key"}});
  EXPECT_EQ(second.status, 429);
  EXPECT_EQ(header(second, "Retry-After"), "1");
  first.close();
  EXPECT_TRUE(eventually([&] { return the_api->under_way() == 0; }));
  EXPECT_TRUE(eventually([&] { return engine->stats().running == 0; }));
}

TEST_F(SecurityTest, TheLogHoldsNoSecret) {
  use_keys();
  testing::internal::CaptureStderr();
  for (const bool as_json : {false, true}) {
    configure_log(LogLevel::debug, as_json);
    start();
    configure_log(LogLevel::debug, as_json);
    const std::vector<http::Header> credential{{"Authorization", std::string("Bearer ") + kInference}, {"Cookie", "session=sk-cookie-secret"}};
    post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"prompt-secret"}],"odd_field":"value-secret"})", credential);
    post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"prompt-secret"}],"temperature":"value-secret"})", credential);
    post("/v1/chat/completions?api_key=sk-query-secret", "{broken prompt-secret", credential);
    get("/v1/models?token=sk-query-secret", {{"X-Api-Key", kUnknown}});
    get("/v1/models", {{"X-Request-Id", "a\tb-secret"}});
    stop();
  }
  configure_log(LogLevel::warning);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("/v1/chat/completions"), std::string::npos);
  EXPECT_EQ(log.find("secret"), std::string::npos) << log;
  std::istringstream lines(log);
  int as_json = 0;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("{")) {
      EXPECT_TRUE(parse_json(line)) << line;
      ++as_json;
    }
  EXPECT_GE(as_json, 5);
}

TEST(Admission, ForwardedAddressesAreBelievedFromProxiesOnly) {
  http::Request request;
  request.peer_address = "10.0.0.1";
  request.headers = {{"X-Forwarded-For", "1.2.3.4, 5.6.7.8, 10.0.0.2"}};
  EXPECT_EQ(api::client_address(request, {}), "10.0.0.1");
  EXPECT_EQ(api::client_address(request, {"10.0.0.1", "10.0.0.2"}), "5.6.7.8");
  request.headers = {{"X-Forwarded-For", "spoofed\"value"}};
  EXPECT_EQ(api::client_address(request, {"10.0.0.1"}), "10.0.0.1");
}

}  // namespace
}  // namespace pagemill::test
