// Any bytes through the request parser: it never crashes, keeps its bounds, and says the same whether the bytes come at once
// or in pieces. The first byte chooses the pieces.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "http/request_parser.h"

namespace {

using pagemill::http::Request;
using pagemill::http::RequestParser;
using State = RequestParser::State;

struct Outcome {
  State state = State::head;
  Request request;
  std::string rest;
};

Outcome parse(const std::string& bytes, size_t piece) {
  pagemill::http::ServerLimits limits;
  limits.header_bytes_max = 512;
  limits.body_bytes_max = 256;
  RequestParser parser(limits);
  std::string input;
  for (size_t at = 0; at < bytes.size() && parser.state() < State::complete; at += piece) {
    input += bytes.substr(at, piece);
    for (State before = State::refused; parser.state() < State::complete && before != parser.state();) {
      before = parser.state();
      parser.parse(input);
    }
    if (parser.state() >= State::complete) input += bytes.size() > at + piece ? bytes.substr(at + piece) : "";
  }
  return {parser.state(), parser.request(), input};
}

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const Outcome whole = parse(bytes, bytes.size() + 1), split = parse(bytes, data[0] % 31 + 1);
  require(whole.request.body.size() <= 256);
  if (whole.state == State::complete) {
    require(split.state == State::complete && split.request.method == whole.request.method && split.request.path == whole.request.path);
    require(split.request.body == whole.request.body && split.request.headers == whole.request.headers && split.rest == whole.rest);
    require(whole.request.path == "*" || whole.request.path.starts_with('/'));
  }
  require(split.state == whole.state || whole.state == State::refused || split.state == State::refused);
  require(split.state != State::complete || whole.state == State::complete);
  return 0;
}
