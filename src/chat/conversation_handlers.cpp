// Handlers of /conversations, /folders, /search and drafts.
#include <fmt/format.h>

#include "chat/conversations.h"
#include "chat/ids.h"
#include "chat/jobs.h"
#include "chat/prompt.h"
#include "chat/search_tokens.h"
#include "chat/site.h"

namespace pagemill::chat {
namespace {

void tell(Call& call, const Conversation& conversation) { call.site.hub.publish(call.user_id(), "conversation", list_item_json(conversation)); }
void tell_folders(Call& call) { call.site.hub.publish(call.user_id(), "changed", json::object{{"what", "folders"}}); }

Outcome<void> check_folder(Database& db, const std::string& user_id, const std::optional<std::string>& id) {
  if (!id) return {};
  PM_ASSIGN(const auto found, db.integer("SELECT COUNT(*) FROM folders WHERE id = ? AND user_id = ?", *id, user_id));
  if (found.value_or(0) == 0) return missing("This folder");
  return {};
}

Outcome<json::value> draft_json(Database& db, const std::string& user_id, const std::string& conversation_id) {
  json::value draft = nullptr;
  PM_TRY(db.each("SELECT text, documents, updated_ms FROM drafts WHERE user_id = ? AND conversation_id = ?", [&](const Row& row) {
    auto documents = parse_json(row.text(1));
    draft = json::object{{"text", row.text(0)}, {"documents", documents ? std::move(*documents) : json::value(json::array{})}, {"updated_ms", row.integer(2)}};
  }, user_id, conversation_id));
  return draft;
}

/// The settings that POST and PATCH have in common.
struct Settings {
  std::optional<std::string> title, folder_id, model, system_prompt, sampling;
  bool has_folder = false, has_model = false;
};

Outcome<Settings> read_settings(Call& call, Fields& fields) {
  Settings s;
  s.has_folder = fields.has("folder_id");
  s.has_model = fields.has("model");
  PM_ASSIGN(s.title, fields.text("title", 4 * limits::kChatTitleChars));
  if (s.title) PM_TRY(check_text(*s.title, "title", 0, limits::kChatTitleChars));
  PM_ASSIGN(s.folder_id, fields.id("folder_id"));
  PM_ASSIGN(s.model, fields.text("model", 256));
  const auto& known = call.site.options.model_names;
  if (s.model && std::find(known.begin(), known.end(), *s.model) == known.end()) return refuse(400, "invalid_argument", fmt::format("The model '{}' is not served here.", utf8_prefix(*s.model, 100)), "model");
  PM_ASSIGN(s.system_prompt, fields.text("system_prompt", limits::kChatSystemPromptBytes));
  PM_ASSIGN(const json::object* sampling, fields.object("sampling"));
  if (sampling) {
    PM_TRY(read_sampling(*sampling, call.site.options.sampling));
    s.sampling = json::serialize(*sampling);
  }
  return s;
}

Outcome<Reply> get_list(Call& call) {
  PM_ASSIGN(const size_t limit, call.limit());
  const std::string folder = call.query("folder");
  if (!folder.empty() && !is_id(folder)) return missing("This folder");
  PM_ASSIGN(const rows::Page page, call.site.store->read([&](Database& db) {
    return rows::list(db, call.user_id(), call.query("archived") == "1", folder.empty() ? std::nullopt : std::optional(folder), call.query("after"), limit);
  }));
  json::array pinned, conversations;
  for (const Conversation& one : page.pinned) pinned.push_back(list_item_json(one));
  for (const Conversation& one : page.conversations) conversations.push_back(list_item_json(one));
  return reply(json::object{{"pinned", std::move(pinned)}, {"conversations", std::move(conversations)}, {"next", page.next.empty() ? json::value(nullptr) : json::value(page.next)}});
}

Outcome<Reply> post_conversation(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const auto id, fields.id("id"));
  PM_ASSIGN(const Settings settings, read_settings(call, fields));
  PM_TRY(fields.done());
  Conversation made;
  made.id = id.value_or(new_id());
  made.user_id = call.user_id();
  made.title = settings.title.value_or("");
  made.title_source = made.title.empty() ? "none" : "user";
  made.folder_id = settings.folder_id;
  made.model = settings.model;
  made.system_prompt = settings.system_prompt.value_or("");
  made.sampling = settings.sampling.value_or("{}");
  made.created_ms = made.updated_ms = now_ms();
  bool existed = false;
  PM_ASSIGN(const Conversation conversation, call.site.store->write([&](Database& db) -> Outcome<Conversation> {
    if (auto there = rows::conversation(db, call.user_id(), made.id)) return existed = true, std::move(*there);
    PM_ASSIGN(const auto taken, db.integer("SELECT COUNT(*) FROM conversations WHERE id = ?", made.id));
    if (taken.value_or(0) > 0) return refuse(400, "invalid_argument", "This id is taken: choose another.", "id");
    PM_TRY(check_folder(db, call.user_id(), made.folder_id));
    PM_TRY(rows::insert_conversation(db, made));
    return rows::conversation(db, call.user_id(), made.id);
  }));
  if (!existed) tell(call, conversation);
  return reply(conversation_json(conversation, nullptr), existed ? 200 : 201);
}

Outcome<Reply> get_conversation(Call& call) {
  json::value draft;
  std::vector<Message> messages;
  PM_ASSIGN(const Conversation conversation, call.site.store->read([&](Database& db) -> Outcome<Conversation> {
    PM_ASSIGN(Conversation found, rows::conversation(db, call.user_id(), call.ids[0]));
    PM_ASSIGN(messages, rows::messages(db, found.id));
    PM_ASSIGN(draft, draft_json(db, call.user_id(), found.id));
    return found;
  }));
  call.site.jobs->overlay(messages);
  json::array list;
  for (const Message& message : messages) list.push_back(message_json(message));
  return reply(json::object{{"conversation", conversation_json(conversation, std::move(draft))}, {"messages", std::move(list)}});
}

Outcome<Reply> patch_conversation(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const Settings settings, read_settings(call, fields));
  PM_ASSIGN(const auto pinned, fields.boolean("pinned"));
  PM_ASSIGN(const auto archived, fields.boolean("archived"));
  PM_ASSIGN(const auto head_id, fields.id("head_id"));
  PM_TRY(fields.done());
  json::value draft;
  PM_ASSIGN(const Conversation conversation, call.site.store->write([&](Database& db) -> Outcome<Conversation> {
    PM_ASSIGN(Conversation before, rows::conversation(db, call.user_id(), call.ids[0]));
    Conversation after = before;
    if (settings.title) after.title = *settings.title, after.title_source = settings.title->empty() ? "none" : "user";
    if (settings.has_folder) after.folder_id = settings.folder_id;
    if (settings.has_model) after.model = settings.model;
    if (settings.system_prompt) after.system_prompt = *settings.system_prompt;
    if (settings.sampling) after.sampling = *settings.sampling;
    after.pinned = pinned.value_or(before.pinned);
    after.archived = archived.value_or(before.archived);
    PM_TRY(check_folder(db, call.user_id(), after.folder_id));
    if (head_id) {
      PM_ASSIGN(const auto found, db.integer("SELECT COUNT(*) FROM messages WHERE id = ? AND conversation_id = ?", *head_id, before.id));
      if (found.value_or(0) == 0) return missing("This message");
      after.head_id = head_id;
    }
    PM_TRY(rows::update_conversation(db, before, after));
    PM_ASSIGN(draft, draft_json(db, call.user_id(), before.id));
    return after;
  }));
  tell(call, conversation);
  return reply(conversation_json(conversation, std::move(draft)));
}

Outcome<Reply> post_read(Call& call) {
  Fields fields(call.body);
  PM_TRY(fields.done());
  bool changed = false;
  PM_ASSIGN(const Conversation conversation, call.site.store->write([&](Database& db) -> Outcome<Conversation> {
    PM_ASSIGN(Conversation before, rows::conversation(db, call.user_id(), call.ids[0]));
    Conversation after = before;
    after.unread = false;
    changed = before.unread;
    if (changed) PM_TRY(rows::update_conversation(db, before, after));
    return after;
  }));
  if (changed) tell(call, conversation);
  return no_content();
}

Outcome<Conversation> set_deleted(Call& call, std::optional<int64_t> deleted_ms) {
  return call.site.store->write([&](Database& db) -> Outcome<Conversation> {
    PM_ASSIGN(Conversation before, rows::conversation(db, call.user_id(), call.ids[0], !deleted_ms));
    Conversation after = before;
    after.deleted_ms = deleted_ms;
    PM_TRY(rows::update_conversation(db, before, after));
    return after;
  });
}

Outcome<Reply> delete_conversation(Call& call) {
  PM_TRY(set_deleted(call, now_ms()));
  call.site.jobs->stop_conversation(call.ids[0]);
  call.site.hub.publish(call.user_id(), "conversation_deleted", json::object{{"id", call.ids[0]}});
  return no_content();
}

Outcome<Reply> post_restore(Call& call) {
  Fields fields(call.body);
  PM_TRY(fields.done());
  PM_ASSIGN(const Conversation conversation, set_deleted(call, std::nullopt));
  tell(call, conversation);
  return reply(conversation_json(conversation, nullptr));
}

// ---- drafts ----

Outcome<Reply> save_draft(Call& call, const std::string& conversation_id) {
  Fields fields(call.body);
  PM_ASSIGN(const std::string text, fields.required_text("text", limits::kChatMessageBytes));
  PM_ASSIGN(const json::array* list, fields.array("documents", limits::kDocumentsPerMessage));
  PM_TRY(fields.done());
  PM_ASSIGN(const auto documents, read_attachments(list));
  auto written = call.site.store->write([&](Database& db) -> Outcome<void> {
    if (conversation_id != "new") PM_TRY(rows::conversation(db, call.user_id(), conversation_id));
    if (text.empty() && documents.empty()) {
      PM_TRY(db.run("DELETE FROM drafts WHERE user_id = ? AND conversation_id = ?", call.user_id(), conversation_id));
      return {};
    }
    PM_TRY(db.run("INSERT INTO drafts(user_id, conversation_id, text, documents, updated_ms) VALUES(?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET text = excluded.text, documents = excluded.documents, updated_ms = excluded.updated_ms",
                  call.user_id(), conversation_id, text, json::serialize(attachments_json(documents)), now_ms()));
    return {};
  });
  PM_TRY(std::move(written));
  return no_content();
}

Outcome<Reply> put_draft(Call& call) { return save_draft(call, call.ids[0]); }
Outcome<Reply> put_new_draft(Call& call) { return save_draft(call, "new"); }
Outcome<Reply> get_new_draft(Call& call) {
  PM_ASSIGN(json::value draft, call.site.store->read([&](Database& db) { return draft_json(db, call.user_id(), "new"); }));
  return reply(json::object{{"draft", std::move(draft)}});
}

// ---- folders ----

json::object folder_json(const Row& row) { return {{"id", row.text(0)}, {"name", row.text(1)}, {"position", row.integer(2)}}; }

Outcome<Reply> get_folders(Call& call) {
  json::array folders;
  PM_TRY(call.site.store->read([&](Database& db) { return db.each("SELECT id, name, position FROM folders WHERE user_id = ? ORDER BY position, name", [&](const Row& row) { folders.push_back(folder_json(row)); }, call.user_id()); }));
  return reply(json::object{{"folders", std::move(folders)}});
}

Outcome<Reply> one_folder(Call& call, const std::string& id, int status) {
  json::object folder;
  PM_TRY(call.site.store->read([&](Database& db) { return db.each("SELECT id, name, position FROM folders WHERE id = ?", [&](const Row& row) { folder = folder_json(row); }, id); }));
  tell_folders(call);
  return reply(std::move(folder), status);
}

Outcome<Reply> post_folder(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const std::string name, fields.required_text("name", 1024));
  PM_TRY(fields.done());
  PM_TRY(check_text(name, "name", 1, limits::kChatNameChars));
  const std::string id = new_id();
  auto written = call.site.store->write([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(const auto count, db.integer("SELECT COUNT(*) FROM folders WHERE user_id = ?", call.user_id()));
    if (count.value_or(0) >= static_cast<int64_t>(limits::kChatFolders)) return refuse(429, "quota", fmt::format("There can be {} folders.", limits::kChatFolders));
    PM_TRY(db.run("INSERT INTO folders(id, user_id, name, position) VALUES(?, ?, ?, (SELECT coalesce(max(position), 0) + 1 FROM folders WHERE user_id = ?))", id, call.user_id(), name, call.user_id()));
    return {};
  });
  PM_TRY(std::move(written));
  return one_folder(call, id, 201);
}

Outcome<Reply> patch_folder(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const auto name, fields.text("name", 1024));
  PM_ASSIGN(const auto position, fields.integer("position", 0, 1'000'000));
  PM_TRY(fields.done());
  if (name) PM_TRY(check_text(*name, "name", 1, limits::kChatNameChars));
  auto written = call.site.store->write([&](Database& db) -> Outcome<void> {
    PM_TRY(check_folder(db, call.user_id(), call.ids[0]));
    PM_TRY(db.run("UPDATE folders SET name = coalesce(?, name), position = coalesce(?, position) WHERE id = ?", name, position, call.ids[0]));
    return {};
  });
  PM_TRY(std::move(written));
  return one_folder(call, call.ids[0], 200);
}

Outcome<Reply> delete_folder(Call& call) {
  auto written = call.site.store->write([&](Database& db) -> Outcome<void> {
    PM_TRY(check_folder(db, call.user_id(), call.ids[0]));
    PM_TRY(db.run("DELETE FROM folders WHERE id = ?", call.ids[0]));
    return {};
  });
  PM_TRY(std::move(written));
  tell_folders(call);
  return no_content();
}

// ---- search ----

struct Found {
  Conversation conversation;
  std::optional<std::string> message_id;
  std::string text;
};

/// Titles first, then messages, each newest first. `offset` counts over both.
Outcome<std::vector<Found>> find(Database& db, const std::string& user_id, const std::string& match, size_t offset, size_t count) {
  std::vector<std::pair<std::string, std::optional<std::string>>> hits;  // conversation, message
  PM_TRY(db.each(
      "SELECT id, message FROM ("
      "SELECT 0 AS kind, c.updated_ms AS at, c.id AS id, NULL AS message FROM title_search t JOIN conversations c ON c.seq = t.rowid WHERE title_search MATCH ?1 AND c.user_id = ?2 AND c.deleted_ms IS NULL "
      "UNION ALL "
      "SELECT 1, m.seq, c.id, m.id FROM message_search s JOIN messages m ON m.seq = s.rowid JOIN conversations c ON c.id = m.conversation_id WHERE message_search MATCH ?1 AND c.user_id = ?2 AND c.deleted_ms IS NULL) "
      "ORDER BY kind, at DESC, id LIMIT ?3 OFFSET ?4",
      [&](const Row& row) { hits.emplace_back(row.text(0), row.null(1) ? std::nullopt : std::optional(row.text(1))); }, match, user_id, static_cast<int64_t>(count), static_cast<int64_t>(offset)));
  std::vector<Found> found;
  for (auto& [conversation_id, message_id] : hits) {
    PM_ASSIGN(Conversation conversation, rows::conversation(db, user_id, conversation_id));
    std::string text = conversation.title;
    if (message_id) {
      text.clear();
      PM_TRY(db.each("SELECT text FROM parts WHERE conversation_id = ? AND message_id = ? ORDER BY seq", [&](const Row& row) { text += row.text(0); }, conversation_id, *message_id));
    }
    found.push_back({std::move(conversation), std::move(message_id), std::move(text)});
  }
  return found;
}

Outcome<Reply> get_search(Call& call) {
  PM_ASSIGN(const size_t limit, call.limit(20, 50));
  const std::string query = call.query("q"), after = call.query("after");
  size_t offset = 0;
  for (const char c : after) {
    if (c < '0' || c > '9' || after.size() > 6) return refuse(400, "invalid_argument", "'after' must be the 'next' of an earlier answer.", "after");
    offset = offset * 10 + static_cast<size_t>(c - '0');
  }
  const std::string match = match_expression(query, call.user_id());
  std::vector<Found> found;
  if (!match.empty()) {
    PM_ASSIGN(found, call.site.store->read([&](Database& db) { return find(db, call.user_id(), match, offset, limit + 1); }));
  }
  json::array results;
  for (size_t i = 0; i < std::min(limit, found.size()); ++i) {
    json::array parts;
    for (const SnippetPart& part : snippet(found[i].text, query)) parts.push_back(json::object{{"text", part.text}, {"hit", part.hit}});
    results.push_back(json::object{{"conversation", list_item_json(found[i].conversation)}, {"message_id", json_or_null(found[i].message_id)}, {"snippet", std::move(parts)}});
  }
  return reply(json::object{{"results", std::move(results)}, {"next", found.size() > limit ? json::value(std::to_string(offset + limit)) : json::value(nullptr)}});
}

}  // namespace

std::vector<Route> conversation_routes() {
  const auto user = [](std::string_view method, std::string_view path, BodyKind body, Handler handler, size_t bytes = limits::kChatBodyBytes) { return Route{method, path, Access::user, body, handler, bytes}; };
  constexpr BodyKind none = BodyKind::none, json = BodyKind::json;
  return {
      user("GET", "/conversations", none, get_list),
      user("POST", "/conversations", json, post_conversation),
      user("GET", "/conversations/{}", none, get_conversation),
      user("PATCH", "/conversations/{}", json, patch_conversation),
      user("DELETE", "/conversations/{}", none, delete_conversation),
      user("POST", "/conversations/{}/read", json, post_read),
      user("POST", "/conversations/{}/restore", json, post_restore),
      user("PUT", "/conversations/{}/draft", json, put_draft, limits::kChatMessageBodyBytes),
      user("GET", "/drafts/new", none, get_new_draft),
      user("PUT", "/drafts/new", json, put_new_draft, limits::kChatMessageBodyBytes),
      user("GET", "/folders", none, get_folders),
      user("POST", "/folders", json, post_folder),
      user("PATCH", "/folders/{}", json, patch_folder),
      user("DELETE", "/folders/{}", none, delete_folder),
      user("GET", "/search", none, get_search),
  };
}

}  // namespace pagemill::chat
