// Ids, tokens and digests.
#pragma once

#include <string>
#include <string_view>

namespace pagemill::chat {

/// 32 hexadecimal digits of 128 random bits.
std::string new_id();
/// True for 32 lower-case hexadecimal digits: what may name a row or a file.
bool is_id(std::string_view text);
/// 256 random bits, base64url without padding: a session, a key, a link.
std::string new_secret();
/// SHA-256 as 32 bytes. Secrets are kept and looked up as this only.
std::string sha256(std::string_view text);
std::string hex(std::string_view bytes);
/// In constant time for equal lengths.
bool same_secret(std::string_view a, std::string_view b);

}  // namespace pagemill::chat
