// Conversations and their messages as rows. Plain functions over a Database: for Store::read() and Store::write().
//
// Every function takes the user it acts for; a conversation, folder or message of somebody else is as if it did not exist.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chat/database.h"
#include "chat/problem.h"

namespace pagemill::chat {

struct Conversation {
  int64_t seq = 0;
  std::string id, user_id, title, title_source = "none";
  std::optional<std::string> folder_id;
  bool pinned = false, archived = false, unread = false, generating = false;
  std::optional<std::string> model;
  std::string system_prompt, sampling = "{}";
  std::optional<std::string> head_id;
  int64_t created_ms = 0, updated_ms = 0;
  std::optional<int64_t> deleted_ms;
};

struct Message {
  int64_t seq = 0;
  std::string id;
  std::optional<std::string> parent_id;
  std::string role, text;
  std::optional<std::string> model;
  std::string documents = "[]";          // JSON: AttachedDocument of docs/chat_api.md, with the text that was sent left out
  int64_t created_ms = 0;
  std::string status = "done";           // that of its last generation
  std::optional<std::string> generation_id;
  std::string error, stats;              // JSON or empty
};

json::object list_item_json(const Conversation& conversation);
json::object conversation_json(const Conversation& conversation, json::value draft);
json::object message_json(const Message& message);

namespace rows {

/// `deleted`: also one that was deleted and can be restored.
Outcome<Conversation> conversation(Database& db, const std::string& user_id, const std::string& id, bool deleted = false);
Outcome<std::vector<Message>> messages(Database& db, const std::string& conversation_id);
/// One message with its text and state.
Outcome<Message> message(Database& db, const std::string& conversation_id, const std::string& id);
/// From the first message to `leaf`, texts included.
Outcome<std::vector<Message>> branch(Database& db, const std::string& conversation_id, const std::optional<std::string>& leaf);

struct Page {
  std::vector<Conversation> pinned, conversations;
  std::string next;
};
Outcome<Page> list(Database& db, const std::string& user_id, bool archived, const std::optional<std::string>& folder_id, const std::string& after, size_t limit);

Outcome<void> insert_conversation(Database& db, const Conversation& conversation);
Outcome<void> update_conversation(Database& db, const Conversation& before, const Conversation& after);
Outcome<void> insert_message(Database& db, const std::string& user_id, const std::string& conversation_id, const Message& message);
/// Adds to a message's text.
Outcome<void> append_part(Database& db, const std::string& conversation_id, const std::string& message_id, std::string_view text);
Outcome<void> insert_generation(Database& db, const std::string& user_id, const std::string& conversation_id, const Message& message, int64_t now_ms);
Outcome<void> end_generation(Database& db, const std::string& id, std::string_view status, const std::string& error, const std::string& stats, int64_t now_ms);
/// Newest first; the conversation's place in the list and its head.
Outcome<void> touch(Database& db, const std::string& conversation_id, const std::optional<std::string>& head_id, int64_t now_ms);

/// Brings a message's row of the search index from one text to another; `before` must be what is indexed.
Outcome<void> index_message(Database& db, const std::string& user_id, int64_t seq, std::string_view before, std::string_view after);

/// Removes for good what was deleted before `before_ms`.
Outcome<int> purge(Database& db, int64_t before_ms);
/// Removes all conversations of a user for good, with their part of the search index.
Outcome<void> purge_user(Database& db, const std::string& user_id);
/// After a start: answers that were under way are interrupted, and what was written of them becomes searchable.
Outcome<int> interrupt_open(Database& db, int64_t now_ms);

}  // namespace rows
}  // namespace pagemill::chat
