#include "chat/accounts.h"

#include <algorithm>

#include <fmt/format.h>

#include "chat/conversations.h"
#include "chat/fields.h"
#include "chat/ids.h"
#include "chat/passwords.h"

namespace pagemill::chat {
namespace {

constexpr std::string_view kUserColumns = "id, email, name, role, disabled, password, settings, created_ms, last_seen_ms";

User user_of(const Row& row) {
  return {row.text(0), row.text(1), row.text(2), parse_role(row.text(3)).value_or(Role::pending), row.integer(4) != 0, row.text(5), row.text(6), row.integer(7), row.maybe_integer(8)};
}

}  // namespace

Outcome<std::string> checked_email(std::string email) {
  std::transform(email.begin(), email.end(), email.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const size_t at = email.find('@');
  const bool odd = std::any_of(email.begin(), email.end(), [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7F || c == '<' || c == '>' || c == '"' || c == ','; });
  if (email.size() > 254 || at == std::string::npos || at == 0 || at + 1 == email.size() || email.find('@', at + 1) != std::string::npos || odd || !valid_utf8(email))
    return refuse(400, "invalid_argument", "The e-mail address must look like name@example.org.", "email");
  return email;
}

std::string_view to_string(Role role) { return role == Role::admin ? "admin" : role == Role::user ? "user" : "pending"; }
std::optional<Role> parse_role(std::string_view text) {
  for (const Role role : {Role::pending, Role::user, Role::admin})
    if (to_string(role) == text) return role;
  return std::nullopt;
}
std::string_view to_string(Signup signup) { return signup == Signup::closed ? "closed" : signup == Signup::pending ? "pending" : "open"; }
std::optional<Signup> parse_signup(std::string_view text) {
  for (const Signup signup : {Signup::closed, Signup::pending, Signup::open})
    if (to_string(signup) == text) return signup;
  return std::nullopt;
}

uint64_t User::tenant() const {
  const std::string digest = sha256("tenant:" + id);
  uint64_t tenant = 0;
  for (size_t i = 0; i < 8; ++i) tenant = tenant << 8 | static_cast<unsigned char>(digest[i]);
  return tenant;
}

json::object user_json(const User& user) {
  return {{"id", user.id}, {"email", user.email}, {"name", user.name}, {"role", to_string(user.role)}, {"disabled", user.disabled}, {"created_ms", user.created_ms}, {"last_seen_ms", json_or_null(user.last_seen_ms)}};
}

struct Accounts::Loaded {
  int64_t version = 0;
  std::map<std::string, User> users;
  std::vector<Session> sessions;
  std::vector<ApiKey> keys;
};

namespace {

constexpr std::string_view kBumpVersion = "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'accounts_version'";

}  // namespace

Outcome<void> Accounts::load() {
  auto loaded = store_.read([](Database& db) -> Outcome<Loaded> {
    Loaded all;
    PM_ASSIGN(const auto version, db.integer("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'accounts_version'"));
    all.version = version.value_or(0);
    PM_TRY(db.each(fmt::format("SELECT {} FROM users", kUserColumns), [&](const Row& row) { all.users.emplace(row.text(0), user_of(row)); }));
    PM_TRY(db.each("SELECT id, user_id, token_hash, address, user_agent, created_ms, last_used_ms FROM sessions",
                   [&](const Row& row) { all.sessions.push_back({row.text(0), row.text(1), row.text(2), row.text(3), row.text(4), row.integer(5), row.integer(6)}); }));
    PM_TRY(db.each("SELECT id, user_id, name, prefix, hash, scopes, created_ms, last_used_ms, expires_ms FROM api_keys", [&](const Row& row) {
      all.keys.push_back({row.text(0), row.text(1), row.text(2), row.text(3), row.text(4), static_cast<uint32_t>(row.integer(5)), row.integer(6), row.maybe_integer(7), row.maybe_integer(8)});
    }));
    return all;
  });
  if (!loaded) return tl::unexpected(loaded.error());
  return apply(std::move(*loaded));
}

Outcome<void> Accounts::reload_if_changed() {
  PM_ASSIGN(const auto version, store_.read([](Database& db) { return db.integer("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'accounts_version'"); }));
  {
    std::lock_guard lock(mutex_);
    if (version.value_or(0) == version_) return {};
  }
  std::lock_guard one(change_mutex_);
  return load();
}

Outcome<void> Accounts::apply(Loaded loaded) {
  std::vector<std::string> ended;
  {
    std::lock_guard lock(mutex_);
    if (loaded.version < version_) return {};  // somebody was faster
    std::unordered_map<std::string, Session> sessions;
    for (Session& session : loaded.sessions) {
      if (const auto known = sessions_.find(session.token_hash); known != sessions_.end()) session.last_used_ms = std::max(session.last_used_ms, known->second.last_used_ms);
      sessions.emplace(session.token_hash, std::move(session));
    }
    for (const auto& [hash, session] : sessions_) {
      const auto user = loaded.users.find(session.user_id);
      const auto before = users_.find(session.user_id);
      const bool changed = user == loaded.users.end() || user->second.disabled || (before != users_.end() && before->second.role != user->second.role);
      if (!sessions.contains(hash) || changed) ended.push_back(session.id);
    }
    version_ = loaded.version;
    users_ = std::move(loaded.users);
    sessions_ = std::move(sessions);
    by_email_.clear();
    session_hashes_.clear();
    keys_.clear();
    for (const auto& [id, user] : users_) by_email_.emplace(user.email, id);
    for (const auto& [hash, session] : sessions_) session_hashes_.emplace(session.id, hash);
    for (ApiKey& key : loaded.keys) keys_.emplace(key.hash, std::move(key));
  }
  if (!ended.empty() && on_end_) on_end_(ended);
  return {};
}

Outcome<void> Accounts::write_and_load(std::function<Outcome<void>(Database&)> work) {
  std::lock_guard one(change_mutex_);
  auto written = store_.write([&](Database& db) -> Outcome<void> {
    PM_TRY(work(db));
    PM_TRY(db.run(kBumpVersion));
    return {};
  });
  PM_TRY(std::move(written));
  return load();
}

// ---- users ----

std::optional<User> Accounts::user(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto found = users_.find(id);
  return found == users_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<User> Accounts::user_by_email(std::string_view email) const {
  const auto checked = checked_email(std::string(email));
  if (!checked) return std::nullopt;
  std::lock_guard lock(mutex_);
  const auto found = by_email_.find(*checked);
  return found == by_email_.end() ? std::nullopt : std::optional(users_.at(found->second));
}

bool Accounts::setup_needed() const {
  std::lock_guard lock(mutex_);
  return std::none_of(users_.begin(), users_.end(), [](const auto& entry) { return entry.first != kLocalUserId || entry.second.password != kNoPassword; });
}

Outcome<User> Accounts::local_user() {
  const std::string id(kLocalUserId);
  if (const auto known = user(id)) return *known;
  auto written = write_and_load([&](Database& db) -> Outcome<void> {
    PM_TRY(db.run("INSERT OR IGNORE INTO users(id, email, name, role, password, created_ms) VALUES(?, 'local@localhost', 'Local user', 'admin', ?, ?)", id, kNoPassword, now_ms()));
    return {};
  });
  PM_TRY(std::move(written));
  return *user(id);
}

Outcome<User> Accounts::create_first(std::string email, std::string name, const std::string& password_hash) {
  PM_ASSIGN(email, checked_email(std::move(email)));
  PM_TRY(check_text(name, "name", 1, limits::kChatNameChars));
  std::string id = new_id();
  auto written = write_and_load([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(const auto others, db.integer("SELECT COUNT(*) FROM users WHERE NOT (id = ? AND password = ?)", kLocalUserId, kNoPassword));
    if (others.value_or(0) > 0) return refuse(409, "already_set_up", "This server has its first account already: sign in.");
    PM_TRY(db.run("UPDATE users SET email = ?, name = ?, role = 'admin', disabled = 0, password = ? WHERE id = ?", email, name, password_hash, kLocalUserId));
    if (db.changes() > 0) id = kLocalUserId;
    else PM_TRY(db.run("INSERT INTO users(id, email, name, role, password, created_ms) VALUES(?, ?, ?, 'admin', ?, ?)", id, email, name, password_hash, now_ms()));
    return {};
  });
  PM_TRY(std::move(written));
  return *user(id);
}

Outcome<User> Accounts::create(std::string email, std::string name, Role role, const std::string& password_hash) {
  PM_ASSIGN(email, checked_email(std::move(email)));
  PM_TRY(check_text(name, "name", 1, limits::kChatNameChars));
  const std::string id = new_id();
  auto written = write_and_load([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(const auto taken, db.integer("SELECT COUNT(*) FROM users WHERE email = ?", email));
    if (taken.value_or(0) > 0) return refuse(409, "email_taken", "There is an account with this e-mail address already.", "email");
    PM_ASSIGN(const auto count, db.integer("SELECT COUNT(*) FROM users"));
    if (count.value_or(0) >= static_cast<int64_t>(limits::kChatUsers)) return refuse(429, "quota", "This server holds no more accounts.");
    PM_TRY(db.run("INSERT INTO users(id, email, name, role, password, created_ms) VALUES(?, ?, ?, ?, ?, ?)", id, email, name, to_string(role), password_hash, now_ms()));
    return {};
  });
  PM_TRY(std::move(written));
  return *user(id);
}

namespace {

/// An admin must be left who can sign in.
Outcome<void> check_admin_left(Database& db) {
  PM_ASSIGN(const auto admins, db.integer("SELECT COUNT(*) FROM users WHERE role = 'admin' AND disabled = 0"));
  if (admins.value_or(0) == 0) return refuse(409, "last_admin", "This is the last admin: make another one first.");
  return {};
}

}  // namespace

Outcome<User> Accounts::change(const std::string& user_id, Change change) {
  if (change.email) {
    PM_ASSIGN(change.email, checked_email(std::move(*change.email)));
  }
  if (change.name) PM_TRY(check_text(*change.name, "name", 1, limits::kChatNameChars));
  auto written = write_and_load([&](Database& db) -> Outcome<void> {
    User before;
    PM_TRY(db.each(fmt::format("SELECT {} FROM users WHERE id = ?", kUserColumns), [&](const Row& row) { before = user_of(row); }, user_id));
    if (before.id.empty()) return missing("This user");
    const std::string email = change.email.value_or(before.email);
    PM_ASSIGN(const auto taken, db.integer("SELECT COUNT(*) FROM users WHERE email = ? AND id <> ?", email, user_id));
    if (taken.value_or(0) > 0) return refuse(409, "email_taken", "There is an account with this e-mail address already.", "email");
    const Role role = change.role.value_or(before.role);
    const bool disabled = change.disabled.value_or(before.disabled);
    PM_TRY(db.run("UPDATE users SET email = ?, name = ?, role = ?, disabled = ?, settings = ? WHERE id = ?", email, change.name.value_or(before.name), to_string(role), disabled,
                  change.settings.value_or(before.settings), user_id));
    const bool loses_power = before.role == Role::admin && !before.disabled && (role != Role::admin || disabled);
    if (loses_power) PM_TRY(check_admin_left(db));
    if (role == before.role && disabled == before.disabled) return {};
    PM_TRY(db.run("DELETE FROM sessions WHERE user_id = ?", user_id));
    PM_TRY(db.run("DELETE FROM resets WHERE user_id = ?", user_id));
    if (disabled || role == Role::pending) PM_TRY(db.run("DELETE FROM api_keys WHERE user_id = ?", user_id));
    return {};
  });
  PM_TRY(std::move(written));
  return *user(user_id);
}

Outcome<void> Accounts::remove(const std::string& user_id) {
  return write_and_load([&](Database& db) -> Outcome<void> {
    PM_TRY(rows::purge_user(db, user_id));
    PM_TRY(db.run("DELETE FROM users WHERE id = ?", user_id));
    if (db.changes() == 0) return missing("This user");
    return check_admin_left(db);
  });
}

Outcome<void> Accounts::set_password(const std::string& user_id, const std::string& password_hash, const std::string& keep_session_id) {
  return write_and_load([&](Database& db) -> Outcome<void> {
    PM_TRY(db.run("UPDATE users SET password = ? WHERE id = ?", password_hash, user_id));
    if (db.changes() == 0) return missing("This user");
    PM_TRY(db.run("DELETE FROM sessions WHERE user_id = ? AND id <> ?", user_id, keep_session_id));
    PM_TRY(db.run("DELETE FROM api_keys WHERE user_id = ?", user_id));
    PM_TRY(db.run("DELETE FROM resets WHERE user_id = ?", user_id));
    return {};
  });
}

std::vector<User> Accounts::users(std::string_view search, const std::string& after, size_t limit) const {
  std::lock_guard lock(mutex_);
  std::vector<User> found;
  for (const auto& [id, user] : users_)
    if (user.email > after && (user.email.find(search) != std::string::npos || user.name.find(search) != std::string::npos)) found.push_back(user);
  std::sort(found.begin(), found.end(), [](const User& a, const User& b) { return a.email < b.email; });
  if (found.size() > limit) found.resize(limit);
  return found;
}

}  // namespace pagemill::chat
