// What is checked of a request before anything of it is believed: the Host it names, its Origin, its own id.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "http/server.h"

namespace pagemill::api {

/// Against DNS rebinding: a page of another site can make a browser send requests here only under a name. localhost and IP
/// addresses pass, names must be listed ("*" = any). `host`: the Host header, with or without a port.
bool host_allowed(std::string_view host, const std::vector<std::string>& allowed);

/// What Access-Control-Allow-Origin says for this Origin; empty = nothing.
std::string cors_origin(std::string_view origin, const std::vector<std::string>& allowed);

/// An id that may be echoed and logged: 1 to 64 of [A-Za-z0-9._-].
bool is_harmless_id(std::string_view id);

/// X-Request-Id if it is harmless, else a fresh random one.
std::string request_id_of(const http::Request& request);

/// The client's address: the peer's, or what a trusted proxy says in X-Forwarded-For (its last entry that is no proxy).
std::string client_address(const http::Request& request, const std::vector<std::string>& trusted_proxies);

/// application/json, with or without parameters.
bool is_json_content_type(std::string_view content_type);

}  // namespace pagemill::api
