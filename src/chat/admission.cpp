#include "chat/admission.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "chat/ids.h"
#include "chat/site.h"

namespace pagemill::chat {
namespace {

/// Takes the ids of `path` where the pattern matches.
bool match_path(std::string_view pattern, std::string_view path, std::vector<std::string>& ids) {
  ids.clear();
  while (!pattern.empty()) {
    if (pattern.starts_with("{}")) {
      const size_t end = std::min(path.find('/'), path.size());
      if (!is_id(path.substr(0, end))) return false;
      ids.emplace_back(path.substr(0, end));
      path.remove_prefix(end);
      pattern.remove_prefix(2);
      continue;
    }
    if (path.empty() || path.front() != pattern.front()) return false;
    path.remove_prefix(1);
    pattern.remove_prefix(1);
  }
  return path.empty();
}

bool reads(std::string_view method) { return method == "GET" || method == "HEAD"; }

/// A browser says where a request comes from; without either field it is no browser, and has no cookie by accident.
Outcome<void> check_origin(const http::Request& request) {
  const std::string_view site = request.header("Sec-Fetch-Site");
  if (site == "same-origin") return {};
  const std::string_view origin = request.header("Origin");
  const size_t scheme = origin.find("://");
  const bool same = origin.empty() || (scheme != std::string_view::npos && origin.substr(scheme + 3) == request.header("Host"));
  if (same && (site.empty() || site == "none")) return {};
  return refuse(403, "cross_origin", "Only the page of this server may do that.");
}

Outcome<void> check_access(const Route& route, const std::optional<Identity>& identity) {
  if (route.access == Access::none) return {};
  if (!identity) return refuse(401, "signed_out", "Sign in first.");
  if (route.access == Access::signed_in) return {};
  if (identity->user.role == Role::pending) return refuse(403, "pending", "An admin has to admit this account first.");
  if (route.access == Access::admin && identity->user.role != Role::admin) return refuse(403, "not_allowed", "Only an admin may do that.");
  return {};
}

Outcome<void> check_body(const Route& route, const http::Request& request) {
  const std::string_view length = request.header("Content-Length");
  uint64_t bytes = 0;
  if (!length.empty()) std::from_chars(length.data(), length.data() + length.size(), bytes);
  const size_t maximum = route.body == BodyKind::none ? 0 : route.body_bytes_max;
  if (route.body != BodyKind::none && bytes > maximum) return refuse(413, "too_large", fmt::format("This has {} bytes; {} at most.", bytes, maximum));
  if (route.body == BodyKind::none) return {};
  const std::string_view type = request.header("Content-Type");
  const std::string_view wanted = route.body == BodyKind::json ? "application/json" : "application/octet-stream";
  // application/json cannot be sent by another site's form; that is part of the protection against CSRF.
  const std::string_view bare = type.substr(0, type.find(';'));
  if (bare != wanted) return refuse(415, "content_type", fmt::format("The Content-Type must be {}.", wanted));
  return {};
}

}  // namespace

std::string_view cookie_value(const http::Request& request, std::string_view name) {
  std::string_view rest = request.header("Cookie");
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(';'), rest.size());
    std::string_view pair = rest.substr(0, end);
    while (pair.starts_with(' ')) pair.remove_prefix(1);
    if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=') return pair.substr(name.size() + 1);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {};
}

bool is_secure(const http::Request& request) { return request.tls || request.header("Origin").starts_with("https://"); }

Outcome<Admitted> admit(Site& site, const http::Request& request) {
  const std::string_view path = std::string_view(request.path).substr(kApiPath.size());
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  Admitted admitted;
  std::vector<std::string> ids;
  std::string allowed;
  for (const Route& route : chat_routes()) {
    if (!match_path(route.path, path, ids)) continue;
    allowed.append(allowed.empty() ? "" : ", ").append(route.method);
    if (route.method != method) continue;
    admitted.route = &route;
    admitted.ids = std::move(ids);
    break;
  }
  if (!admitted.route) {
    if (allowed.empty()) return missing("What is asked for");
    return refuse(405, "method_not_allowed", "This path has other methods: " + allowed + ".");
  }
  const Route& route = *admitted.route;
  const bool writes = !reads(request.method);
  if (writes) PM_TRY(check_origin(request));
  if (route.accounts_only && site.options.auth == AuthMode::none) return refuse(409, "accounts_off", "This server runs without accounts (--auth none).");
  admitted.identity = site.identity_of(request);
  PM_TRY(check_access(route, admitted.identity));
  if (writes && route.csrf && !(admitted.identity && same_secret(request.header("X-CSRF-Token"), admitted.identity->csrf)))
    return refuse(403, "csrf", "The request lacks the session's X-CSRF-Token: read it from /chat/api/me and repeat.");
  PM_TRY(check_body(route, request));
  return admitted;
}

}  // namespace pagemill::chat
