// Accounts: sessions, links that set a password, and API keys.
#include <algorithm>

#include <fmt/format.h>

#include "chat/accounts.h"
#include "chat/fields.h"
#include "chat/ids.h"

namespace pagemill::chat {
namespace {

constexpr int64_t kTouchMs = 60'000;  // last_used is written no more often

std::string csrf_of(std::string_view token) { return hex(sha256("csrf:" + std::string(token))).substr(0, 32); }

bool expired(const Session& session, int64_t now) { return now - session.last_used_ms > kSessionIdleMs || now - session.created_ms > kSessionAgeMs; }

}  // namespace

json::object key_json(const ApiKey& key) {
  json::array scopes;
  for (const Scope scope : {Scope::inference, Scope::metrics})
    if (key.scopes >> static_cast<uint32_t>(scope) & 1) scopes.emplace_back(to_string(scope));
  return {{"id", key.id}, {"name", key.name}, {"prefix", key.prefix}, {"scopes", std::move(scopes)}, {"created_ms", key.created_ms}, {"last_used_ms", json_or_null(key.last_used_ms)}, {"expires_ms", json_or_null(key.expires_ms)}};
}

std::optional<Identity> Accounts::by_session_token(std::string_view token) {
  if (token.empty() || token.size() > 128) return std::nullopt;
  const std::string hash = sha256(token);
  const int64_t now = now_ms();
  Identity identity;
  {
    std::lock_guard lock(mutex_);
    const auto found = sessions_.find(hash);
    if (found == sessions_.end() || expired(found->second, now)) return std::nullopt;
    const auto user = users_.find(found->second.user_id);
    if (user == users_.end() || user->second.disabled) return std::nullopt;
    identity = {user->second, found->second.id, csrf_of(token)};
    if (now - found->second.last_used_ms < kTouchMs) return identity;
    found->second.last_used_ms = now;
    user->second.last_seen_ms = now;
  }
  store_.post([now, session = identity.session_id, user = identity.user.id](Database& db) -> Outcome<void> {
    PM_TRY(db.run("UPDATE sessions SET last_used_ms = ? WHERE id = ?", now, session));
    PM_TRY(db.run("UPDATE users SET last_seen_ms = ? WHERE id = ?", now, user));
    return {};
  });
  return identity;
}

bool Accounts::session_alive(const std::string& session_id) const {
  std::lock_guard lock(mutex_);
  const auto hash = session_hashes_.find(session_id);
  if (hash == session_hashes_.end()) return false;
  const Session& session = sessions_.at(hash->second);
  const auto user = users_.find(session.user_id);
  return user != users_.end() && !user->second.disabled && !expired(session, now_ms());
}

Outcome<NewSession> Accounts::open_session(const std::string& user_id, const Client& client) {
  NewSession made{new_secret(), {}};
  const int64_t now = now_ms();
  // What a client says of itself is cut and may not be broken UTF-8.
  const std::string agent = utf8_prefix(client.user_agent, 200);
  Session session{new_id(), user_id, sha256(made.token), client.address, agent, now, now};
  std::vector<std::string> dropped;
  auto written = store_.write([&](Database& db) -> Outcome<void> {
    dropped.clear();
    PM_ASSIGN(const auto alive, db.integer("SELECT COUNT(*) FROM users WHERE id = ? AND disabled = 0", user_id));
    if (alive.value_or(0) == 0) return missing("This user");
    PM_TRY(db.each("SELECT id FROM sessions WHERE user_id = ? ORDER BY last_used_ms DESC LIMIT -1 OFFSET ?", [&](const Row& row) { dropped.push_back(row.text(0)); }, user_id,
                   static_cast<int64_t>(limits::kChatSessionsPerUser - 1)));
    for (const std::string& id : dropped) PM_TRY(db.run("DELETE FROM sessions WHERE id = ?", id));
    PM_TRY(db.run("INSERT INTO sessions(id, user_id, token_hash, created_ms, last_used_ms, address, user_agent) VALUES(?, ?, ?, ?, ?, ?, ?)", session.id, user_id, Blob{session.token_hash}, now, now,
                  session.address, session.user_agent));
    PM_TRY(db.run("UPDATE users SET last_seen_ms = ? WHERE id = ?", now, user_id));
    return {};
  });
  PM_TRY(std::move(written));
  {
    std::lock_guard lock(mutex_);
    const auto user = users_.find(user_id);
    if (user == users_.end()) return missing("This user");
    user->second.last_seen_ms = now;
    made.identity = {user->second, session.id, csrf_of(made.token)};
    for (const std::string& id : dropped) {
      sessions_.erase(session_hashes_[id]);
      session_hashes_.erase(id);
    }
    session_hashes_.emplace(session.id, session.token_hash);
    sessions_.emplace(session.token_hash, session);
  }
  if (!dropped.empty() && on_end_) on_end_(dropped);
  return made;
}

Outcome<void> Accounts::end_session(const std::string& user_id, const std::string& session_id) {
  auto written = store_.write([&](Database& db) -> Outcome<void> {
    PM_TRY(db.run("DELETE FROM sessions WHERE id = ? AND user_id = ?", session_id, user_id));
    if (db.changes() == 0) return missing("This session");
    return {};
  });
  PM_TRY(std::move(written));
  {
    std::lock_guard lock(mutex_);
    if (const auto hash = session_hashes_.find(session_id); hash != session_hashes_.end()) {
      sessions_.erase(hash->second);
      session_hashes_.erase(hash);
    }
  }
  if (on_end_) on_end_({session_id});
  return {};
}

Outcome<void> Accounts::end_other_sessions(const std::string& user_id, const std::string& keep_session_id) {
  for (const Session& session : sessions(user_id))
    if (session.id != keep_session_id) PM_TRY(end_session(user_id, session.id));
  return {};
}

std::vector<Session> Accounts::sessions(const std::string& user_id) const {
  const int64_t now = now_ms();
  std::vector<Session> found;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [hash, session] : sessions_)
      if (session.user_id == user_id && !expired(session, now)) found.push_back(session);
  }
  std::sort(found.begin(), found.end(), [](const Session& a, const Session& b) { return a.last_used_ms > b.last_used_ms; });
  return found;
}

// ---- links ----

Outcome<Accounts::Reset> Accounts::create_reset(const std::string& user_id) {
  Reset reset{new_secret(), now_ms() + kResetMs};
  auto written = store_.write([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(const auto there, db.integer("SELECT COUNT(*) FROM users WHERE id = ?", user_id));
    if (there.value_or(0) == 0) return missing("This user");
    PM_TRY(db.run("DELETE FROM resets WHERE user_id = ?", user_id));
    PM_TRY(db.run("INSERT INTO resets(hash, user_id, expires_ms) VALUES(?, ?, ?)", Blob{sha256(reset.token)}, user_id, reset.expires_ms));
    return {};
  });
  PM_TRY(std::move(written));
  return reset;
}

namespace {

Outcome<std::string> owner_of_reset(Database& db, std::string_view token) {
  PM_ASSIGN(const auto user, db.text("SELECT user_id FROM resets WHERE hash = ? AND expires_ms > ?", Blob{sha256(token)}, now_ms()));
  if (!user) return refuse(401, "token_invalid", "This link has been used or is too old: ask an admin for a new one.", "token");
  return *user;
}

}  // namespace

Outcome<User> Accounts::reset_user(std::string_view token) {
  PM_ASSIGN(const std::string id, store_.read([&](Database& db) { return owner_of_reset(db, token); }));
  const auto found = user(id);
  if (!found) return missing("This user");
  return *found;
}

Outcome<User> Accounts::use_reset(std::string_view token, const std::string& password_hash) {
  std::string id;
  auto written = write_and_load([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(id, owner_of_reset(db, token));
    PM_TRY(db.run("UPDATE users SET password = ? WHERE id = ?", password_hash, id));
    PM_TRY(db.run("DELETE FROM sessions WHERE user_id = ?", id));
    PM_TRY(db.run("DELETE FROM api_keys WHERE user_id = ?", id));
    PM_TRY(db.run("DELETE FROM resets WHERE user_id = ?", id));
    return {};
  });
  PM_TRY(std::move(written));
  return *user(id);
}

// ---- API keys ----

std::optional<Principal> Accounts::by_api_key(std::string_view key) {
  if (!key.starts_with(kKeyPrefix) || key.size() > 128) return std::nullopt;
  const std::string hash = sha256(key);
  const int64_t now = now_ms();
  std::string key_id;
  Principal principal;
  {
    std::lock_guard lock(mutex_);
    const auto found = keys_.find(hash);
    if (found == keys_.end() || (found->second.expires_ms && *found->second.expires_ms <= now)) return std::nullopt;
    const auto user = users_.find(found->second.user_id);
    if (user == users_.end() || user->second.disabled || user->second.role == Role::pending) return std::nullopt;
    principal.id = "user-" + user->second.id.substr(0, 8);
    principal.tenant = user->second.tenant();
    principal.scopes = found->second.scopes;
    if (now - found->second.last_used_ms.value_or(0) < kTouchMs) return principal;
    found->second.last_used_ms = now;
    key_id = found->second.id;
  }
  store_.post([now, key_id](Database& db) -> Outcome<void> {
    PM_TRY(db.run("UPDATE api_keys SET last_used_ms = ? WHERE id = ?", now, key_id));
    return {};
  });
  return principal;
}

Outcome<std::pair<ApiKey, std::string>> Accounts::create_key(const std::string& user_id, std::string name, uint32_t scopes, std::optional<int64_t> expires_ms) {
  PM_TRY(check_text(name, "name", 1, limits::kChatNameChars));
  std::string secret = std::string(kKeyPrefix) + new_secret();
  ApiKey key{new_id(), user_id, std::move(name), secret.substr(0, kKeyPrefix.size() + 6), sha256(secret), scopes, now_ms(), std::nullopt, expires_ms};
  auto written = write_and_load([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(const auto count, db.integer("SELECT COUNT(*) FROM api_keys WHERE user_id = ?", user_id));
    if (count.value_or(0) >= static_cast<int64_t>(limits::kChatKeysPerUser)) return refuse(429, "quota", fmt::format("An account has {} keys at most: remove one.", limits::kChatKeysPerUser));
    PM_TRY(db.run("INSERT INTO api_keys(id, user_id, name, prefix, hash, scopes, created_ms, expires_ms) VALUES(?, ?, ?, ?, ?, ?, ?, ?)", key.id, user_id, key.name, key.prefix, Blob{key.hash},
                  static_cast<int64_t>(key.scopes), key.created_ms, key.expires_ms));
    return {};
  });
  PM_TRY(std::move(written));
  return std::pair(std::move(key), std::move(secret));
}

Outcome<void> Accounts::remove_key(const std::string& user_id, const std::string& key_id) {
  return write_and_load([&](Database& db) -> Outcome<void> {
    PM_TRY(db.run("DELETE FROM api_keys WHERE id = ? AND user_id = ?", key_id, user_id));
    if (db.changes() == 0) return missing("This key");
    return {};
  });
}

std::vector<ApiKey> Accounts::keys(const std::string& user_id) const {
  std::vector<ApiKey> found;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [hash, key] : keys_)
      if (key.user_id == user_id) found.push_back(key);
  }
  std::sort(found.begin(), found.end(), [](const ApiKey& a, const ApiKey& b) { return a.created_ms > b.created_ms; });
  return found;
}

}  // namespace pagemill::chat
