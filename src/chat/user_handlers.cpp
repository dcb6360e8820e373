// Handlers of /users and /policy: what admins do with accounts.
#include "chat/jobs.h"
#include "chat/passwords.h"
#include "chat/site.h"

namespace pagemill::chat {
namespace {

void tell_admins(Site& site) { site.hub.publish_all("changed", json::object{{"what", "users"}}); }

Outcome<Role> read_role(const std::string& text) {
  const auto role = parse_role(text);
  if (!role) return refuse(400, "invalid_argument", "'role' must be admin, user or pending.", "role");
  return *role;
}

Outcome<Reply> get_users(Call& call) {
  PM_ASSIGN(const size_t limit, call.limit());
  const std::vector<User> found = call.site.accounts->users(call.query("q"), call.query("after"), limit + 1);
  json::array users;
  for (size_t i = 0; i < std::min(limit, found.size()); ++i) users.push_back(user_json(found[i]));
  return reply(json::object{{"users", std::move(users)}, {"next", found.size() > limit ? json::value(found[limit - 1].email) : json::value(nullptr)}});
}

Outcome<Reply> post_user(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const std::string email, fields.required_text("email", 254));
  PM_ASSIGN(const std::string name, fields.required_text("name", 1024));
  PM_ASSIGN(const std::string role_text, fields.required_text("role", 16));
  PM_ASSIGN(const auto password, fields.text("password", 4 * kPasswordBytesMax));
  PM_TRY(fields.done());
  PM_ASSIGN(const Role role, read_role(role_text));
  std::string hash(kNoPassword);
  if (password) {
    PM_TRY(check_password(*password, email));
    PM_ASSIGN(hash, hash_password(*password));
  }
  PM_ASSIGN(const User user, call.site.accounts->create(email, name, role, hash));
  json::value token = nullptr;
  if (!password) {
    PM_ASSIGN(const auto reset, call.site.accounts->create_reset(user.id));
    token = reset.token;
  }
  tell_admins(call.site);
  return reply(json::object{{"user", user_json(user)}, {"reset_token", std::move(token)}}, 201);
}

Outcome<Reply> patch_user(Call& call) {
  Fields fields(call.body);
  Accounts::Change change;
  PM_ASSIGN(change.email, fields.text("email", 254));
  PM_ASSIGN(change.name, fields.text("name", 1024));
  PM_ASSIGN(const auto role, fields.text("role", 16));
  PM_ASSIGN(change.disabled, fields.boolean("disabled"));
  PM_TRY(fields.done());
  if (role) {
    PM_ASSIGN(change.role, read_role(*role));
  }
  PM_ASSIGN(const User user, call.site.accounts->change(call.ids[0], std::move(change)));
  tell_admins(call.site);
  return reply(user_json(user));
}

Outcome<Reply> post_user_reset(Call& call) {
  Fields fields(call.body);
  PM_TRY(fields.done());
  PM_ASSIGN(const auto reset, call.site.accounts->create_reset(call.ids[0]));
  return reply(json::object{{"reset_token", reset.token}, {"expires_ms", reset.expires_ms}});
}

Outcome<Reply> get_policy(Call& call) { return reply(json::object{{"signup", to_string(call.site.signup())}}); }

Outcome<Reply> patch_policy(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const std::string text, fields.required_text("signup", 16));
  PM_TRY(fields.done());
  const auto signup = parse_signup(text);
  if (!signup) return refuse(400, "invalid_argument", "'signup' must be closed, pending or open.", "signup");
  PM_TRY(call.site.set_signup(*signup));
  return get_policy(call);
}

Outcome<Reply> delete_user(Call& call) {
  const std::string& id = call.ids[0];
  if (!call.site.accounts->user(id)) return missing("This user");
  call.site.jobs->stop_user(id);
  // What the search index holds of the user goes in the same transaction as the rows.
  PM_TRY(call.site.accounts->remove(id));
  tell_admins(call.site);
  return no_content();
}

}  // namespace

std::vector<Route> user_routes() {
  const auto admin = [](std::string_view method, std::string_view path, BodyKind body, Handler handler, Pool pool = Pool::work) {
    return Route{.method = method, .path = path, .access = Access::admin, .body = body, .handler = handler, .pool = pool, .accounts_only = true};
  };
  return {
      admin("GET", "/users", BodyKind::none, get_users),
      admin("POST", "/users", BodyKind::json, post_user, Pool::passwords),
      admin("PATCH", "/users/{}", BodyKind::json, patch_user),
      admin("DELETE", "/users/{}", BodyKind::none, delete_user),
      admin("POST", "/users/{}/reset", BodyKind::json, post_user_reset),
      admin("GET", "/policy", BodyKind::none, get_policy),
      admin("PATCH", "/policy", BodyKind::json, patch_policy),
  };
}

}  // namespace pagemill::chat
