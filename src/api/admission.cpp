#include "api/admission.h"

#include <arpa/inet.h>
#include <openssl/rand.h>

#include <algorithm>

#include <fmt/format.h>

namespace pagemill::api {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

/// Without the port; an IPv6 address without its brackets. Empty where it is malformed.
std::string host_name(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    return end == std::string_view::npos ? std::string() : std::string(host.substr(1, end - 1));
  }
  return lower(host.substr(0, host.find(':')));
}

bool is_ip_address(const std::string& name) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, name.c_str(), bytes) == 1 || inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(' ');
  return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

bool host_allowed(std::string_view host, const std::vector<std::string>& allowed) {
  const std::string name = host_name(host);
  if (name.empty()) return false;
  if (name == "localhost" || name.ends_with(".localhost") || is_ip_address(name)) return true;
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& one) { return one == "*" || lower(one) == name; });
}

std::string cors_origin(std::string_view origin, const std::vector<std::string>& allowed) {
  if (origin.empty()) return {};
  for (const std::string& one : allowed) {
    if (one == "*") return "*";
    if (one == origin) return std::string(origin);
  }
  return {};
}

bool is_harmless_id(std::string_view id) {
  return !id.empty() && id.size() <= 64 && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
  });
}

std::string request_id_of(const http::Request& request) {
  const std::string_view sent = request.header("X-Request-Id");
  if (is_harmless_id(sent)) return std::string(sent);
  unsigned char bytes[12];
  RAND_bytes(bytes, sizeof bytes);
  return fmt::format("{:02x}", fmt::join(bytes, bytes + sizeof bytes, ""));
}

std::string client_address(const http::Request& request, const std::vector<std::string>& trusted_proxies) {
  const auto trusted = [&](std::string_view address) { return std::find(trusted_proxies.begin(), trusted_proxies.end(), address) != trusted_proxies.end(); };
  if (!trusted(request.peer_address)) return request.peer_address;
  std::string_view chain = request.header("X-Forwarded-For");
  while (!chain.empty()) {
    const size_t comma = chain.rfind(',');
    const std::string_view last = trim(comma == std::string_view::npos ? chain : chain.substr(comma + 1));
    if (!is_ip_address(std::string(last))) break;
    if (!trusted(last)) return std::string(last);
    chain = comma == std::string_view::npos ? std::string_view() : chain.substr(0, comma);
  }
  return request.peer_address;
}

bool is_json_content_type(std::string_view content_type) {
  return lower(trim(content_type.substr(0, content_type.find(';')))) == "application/json";
}

}  // namespace pagemill::api
