// What happens to conversations beside their use: removal for good, and answers that a crash cut off.
#include <unordered_map>

#include "chat/conversations.h"
#include "chat/search_tokens.h"

namespace pagemill::chat::rows {
namespace {

/// Takes a conversation out of the search index, then removes it; its messages, parts and generations go with it.
Outcome<void> remove_for_good(Database& db, const Conversation& c) {
  PM_ASSIGN(const auto all, messages(db, c.id));
  for (const Message& m : all)
    // A text that is still being written is not in the index; neither is what a continued answer has grown by.
    if (m.status != "generating") PM_TRY(index_message(db, c.user_id, m.seq, m.text, ""));
  if (!c.title.empty()) PM_TRY(db.run("INSERT INTO title_search(title_search, rowid, tokens) VALUES('delete', ?, ?)", c.seq, index_text(c.title, c.user_id)));
  PM_TRY(db.run("DELETE FROM drafts WHERE conversation_id = ?", c.id));
  PM_TRY(db.run("DELETE FROM conversations WHERE seq = ?", c.seq));
  return {};
}

Outcome<int> remove_all(Database& db, const std::vector<std::pair<std::string, std::string>>& owned) {
  for (const auto& [user_id, id] : owned) {
    PM_ASSIGN(const Conversation c, conversation(db, user_id, id, true));
    PM_TRY(remove_for_good(db, c));
  }
  return static_cast<int>(owned.size());
}

}  // namespace

Outcome<int> purge(Database& db, int64_t before_ms) {
  std::vector<std::pair<std::string, std::string>> owned;
  PM_TRY(db.each("SELECT user_id, id FROM conversations c WHERE deleted_ms < ? AND NOT EXISTS(SELECT 1 FROM generations g WHERE g.conversation_id = c.id AND g.status = 'generating') LIMIT 20",
                 [&](const Row& row) { owned.emplace_back(row.text(0), row.text(1)); }, before_ms));
  return remove_all(db, owned);
}

Outcome<void> purge_user(Database& db, const std::string& user_id) {
  std::vector<std::pair<std::string, std::string>> owned;
  PM_TRY(db.each("SELECT user_id, id FROM conversations WHERE user_id = ?", [&](const Row& row) { owned.emplace_back(row.text(0), row.text(1)); }, user_id));
  PM_TRY(remove_all(db, owned));
  return {};
}

Outcome<int> interrupt_open(Database& db, int64_t now) {
  struct Open {
    std::string id, conversation_id, message_id, user_id;
  };
  std::vector<Open> open;
  PM_TRY(db.each("SELECT id, conversation_id, message_id, user_id FROM generations WHERE status = 'generating'",
                 [&](const Row& row) { open.push_back({row.text(0), row.text(1), row.text(2), row.text(3)}); }));
  for (const Open& one : open) {
    PM_ASSIGN(const Message m, message(db, one.conversation_id, one.message_id));
    PM_TRY(end_generation(db, one.id, "interrupted", "", "", now));
    // What an earlier generation wrote into the same message is indexed already, up to where this one began.
    PM_ASSIGN(const auto begun, db.integer("SELECT start_bytes FROM generations WHERE id = ?", one.id));
    PM_TRY(index_message(db, one.user_id, m.seq, std::string_view(m.text).substr(0, static_cast<size_t>(begun.value_or(0))), m.text));
  }
  return static_cast<int>(open.size());
}

}  // namespace pagemill::chat::rows
