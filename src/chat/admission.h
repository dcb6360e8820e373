// What is decided of a request to the page's interface before its body is read: route, session, rights, CSRF, size.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chat/call.h"

namespace pagemill::chat {

/// What the head handler leaves for the handler; `route` null = the page itself.
struct Admitted {
  const Route* route = nullptr;
  std::vector<std::string> ids;
  std::optional<Identity> identity;
};

Outcome<Admitted> admit(Site& site, const http::Request& request);

/// The value of a cookie of the request, or empty.
std::string_view cookie_value(const http::Request& request, std::string_view name);
/// Pages of this origin speak through TLS, here or at a proxy.
bool is_secure(const http::Request& request);

}  // namespace pagemill::chat
