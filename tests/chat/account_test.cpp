// Accounts over HTTP: setup, sign-in, sessions, CSRF, keys, users.
#include "chat_fixture.h"

namespace pagemill::test {
namespace {

TEST_F(ChatTest, TheSetupLinkMakesOneAdmin) {
  start();
  Browser b = browser();
  Answer me = b.get("/me");
  EXPECT_EQ(me.status, 200);
  EXPECT_TRUE(me["setup_needed"].as_bool());
  EXPECT_TRUE(me["user"].is_null());
  const json::object wrong{{"token", "nonsense"}, {"email", "a@b.org"}, {"password", "correct horse"}, {"name", "A"}};
  EXPECT_EQ(b.post("/setup", wrong).reason(), "token_invalid");
  b = admin();
  me = b.get("/me");
  EXPECT_EQ(me["user"].at("role").as_string(), "admin");
  EXPECT_FALSE(me["setup_needed"].as_bool());
  EXPECT_EQ(browser().post("/setup", {{"token", server->site->setup_token()}, {"email", "c@d.org"}, {"password", "correct horse"}, {"name", "C"}}).reason(), "already_set_up");
  restart();
  EXPECT_TRUE(server->site->setup_token().empty());
}

TEST_F(ChatTest, FiftyParallelFirstRegistrationsMakeOneAdmin) {
  start();
  std::atomic<int> made{0}, refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 50; ++i)
    threads.emplace_back([&, i] {
      Browser b = browser();
      const Answer answer = b.post("/setup", {{"token", server->site->setup_token()}, {"email", "u" + std::to_string(i) + "@example.org"}, {"password", "correct horse"}, {"name", "U"}});
      if (answer.status == 201) ++made;
      else if (answer.status == 409 || answer.status == 429) ++refused;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(refused, 49);
  EXPECT_EQ(server->site->accounts->users("", "", 100).size(), 1u);
}

TEST_F(ChatTest, SignInAnswersTheSameForEveryFailure) {
  start();
  Browser a = admin();
  user(a, "locked@example.org");
  const auto locked = server->site->accounts->user_by_email("locked@example.org");
  EXPECT_EQ(a.patch("/users/" + locked->id, {{"disabled", true}}).status, 200);
  std::set<std::string> bodies;
  for (const auto& [email, password] : std::vector<std::pair<std::string, std::string>>{{"admin@example.org", "wrong password"}, {"nobody@example.org", "wrong password"}, {"locked@example.org", "battery staple"}}) {
    const Answer answer = browser().post("/login", {{"email", email}, {"password", password}});
    EXPECT_EQ(answer.status, 401);
    bodies.insert(answer.body);
  }
  EXPECT_EQ(bodies.size(), 1u);
}

TEST_F(ChatTest, GuessingIsSlowedDown) {
  start();
  admin();
  int last = 0;
  for (int i = 0; i < 8 && last != 429; ++i) last = browser().post("/login", {{"email", "admin@example.org"}, {"password", "guess number " + std::to_string(i)}}).status;
  EXPECT_EQ(last, 429);
  const Answer right = browser().post("/login", {{"email", "admin@example.org"}, {"password", "correct horse"}});
  EXPECT_EQ(right.reason(), "throttled");
  EXPECT_FALSE(right.header("Retry-After").empty());
}

TEST_F(ChatTest, ASessionIsNewAtSignInAndUnreadableForScripts) {
  start();
  admin();
  Browser b = browser();
  b.cookie = "pagemill_session=planted-by-somebody-else";
  const Answer answer = b.post("/login", {{"email", "admin@example.org"}, {"password", "correct horse"}});
  const std::string set = answer.header("Set-Cookie");
  EXPECT_NE(set.find("HttpOnly"), std::string::npos);
  EXPECT_NE(set.find("SameSite=Strict"), std::string::npos);
  EXPECT_EQ(set.find("planted"), std::string::npos);
  EXPECT_EQ(answer.body.find(b.cookie.substr(b.cookie.find('=') + 1)), std::string::npos) << "the token is in no body";
  // Signing in again ends the session that the browser had.
  const std::string before = b.cookie;
  EXPECT_EQ(b.post("/login", {{"email", "admin@example.org"}, {"password", "correct horse"}}).status, 200);
  EXPECT_NE(b.cookie, before);
  Browser old = browser();
  old.cookie = before;
  EXPECT_TRUE(old.get("/me")["user"].is_null());
}

TEST_F(ChatTest, TheCookieIsForTheHostAloneUnderTls) {
  start();
  admin();
  Browser b = browser();
  http::Client client;
  const auto answer = client.fetch({.method = "POST",
                                    .url = b.url() + "/chat/api/login",
                                    .headers = {{"Content-Type", "application/json"}, {"Origin", "https" + b.url().substr(4)}, {"Sec-Fetch-Site", "same-origin"}},
                                    .body = R"({"email":"admin@example.org","password":"correct horse"})"});
  ASSERT_TRUE(answer);
  std::string set;
  for (const auto& [name, value] : answer->headers)
    if (name == "Set-Cookie") set = value;
  EXPECT_TRUE(set.starts_with("__Host-pagemill_session=")) << set;
  EXPECT_NE(set.find("; Secure"), std::string::npos);
  EXPECT_NE(set.find("Path=/;"), std::string::npos);
}

TEST_F(ChatTest, LogoutAndPasswordChangeEndSessions) {
  start();
  Browser a = admin(), other = browser();
  EXPECT_EQ(other.post("/login", {{"email", "admin@example.org"}, {"password", "correct horse"}}).status, 200);
  const Answer key = a.post("/keys", {{"name", "k"}, {"password", "correct horse"}});
  ASSERT_EQ(key.status, 201) << key.body;
  EXPECT_EQ(a.get("/sessions")["sessions"].as_array().size(), 2u);
  EXPECT_EQ(a.post("/password", {{"current_password", "wrong one"}, {"password", "a new password"}}).reason(), "password_wrong");
  EXPECT_EQ(a.post("/password", {{"current_password", "correct horse"}, {"password", "a new password"}}).status, 200);
  EXPECT_EQ(other.get("/conversations").reason(), "signed_out");
  EXPECT_EQ(a.get("/conversations").status, 200);
  EXPECT_TRUE(a.get("/keys")["keys"].as_array().empty());
  EXPECT_EQ(a.post("/logout").status, 204);
  EXPECT_EQ(a.get("/conversations").status, 401);
  EXPECT_EQ(browser().post("/login", {{"email", "admin@example.org"}, {"password", "a new password"}}).status, 200);
}

TEST_F(ChatTest, WritesNeedTheTokenAndTheOrigin) {
  start();
  Browser a = admin();
  http::Client client;
  const auto send = [&](std::vector<http::Header> headers) {
    headers.emplace_back("Cookie", a.cookie);
    headers.emplace_back("Content-Type", "application/json");
    const auto answer = client.fetch({.method = "POST", .url = a.url() + "/chat/api/conversations", .headers = headers, .body = "{}"});
    return answer ? answer->status : 0;
  };
  EXPECT_EQ(send({}), 403);
  EXPECT_EQ(send({{"X-CSRF-Token", "0123456789abcdef0123456789abcdef"}}), 403);
  EXPECT_EQ(send({{"X-CSRF-Token", a.csrf}, {"Origin", "https://evil.example"}}), 403);
  EXPECT_EQ(send({{"X-CSRF-Token", a.csrf}, {"Origin", "null"}}), 403);
  EXPECT_EQ(send({{"X-CSRF-Token", a.csrf}, {"Sec-Fetch-Site", "cross-site"}}), 403);
  EXPECT_EQ(send({{"X-CSRF-Token", a.csrf}, {"Sec-Fetch-Site", "same-site"}}), 403);
  EXPECT_EQ(send({{"X-CSRF-Token", a.csrf}, {"Origin", a.url()}}), 201);
  // A form of another site can send no JSON.
  const auto form = client.fetch({.method = "POST", .url = a.url() + "/chat/api/login", .headers = {{"Content-Type", "text/plain"}}, .body = R"({"email":"a@b","password":"x"})"});
  EXPECT_EQ(form->status, 415);
}

TEST_F(ChatTest, TheTwoKindsOfCredentialStayApart) {
  options.credential_needed = true;
  start();
  Browser a = admin();
  const Answer key = a.post("/keys", {{"name", "my key"}, {"password", "correct horse"}});
  ASSERT_EQ(key.status, 201) << key.body;
  const std::string secret = key.text("secret");
  http::Client client;
  const auto v1 = [&](std::vector<http::Header> headers) { return client.fetch({.url = a.url() + "/v1/models", .headers = std::move(headers)})->status; };
  EXPECT_EQ(v1({}), 401);
  EXPECT_EQ(v1({{"Cookie", a.cookie}}), 401);
  EXPECT_EQ(v1({{"Authorization", "Bearer " + secret}}), 200);
  EXPECT_EQ(v1({{"X-Api-Key", secret}}), 200);
  EXPECT_EQ(v1({{"Authorization", "Bearer pm-unknown"}}), 401);
  const auto with_key = client.fetch({.url = a.url() + "/chat/api/conversations", .headers = {{"Authorization", "Bearer " + secret}}});
  EXPECT_EQ(with_key->status, 401);
  const auto metrics = client.fetch({.url = a.url() + "/metrics", .headers = {{"Authorization", "Bearer " + secret}}});
  EXPECT_EQ(metrics->status, 403) << "the key has the scope inference alone";
  EXPECT_EQ(a.get("/keys").body.find(secret), std::string::npos);
  EXPECT_EQ(a.del("/keys/" + std::string(key["key"].at("id").as_string())).status, 204);
  EXPECT_EQ(v1({{"Authorization", "Bearer " + secret}}), 401);
}

TEST_F(ChatTest, PendingAccountsReachNothing) {
  options.chat.signup = chat::Signup::pending;
  start();
  Browser a = admin(), p = browser();
  EXPECT_EQ(p.post("/signup", {{"email", "new@example.org"}, {"password", "battery staple"}, {"name", "New"}}).status, 201);
  EXPECT_EQ(p.get("/me")["user"].at("role").as_string(), "pending");
  for (const chat::Route& route : chat::chat_routes()) {
    if (route.access != chat::Access::user && route.access != chat::Access::admin) continue;
    std::string path(route.path);
    for (size_t at = path.find("{}"); at != std::string::npos; at = path.find("{}")) path.replace(at, 2, chat::new_id());
    const std::string type = route.body == chat::BodyKind::bytes ? "application/octet-stream" : "application/json";
    EXPECT_EQ(p.send(std::string(route.method), "/chat/api" + path, "{}", {}, type).reason(), "pending") << route.method << " " << route.path;
  }
  const auto pending = server->site->accounts->user_by_email("new@example.org");
  EXPECT_EQ(a.patch("/users/" + pending->id, {{"role", "user"}}).status, 200);
  EXPECT_EQ(p.get("/me")["user"].is_null(), true) << "a changed role ends the session";
}

TEST_F(ChatTest, SignupIsClosedUnlessOpened) {
  start();
  Browser a = admin();
  const json::object account{{"email", "new@example.org"}, {"password", "battery staple"}, {"name", "New"}};
  EXPECT_EQ(browser().post("/signup", account).reason(), "signup_closed");
  EXPECT_EQ(a.patch("/policy", {{"signup", "open"}}).status, 200);
  EXPECT_EQ(browser().post("/signup", account).status, 201);
  EXPECT_EQ(browser().post("/signup", account).reason(), "email_taken");
  restart();
  EXPECT_EQ(browser().get("/me").text("signup"), "open");
}

TEST_F(ChatTest, TheLastAdminStays) {
  start();
  Browser a = admin();
  const std::string id(a.get("/me")["user"].at("id").as_string());
  EXPECT_EQ(a.patch("/users/" + id, {{"role", "user"}}).reason(), "last_admin");
  EXPECT_EQ(a.patch("/users/" + id, {{"disabled", true}}).reason(), "last_admin");
  EXPECT_EQ(a.del("/users/" + id).reason(), "last_admin");
  EXPECT_EQ(a.get("/users").status, 200);
}

TEST_F(ChatTest, AResetLinkWorksOnce) {
  start();
  Browser a = admin();
  const Answer made = a.post("/users", {{"email", "new@example.org"}, {"name", "New"}, {"role", "user"}});
  ASSERT_EQ(made.status, 201);
  const std::string token = made.text("reset_token");
  Browser b = browser();
  EXPECT_EQ(b.post("/password/reset", {{"token", token}, {"password", "12345678"}}).reason(), "weak_password");
  EXPECT_EQ(b.post("/password/reset", {{"token", token}, {"password", "battery staple"}}).status, 200);
  EXPECT_EQ(b.get("/conversations").status, 200);
  EXPECT_EQ(browser().post("/password/reset", {{"token", token}, {"password", "another one"}}).reason(), "token_invalid");
}

TEST_F(ChatTest, ADisabledUsersStreamCloses) {
  start();
  Browser a = admin(), b = user(a, "b@example.org");
  Tab tab(b);
  const auto account = server->site->accounts->user_by_email("b@example.org");
  EXPECT_EQ(a.patch("/users/" + account->id, {{"disabled", true}}).status, 200);
  EXPECT_TRUE(tab.wait_for("signed_out"));
  EXPECT_TRUE(tab.wait([&](const auto&) { return tab.ended(); }));
  EXPECT_EQ(b.get("/conversations").status, 401);
}

TEST_F(ChatTest, WhatEndsAnAccountsRightsEndsItsStreamsAndKeys) {
  options.credential_needed = true;
  start();
  Browser a = admin();
  http::Client client;
  const std::vector<std::pair<std::string, std::function<int(const std::string&)>>> ends{
      {"demoted", [&](const std::string& id) { return a.patch("/users/" + id, {{"role", "pending"}}).status; }},
      {"disabled", [&](const std::string& id) { return a.patch("/users/" + id, {{"disabled", true}}).status; }},
      {"deleted", [&](const std::string& id) { return a.del("/users/" + id).status; }}};
  for (const auto& [how, end] : ends) {
    Browser b = user(a, how + "@example.org", "admin");
    const Answer key = b.post("/keys", {{"name", "k"}, {"password", "battery staple"}});
    ASSERT_EQ(key.status, 201) << key.body;
    const auto v1 = [&] { return client.fetch({.url = a.url() + "/v1/models", .headers = {{"Authorization", "Bearer " + key.text("secret")}}})->status; };
    EXPECT_EQ(v1(), 200);
    Tab tab(b);
    const int status = end(server->site->accounts->user_by_email(how + "@example.org")->id);
    EXPECT_EQ(status / 100, 2) << how;
    EXPECT_TRUE(tab.wait([&](const auto&) { return tab.ended(); })) << how;
    EXPECT_EQ(b.get("/users").status, 401) << how;
    EXPECT_EQ(v1(), 401) << how;
  }
}

TEST_F(ChatTest, KeysNeedThePasswordAndNeverStandInAnAddress) {
  options.credential_needed = true;
  start();
  Browser a = admin();
  EXPECT_EQ(a.post("/keys", {{"name", "k"}, {"password", "wrong horse"}}).reason(), "password_wrong");
  EXPECT_EQ(a.post("/keys", {{"name", "k"}}).status, 400);
  EXPECT_TRUE(a.get("/keys")["keys"].as_array().empty());
  const std::string secret = a.post("/keys", {{"name", "k"}, {"password", "correct horse"}}).text("secret");
  http::Client client;
  for (const char* name : {"key", "api_key", "access_token", "token"}) EXPECT_EQ(client.fetch({.url = a.url() + "/v1/models?" + name + "=" + secret})->status, 401) << name;
}

TEST_F(ChatTest, AnotherProcessMayChangeAccounts) {
  start();
  Browser a = admin();
  auto store = chat::Store::open(data_dir_, chat::Store::Use::command);
  ASSERT_TRUE(store) << store.error().message;
  chat::Accounts accounts(**store);
  ASSERT_TRUE(accounts.load());
  const auto id = accounts.user_by_email("admin@example.org")->id;
  ASSERT_TRUE(accounts.set_password(id, *chat::hash_password("from the shell"), ""));
  for (int i = 0; i < 1'000 && a.get("/conversations").status != 401; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(a.get("/conversations").status, 401);
  EXPECT_FALSE(chat::Store::open(data_dir_)) << "a second server";
}

TEST_F(ChatTest, WithoutAccountsThereIsOneUser) {
  options.chat.auth = chat::AuthMode::none;
  start();
  Browser b = browser();
  EXPECT_EQ(b.get("/me").text("auth"), "none");
  const std::string id = b.new_conversation();
  EXPECT_EQ(browser().post("/conversations").reason(), "csrf");
  EXPECT_EQ(b.post("/login", {{"email", "a@b.org"}, {"password", "x"}}).reason(), "accounts_off");
  // Accounts later: the first admin takes over what was written.
  options.chat.auth = chat::AuthMode::accounts;
  restart();
  EXPECT_EQ(browser().get("/conversations").status, 401);
  Browser a = admin();
  EXPECT_EQ(a.get("/conversations/" + id).status, 200);
}

}  // namespace
}  // namespace pagemill::test
