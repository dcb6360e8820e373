#include "chat/call.h"

#include <charconv>

namespace pagemill::chat {
namespace {

int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

std::string decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return valid_utf8(out) && out.find('\0') == std::string::npos ? out : std::string();
}

}  // namespace

std::string Call::query(std::string_view name) const {
  std::string_view rest = request.query;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('&'), rest.size());
    const std::string_view pair = rest.substr(0, end);
    const size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) == name) return decode(pair.substr(std::min(equals + 1, pair.size())));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {};
}

Outcome<size_t> Call::limit(size_t otherwise, size_t maximum) const {
  const std::string text = query("limit");
  if (text.empty()) return otherwise;
  size_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || value < 1 || value > maximum)
    return refuse(400, "invalid_argument", "'limit' must be a number from 1 to " + std::to_string(maximum) + ".", "limit");
  return value;
}

const std::vector<Route>& chat_routes() {
  static const std::vector<Route> all = [] {
    std::vector<Route> routes;
    for (auto part : {account_routes, user_routes, conversation_routes, message_routes, template_routes, document_routes, machine_routes})
      for (Route& route : part()) routes.push_back(route);
    return routes;
  }();
  return all;
}

http::Response problem_response(const Problem& problem) {
  http::Response response{problem.status, {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}}, problem_json(problem)};
  if (problem.retry_after_s > 0 || problem.status == 429 || problem.status == 503) response.headers.emplace_back("Retry-After", std::to_string(std::max(problem.retry_after_s, 1)));
  return response;
}

void answer(http::Responder& responder, Outcome<Reply> outcome) {
  if (!outcome) return responder.send(problem_response(outcome.error()));
  http::Response response{outcome->status, std::move(outcome->headers), std::move(outcome->bytes)};
  response.headers.emplace_back("Cache-Control", "no-store");
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  if (response.body.empty() && outcome->status != 204 && !outcome->body.is_null()) {
    response.headers.emplace_back("Content-Type", "application/json");
    response.body = json::serialize(outcome->body);
  }
  responder.send(std::move(response));
}

}  // namespace pagemill::chat
