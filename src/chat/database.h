// Database: one SQLite connection with its prepared statements. Used by one thread at a time.
//
// Every value goes in as a parameter, never as part of the SQL text. Errors have code io and say "storage"; a full or failing disk
// leaves the database as it was before the transaction.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"

namespace pagemill::chat {

/// Bytes to be bound as a BLOB.
struct Blob {
  std::string_view bytes;
};

/// The row that a statement stands on; valid inside the callback only.
class Row {
 public:
  explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
  bool null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string text(int column) const;  // of a text or blob; "" for NULL
  std::optional<int64_t> maybe_integer(int column) const { return null(column) ? std::nullopt : std::optional(integer(column)); }

 private:
  sqlite3_stmt* statement_;
};

class Database {
 public:
  enum class Mode { read_only, read_write, create };
  static Result<std::unique_ptr<Database>> open(const std::filesystem::path& path, Mode mode);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// SQL without parameters, several statements at once.
  Result<void> script(const std::string& sql);
  /// One statement; its rows are dropped.
  template <class... Args>
  Result<void> run(std::string_view sql, const Args&... args) {
    return each(sql, [](const Row&) {}, args...);
  }
  /// Calls `row` for each row.
  template <class F, class... Args>
  Result<void> each(std::string_view sql, F&& row, const Args&... args) {
    PM_ASSIGN(sqlite3_stmt * statement, prepare(sql));
    const Reset reset{statement};
    int at = 0;
    (bind(statement, ++at, args), ...);
    for (;;) {
      const int code = sqlite3_step(statement);
      if (code == SQLITE_DONE) return {};
      if (code != SQLITE_ROW) return tl::unexpected(error(sql));
      row(Row(statement));
    }
  }
  /// The first row's first column.
  template <class... Args>
  Result<std::optional<int64_t>> integer(std::string_view sql, const Args&... args) {
    std::optional<int64_t> value;
    PM_TRY(each(sql, [&](const Row& row) { if (!value) value = row.maybe_integer(0); }, args...));
    return value;
  }
  template <class... Args>
  Result<std::optional<std::string>> text(std::string_view sql, const Args&... args) {
    std::optional<std::string> value;
    PM_TRY(each(sql, [&](const Row& row) { if (!value && !row.null(0)) value = row.text(0); }, args...));
    return value;
  }

  /// Rows that the last statement changed.
  int changes() const { return sqlite3_changes(handle_); }
  int64_t last_row() const { return sqlite3_last_insert_rowid(handle_); }
  sqlite3* handle() const { return handle_; }

 private:
  struct Reset {
    sqlite3_stmt* statement;
    ~Reset() {
      sqlite3_reset(statement);
      sqlite3_clear_bindings(statement);
    }
  };
  explicit Database(sqlite3* handle) : handle_(handle) {}
  Result<sqlite3_stmt*> prepare(std::string_view sql);
  Error error(std::string_view what) const;

  static void bind(sqlite3_stmt* s, int at, std::string_view text) { sqlite3_bind_text(s, at, text.data() ? text.data() : "", static_cast<int>(text.size()), SQLITE_TRANSIENT); }
  static void bind(sqlite3_stmt* s, int at, const std::string& text) { bind(s, at, std::string_view(text)); }
  static void bind(sqlite3_stmt* s, int at, const char* text) { bind(s, at, std::string_view(text)); }
  static void bind(sqlite3_stmt* s, int at, int64_t value) { sqlite3_bind_int64(s, at, value); }
  static void bind(sqlite3_stmt* s, int at, int value) { sqlite3_bind_int64(s, at, value); }
  static void bind(sqlite3_stmt* s, int at, bool value) { sqlite3_bind_int64(s, at, value); }
  static void bind(sqlite3_stmt* s, int at, std::nullptr_t) { sqlite3_bind_null(s, at); }
  static void bind(sqlite3_stmt* s, int at, Blob blob) { sqlite3_bind_blob(s, at, blob.bytes.data() ? blob.bytes.data() : "", static_cast<int>(blob.bytes.size()), SQLITE_TRANSIENT); }
  template <class T>
  static void bind(sqlite3_stmt* s, int at, const std::optional<T>& value) {
    if (value) bind(s, at, *value);
    else sqlite3_bind_null(s, at);
  }

  sqlite3* handle_;
  std::unordered_map<std::string, sqlite3_stmt*> statements_;
};

}  // namespace pagemill::chat
