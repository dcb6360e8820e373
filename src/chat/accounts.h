// Accounts: users, their sessions and API keys. Everything that a request is checked against is in memory, so that checking is a look-up on
// an io thread; changes go through the store first.
//
// Any thread. Functions that write wait for the disk: not for io threads. Passwords come in hashed (passwords.h).
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "api/auth.h"
#include "chat/problem.h"
#include "chat/store.h"

namespace pagemill::chat {

enum class Role : uint8_t { pending, user, admin };
std::string_view to_string(Role role);
std::optional<Role> parse_role(std::string_view text);

enum class Signup : uint8_t { closed, pending, open };
std::string_view to_string(Signup signup);
std::optional<Signup> parse_signup(std::string_view text);

struct User {
  std::string id, email, name;
  Role role = Role::user;
  bool disabled = false;
  std::string password;                  // hash, or kNoPassword
  std::string settings = "{}";           // JSON of the page
  int64_t created_ms = 0;
  std::optional<int64_t> last_seen_ms;

  /// For the engine's fairness between users and the prefix cache's separation.
  uint64_t tenant() const;
};
json::object user_json(const User& user);
/// In lower case, or what is wrong with it.
Outcome<std::string> checked_email(std::string email);

struct Session {
  std::string id, user_id, token_hash, address, user_agent;
  int64_t created_ms = 0, last_used_ms = 0;
};
struct ApiKey {
  std::string id, user_id, name, prefix, hash;
  uint32_t scopes = 0;
  int64_t created_ms = 0;
  std::optional<int64_t> last_used_ms, expires_ms;
};
json::object key_json(const ApiKey& key);

/// Who sent a request.
struct Identity {
  User user;
  std::string session_id;
  std::string csrf;
};
/// A session just made; the token goes into the cookie and nowhere else.
struct NewSession {
  std::string token;
  Identity identity;
};
struct Client {
  std::string address, user_agent;
};

inline constexpr std::string_view kKeyPrefix = "pm-";
inline constexpr std::string_view kLocalUserId = "00000000000000000000000000000001";
inline constexpr int64_t kSessionIdleMs = int64_t{14} * 86'400'000, kSessionAgeMs = int64_t{90} * 86'400'000;
inline constexpr int64_t kResetMs = 86'400'000;

class Accounts {
 public:
  explicit Accounts(Store& store) : store_(store) {}
  /// Reads everything; again where another process (`pagemill user`) has changed it. Sessions that ended so are reported.
  Outcome<void> load();
  Outcome<void> reload_if_changed();
  /// Called, without any lock, with the ids of sessions that have ended or whose user changed.
  void on_sessions_end(std::function<void(const std::vector<std::string>&)> callback) { on_end_ = std::move(callback); }

  // Checking; quick.
  std::optional<Identity> by_session_token(std::string_view token);
  /// A user's API key → who may do what; nothing for an unknown, revoked or expired one.
  std::optional<Principal> by_api_key(std::string_view key);
  std::optional<User> user(const std::string& id) const;
  std::optional<User> user_by_email(std::string_view email) const;
  bool setup_needed() const;
  bool session_alive(const std::string& session_id) const;

  // Signing in.
  Outcome<NewSession> open_session(const std::string& user_id, const Client& client);
  Outcome<void> end_session(const std::string& user_id, const std::string& session_id);
  Outcome<void> end_other_sessions(const std::string& user_id, const std::string& keep_session_id);
  std::vector<Session> sessions(const std::string& user_id) const;
  /// The one user of --auth none, made where it does not exist.
  Outcome<User> local_user();

  // Users. E-mail addresses and names are checked and normalised here.
  /// The first account, an admin; fails with already_set_up once there is one. Takes over what the local user has.
  Outcome<User> create_first(std::string email, std::string name, const std::string& password_hash);
  Outcome<User> create(std::string email, std::string name, Role role, const std::string& password_hash);
  struct Change {
    std::optional<std::string> email, name, settings;
    std::optional<Role> role;
    std::optional<bool> disabled;
  };
  Outcome<User> change(const std::string& user_id, Change change);
  Outcome<void> remove(const std::string& user_id);
  /// Ends all sessions but `keep_session_id` and revokes every API key.
  Outcome<void> set_password(const std::string& user_id, const std::string& password_hash, const std::string& keep_session_id);
  std::vector<User> users(std::string_view search, const std::string& after, size_t limit) const;  // by e-mail

  // Links that set a password.
  struct Reset {
    std::string token;
    int64_t expires_ms = 0;
  };
  Outcome<Reset> create_reset(const std::string& user_id);
  Outcome<User> reset_user(std::string_view token);
  /// Uses the link up and sets the password.
  Outcome<User> use_reset(std::string_view token, const std::string& password_hash);

  // API keys.
  Outcome<std::pair<ApiKey, std::string>> create_key(const std::string& user_id, std::string name, uint32_t scopes, std::optional<int64_t> expires_ms);
  Outcome<void> remove_key(const std::string& user_id, const std::string& key_id);
  std::vector<ApiKey> keys(const std::string& user_id) const;

 private:
  struct Loaded;
  /// Writes, raises accounts_version, and then takes the new state over.
  Outcome<void> write_and_load(std::function<Outcome<void>(Database&)> work);
  Outcome<void> apply(Loaded loaded);

  Store& store_;
  std::function<void(const std::vector<std::string>&)> on_end_;
  std::mutex change_mutex_;              // one change at a time
  mutable std::mutex mutex_;
  int64_t version_ = -1;                 // under mutex_, as all below
  std::map<std::string, User> users_;    // by id
  std::unordered_map<std::string, std::string> by_email_;
  std::unordered_map<std::string, Session> sessions_;  // by token hash
  std::unordered_map<std::string, std::string> session_hashes_;  // id → token hash
  std::unordered_map<std::string, ApiKey> keys_;       // by hash
};

}  // namespace pagemill::chat
