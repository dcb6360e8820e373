#include <fmt/format.h>

#include <charconv>
#include <unordered_map>

#include "base/limits.h"
#include "chat/conversations.h"
#include "chat/fields.h"
#include "chat/search_tokens.h"

namespace pagemill::chat {
namespace {

constexpr std::string_view kColumns =
    "seq, id, user_id, title, title_source, folder_id, pinned, archived, unread, model, system_prompt, sampling, head_id, created_ms, updated_ms, deleted_ms, "
    "EXISTS(SELECT 1 FROM generations g WHERE g.conversation_id = c.id AND g.status = 'generating')";

std::optional<std::string> maybe(const Row& row, int column) { return row.null(column) ? std::nullopt : std::optional(row.text(column)); }

Conversation conversation_of(const Row& row) {
  Conversation c;
  c.seq = row.integer(0);
  c.id = row.text(1);
  c.user_id = row.text(2);
  c.title = row.text(3);
  c.title_source = row.text(4);
  c.folder_id = maybe(row, 5);
  c.pinned = row.integer(6) != 0;
  c.archived = row.integer(7) != 0;
  c.unread = row.integer(8) != 0;
  c.model = maybe(row, 9);
  c.system_prompt = row.text(10);
  c.sampling = row.text(11);
  c.head_id = maybe(row, 12);
  c.created_ms = row.integer(13);
  c.updated_ms = row.integer(14);
  c.deleted_ms = row.maybe_integer(15);
  c.generating = row.integer(16) != 0;
  return c;
}

json::value parsed(const std::string& text, json::value otherwise) {
  if (text.empty()) return otherwise;
  auto value = parse_json(text);
  return value ? std::move(*value) : std::move(otherwise);
}

Outcome<void> index_title(Database& db, const std::string& user_id, int64_t seq, std::string_view before, std::string_view after) {
  if (!before.empty()) PM_TRY(db.run("INSERT INTO title_search(title_search, rowid, tokens) VALUES('delete', ?, ?)", seq, index_text(before, user_id)));
  if (!after.empty()) PM_TRY(db.run("INSERT INTO title_search(rowid, tokens) VALUES(?, ?)", seq, index_text(after, user_id)));
  return {};
}

}  // namespace

json::object list_item_json(const Conversation& c) {
  return {{"id", c.id}, {"title", c.title}, {"title_source", c.title_source}, {"folder_id", json_or_null(c.folder_id)}, {"pinned", c.pinned}, {"archived", c.archived},
          {"created_ms", c.created_ms}, {"updated_ms", c.updated_ms}, {"generating", c.generating}, {"unread", c.unread}};
}

json::object conversation_json(const Conversation& c, json::value draft) {
  json::object out = list_item_json(c);
  out["model"] = json_or_null(c.model);
  out["system_prompt"] = c.system_prompt;
  out["sampling"] = parsed(c.sampling, json::object{});
  out["head_id"] = json_or_null(c.head_id);
  out["draft"] = std::move(draft);
  return out;
}

json::object message_json(const Message& m) {
  return {{"id", m.id}, {"parent_id", json_or_null(m.parent_id)}, {"role", m.role}, {"text", m.text}, {"created_ms", m.created_ms}, {"status", m.status},
          {"generation_id", json_or_null(m.generation_id)}, {"model", json_or_null(m.model)}, {"error", parsed(m.error, nullptr)}, {"documents", parsed(m.documents, json::array{})}, {"stats", parsed(m.stats, nullptr)}};
}

namespace rows {

Outcome<Conversation> conversation(Database& db, const std::string& user_id, const std::string& id, bool deleted) {
  std::optional<Conversation> found;
  PM_TRY(db.each(fmt::format("SELECT {} FROM conversations c WHERE id = ? AND user_id = ? AND (? OR deleted_ms IS NULL)", kColumns), [&](const Row& row) { found = conversation_of(row); }, id, user_id, deleted));
  if (!found) return missing("This conversation");
  return std::move(*found);
}

Outcome<std::vector<Message>> messages(Database& db, const std::string& conversation_id) {
  std::vector<Message> all;
  std::unordered_map<std::string, size_t> at;
  PM_TRY(db.each("SELECT seq, id, parent_id, role, model, documents, created_ms FROM messages WHERE conversation_id = ? ORDER BY seq", [&](const Row& row) {
    Message m;
    m.seq = row.integer(0);
    m.id = row.text(1);
    m.parent_id = maybe(row, 2);
    m.role = row.text(3);
    m.model = maybe(row, 4);
    m.documents = row.text(5);
    m.created_ms = row.integer(6);
    at.emplace(m.id, all.size());
    all.push_back(std::move(m));
  }, conversation_id));
  PM_TRY(db.each("SELECT message_id, text FROM parts WHERE conversation_id = ? ORDER BY seq", [&](const Row& row) {
    if (const auto found = at.find(row.text(0)); found != at.end()) all[found->second].text += row.text(1);
  }, conversation_id));
  PM_TRY(db.each("SELECT message_id, id, status, error, stats FROM generations WHERE conversation_id = ? ORDER BY seq", [&](const Row& row) {
    const auto found = at.find(row.text(0));
    if (found == at.end()) return;
    Message& m = all[found->second];
    m.generation_id = row.text(1);
    m.status = row.text(2);
    m.error = row.text(3);
    m.stats = row.text(4);
  }, conversation_id));
  return all;
}

Outcome<Message> message(Database& db, const std::string& conversation_id, const std::string& id) {
  PM_ASSIGN(auto all, messages(db, conversation_id));
  for (Message& m : all)
    if (m.id == id) return std::move(m);
  return missing("This message");
}

Outcome<std::vector<Message>> branch(Database& db, const std::string& conversation_id, const std::optional<std::string>& leaf) {
  PM_ASSIGN(auto all, messages(db, conversation_id));
  std::unordered_map<std::string, size_t> at;
  for (size_t i = 0; i < all.size(); ++i) at.emplace(all[i].id, i);
  std::vector<Message> path;
  for (std::optional<std::string> id = leaf; id;) {
    const auto found = at.find(*id);
    if (found == at.end()) return missing("This message");
    id = all[found->second].parent_id;
    path.push_back(std::move(all[found->second]));
    at.erase(found);  // a circle cannot come about; were there one, it would end here
  }
  std::reverse(path.begin(), path.end());
  return path;
}

Outcome<Page> list(Database& db, const std::string& user_id, bool archived, const std::optional<std::string>& folder_id, const std::string& after, size_t limit) {
  Page page;
  const std::string folder = folder_id ? "AND folder_id = ?4" : "AND ?4 IS NULL";
  int64_t before_ms = INT64_MAX, before_seq = INT64_MAX;
  if (!after.empty()) {
    const size_t dash = after.find('-');
    const auto number = [&](std::string_view text, int64_t& value) { return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc(); };
    if (dash == std::string::npos || !number(std::string_view(after).substr(0, dash), before_ms) || !number(std::string_view(after).substr(dash + 1), before_seq))
      return refuse(400, "invalid_argument", "'after' must be the 'next' of an earlier answer.", "after");
  } else {
    PM_TRY(db.each(fmt::format("SELECT {} FROM conversations c WHERE user_id = ?1 AND archived = ?2 AND pinned = 1 AND ?3 = ?3 AND deleted_ms IS NULL {} ORDER BY updated_ms DESC, seq DESC LIMIT 500", kColumns, folder),
                   [&](const Row& row) { page.pinned.push_back(conversation_of(row)); }, user_id, archived, 0, folder_id));
  }
  PM_TRY(db.each(fmt::format("SELECT {} FROM conversations c WHERE user_id = ?1 AND archived = ?2 AND pinned = 0 AND deleted_ms IS NULL {} AND (updated_ms, seq) < (?3, ?5) ORDER BY updated_ms DESC, seq DESC LIMIT ?6", kColumns, folder),
                 [&](const Row& row) { page.conversations.push_back(conversation_of(row)); }, user_id, archived, before_ms, folder_id, before_seq, static_cast<int64_t>(limit + 1)));
  if (page.conversations.size() > limit) {
    page.conversations.pop_back();
    page.next = fmt::format("{}-{}", page.conversations.back().updated_ms, page.conversations.back().seq);
  }
  return page;
}

Outcome<void> insert_conversation(Database& db, const Conversation& c) {
  PM_ASSIGN(const auto count, db.integer("SELECT COUNT(*) FROM conversations WHERE user_id = ?", c.user_id));
  if (count.value_or(0) >= static_cast<int64_t>(limits::kChatConversations)) return refuse(429, "quota", "There are too many conversations: delete some.");
  PM_TRY(db.run("INSERT INTO conversations(id, user_id, title, title_source, folder_id, model, system_prompt, sampling, created_ms, updated_ms) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", c.id, c.user_id, c.title,
                c.title_source, c.folder_id, c.model, c.system_prompt, c.sampling, c.created_ms, c.updated_ms));
  return index_title(db, c.user_id, db.last_row(), "", c.title);
}

Outcome<void> update_conversation(Database& db, const Conversation& before, const Conversation& after) {
  PM_TRY(db.run("UPDATE conversations SET title = ?, title_source = ?, folder_id = ?, pinned = ?, archived = ?, unread = ?, model = ?, system_prompt = ?, sampling = ?, head_id = ?, deleted_ms = ? WHERE seq = ?", after.title,
                after.title_source, after.folder_id, after.pinned, after.archived, after.unread, after.model, after.system_prompt, after.sampling, after.head_id, after.deleted_ms, before.seq));
  if (before.title == after.title) return {};
  return index_title(db, before.user_id, before.seq, before.title, after.title);
}

Outcome<void> insert_message(Database& db, const std::string& user_id, const std::string& conversation_id, const Message& m) {
  PM_ASSIGN(const auto count, db.integer("SELECT COUNT(*) FROM messages WHERE conversation_id = ?", conversation_id));
  if (count.value_or(0) >= static_cast<int64_t>(limits::kChatMessages)) return refuse(429, "quota", "This conversation is full: begin a new one.");
  PM_TRY(db.run("INSERT INTO messages(id, conversation_id, parent_id, role, model, documents, created_ms) VALUES(?, ?, ?, ?, ?, ?, ?)", m.id, conversation_id, m.parent_id, m.role, m.model, m.documents, m.created_ms));
  const int64_t seq = db.last_row();
  if (m.text.empty()) return {};
  PM_TRY(append_part(db, conversation_id, m.id, m.text));
  return index_message(db, user_id, seq, "", m.text);
}

Outcome<void> append_part(Database& db, const std::string& conversation_id, const std::string& message_id, std::string_view text) {
  PM_TRY(db.run("INSERT INTO parts(conversation_id, message_id, text) VALUES(?, ?, ?)", conversation_id, message_id, text));
  return {};
}

Outcome<void> insert_generation(Database& db, const std::string& user_id, const std::string& conversation_id, const Message& m, int64_t now) {
  PM_TRY(db.run("INSERT INTO generations(id, conversation_id, message_id, user_id, status, start_bytes, started_ms) VALUES(?, ?, ?, ?, 'generating', ?, ?)", m.generation_id, conversation_id, m.id, user_id,
                static_cast<int64_t>(m.text.size()), now));
  return {};
}

Outcome<void> end_generation(Database& db, const std::string& id, std::string_view status, const std::string& error, const std::string& stats, int64_t now) {
  PM_TRY(db.run("UPDATE generations SET status = ?, error = ?, stats = ?, ended_ms = ? WHERE id = ?", status, error, stats, now, id));
  return {};
}

Outcome<void> touch(Database& db, const std::string& conversation_id, const std::optional<std::string>& head_id, int64_t now) {
  PM_TRY(db.run("UPDATE conversations SET updated_ms = max(updated_ms, ?), head_id = coalesce(?, head_id) WHERE id = ?", now, head_id, conversation_id));
  return {};
}

Outcome<void> index_message(Database& db, const std::string& user_id, int64_t seq, std::string_view before, std::string_view after) {
  if (!before.empty()) PM_TRY(db.run("INSERT INTO message_search(message_search, rowid, tokens) VALUES('delete', ?, ?)", seq, index_text(before, user_id)));
  if (!after.empty()) PM_TRY(db.run("INSERT INTO message_search(rowid, tokens) VALUES(?, ?)", seq, index_text(after, user_id)));
  return {};
}

}  // namespace rows
}  // namespace pagemill::chat
