// RequestParser: from the bytes of a connection to one Request, in any split of those bytes.
//
// Own code rather than Boost.Beast's parser: Beast 1.81 aborts on a last chunk that arrives in pieces (an assertion on input,
// found by fuzz_http), and the head has to be checked by us in any case.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "http/request_head.h"
#include "http/server.h"

namespace pagemill::http {

/// Undoes the chunked transfer coding. Extensions and trailers are read over within bounds and dropped.
class ChunkDecoder {
 public:
  enum class State { size, data, data_end, trailer, done, failed };

  /// Takes what it can off the front of `input` and appends the body's bytes to `body`. Fails where the body would grow
  /// beyond `body_bytes_max` (too_large() then) or the coding is broken.
  State decode(std::string_view& input, std::string& body, size_t body_bytes_max);
  bool too_large() const { return too_large_; }

 private:
  bool read_size(std::string_view line);

  State state_ = State::size;
  uint64_t left_ = 0;          // of the chunk
  size_t trailer_bytes_ = 0;
  bool too_large_ = false;
};

/// For one request; used by one thread.
class RequestParser {
 public:
  enum class State { head, body, complete, refused };

  explicit RequestParser(const ServerLimits& limits) : limits_(&limits) {}

  /// Takes what it can use off the front of `input`. Stops after the head (state body) so that the caller may look at it.
  State parse(std::string& input);
  State state() const { return state_; }

  /// With state refused: why. The connection cannot be used further.
  const Refusal& refusal() const { return refusal_; }
  /// Whole once state is complete; all but the body from state body on.
  Request& request() { return request_; }
  /// The length the head announced, 0 where there is none.
  uint64_t announced_body_bytes() const { return head_.content_length.value_or(0); }
  bool keep_alive() const { return head_.keep_alive; }
  bool http_1_1() const { return head_.http_1_1; }
  bool expects_continue() const { return request_.header("Expect") == "100-continue"; }

 private:
  State refuse(Refusal why);
  State parse_head(std::string& input);
  State parse_body(std::string& input);

  const ServerLimits* limits_;  // outlives the parser
  State state_ = State::head;
  Refusal refusal_;
  RequestHead head_;
  Request request_;
  ChunkDecoder chunks_;
  bool skipped_empty_line_ = false;
};

}  // namespace pagemill::http
