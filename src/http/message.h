// The outgoing side of HTTP/1.1: heads and chunks as bytes.
#pragma once

#include <string>
#include <string_view>

#include "http/server.h"

namespace pagemill::http {

/// "Not Found"; "Unknown" for a code without a name.
std::string_view reason_phrase(int status);
/// False for 1xx, 204 and 304.
bool status_allows_body(int status);

enum class BodyFraming { length, chunked, until_close };

/// Status line, Date, framing, Connection and the response's own fields, with the empty line. CR, LF and NUL in a value
/// become spaces, so that no value can add a field.
std::string response_head(int status, const std::vector<Header>& headers, BodyFraming framing, size_t body_bytes, bool keep_alive);

/// Appends `bytes` as one chunk; nothing for no bytes (an empty chunk would end the body).
void append_chunk(std::string& out, std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace pagemill::http
