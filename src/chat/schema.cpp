#include "chat/schema.h"

#include <fmt/format.h>

namespace pagemill::chat {
namespace {

// Rows of `messages` and `parts` are only ever added: a message's text is its parts in order, its state that of its last generation.
// message_search and title_search hold the tokens of search_tokens.h, not the text.
constexpr std::string_view kSteps[] = {
    // 1: accounts, conversations, templates.
    R"(
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('accounts_version', '0');

CREATE TABLE users(
  id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL CHECK(role IN ('admin','user','pending')),
  disabled INTEGER NOT NULL DEFAULT 0, password TEXT NOT NULL, settings TEXT NOT NULL DEFAULT '{}', created_ms INTEGER NOT NULL,
  last_seen_ms INTEGER) STRICT;
CREATE TABLE sessions(
  id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE, token_hash BLOB NOT NULL UNIQUE,
  created_ms INTEGER NOT NULL, last_used_ms INTEGER NOT NULL, address TEXT NOT NULL, user_agent TEXT NOT NULL) STRICT;
CREATE INDEX sessions_user ON sessions(user_id);
CREATE TABLE api_keys(
  id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE, name TEXT NOT NULL, prefix TEXT NOT NULL,
  hash BLOB NOT NULL UNIQUE, scopes INTEGER NOT NULL, created_ms INTEGER NOT NULL, last_used_ms INTEGER, expires_ms INTEGER) STRICT;
CREATE INDEX api_keys_user ON api_keys(user_id);
CREATE TABLE resets(
  hash BLOB PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE, expires_ms INTEGER NOT NULL) STRICT;
CREATE INDEX resets_user ON resets(user_id);

CREATE TABLE folders(
  id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE, name TEXT NOT NULL, position INTEGER NOT NULL) STRICT;
CREATE INDEX folders_user ON folders(user_id, position);
CREATE TABLE conversations(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
  title TEXT NOT NULL, title_source TEXT NOT NULL, folder_id TEXT REFERENCES folders ON DELETE SET NULL,
  pinned INTEGER NOT NULL DEFAULT 0, archived INTEGER NOT NULL DEFAULT 0, unread INTEGER NOT NULL DEFAULT 0,
  model TEXT, system_prompt TEXT NOT NULL, sampling TEXT NOT NULL, head_id TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER) STRICT;
CREATE INDEX conversations_list ON conversations(user_id, archived, pinned, updated_ms, seq) WHERE deleted_ms IS NULL;
CREATE INDEX conversations_folder ON conversations(folder_id) WHERE folder_id IS NOT NULL;
CREATE INDEX conversations_deleted ON conversations(deleted_ms) WHERE deleted_ms IS NOT NULL;
CREATE TABLE messages(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
  parent_id TEXT, role TEXT NOT NULL CHECK(role IN ('user','assistant')), model TEXT, documents TEXT NOT NULL DEFAULT '[]',
  created_ms INTEGER NOT NULL) STRICT;
CREATE INDEX messages_conversation ON messages(conversation_id, seq);
CREATE TABLE parts(
  seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
  message_id TEXT NOT NULL, text TEXT NOT NULL) STRICT;
CREATE INDEX parts_conversation ON parts(conversation_id, seq);
CREATE TABLE generations(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
  message_id TEXT NOT NULL, user_id TEXT NOT NULL, status TEXT NOT NULL, start_bytes INTEGER NOT NULL, error TEXT,
  stats TEXT, started_ms INTEGER NOT NULL, ended_ms INTEGER) STRICT;
CREATE INDEX generations_conversation ON generations(conversation_id, seq);
CREATE INDEX generations_open ON generations(conversation_id) WHERE status = 'generating';
CREATE TABLE drafts(
  user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE, conversation_id TEXT NOT NULL, text TEXT NOT NULL, documents TEXT NOT NULL,
  updated_ms INTEGER NOT NULL, PRIMARY KEY(user_id, conversation_id)) STRICT, WITHOUT ROWID;
CREATE TABLE templates(
  id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE, command TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL,
  variables TEXT NOT NULL, shared INTEGER NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, UNIQUE(user_id, command)) STRICT;
CREATE INDEX templates_shared ON templates(shared) WHERE shared = 1;
CREATE VIRTUAL TABLE message_search USING fts5(tokens, content='', tokenize='ascii');
CREATE VIRTUAL TABLE title_search USING fts5(tokens, content='', tokenize='ascii');
)",
    // 2: documents, and what messages quote of them.
    R"(
CREATE TABLE documents(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE, name TEXT NOT NULL, kind TEXT NOT NULL,
  bytes INTEGER NOT NULL, status TEXT NOT NULL, error TEXT, characters INTEGER, tokens INTEGER, pages INTEGER, encoding TEXT,
  warnings TEXT NOT NULL DEFAULT '[]', created_ms INTEGER NOT NULL) STRICT;
CREATE INDEX documents_user ON documents(user_id, seq);
CREATE TABLE document_pages(
  document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE, page INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY(document_id, page)) STRICT, WITHOUT ROWID;
CREATE TABLE excerpts(
  conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE, message_id TEXT NOT NULL, position INTEGER NOT NULL,
  document_id TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, mode TEXT NOT NULL, pages TEXT NOT NULL, tokens INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY(conversation_id, message_id, position)) STRICT;
)",
};

}  // namespace

std::span<const std::string_view> schema_steps() { return kSteps; }

Result<void> migrate(Database& database) {
  for (;;) {
    // Asked inside the transaction: a command and a server may start at the same moment.
    PM_TRY(database.script("BEGIN IMMEDIATE"));
    const auto version = database.integer("PRAGMA user_version");
    const size_t have = version && *version ? static_cast<size_t>(**version) : 0;
    if (!version || have >= std::size(kSteps)) {
      PM_TRY(database.script("ROLLBACK"));
      if (!version) return tl::unexpected(version.error());
      if (have == std::size(kSteps)) return {};
      return fail(ErrorCode::unsupported, fmt::format("the database is of version {}, this program knows {}: it was made by a newer pagemill; use that one", have, std::size(kSteps)), "data-dir");
    }
    const auto stepped = database.script(std::string(kSteps[have]) + fmt::format("PRAGMA user_version={};COMMIT;", have + 1));
    if (!stepped) {
      (void)database.script("ROLLBACK");
      return stepped;
    }
  }
}

}  // namespace pagemill::chat
