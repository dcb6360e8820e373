// Handlers of /me, /setup, /login … : a user's own account.
#include <fmt/format.h>

#include "chat/admission.h"
#include "chat/passwords.h"
#include "chat/site.h"

namespace pagemill::chat {
namespace {

json::value me_json(const Site& site, const std::optional<Identity>& identity) {
  json::object me{{"auth", site.options.auth == AuthMode::none ? "none" : "accounts"},
                  {"setup_needed", site.options.auth == AuthMode::accounts && site.accounts->setup_needed()},
                  {"signup", site.options.auth == AuthMode::none ? "closed" : to_string(site.signup())},
                  {"user", nullptr},
                  {"csrf", nullptr},
                  {"settings", json::object{}},
                  {"version", site.options.version},
                  {"password_length_min", kPasswordBytesMin}};
  if (!identity) return me;
  me["user"] = user_json(identity->user);
  me["csrf"] = identity->csrf;
  if (auto settings = parse_json(identity->user.settings); settings && settings->is_object()) me["settings"] = std::move(*settings);
  return me;
}

std::string set_cookie(const Site& site, bool secure, std::string_view token, int64_t seconds) {
  const std::string path = secure || site.options.root_path.empty() ? "/" : site.options.root_path + "/";
  return fmt::format("{}={}; Path={}; Max-Age={}; HttpOnly; SameSite=Strict{}", site.cookie_name(secure), token, path, seconds, secure ? "; Secure" : "");
}

/// A fresh session, never one that the request brought (which ends): nobody can plant a session that somebody else signs in to.
Outcome<Reply> sign_in(Call& call, const std::string& user_id, int status) {
  Site& site = call.site;
  if (const auto old = site.identity_of(call.request)) (void)site.accounts->end_session(old->user.id, old->session_id);
  PM_ASSIGN(NewSession session, site.accounts->open_session(user_id, call.client()));
  Reply answer = reply(me_json(site, session.identity), status);
  answer.headers.emplace_back("Set-Cookie", set_cookie(site, is_secure(call.request), session.token, kSessionAgeMs / 1000));
  return answer;
}

Outcome<void> throttle(Call& call, const std::string& account) {
  const int seconds = call.site.throttle.attempt(account, call.request.peer_address);
  if (seconds == 0) return {};
  Problem problem(429, "throttled", fmt::format("Too many attempts; try again in {} s.", seconds));
  problem.retry_after_s = seconds;
  return tl::unexpected(std::move(problem));
}

struct NewAccount {
  std::string token, email, password, name;
};

Outcome<NewAccount> read_account(Call& call, bool with_token) {
  Fields fields(call.body);
  NewAccount account;
  if (with_token) {
    PM_ASSIGN(account.token, fields.required_text("token", 128));
  }
  PM_ASSIGN(account.email, fields.required_text("email", 254));
  PM_ASSIGN(account.password, fields.required_text("password", 4 * kPasswordBytesMax));
  PM_ASSIGN(account.name, fields.required_text("name", 1024));
  PM_TRY(fields.done());
  PM_TRY(check_password(account.password, account.email));
  return account;
}

Outcome<Reply> get_me(Call& call) {
  // Looked up anew: `none` routes are not refused for a session that has ended.
  return reply(me_json(call.site, call.identity));
}

Outcome<Reply> post_setup(Call& call) {
  if (!call.site.accounts->setup_needed()) return refuse(409, "already_set_up", "This server has its first account already: sign in.");
  PM_TRY(throttle(call, "setup"));
  PM_ASSIGN(const NewAccount account, read_account(call, true));
  PM_TRY(call.site.use_setup_token(account.token));
  PM_ASSIGN(const std::string hash, hash_password(account.password));
  PM_ASSIGN(const User user, call.site.accounts->create_first(account.email, account.name, hash));
  call.site.throttle.succeeded("setup", call.request.peer_address);
  return sign_in(call, user.id, 201);
}

Outcome<Reply> post_login(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const std::string email, fields.required_text("email", 254));
  PM_ASSIGN(const std::string password, fields.required_text("password", 4 * kPasswordBytesMax));
  PM_TRY(fields.done());
  const auto user = call.site.accounts->user_by_email(email);
  const std::string account = user ? user->email : "?" + email;
  PM_TRY(throttle(call, account));
  // The same work and the same answer whether the account exists, is disabled or has another password.
  const bool right = verify_password(user ? user->password : std::string(kNoPassword), password.substr(0, kPasswordBytesMax));
  if (!user || !right || user->disabled || password.size() > kPasswordBytesMax) return refuse(401, "login_failed", "The e-mail address or the password is wrong.");
  call.site.throttle.succeeded(account, call.request.peer_address);
  return sign_in(call, user->id, 200);
}

Outcome<Reply> post_signup(Call& call) {
  const Signup policy = call.site.signup();
  if (policy == Signup::closed || call.site.accounts->setup_needed()) return refuse(403, "signup_closed", "This server admits no new accounts by itself: ask its admin.");
  PM_TRY(throttle(call, "signup"));
  PM_ASSIGN(const NewAccount account, read_account(call, false));
  PM_ASSIGN(const std::string hash, hash_password(account.password));
  PM_ASSIGN(const User user, call.site.accounts->create(account.email, account.name, policy == Signup::open ? Role::user : Role::pending, hash));
  call.site.hub.publish_all("changed", json::object{{"what", "users"}});
  return sign_in(call, user.id, 201);
}

Outcome<Reply> post_reset(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const std::string token, fields.required_text("token", 128));
  PM_ASSIGN(const std::string password, fields.required_text("password", 4 * kPasswordBytesMax));
  PM_TRY(fields.done());
  PM_TRY(throttle(call, "reset"));
  PM_ASSIGN(const User user, call.site.accounts->reset_user(token));
  PM_TRY(check_password(password, user.email));
  PM_ASSIGN(const std::string hash, hash_password(password));
  PM_TRY(call.site.accounts->use_reset(token, hash));
  call.site.throttle.succeeded("reset", call.request.peer_address);
  if (user.disabled) return refuse(403, "not_allowed", "This account is disabled.");
  return sign_in(call, user.id, 200);
}

Outcome<Reply> post_logout(Call& call) {
  Fields fields(call.body);
  PM_TRY(fields.done());
  PM_TRY(call.site.accounts->end_session(call.user_id(), call.identity->session_id));
  Reply answer = no_content();
  const bool secure = !cookie_value(call.request, call.site.cookie_name(true)).empty();
  answer.headers.emplace_back("Set-Cookie", set_cookie(call.site, secure, "", 0));
  return answer;
}

Outcome<Reply> patch_me(Call& call) {
  Fields fields(call.body);
  Accounts::Change change;
  PM_ASSIGN(change.name, fields.text("name", 1024));
  PM_ASSIGN(const json::object* settings, fields.object("settings"));
  PM_TRY(fields.done());
  if (settings) {
    change.settings = json::serialize(*settings);
    if (change.settings->size() > limits::kChatSettingsBytes) return refuse(413, "too_large", fmt::format("'settings' has {} bytes; {} at most.", change.settings->size(), limits::kChatSettingsBytes), "settings");
  }
  PM_ASSIGN(call.identity->user, call.site.accounts->change(call.user_id(), std::move(change)));
  call.site.hub.publish(call.user_id(), "changed", json::object{{"what", "me"}});
  return reply(me_json(call.site, call.identity));
}

/// The account's password once more, before something that outlives the session.
Outcome<void> step_up(Call& call, const std::string& password, std::string_view field) {
  PM_TRY(throttle(call, call.user().email));
  if (!verify_password(call.user().password, password.substr(0, kPasswordBytesMax))) return refuse(403, "password_wrong", "This is not the account's password.", std::string(field));
  call.site.throttle.succeeded(call.user().email, call.request.peer_address);
  return {};
}

Outcome<Reply> post_password(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const std::string current, fields.required_text("current_password", 4 * kPasswordBytesMax));
  PM_ASSIGN(const std::string password, fields.required_text("password", 4 * kPasswordBytesMax));
  PM_TRY(fields.done());
  PM_TRY(check_password(password, call.user().email));
  PM_TRY(step_up(call, current, "current_password"));
  PM_ASSIGN(const std::string hash, hash_password(password));
  PM_TRY(call.site.accounts->set_password(call.user_id(), hash, call.identity->session_id));
  return sign_in(call, call.user_id(), 200);
}

Outcome<Reply> get_sessions(Call& call) {
  json::array sessions;
  for (const Session& session : call.site.accounts->sessions(call.user_id()))
    sessions.push_back(json::object{{"id", session.id}, {"current", session.id == call.identity->session_id}, {"created_ms", session.created_ms}, {"last_used_ms", session.last_used_ms}, {"address", session.address}, {"user_agent", session.user_agent}});
  return reply(json::object{{"sessions", std::move(sessions)}});
}

Outcome<Reply> delete_session(Call& call) {
  PM_TRY(call.site.accounts->end_session(call.user_id(), call.ids[0]));
  call.site.hub.publish(call.user_id(), "changed", json::object{{"what", "sessions"}});
  return no_content();
}

Outcome<Reply> delete_other_sessions(Call& call) {
  PM_TRY(call.site.accounts->end_other_sessions(call.user_id(), call.identity->session_id));
  return no_content();
}

Outcome<Reply> get_keys(Call& call) {
  json::array keys;
  for (const ApiKey& key : call.site.accounts->keys(call.user_id())) keys.push_back(key_json(key));
  return reply(json::object{{"keys", std::move(keys)}});
}

Outcome<uint32_t> read_scopes(const json::array* list) {
  if (!list) return 1u << static_cast<uint32_t>(Scope::inference);
  uint32_t scopes = 0;
  for (const json::value& one : *list) {
    const std::string_view name = one.is_string() ? std::string_view(one.get_string().data(), one.get_string().size()) : std::string_view();
    if (name == "inference") scopes |= 1u << static_cast<uint32_t>(Scope::inference);
    else if (name == "metrics") scopes |= 1u << static_cast<uint32_t>(Scope::metrics);
    else return refuse(400, "invalid_argument", "'scopes' may hold inference and metrics.", "scopes");
  }
  if (scopes == 0) return refuse(400, "invalid_argument", "'scopes' must hold inference or metrics.", "scopes");
  return scopes;
}

Outcome<Reply> post_key(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const std::string name, fields.required_text("name", 1024));
  PM_ASSIGN(const json::array* list, fields.array("scopes", 8));
  PM_ASSIGN(const auto expires_ms, fields.integer("expires_ms", now_ms(), int64_t{1} << 52));
  PM_ASSIGN(const auto password, fields.text("password", 4 * kPasswordBytesMax));
  PM_TRY(fields.done());
  PM_ASSIGN(const uint32_t scopes, read_scopes(list));
  // Figures of the whole server are the admins'.
  if (scopes >> static_cast<uint32_t>(Scope::metrics) & 1 && !call.is_admin()) return refuse(403, "not_allowed", "Only an admin's key may read the metrics.", "scopes");
  if (call.site.options.auth == AuthMode::accounts) {
    if (!password) return refuse(400, "missing_field", "'password' is missing: the account's, once more.", "password");
    PM_TRY(step_up(call, *password, "password"));
  }
  PM_ASSIGN(const auto made, call.site.accounts->create_key(call.user_id(), name, scopes, expires_ms));
  call.site.hub.publish(call.user_id(), "changed", json::object{{"what", "keys"}});
  return reply(json::object{{"key", key_json(made.first)}, {"secret", made.second}}, 201);
}

Outcome<Reply> delete_key(Call& call) {
  PM_TRY(call.site.accounts->remove_key(call.user_id(), call.ids[0]));
  call.site.hub.publish(call.user_id(), "changed", json::object{{"what", "keys"}});
  return no_content();
}

}  // namespace

std::vector<Route> account_routes() {
  const auto open = [](std::string_view path, Handler handler) {
    return Route{.method = "POST", .path = path, .access = Access::none, .body = BodyKind::json, .handler = handler, .pool = Pool::passwords, .csrf = false, .accounts_only = true};
  };
  return {
      {"GET", "/me", Access::none, BodyKind::none, get_me},
      open("/setup", post_setup),
      open("/login", post_login),
      open("/signup", post_signup),
      open("/password/reset", post_reset),
      {.method = "POST", .path = "/logout", .access = Access::signed_in, .body = BodyKind::json, .handler = post_logout, .accounts_only = true},
      {"PATCH", "/me", Access::signed_in, BodyKind::json, patch_me},
      {.method = "POST", .path = "/password", .access = Access::signed_in, .body = BodyKind::json, .handler = post_password, .pool = Pool::passwords, .accounts_only = true},
      {.method = "GET", .path = "/sessions", .access = Access::signed_in, .body = BodyKind::none, .handler = get_sessions, .accounts_only = true},
      {.method = "DELETE", .path = "/sessions", .access = Access::signed_in, .body = BodyKind::none, .handler = delete_other_sessions, .accounts_only = true},
      {.method = "DELETE", .path = "/sessions/{}", .access = Access::signed_in, .body = BodyKind::none, .handler = delete_session, .accounts_only = true},
      {"GET", "/keys", Access::user, BodyKind::none, get_keys},
      {.method = "POST", .path = "/keys", .access = Access::user, .body = BodyKind::json, .handler = post_key, .pool = Pool::passwords},
      {"DELETE", "/keys/{}", Access::user, BodyKind::none, delete_key},
  };
}

}  // namespace pagemill::chat
