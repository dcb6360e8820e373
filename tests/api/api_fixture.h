// A whole server in the test's process: HTTP, API, sessions, and an engine that says what the test scripts.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "api/api.h"
#include "api/error_body.h"
#include "api/static_keys.h"
#include "base/log.h"
#include "http/client.h"
#include "http/raw_client.h"
#include "session/scripted_engine.h"
#include "support/text_support.h"

namespace pagemill::test {

class ApiTest : public testing::Test {
 protected:
  ApiTest() {
    configure_log(LogLevel::warning);
    engine_config.model = test_model_info();
    engine_config.script = repeat_user;
    options.model_names = {"test-model", "alias"};
    options.version = "1.2.3";
    server_options.port = 0;
    server_options.io_threads = 2;
    server_options.refusal = api::http_refusal;
  }

  void start(bool with_text = true) {
    engine = make_scripted_engine(engine_config);
    authenticator = make_static_authenticator(keys);
    auto listening = http::Server::listen(server_options);
    ASSERT_TRUE(listening) << listening.error().message;
    server = std::move(*listening);
    the_api = std::make_unique<api::Api>(options, *engine, *authenticator, registry, *server);
    if (with_text) the_api->set_text(test_text_model());
    the_api->start();
  }

  void TearDown() override { stop(); }
  void stop() {
    if (the_api) the_api->close();
    server.reset();
    the_api.reset();
    engine.reset();
  }

  std::string url(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(server->port()) + path; }

  http::Response get(const std::string& path, std::vector<http::Header> headers = {}) {
    auto answer = client.fetch({.url = url(path), .headers = std::move(headers)});
    EXPECT_TRUE(answer) << answer.error().message;
    return answer ? *answer : http::Response{0, {}, ""};
  }
  http::Response post(const std::string& path, const std::string& body, std::vector<http::Header> headers = {}) {
    headers.emplace_back("Content-Type", "application/json");
    auto answer = client.fetch({.method = "POST", .url = url(path), .headers = std::move(headers), .body = body});
    EXPECT_TRUE(answer) << answer.error().message;
    return answer ? *answer : http::Response{0, {}, ""};
  }
  /// The JSON of an answer with that status.
  json::value post_json(const std::string& path, const std::string& body, int status = 200) {
    const http::Response answer = post(path, body);
    EXPECT_EQ(answer.status, status) << answer.body;
    const auto value = parse_json(answer.body);
    EXPECT_TRUE(value) << answer.body;
    return value ? *value : json::value();
  }
  /// The data of each SSE frame; fails where a byte is not part of one.
  static std::vector<std::string> frames_of(std::string_view body) {
    std::vector<std::string> frames;
    while (!body.empty()) {
      const size_t end = body.find("\n\n");
      EXPECT_TRUE(body.starts_with("data: ") && end != std::string_view::npos) << body;
      if (!body.starts_with("data: ") || end == std::string_view::npos) break;
      frames.emplace_back(body.substr(6, end - 6));
      body.remove_prefix(end + 2);
    }
    return frames;
  }
  /// The chunks of a stream; the last frame must be [DONE].
  std::vector<json::value> stream(const std::string& path, const std::string& body) {
    const http::Response answer = post(path, body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    std::vector<std::string> frames = frames_of(answer.body);
    EXPECT_TRUE(!frames.empty() && frames.back() == "[DONE]") << answer.body;
    std::vector<json::value> chunks;
    for (size_t i = 0; i + 1 < frames.size(); ++i) {
      const auto value = parse_json(frames[i]);
      EXPECT_TRUE(value) << frames[i];
      if (value) chunks.push_back(*value);
    }
    return chunks;
  }
  static std::string header(const http::Response& response, std::string_view name) {
    for (const auto& [key, value] : response.headers)
      if (key == name) return value;
    return {};
  }

  ScriptedEngineConfig engine_config;
  api::ApiOptions options;
  http::ServerOptions server_options;
  std::vector<StaticKey> keys;
  MetricRegistry registry;
  std::unique_ptr<EngineHandle> engine;
  std::unique_ptr<Authenticator> authenticator;
  std::unique_ptr<http::Server> server;
  std::unique_ptr<api::Api> the_api;
  http::Client client;
};

}  // namespace pagemill::test
