// Call: one request to the page's interface on its way through a handler: who asks, what the path and the body say.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/accounts.h"
#include "chat/fields.h"
#include "http/server.h"

namespace pagemill::chat {

struct Site;

/// Who may call a route.
enum class Access : uint8_t { none, signed_in, user, admin };
/// What its body is.
enum class BodyKind : uint8_t { none, json, bytes };
/// Where its handler runs: it may wait for the disk, and a password takes its time.
enum class Pool : uint8_t { work, passwords };

struct Reply {
  int status = 200;
  json::value body;                      // null with status 204
  std::vector<http::Header> headers;
  std::string bytes;                     // instead of body, with a Content-Type among the headers
};
inline Reply reply(json::value body, int status = 200) { return {status, std::move(body), {}, {}}; }
inline Reply no_content() { return {204, nullptr, {}, {}}; }

struct Call {
  Site& site;
  http::Request request;
  std::shared_ptr<http::Responder> responder;
  std::optional<Identity> identity;
  std::vector<std::string> ids;          // the {} of the path, in order
  json::object body;                     // with BodyKind::json

  const User& user() const { return identity->user; }
  const std::string& user_id() const { return identity->user.id; }
  bool is_admin() const { return identity && identity->user.role == Role::admin; }
  /// A parameter of the query, decoded; empty where absent or malformed.
  std::string query(std::string_view name) const;
  /// `limit` and `after`.
  Outcome<size_t> limit(size_t otherwise = 50, size_t maximum = 200) const;
  Client client() const { return {request.peer_address, std::string(request.header("User-Agent"))}; }
};

/// A handler fills a reply, or takes the responder out of the call and answers itself (then its reply is ignored).
using Handler = Outcome<Reply> (*)(Call&);

struct Route {
  std::string_view method;
  std::string_view path;                 // below /chat/api; {} stands for an id
  Access access;
  BodyKind body;
  Handler handler;
  size_t body_bytes_max = limits::kChatBodyBytes;
  Pool pool = Pool::work;
  bool csrf = true;                      // false where there is no session yet
  bool accounts_only = false;            // 409 with --auth none
};

inline constexpr std::string_view kApiPath = "/chat/api";

/// The whole table.
const std::vector<Route>& chat_routes();
/// Parts of it, each in the file of its handlers.
std::vector<Route> account_routes();
std::vector<Route> user_routes();
std::vector<Route> conversation_routes();
std::vector<Route> message_routes();
std::vector<Route> template_routes();
std::vector<Route> document_routes();
std::vector<Route> machine_routes();

/// Writes a handler's outcome. Any thread.
void answer(http::Responder& responder, Outcome<Reply> outcome);
http::Response problem_response(const Problem& problem);

}  // namespace pagemill::chat
