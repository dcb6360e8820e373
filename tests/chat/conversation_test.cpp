// Conversations over HTTP: the tree, jobs that outlive their tab, search, drafts, events.
#include "chat_fixture.h"

namespace pagemill::test {
namespace {

std::string text_of(const json::value& message) { return std::string(message.at("text").as_string()); }
std::string id_of(const json::value& message) { return std::string(message.at("id").as_string()); }
std::string status_of(const json::value& message) { return std::string(message.at("status").as_string()); }

TEST_F(ChatTest, AskAndAnswer) {
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  const json::value answer = b.ask(id, "Hello, 世界 🌍");
  EXPECT_EQ(text_of(answer), "Hello, 世界 🌍");
  EXPECT_EQ(status_of(answer), "done");
  const json::value& stats = answer.at("stats");
  EXPECT_GT(stats.at("prompt_tokens").to_number<int64_t>(), 10);
  EXPECT_GT(stats.at("answer_tokens").to_number<int64_t>(), 5);
  const Answer whole = b.get("/conversations/" + id);
  EXPECT_EQ(whole["messages"].as_array().size(), 2u);
  EXPECT_EQ(whole["conversation"].at("head_id").as_string(), id_of(answer));
}

TEST_F(ChatTest, TheTreeBranches) {
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  const json::value first = b.ask(id, "one");
  const json::value second = b.ask(id, "two", json::value(id_of(first)));
  // Edit: a sibling of the message that is edited. Regenerate: a sibling of the answer.
  const json::value edited = b.ask(id, "two, edited", json::value(id_of(first)));
  EXPECT_EQ(text_of(edited), "two, edited");
  Answer again = b.post("/conversations/" + id + "/regenerate", {{"message_id", id_of(edited)}});
  ASSERT_EQ(again.status, 201) << again.body;
  const json::value regenerated = b.wait_for_end(id, std::string(again["assistant_message"].at("id").as_string()));
  EXPECT_EQ(regenerated.at("parent_id"), edited.at("parent_id"));
  const Answer whole = b.get("/conversations/" + id);
  EXPECT_EQ(whole["messages"].as_array().size(), 7u);
  // The branch that is shown moves.
  EXPECT_EQ(whole["conversation"].at("head_id").as_string(), id_of(regenerated));
  EXPECT_EQ(b.patch("/conversations/" + id, {{"head_id", id_of(second)}})["head_id"].as_string(), id_of(second));
  EXPECT_EQ(b.patch("/conversations/" + id, {{"head_id", chat::new_id()}}).status, 404);
}

TEST_F(ChatTest, SendingTwiceSendsOnce) {
  start();
  Browser b = admin();
  const std::string id = b.new_conversation(), message = chat::new_id();
  const json::object body{{"id", message}, {"parent_id", nullptr}, {"text", "only once"}};
  const Answer first = b.post("/conversations/" + id + "/messages", body), second = b.post("/conversations/" + id + "/messages", body);
  EXPECT_EQ(first.status, 201);
  EXPECT_EQ(second.status, 200) << second.body;
  EXPECT_EQ(first["assistant_message"].at("id"), second["assistant_message"].at("id"));
  b.wait_for_end(id, std::string(first["assistant_message"].at("id").as_string()));
  EXPECT_EQ(b.get("/conversations/" + id)["messages"].as_array().size(), 2u);
}

/// Answers grow until they are stopped.
ScriptedAnswer endless(const EngineRequest&) {
  ScriptedAnswer answer = say(std::string(1'000, 'x'));
  answer.per_token_ns = 2 * kNsPerMs;
  return answer;
}

TEST_F(ChatTest, WhoeverHasReadTheEndMaySendAtOnce) {
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  json::value parent = nullptr;
  for (int i = 0; i < 30; ++i) {
    const Answer sent = b.post("/conversations/" + id + "/messages", {{"parent_id", parent}, {"text", "again"}});
    ASSERT_EQ(sent.status, 201) << sent.body;
    parent = sent["assistant_message"].at("id");
    const std::string answer(parent.as_string());
    int reads = 0;  // without a pause: what is tested is the moment after the end
    while (b.message(id, answer).at("status").as_string() == "generating") ASSERT_LT(++reads, 100'000);
  }
}

TEST_F(ChatTest, StopFromAnotherTabFreezesTheText) {
  options.engine.script = endless;
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  Tab tab(b), other(b);
  const Answer sent = b.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", "go"}});
  ASSERT_EQ(sent.status, 201) << sent.body;
  const std::string message(sent["assistant_message"].at("id").as_string()), generation(sent["generation"].at("id").as_string());
  EXPECT_EQ(b.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", "more"}}).reason(), "busy");
  ASSERT_TRUE(other.wait_for("delta", 3));
  EXPECT_EQ(b.post("/generations/" + generation + "/stop").status, 204);
  const json::value stopped = b.wait_for_end(id, message);
  EXPECT_EQ(status_of(stopped), "stopped");
  EXPECT_LT(text_of(stopped).size(), 1'000u);
  EXPECT_GT(text_of(stopped).size(), 0u);
  for (int i = 0; i < 3'000 && server->engine->stats().running > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(server->engine->stats().running, 0);
  EXPECT_EQ(tab.text_of(message), text_of(stopped)) << "every tab has seen the same text";
  EXPECT_EQ(other.text_of(message), text_of(stopped));
  EXPECT_EQ(b.post("/generations/" + generation + "/stop").status, 204) << "again is fine";
  restart();
  Browser after = browser();
  after.cookie = b.cookie;
  EXPECT_EQ(text_of(after.message(id, message)), text_of(stopped)) << "it does not grow back";
}

TEST_F(ChatTest, AStoppedAnswerGoesOnInTheSameMessage) {
  options.engine.script = endless;
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  Tab tab(b);
  const Answer sent = b.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", "go"}});
  const std::string message(sent["assistant_message"].at("id").as_string());
  ASSERT_TRUE(tab.wait_for("delta", 2));
  b.post("/generations/" + std::string(sent["generation"].at("id").as_string()) + "/stop");
  const std::string before = text_of(b.wait_for_end(id, message));
  const Answer on = b.post("/conversations/" + id + "/continue", {{"message_id", message}});
  ASSERT_EQ(on.status, 201) << on.body;
  EXPECT_EQ(on["assistant_message"].at("id").as_string(), message);
  const std::string after = text_of(b.wait_for_end(id, message));
  EXPECT_EQ(after.size(), before.size() + 1'000u);
  EXPECT_EQ(tab.wait([&](const auto&) { return tab.text_of(message) == after; }), true);
  EXPECT_EQ(b.get("/conversations/" + id)["messages"].as_array().size(), 2u);
}

TEST_F(ChatTest, AnAnswerOutlivesItsTabAndARestartMarksIt) {
  options.engine.script = endless;
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  std::string message;
  {
    Tab tab(b);
    const Answer sent = b.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", "go"}});
    message = std::string(sent["assistant_message"].at("id").as_string());
    ASSERT_TRUE(tab.wait_for("delta", 1));
  }
  const size_t early = text_of(b.message(id, message)).size();
  for (int i = 0; i < 1'000 && text_of(b.message(id, message)).size() <= early; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const std::string grown = text_of(b.message(id, message));
  EXPECT_GT(grown.size(), early) << "nobody looks, and it goes on";
  restart();
  Browser after = browser();
  after.cookie = b.cookie;
  const json::value interrupted = after.message(id, message);
  EXPECT_EQ(status_of(interrupted), "interrupted");
  EXPECT_GE(text_of(interrupted).size(), grown.size());
}

TEST_F(ChatTest, ATabGoesOnWhereItWasCutOff) {
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  std::string last;
  {
    Tab tab(b);
    ASSERT_TRUE(tab.wait_for("reset"));
    b.ask(id, "first");
    ASSERT_TRUE(tab.wait_for("delta"));
    last = tab.frames().back().id;
    for (const Frame& one : tab.frames())
      if (!one.id.empty()) last = one.id;
  }
  const json::value second = b.ask(id, "second");
  Tab again(b, last);
  ASSERT_TRUE(again.wait([&](const auto&) { return again.text_of(id_of(second)) == "second"; })) << "what was missed is replayed";
  for (const Frame& one : again.frames()) EXPECT_NE(one.event, "reset");
  Tab stale(b, "0badc0de-7");
  EXPECT_TRUE(stale.wait_for("reset"));
}

TEST_F(ChatTest, TitlesComeFromTheModelButNotOverAUsers) {
  options.engine.script = [](const EngineRequest& request) {
    return request.priority > 0 ? say("\"Title: A Short Name.\"") : repeat_user(request);
  };
  start();
  Browser b = admin();
  Tab tab(b);
  const std::string id = b.new_conversation();
  b.ask(id, "a question");
  ASSERT_TRUE(tab.wait([&](const std::vector<Frame>& all) {
    return std::any_of(all.begin(), all.end(), [](const Frame& one) { return one.event == "conversation" && one.data.at("title").as_string() == "A Short Name"; });
  }));
  EXPECT_EQ(b.get("/conversations/" + id)["conversation"].at("title_source").as_string(), "model");
  const std::string named = b.new_conversation({{"title", "Mine"}});
  b.ask(named, "another question");
  EXPECT_EQ(b.get("/conversations/" + named)["conversation"].at("title").as_string(), "Mine");
}

TEST_F(ChatTest, WhatDoesNotFitIsRefusedWithTheNumbers) {
  options.engine.model = test_model_info(256);
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  const Answer refused = b.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", std::string(300, 'y')}});
  EXPECT_EQ(refused.status, 409);
  EXPECT_EQ(refused.reason(), "context_too_long");
  EXPECT_EQ(refused["error"].at("detail").at("context").to_number<int>(), 256);
  EXPECT_GE(refused["error"].at("detail").at("prompt_tokens").to_number<int>(), 300);
  EXPECT_TRUE(b.get("/conversations/" + id)["messages"].as_array().empty());
  const Answer fit = b.post("/fit", {{"conversation_id", id}, {"parent_id", nullptr}, {"text", "short"}, {"documents", json::array{}}});
  EXPECT_TRUE(fit["fits"].as_bool()) << fit.body;
}

TEST_F(ChatTest, AFailingModelFailsItsMessageAlone) {
  options.engine.script = [](const EngineRequest&) {
    ScriptedAnswer answer;
    answer.tokens = test_tokens("half an ans");  // without the end of turn that say() puts behind it
    answer.reason = FinishReason::error;
    answer.error = {ErrorCode::internal, "the device is gone", ""};
    return answer;
  };
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  const json::value failed = b.ask(id, "x");
  EXPECT_EQ(status_of(failed), "failed");
  EXPECT_EQ(text_of(failed), "half an ans");
  EXPECT_EQ(failed.at("error").at("reason").as_string(), "internal");
}

TEST_F(ChatTest, SearchFindsOneAndTwoCharacters) {
  start();
  Browser b = admin();
  const std::string sorting = b.new_conversation({{"title", "算法"}}), other = b.new_conversation({{"title", "Cooking"}});
  b.ask(sorting, "请解释快速排序算法的复杂度");
  b.ask(other, "How do I bake Crème brûlée?");
  const auto found = [&](const std::string& query) {
    std::set<std::string> ids;
    const Answer answer = b.get("/search?q=" + query);
    EXPECT_EQ(answer.status, 200);
    for (const json::value& one : answer["results"].as_array()) ids.emplace(one.at("conversation").at("id").as_string());
    return ids;
  };
  const std::set<std::string> one{sorting}, two{other};
  EXPECT_EQ(found("%E6%8E%92%E5%BA%8F"), one) << "排序";
  EXPECT_EQ(found("%E6%8E%92"), one) << "排";
  EXPECT_EQ(found("%E5%BA%A6"), one) << "度, the last character";
  EXPECT_EQ(found("%E5%BF%AB%E9%80%9F%E6%8E%92%E5%BA%8F"), one) << "快速排序";
  EXPECT_EQ(found("%E6%8E%92%E5%BF%AB"), std::set<std::string>()) << "排快 is no phrase of it";
  EXPECT_EQ(found("creme"), two);
  EXPECT_EQ(found("BRU"), two) << "a beginning";
  EXPECT_EQ(found("cook"), two) << "a title";
  EXPECT_EQ(found("bake%20%E6%8E%92"), std::set<std::string>()) << "both must occur";
  EXPECT_EQ(found("%22%20OR%20*"), std::set<std::string>()) << "operators of the index are text";
  const Answer hit = b.get("/search?q=%E6%8E%92%E5%BA%8F");
  bool marked = false;
  for (const json::value& result : hit["results"].as_array())
    for (const json::value& part : result.at("snippet").as_array()) marked |= part.at("hit").as_bool() && part.at("text").as_string() == "排序";
  EXPECT_TRUE(marked) << hit.body;
  // What is deleted is not found, and found again when it is restored.
  EXPECT_EQ(b.del("/conversations/" + sorting).status, 204);
  EXPECT_EQ(found("%E6%8E%92%E5%BA%8F"), std::set<std::string>());
  EXPECT_EQ(b.post("/conversations/" + sorting + "/restore").status, 200);
  EXPECT_EQ(found("%E6%8E%92%E5%BA%8F"), one);
}

TEST_F(ChatTest, TheListPagesPinsArchivesAndFiles) {
  start();
  Browser b = admin();
  std::vector<std::string> ids;
  for (int i = 0; i < 7; ++i) ids.push_back(b.new_conversation({{"title", "c" + std::to_string(i)}}));
  const Answer folder = b.post("/folders", {{"name", "Work"}});
  ASSERT_EQ(folder.status, 201);
  EXPECT_EQ(b.patch("/conversations/" + ids[0], {{"pinned", true}}).status, 200);
  EXPECT_EQ(b.patch("/conversations/" + ids[1], {{"archived", true}}).status, 200);
  EXPECT_EQ(b.patch("/conversations/" + ids[2], {{"folder_id", folder.text("id")}}).status, 200);
  Answer page = b.get("/conversations?limit=2");
  EXPECT_EQ(page["pinned"].as_array().size(), 1u);
  std::vector<std::string> seen;
  for (int i = 0; i < 10; ++i) {
    for (const json::value& one : page["conversations"].as_array()) seen.emplace_back(one.at("id").as_string());
    if (page["next"].is_null()) break;
    page = b.get("/conversations?limit=2&after=" + page.text("next"));
  }
  EXPECT_EQ(seen, (std::vector<std::string>{ids[6], ids[5], ids[4], ids[3], ids[2]}));
  EXPECT_EQ(b.get("/conversations?archived=1")["conversations"].as_array().size(), 1u);
  EXPECT_EQ(b.get("/conversations?folder=" + folder.text("id"))["conversations"].as_array().size(), 1u);
  EXPECT_EQ(b.del("/folders/" + folder.text("id")).status, 204);
  EXPECT_TRUE(b.get("/conversations/" + ids[2])["conversation"].at("folder_id").is_null());
}

TEST_F(ChatTest, DraftsSurviveAndGoWithTheMessage) {
  start();
  Browser b = admin();
  const std::string id = b.new_conversation();
  EXPECT_EQ(b.put("/conversations/" + id + "/draft", {{"text", "half a tho"}, {"documents", json::array{}}}).status, 204);
  EXPECT_EQ(b.put("/drafts/new", {{"text", "a new one"}, {"documents", json::array{}}}).status, 204);
  restart();
  Browser after = browser();
  after.cookie = b.cookie;
  after.get("/me");
  EXPECT_EQ(after.get("/conversations/" + id)["conversation"].at("draft").at("text").as_string(), "half a tho");
  EXPECT_EQ(after.get("/drafts/new")["draft"].at("text").as_string(), "a new one");
  after.ask(id, "half a thought");
  EXPECT_TRUE(after.get("/conversations/" + id)["conversation"].at("draft").is_null());
}

TEST_F(ChatTest, PurgedConversationsLeaveNothingBehind) {
  options.chat.deleted_kept_ms = -1'000;
  start();
  Browser b = admin();
  const std::string id = b.new_conversation({{"title", "secret title"}});
  b.ask(id, "a secret word 秘密");
  EXPECT_EQ(b.del("/conversations/" + id).status, 204);
  ASSERT_TRUE(server->site->store->write([&](chat::Database& db) { return chat::rows::purge(db, chat::now_ms() + 1'000); }));
  const auto left = server->site->store->read([](chat::Database& db) -> chat::Outcome<int64_t> {
    int64_t rows = 0;
    for (const char* table : {"conversations", "messages", "parts", "generations"}) {
      PM_ASSIGN(const auto count, db.integer(std::string("SELECT COUNT(*) FROM ") + table));
      rows += count.value_or(0);
    }
    for (const char* table : {"message_search", "title_search"}) {
      PM_ASSIGN(const auto count, db.integer(std::string("SELECT COUNT(*) FROM ") + table + " WHERE " + table + " MATCH '\"secret\" OR \"秘密\"'"));
      rows += count.value_or(0);
    }
    return rows;
  });
  ASSERT_TRUE(left);
  EXPECT_EQ(*left, 0);
  ASSERT_TRUE(server->site->store->write([](chat::Database& db) -> chat::Outcome<void> {
    PM_TRY(db.run("INSERT INTO message_search(message_search) VALUES('integrity-check')"));
    return {};
  }));
}

TEST_F(ChatTest, TemplatesFillInTheirVariables) {
  start();
  Browser a = admin(), b = user(a, "b@example.org");
  const Answer made = a.post("/templates", {{"command", "翻译"}, {"title", "Translate"}, {"text", "Translate to {{ language }}: {{text}} — {{USER_NAME}}, {{CURRENT_WEEKDAY}}"}, {"shared", true},
                                            {"variables", json::array{json::object{{"name", "language"}, {"type", "select"}, {"options", json::array{"Chinese", "English"}}, {"default", "Chinese"}}, json::object{{"name", "text"}, {"required", true}}}}});
  ASSERT_EQ(made.status, 201) << made.body;
  const std::string id = made.text("id");
  EXPECT_EQ(b.post("/templates/" + id + "/render", {{"values", json::object{}}}).reason(), "missing_field");
  const Answer rendered = b.post("/templates/" + id + "/render", {{"values", {{"text", "{{USER_EMAIL}} <b>hi</b>"}}}, {"timezone", "Asia/Shanghai"}, {"language", "zh-CN"}});
  ASSERT_EQ(rendered.status, 200) << rendered.body;
  EXPECT_TRUE(rendered.text("text").starts_with("Translate to Chinese: {{USER_EMAIL}} <b>hi</b> — b, 星期")) << "a value is not looked at again: " << rendered.body;
  EXPECT_EQ(b.patch("/templates/" + id, {{"title", "Mine now"}}).reason(), "not_allowed");
  EXPECT_EQ(b.del("/templates/" + id).reason(), "not_allowed");
  EXPECT_EQ(a.post("/templates", {{"command", "翻译"}, {"title", "x"}, {"text", "y"}}).reason(), "command_taken");
  // Out and in again.
  const Answer exported = a.get("/templates/export");
  const json::object file = exported.value.as_object();
  Answer imported = b.send("POST", "/chat/api/templates/import", json::serialize(file));
  EXPECT_EQ(imported["created"].to_number<int>(), 1) << imported.body;
  json::object again = file;
  again["on_conflict"] = "rename";
  imported = b.post("/templates/import", again);
  EXPECT_EQ(imported["renamed"].to_number<int>(), 1) << imported.body;
  again["on_conflict"] = "replace";
  EXPECT_EQ(b.post("/templates/import", again)["replaced"].to_number<int>(), 1);
  EXPECT_EQ(a.patch("/templates/" + id, {{"shared", false}}).status, 200);
  EXPECT_EQ(b.post("/templates/" + id + "/render", {{"values", json::object{}}}).status, 404);
}

TEST_F(ChatTest, AdminsSeeTheMachine) {
  start();
  Browser a = admin(), b = user(a, "b@example.org");
  Tab watching(a, {}, true), other(b, {}, true);
  EXPECT_TRUE(watching.wait_for("sample"));
  for (const Frame& one : other.frames()) EXPECT_NE(one.event, "sample");
  const Answer machine = a.get("/machine");
  EXPECT_GT(machine["memory_total"].to_number<double>(), 0);
  EXPECT_FALSE(machine["samples"].as_array().empty());
  EXPECT_EQ(b.get("/machine").status, 403);
  EXPECT_EQ(b.get("/models")["models"].as_array()[0].at("state").as_string(), "ready");
}

}  // namespace
}  // namespace pagemill::test
