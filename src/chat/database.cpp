#include "chat/database.h"

#include <fmt/format.h>

#include "base/log.h"

namespace pagemill::chat {

std::string Row::text(int column) const {
  const void* const bytes = sqlite3_column_blob(statement_, column);
  return bytes ? std::string(static_cast<const char*>(bytes), static_cast<size_t>(sqlite3_column_bytes(statement_, column))) : std::string();
}

Result<std::unique_ptr<Database>> Database::open(const std::filesystem::path& path, Mode mode) {
  const int access = mode == Mode::read_only ? SQLITE_OPEN_READONLY : mode == Mode::read_write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle, access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  std::unique_ptr<Database> database(new Database(handle));
  if (code != SQLITE_OK)
    return fail(ErrorCode::io, fmt::format("the database {} cannot be opened: {}", path.string(), handle ? sqlite3_errmsg(handle) : "out of memory"), "data-dir");
  sqlite3_busy_timeout(handle, 10'000);  // `pagemill user` and `backup` beside a server
  PM_TRY(database->script("PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"));
  return database;
}

Database::~Database() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(handle_);
}

Result<void> Database::script(const std::string& sql) {
  if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return tl::unexpected(error(sql));
}

Result<sqlite3_stmt*> Database::prepare(std::string_view sql) {
  const auto found = statements_.find(std::string(sql));
  if (found != statements_.end()) return found->second;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &statement, nullptr) != SQLITE_OK) return tl::unexpected(error(sql));
  statements_.emplace(sql, statement);
  return statement;
}

Error Database::error(std::string_view what) const {
  const int code = sqlite3_extended_errcode(handle_);
  const int kind = code & 0xFF;
  log_error("storage: {} (SQLite {}) in: {}", sqlite3_errmsg(handle_), code, what.substr(0, 200));
  if (kind == SQLITE_FULL) return {ErrorCode::io, "The disk is full: nothing was saved. Free some space and try again.", ""};
  if (kind == SQLITE_BUSY || kind == SQLITE_LOCKED) return {ErrorCode::io, "The database is locked by another program; try again.", ""};
  if (kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB) return {ErrorCode::io, "The database is damaged: restore a backup (see `pagemill backup --help`).", ""};
  if (kind == SQLITE_READONLY || kind == SQLITE_CANTOPEN || kind == SQLITE_PERM)
    return {ErrorCode::io, "The data folder cannot be written to: its disk or its files are read-only. Nothing was changed.", ""};
  return {ErrorCode::io, fmt::format("The data could not be stored or read ({}): the disk of the data folder fails. Nothing was changed.", sqlite3_errstr(code)), ""};
}

}  // namespace pagemill::chat
