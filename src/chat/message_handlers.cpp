// Handlers of messages and generations: send, regenerate, continue, stop, and the exact count before sending.
#include <fmt/format.h>

#include "chat/compose.h"
#include "chat/ids.h"
#include "chat/jobs.h"
#include "chat/site.h"

namespace pagemill::chat {
namespace {

json::object generation_json(const Message& assistant, const std::string& conversation_id, std::string_view status) {
  return {{"id", *assistant.generation_id}, {"conversation_id", conversation_id}, {"message_id", assistant.id}, {"status", status}};
}

void tell_message(Call& call, const std::string& conversation_id, const Message& message, const std::string& head_id) {
  call.site.hub.publish(call.user_id(), "message", json::object{{"conversation_id", conversation_id}, {"message", message_json(message)}, {"head_id", head_id}});
}

void tell_conversation(Call& call, const std::string& id) {
  const auto conversation = call.site.store->read([&](Database& db) { return rows::conversation(db, call.user_id(), id); });
  if (conversation) call.site.hub.publish(call.user_id(), "conversation", list_item_json(*conversation));
}

Message new_answer(const Call& call, const Conversation& conversation, const std::string& parent_id) {
  Message answer;
  answer.id = new_id();
  answer.parent_id = parent_id;
  answer.role = "assistant";
  answer.model = conversation.model.value_or(call.site.options.model_names.front());
  answer.created_ms = now_ms();
  answer.status = "generating";
  answer.generation_id = new_id();
  return answer;
}

Outcome<void> open_job(Call& call, const std::string& conversation_id, const Message& answer) {
  auto text = call.site.text();
  if (!text) return refuse(503, "loading", "The model is loading.");
  if (call.site.jobs->open({call.user_id(), conversation_id, answer, std::move(text)})) return {};
  if (call.site.jobs->busy(conversation_id)) return refuse(409, "busy", "This conversation is answering: stop it first.");
  return refuse(429, "queue_full", fmt::format("{} answers at a time: wait for one to end.", limits::kChatGenerationsPerUser));
}

/// Template and tokenization behind the answer to the browser.
void start_job(Call& call, Conversation conversation, const Message& answer, json::array messages, bool continues) {
  Site& site = call.site;
  auto work = [&site, user = call.user(), conversation = std::move(conversation), id = *answer.generation_id, messages = std::move(messages), continues]() mutable {
    const auto text = site.text();
    site.jobs->start(id, text ? prepare_answer(site, *text, conversation, user, std::move(messages), continues) : fail(ErrorCode::unavailable, "the model is loading"));
  };
  auto shared = std::make_shared<decltype(work)>(std::move(work));
  if (!site.pool->submit([shared] { (*shared)(); })) site.jobs->start(*answer.generation_id, fail(ErrorCode::resource_exhausted, "too many requests are waiting; try again"));
}

Problem too_long(json::object fit) {
  Problem problem(409, "context_too_long", fmt::format("This has {} tokens; the model takes {} with the answer. Shorten it, or choose parts of the documents.", fit.at("prompt_tokens").to_number<int64_t>(), fit.at("context").to_number<int64_t>()));
  problem.detail = std::move(fit);
  return problem;
}

json::array attached_json(const std::vector<Excerpt>& excerpts) {
  json::array out;
  for (const Excerpt& one : excerpts)
    out.push_back(json::object{{"id", one.document_id}, {"name", one.name}, {"kind", one.kind}, {"mode", to_string(one.mode)}, {"pages", one.pages.empty() ? json::value(nullptr) : json::value(one.pages)}, {"tokens", one.tokens}});
  return out;
}

/// What POST messages and POST fit have in common of their bodies.
Outcome<void> read_message(Fields& fields, NewMessage& message, std::optional<std::string>& parent_id) {
  PM_ASSIGN(parent_id, fields.id("parent_id"));
  PM_ASSIGN(message.text, fields.required_text("text", limits::kChatMessageBytes));
  PM_ASSIGN(const json::array* list, fields.array("documents", limits::kDocumentsPerMessage));
  PM_ASSIGN(message.attachments, read_attachments(list));
  return {};
}

/// The answer to a message that has been sent already: the network was slower than the server.
Outcome<std::optional<Reply>> sent_before(Call& call, Database& db, const std::string& conversation_id, const std::string& message_id) {
  const auto there = rows::message(db, conversation_id, message_id);
  if (!there) {
    PM_ASSIGN(const auto taken, db.integer("SELECT COUNT(*) FROM messages WHERE id = ?", message_id));
    if (taken.value_or(0) > 0) return refuse(400, "invalid_argument", "This id is taken: choose another.", "id");
    return std::nullopt;
  }
  PM_ASSIGN(auto all, rows::messages(db, conversation_id));
  call.site.jobs->overlay(all);
  json::object body{{"user_message", message_json(*there)}, {"assistant_message", nullptr}, {"generation", nullptr}};
  for (const Message& one : all)
    if (one.parent_id == message_id && one.role == "assistant" && body["assistant_message"].is_null()) {
      body["assistant_message"] = message_json(one);
      body["generation"] = generation_json(one, conversation_id, one.status == "generating" ? "queued" : one.status);
    }
  return reply(std::move(body));
}

Outcome<Reply> post_message(Call& call) {
  const std::string& conversation_id = call.ids[0];
  Fields fields(call.body);
  NewMessage message;
  std::optional<std::string> parent_id;
  PM_ASSIGN(const auto id, fields.id("id"));
  PM_TRY(read_message(fields, message, parent_id));
  PM_ASSIGN(const auto generate, fields.boolean("generate"));
  PM_TRY(fields.done());
  if (message.text.find_first_not_of(" \t\r\n") == std::string::npos && message.attachments.empty()) return refuse(400, "invalid_argument", "The message is empty.", "text");

  message.user_id = call.user_id();
  const bool busy = call.site.jobs->busy(conversation_id);
  std::optional<Reply> before;
  PM_TRY(call.site.store->read([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(message.conversation, rows::conversation(db, call.user_id(), conversation_id));
    if (id) {
      PM_ASSIGN(before, sent_before(call, db, conversation_id, *id));
    }
    PM_ASSIGN(message.branch, load_branch(db, conversation_id, parent_id));
    return {};
  }));
  if (before) return std::move(*before);
  if (busy) return refuse(409, "busy", "This conversation is answering: stop it first.");
  PM_ASSIGN(Composed composed, compose(call.site, message, false));
  if (!composed.fits) {
    PM_ASSIGN(json::object fit, fit_json(call.site, message, composed));
    return tl::unexpected(too_long(std::move(fit)));
  }

  Message user;
  user.id = id.value_or(new_id());
  user.parent_id = parent_id;
  user.role = "user";
  user.text = message.text;
  user.documents = json::serialize(attached_json(composed.excerpts));
  user.created_ms = now_ms();
  const bool answers = generate.value_or(true);
  const Message answer = new_answer(call, message.conversation, user.id);
  if (answers) PM_TRY(open_job(call, conversation_id, answer));
  const auto written = call.site.store->write([&](Database& db) -> Outcome<void> {
    PM_TRY(rows::conversation(db, call.user_id(), conversation_id));  // it may have been deleted meanwhile
    PM_TRY(rows::insert_message(db, call.user_id(), conversation_id, user));
    for (size_t i = 0; i < composed.excerpts.size(); ++i) PM_TRY(rows::insert_excerpt(db, user.id, conversation_id, static_cast<int>(i), composed.excerpts[i]));
    if (answers) {
      PM_TRY(rows::insert_message(db, call.user_id(), conversation_id, answer));
      PM_TRY(rows::insert_generation(db, call.user_id(), conversation_id, answer, answer.created_ms));
    }
    PM_TRY(rows::touch(db, conversation_id, answers ? answer.id : user.id, answer.created_ms));
    PM_TRY(db.run("DELETE FROM drafts WHERE user_id = ? AND conversation_id = ?", call.user_id(), conversation_id));
    return {};
  });
  if (!written) {
    if (answers) call.site.jobs->abandon(*answer.generation_id);
    return tl::unexpected(written.error());
  }
  const std::string& head = answers ? answer.id : user.id;
  tell_message(call, conversation_id, user, head);
  if (answers) tell_message(call, conversation_id, answer, head);
  tell_conversation(call, conversation_id);
  if (answers) start_job(call, message.conversation, answer, std::move(composed.messages), false);
  json::object body{{"user_message", message_json(user)}, {"assistant_message", nullptr}, {"generation", nullptr}};
  if (answers) body["assistant_message"] = message_json(answer), body["generation"] = generation_json(answer, conversation_id, "queued");
  return reply(std::move(body), 201);
}

/// A conversation, one of its messages, and the prompt up to where the answer begins.
struct Again {
  Conversation conversation;
  Message message;
  json::array messages;
  std::string user_message_id;
};

Outcome<Again> read_again(Call& call, bool continues) {
  Fields fields(call.body);
  PM_ASSIGN(const auto message_id, fields.id("message_id"));
  PM_TRY(fields.done());
  if (!message_id) return refuse(400, "missing_field", "'message_id' is missing.", "message_id");
  Again again;
  const bool busy = call.site.jobs->busy(call.ids[0]);
  PM_TRY(call.site.store->read([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(again.conversation, rows::conversation(db, call.user_id(), call.ids[0]));
    PM_ASSIGN(again.message, rows::message(db, again.conversation.id, *message_id));
    const bool answer = again.message.role == "assistant";
    again.user_message_id = answer ? again.message.parent_id.value_or("") : again.message.id;
    PM_ASSIGN(const auto branch, load_branch(db, again.conversation.id, answer && !continues ? again.message.parent_id : again.message.id));
    again.messages = prompt_messages(again.conversation.system_prompt, branch);
    return {};
  }));
  if (busy) return refuse(409, "busy", "This conversation is answering: stop it first.");
  PM_TRY(call.site.model_info());
  return again;
}

/// `new_row`: the answer is a message of its own; `continues`: its text goes on where it stands.
Outcome<Reply> begin_again(Call& call, Again again, const Message& answer, bool new_row, bool continues) {
  const std::string conversation_id = again.conversation.id;
  PM_TRY(open_job(call, conversation_id, answer));
  const auto written = call.site.store->write([&](Database& db) -> Outcome<void> {
    PM_TRY(rows::conversation(db, call.user_id(), conversation_id));
    if (new_row) PM_TRY(rows::insert_message(db, call.user_id(), conversation_id, answer));
    PM_TRY(rows::insert_generation(db, call.user_id(), conversation_id, answer, now_ms()));
    return rows::touch(db, conversation_id, answer.id, now_ms());
  });
  if (!written) {
    call.site.jobs->abandon(*answer.generation_id);
    return tl::unexpected(written.error());
  }
  tell_message(call, conversation_id, answer, answer.id);
  tell_conversation(call, conversation_id);
  json::object body{{"assistant_message", message_json(answer)}, {"generation", generation_json(answer, conversation_id, "queued")}};
  start_job(call, std::move(again.conversation), answer, std::move(again.messages), continues);
  return reply(std::move(body), 201);
}

Outcome<Reply> post_regenerate(Call& call) {
  PM_ASSIGN(Again again, read_again(call, false));
  const Message answer = new_answer(call, again.conversation, again.user_message_id);
  return begin_again(call, std::move(again), answer, true, false);
}

Outcome<Reply> post_continue(Call& call) {
  PM_ASSIGN(Again again, read_again(call, true));
  if (again.message.role != "assistant") return refuse(400, "invalid_argument", "Only an answer can be continued.", "message_id");
  if (again.message.status == "generating") return refuse(409, "busy", "This answer is still being written.");
  Message answer = again.message;
  answer.status = "generating";
  answer.generation_id = new_id();
  answer.error.clear();
  answer.stats.clear();
  // An answer without a word is not in the prompt: it is begun, not continued.
  const bool continues = !answer.text.empty();
  return begin_again(call, std::move(again), answer, false, continues);
}

Outcome<Reply> post_stop(Call& call) {
  Fields fields(call.body);
  PM_TRY(fields.done());
  PM_ASSIGN(const auto mine, call.site.store->read([&](Database& db) { return db.integer("SELECT COUNT(*) FROM generations WHERE id = ? AND user_id = ?", call.ids[0], call.user_id()); }));
  if (mine.value_or(0) == 0) return missing("This answer");
  call.site.jobs->stop(call.ids[0]);
  return no_content();
}

Outcome<Reply> post_fit(Call& call) {
  Fields fields(call.body);
  NewMessage message;
  std::optional<std::string> parent_id;
  PM_ASSIGN(const auto conversation_id, fields.id("conversation_id"));
  PM_TRY(read_message(fields, message, parent_id));
  PM_ASSIGN(const auto system_prompt, fields.text("system_prompt", limits::kChatSystemPromptBytes));
  PM_TRY(fields.done());
  message.user_id = call.user_id();
  if (conversation_id) {
    PM_TRY(call.site.store->read([&](Database& db) -> Outcome<void> {
      PM_ASSIGN(message.conversation, rows::conversation(db, call.user_id(), *conversation_id));
      PM_ASSIGN(message.branch, load_branch(db, *conversation_id, parent_id));
      return {};
    }));
  }
  if (system_prompt) message.conversation.system_prompt = *system_prompt;
  PM_ASSIGN(const Composed composed, compose(call.site, message, true));
  PM_ASSIGN(json::object fit, fit_json(call.site, message, composed));
  return reply(std::move(fit));
}

}  // namespace

std::vector<Route> message_routes() {
  const auto post = [](std::string_view path, Handler handler, size_t bytes = limits::kChatBodyBytes) { return Route{"POST", path, Access::user, BodyKind::json, handler, bytes}; };
  return {
      post("/conversations/{}/messages", post_message, limits::kChatMessageBodyBytes),
      post("/conversations/{}/regenerate", post_regenerate),
      post("/conversations/{}/continue", post_continue),
      post("/generations/{}/stop", post_stop),
      post("/fit", post_fit, limits::kChatMessageBodyBytes),
  };
}

}  // namespace pagemill::chat
