#include "http/request_parser.h"

#include <algorithm>

#include <fmt/format.h>

namespace pagemill::http {
namespace {

/// A chunk's size with its extensions must fit this, and so must all trailers together.
constexpr size_t kChunkLineBytesMax = 4 << 10;

/// Takes a line that ends in CRLF off `input`. False where it is not whole yet; `broken` where it never will be a good one.
bool take_line(std::string_view& input, std::string_view& line, bool& broken) {
  const size_t end = input.find('\n');
  line = input.substr(0, end);
  if (line.size() > kChunkLineBytesMax) broken = true;
  if (broken || end == std::string_view::npos) return false;
  input.remove_prefix(end + 1);
  broken = !line.ends_with('\r');
  if (broken) return false;
  line.remove_suffix(1);
  broken = std::any_of(line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; });
  return !broken;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool ChunkDecoder::read_size(std::string_view line) {
  size_t digits = 0;
  left_ = 0;
  for (; digits < line.size() && hex_digit(line[digits]) >= 0; ++digits) {
    if (digits == 15) return false;
    left_ = left_ * 16 + static_cast<uint64_t>(hex_digit(line[digits]));
  }
  return digits > 0 && (digits == line.size() || line[digits] == ';');
}

ChunkDecoder::State ChunkDecoder::decode(std::string_view& input, std::string& body, size_t body_bytes_max) {
  std::string_view line;
  bool broken = false;
  while (state_ != State::done && state_ != State::failed) {
    if (state_ == State::data) {
      const size_t taken = std::min<uint64_t>(left_, input.size());
      body.append(input.substr(0, taken));
      input.remove_prefix(taken);
      left_ -= taken;
      if (left_ > 0) return state_;
      state_ = State::data_end;
      continue;
    }
    if (!take_line(input, line, broken)) return broken ? state_ = State::failed : state_;
    if (state_ == State::size) {
      if (!read_size(line)) return state_ = State::failed;
      too_large_ = left_ > body_bytes_max - body.size();
      if (too_large_) return state_ = State::failed;
      state_ = left_ > 0 ? State::data : State::trailer;
    } else if (state_ == State::data_end) {
      state_ = line.empty() ? State::size : State::failed;
    } else {
      trailer_bytes_ += line.size();
      if (trailer_bytes_ > kChunkLineBytesMax) return state_ = State::failed;
      if (line.empty()) state_ = State::done;
    }
  }
  return state_;
}

RequestParser::State RequestParser::parse(std::string& input) {
  switch (state_) {
    case State::head: return parse_head(input);
    case State::body: return parse_body(input);
    default: return state_;
  }
}

RequestParser::State RequestParser::refuse(Refusal why) {
  refusal_ = std::move(why);
  return state_ = State::refused;
}

RequestParser::State RequestParser::parse_head(std::string& input) {
  // One empty line before a request is tolerated (RFC 9112, 2.2): some clients send it after a body.
  if (!skipped_empty_line_ && input.starts_with("\r\n")) {
    skipped_empty_line_ = true;
    input.erase(0, 2);
  }
  const size_t end = input.find("\r\n\r\n");
  if (end == std::string::npos) {
    if (Refusal why = check_partial_head(input, *limits_)) return refuse(std::move(why));
    return state_;
  }
  Refusal why = http::parse_head(std::string_view(input).substr(0, end + 4), *limits_, head_);
  request_.method = head_.method;
  request_.target = head_.target;
  request_.headers = std::move(head_.headers);
  if (why) return refuse(std::move(why));
  input.erase(0, end + 4);
  if (!decode_target(request_.target, request_.path, request_.query)) return refuse({400, "the request target is malformed"});
  const bool body = head_.chunked || announced_body_bytes() > 0;
  return state_ = body ? State::body : State::complete;
}

RequestParser::State RequestParser::parse_body(std::string& input) {
  if (!head_.chunked) {
    const size_t taken = std::min<uint64_t>(input.size(), announced_body_bytes() - request_.body.size());
    request_.body.append(input, 0, taken);
    input.erase(0, taken);
    return request_.body.size() == announced_body_bytes() ? state_ = State::complete : state_;
  }
  std::string_view rest = input;
  const ChunkDecoder::State chunks = chunks_.decode(rest, request_.body, limits_->body_bytes_max);
  input.erase(0, input.size() - rest.size());
  if (chunks_.too_large()) return refuse({413, fmt::format("the body has more than {} bytes, the most that is accepted", limits_->body_bytes_max)});
  if (chunks == ChunkDecoder::State::failed) return refuse({400, "malformed HTTP: the chunked body is broken"});
  return chunks == ChunkDecoder::State::done ? state_ = State::complete : state_;
}

}  // namespace pagemill::http
