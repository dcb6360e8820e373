#include "http/request_head.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/json.h"

namespace pagemill::http {
namespace {

Refusal bad(std::string message) { return {400, std::move(message)}; }

bool is_token_character(char c) {
  static constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || kMarks.find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) { return !text.empty() && std::all_of(text.begin(), text.end(), is_token_character); }

bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; }

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return lower(x) == lower(y);
  });
}

Refusal too_large(const ServerLimits& limits) { return {413, fmt::format("the body has more than {} bytes, the most that is accepted", limits.body_bytes_max)}; }

Refusal parse_request_line(std::string_view line, RequestHead& head) {
  const size_t first = line.find(' '), last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return bad("the request line is not \"METHOD target HTTP/1.1\"");
  const std::string_view method = line.substr(0, first), target = line.substr(first + 1, last - first - 1), version = line.substr(last + 1);
  if (!is_token(method) || method.size() > 32) return bad("the request line has no method");
  if (target.empty() || std::any_of(target.begin(), target.end(), [](char c) { return is_control(c) || c == ' ' || c == '\t'; }))
    return bad("the request target is malformed");
  head.method = method;
  head.target = target;
  head.http_1_1 = head.keep_alive = version == "HTTP/1.1";
  if (head.http_1_1 || version == "HTTP/1.0") return {};
  if (version.starts_with("HTTP/")) return {505, "only HTTP/1.1 and HTTP/1.0 are spoken here"};
  return bad("the request line has no HTTP version");
}

bool list_has(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (equals_ignoring_case(trim(list.substr(0, comma)), token)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

Refusal parse_field(std::string_view line, const ServerLimits& limits, RequestHead& head) {
  if (static_cast<int>(head.headers.size()) >= limits.header_count_max) return {431, fmt::format("more than {} header fields", limits.header_count_max)};
  if (line.front() == ' ' || line.front() == '\t') return bad("a header field is continued on a second line");
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return bad("a header field's name is malformed");
  const std::string_view name = line.substr(0, colon), value = trim(line.substr(colon + 1));
  if (std::any_of(value.begin(), value.end(), is_control)) return bad(fmt::format("the header field {} has a control character", name));
  head.headers.emplace_back(std::string(name), std::string(value));
  if (equals_ignoring_case(name, "content-length")) {
    const bool digits = !value.empty() && std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) return bad("Content-Length is not a number");
    if (head.content_length) return bad("a request may have one Content-Length only");
    if (value.size() > 18) return too_large(limits);
    head.content_length = std::stoull(std::string(value));
  } else if (equals_ignoring_case(name, "transfer-encoding")) {
    if (!equals_ignoring_case(value, "chunked")) return {501, "the only Transfer-Encoding understood is \"chunked\""};
    if (head.chunked) return bad("a request may have one Transfer-Encoding only");
    head.chunked = true;
  } else if (equals_ignoring_case(name, "connection") && list_has(value, "close")) {
    head.keep_alive = false;
  }
  return {};
}

Refusal too_long(const ServerLimits& limits) { return {431, fmt::format("the request's head has more than {} bytes", limits.header_bytes_max)}; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool has_dot_segment(std::string_view path) {
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const size_t end = std::min(path.find('/'), path.size());
    const std::string_view segment = path.substr(0, end);
    if (segment == "." || segment == "..") return true;
    path.remove_prefix(end);
  }
  return false;
}

}  // namespace

Refusal check_partial_head(std::string_view bytes, const ServerLimits& limits) {
  if (bytes.size() > limits.header_bytes_max) return too_long(limits);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == '\0') return bad("the request's head has a NUL byte");
    if (bytes[i] == '\n' && (i == 0 || bytes[i - 1] != '\r')) return bad("a line ends in LF without CR");
  }
  return {};
}

Refusal parse_head(std::string_view text, const ServerLimits& limits, RequestHead& head) {
  if (text.size() > limits.header_bytes_max) return too_long(limits);
  for (bool first = true; !text.empty(); first = false) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos || end == 0 || text[end - 1] != '\r') return bad("a line ends in LF without CR");
    const std::string_view line = text.substr(0, end - 1);
    text.remove_prefix(end + 1);
    if (line.find('\r') != std::string_view::npos) return bad("a line has a CR inside");
    if (line.empty() && !first && text.empty()) break;
    if (line.empty()) return bad("the head has an empty line inside");
    if (Refusal refusal = first ? parse_request_line(line, head) : parse_field(line, limits, head)) return refusal;
  }
  const auto hosts = std::count_if(head.headers.begin(), head.headers.end(), [](const Header& field) { return equals_ignoring_case(field.first, "host"); });
  if (hosts > 1 || (hosts == 0 && head.http_1_1)) return bad("a request needs exactly one Host field");
  if (head.chunked && head.content_length) return bad("a request may not have both Content-Length and Transfer-Encoding");
  if (head.chunked && !head.http_1_1) return bad("Transfer-Encoding needs HTTP/1.1");
  if (head.content_length.value_or(0) > limits.body_bytes_max) return too_large(limits);
  return {};
}

bool decode_target(std::string_view target, std::string& path, std::string& query) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!target.starts_with(scheme)) continue;
    target.remove_prefix(std::min(target.find('/', scheme.size()), target.size()));
    if (target.empty()) target = "/";
  }
  if (const size_t mark = target.find('?'); mark != std::string_view::npos) {
    query = target.substr(mark + 1);
    target = target.substr(0, mark);
  } else {
    query.clear();
  }
  path.clear();
  if (target == "*") {
    path = "*";
    return true;
  }
  if (!target.starts_with('/')) return false;
  for (size_t i = 0; i < target.size(); ++i) {
    if (target[i] != '%') {
      path += target[i];
      continue;
    }
    if (i + 2 >= target.size()) return false;
    const int high = hex_digit(target[i + 1]), low = hex_digit(target[i + 2]);
    if (high < 0 || low < 0) return false;
    path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  const bool control = std::any_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  return !control && path.find('\\') == std::string::npos && valid_utf8(path) && !has_dot_segment(path);
}

}  // namespace pagemill::http
