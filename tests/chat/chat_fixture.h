// Tests of the chat page's interface over real HTTP: browsers with a cookie each, and the events of their tabs.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "base/log.h"
#include "base/test_files.h"
#include "chat/conversations.h"
#include "chat/ids.h"
#include "chat/passwords.h"
#include "chat_server.h"
#include "http/client.h"

namespace pagemill::test {

struct Answer {
  int status = 0;
  std::string body;
  std::vector<http::Header> headers;
  json::value value;                     // where the body is JSON

  std::string header(std::string_view name) const {
    for (const auto& [key, one] : headers)
      if (key.size() == name.size() && std::equal(key.begin(), key.end(), name.begin(), [](char a, char b) { return (a | 32) == (b | 32); })) return one;
    return {};
  }
  const json::value& operator[](std::string_view name) const {
    const json::value* member = value.is_object() ? value.as_object().if_contains(json::string_view(name.data(), name.size())) : nullptr;
    if (member == nullptr) throw std::runtime_error("no '" + std::string(name) + "' in an answer with status " + std::to_string(status) + ": " + json::serialize(value));
    return *member;
  }
  std::string text(std::string_view name) const { return std::string((*this)[name].as_string()); }
  std::string reason() const {
    const json::value* error = value.is_object() ? value.as_object().if_contains("error") : nullptr;
    return error ? std::string(error->at("reason").as_string()) : "";
  }
};

/// One browser: keeps its cookie and CSRF token, sends what a page of the same origin sends.
class Browser {
 public:
  explicit Browser(std::string url) : url_(std::move(url)) {}

  Answer send(const std::string& method, const std::string& path, const std::string& body = {}, std::vector<http::Header> extra = {}, const std::string& type = "application/json") {
    std::vector<http::Header> headers = std::move(extra);
    if (!cookie.empty()) headers.emplace_back("Cookie", cookie);
    if (method != "GET" && method != "HEAD") {
      headers.emplace_back("X-CSRF-Token", csrf);
      headers.emplace_back("Origin", url_);
      headers.emplace_back("Sec-Fetch-Site", "same-origin");
      if (method != "DELETE") headers.emplace_back("Content-Type", type);
    }
    auto fetched = client_->fetch({.method = method, .url = url_ + path, .headers = headers, .body = body});
    EXPECT_TRUE(fetched) << method << " " << path << ": " << fetched.error().message;
    Answer answer;
    if (!fetched) return answer;
    answer.status = fetched->status;
    answer.body = fetched->body;
    answer.headers = fetched->headers;
    if (auto parsed = parse_json(answer.body)) answer.value = std::move(*parsed);
    if (const std::string set = answer.header("Set-Cookie"); !set.empty()) cookie = set.substr(0, set.find(';'));
    if (answer.value.is_object())
      if (const json::value* token = answer.value.as_object().if_contains("csrf"); token && token->is_string()) csrf = std::string(token->as_string());
    return answer;
  }
  Answer get(const std::string& path) { return send("GET", "/chat/api" + path); }
  Answer post(const std::string& path, const json::object& body = {}) { return send("POST", "/chat/api" + path, json::serialize(body)); }
  Answer patch(const std::string& path, const json::object& body) { return send("PATCH", "/chat/api" + path, json::serialize(body)); }
  Answer put(const std::string& path, const json::object& body) { return send("PUT", "/chat/api" + path, json::serialize(body)); }
  Answer del(const std::string& path) { return send("DELETE", "/chat/api" + path); }
  Answer upload(const std::string& name, const std::string& bytes) { return send("POST", "/chat/api/documents?name=" + name, bytes, {}, "application/octet-stream"); }

  std::string new_conversation(const json::object& body = {}) {
    const Answer made = post("/conversations", body);
    EXPECT_EQ(made.status, 201) << made.body;
    return made.text("id");
  }
  /// Sends and waits for the end; the assistant's message.
  json::value ask(const std::string& conversation, const std::string& text, const json::value& parent = nullptr, const json::array& documents = {}) {
    const Answer sent = post("/conversations/" + conversation + "/messages", {{"parent_id", parent}, {"text", text}, {"documents", documents}});
    EXPECT_EQ(sent.status, 201) << sent.body;
    if (sent.status != 201) return {};
    return wait_for_end(conversation, std::string(sent["assistant_message"].at("id").as_string()));
  }
  json::value message(const std::string& conversation, const std::string& id) {
    const Answer whole = get("/conversations/" + conversation);
    for (const json::value& one : whole["messages"].as_array())
      if (one.at("id").as_string() == id) return one;
    return {};
  }
  /// Liveness only: a minute.
  json::value wait_for_end(const std::string& conversation, const std::string& id) {
    for (int i = 0; i < 6'000; ++i) {
      json::value found = message(conversation, id);
      if (found.is_object() && found.at("status").as_string() != "generating") return found;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "the answer did not end";
    return {};
  }
  json::value wait_for_document(const std::string& id) {
    for (int i = 0; i < 6'000; ++i) {
      Answer found = get("/documents/" + id);
      if (found.status != 200 || found.text("status") != "extracting") return found.value;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "the document was not read";
    return {};
  }

  std::string cookie, csrf;
  const std::string& url() const { return url_; }

 private:
  std::string url_;
  std::unique_ptr<http::Client> client_ = std::make_unique<http::Client>();
};

struct Frame {
  std::string id, event;
  json::value data;
};

/// An open event stream, read by a thread of its own, which ends with the stream: at the server's next byte after close().
class Tab {
 public:
  explicit Tab(const Browser& browser, const std::string& after = {}, bool live = false) {
    std::thread([state = state_, url = browser.url() + "/chat/api/events" + (live ? "?live=1" : ""), cookie = browser.cookie, after] {
      http::Client client;
      std::vector<http::Header> headers{{"Cookie", cookie}};
      if (!after.empty()) headers.emplace_back("Last-Event-ID", after);
      (void)client.fetch({.url = url, .headers = headers, .on_data = [&](std::string_view bytes) {
        state->take(bytes);
        return !state->closing;
      }});
      state->ended = true;
    }).detach();
    wait([&](const std::vector<Frame>&) { return state_->bytes > 0; });
  }
  ~Tab() { state_->closing = true; }
  std::vector<Frame> frames() const {
    std::lock_guard lock(state_->mutex);
    return state_->frames;
  }
  bool ended() const { return state_->ended; }
  /// Waits until `good`; liveness only.
  bool wait(const std::function<bool(const std::vector<Frame>&)>& good) {
    for (int i = 0; i < 6'000; ++i) {
      if (good(frames())) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  bool wait_for(const std::string& event, size_t count = 1) {
    return wait([&](const std::vector<Frame>& all) { return static_cast<size_t>(std::count_if(all.begin(), all.end(), [&](const Frame& one) { return one.event == event; })) >= count; });
  }
  /// The text that the deltas of a message add up to.
  std::string text_of(const std::string& message_id) const {
    std::string text;
    for (const Frame& one : frames())
      if (one.event == "delta" && std::string(one.data.at("message_id").as_string()) == message_id) text += std::string(one.data.at("text").as_string());
    return text;
  }

 private:
  struct State {
    std::mutex mutex;
    std::string rest;
    std::vector<Frame> frames;
    std::atomic<size_t> bytes{0};
    std::atomic<bool> closing{false}, ended{false};

    void take(std::string_view text) {
      std::lock_guard lock(mutex);
      bytes += text.size();
      rest.append(text);
      for (size_t end = rest.find("\n\n"); end != std::string::npos; end = rest.find("\n\n")) {
        add(std::string_view(rest).substr(0, end));
        rest.erase(0, end + 2);
      }
    }
    void add(std::string_view text) {
      Frame frame;
      while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        if (line.starts_with("id: ")) frame.id = line.substr(4);
        if (line.starts_with("event: ")) frame.event = line.substr(7);
        if (line.starts_with("data: "))
          if (auto parsed = parse_json(line.substr(6))) frame.data = std::move(*parsed);
        text.remove_prefix(std::min(line.size() + 1, text.size()));
      }
      if (!frame.event.empty()) frames.push_back(std::move(frame));
    }
  };

  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

class ChatTest : public testing::Test {
 protected:
  ChatTest() {
    configure_log(LogLevel::off);
    options = chat_server_options(data_dir_);
  }
  void start() {
    auto started = ChatServer::start(options);
    ASSERT_TRUE(started) << started.error().message;
    server = std::move(*started);
  }
  void restart() {
    server.reset();
    start();
  }
  Browser browser() const { return Browser(server->url()); }
  /// A browser in which the first admin has signed in.
  Browser admin() {
    Browser made = browser();
    const Answer answer = made.post("/setup", {{"token", server->site->setup_token()}, {"email", "admin@example.org"}, {"password", "correct horse"}, {"name", "Admin"}});
    EXPECT_EQ(answer.status, 201) << answer.body;
    return made;
  }
  /// A user that an admin has made, signed in.
  Browser user(Browser& by, const std::string& email, const std::string& role = "user") {
    EXPECT_EQ(by.post("/users", {{"email", email}, {"name", email.substr(0, email.find('@'))}, {"role", role}, {"password", "battery staple"}}).status, 201);
    Browser made = browser();
    EXPECT_EQ(made.post("/login", {{"email", email}, {"password", "battery staple"}}).status, 200);
    return made;
  }

  const TemporaryFolder folder_;
  const std::filesystem::path data_dir_ = folder_.path() / "data";
  ChatServerOptions options;
  std::unique_ptr<ChatServer> server;
};

}  // namespace pagemill::test
