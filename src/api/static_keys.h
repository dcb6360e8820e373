// Static API keys: an Authenticator over keys given by flag or file. A key is kept as its SHA-256 digest only.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "api/auth.h"

namespace pagemill {

struct StaticKey {
  std::array<uint8_t, 32> digest{};      // SHA-256 of the key
  std::string id;                        // "key-" and the digest's first 8 hexadecimal digits: may be logged
  uint32_t scopes = 0;                   // bit 1 << Scope
  PrincipalLimits limits;
};

/// What a key may do where nothing else is said: inference and metrics.
inline constexpr uint32_t kDefaultKeyScopes = 1u << static_cast<uint32_t>(Scope::inference) | 1u << static_cast<uint32_t>(Scope::metrics);
inline constexpr size_t kKeyBytesMin = 8, kKeyBytesMax = 512;

/// A key of kKeyBytesMin to kKeyBytesMax printable characters without spaces. The error never repeats the key.
Result<StaticKey> make_static_key(std::string_view key, uint32_t scopes = kDefaultKeyScopes);

/// One key a line: `KEY [scope,scope…] [max=N]`, scopes among inference, metrics, chat and admin, N = requests at a time.
/// Empty lines and those that start with # are skipped. Errors give file and line, never the key.
Result<std::vector<StaticKey>> read_key_file(const std::string& path);

/// The credential of a request: Authorization: Bearer, else X-Api-Key. Empty where there is none; both with different
/// values count as none.
std::string_view credential_of(const http::Request& request);

/// With no keys everyone is "anonymous" and may do everything.
std::unique_ptr<Authenticator> make_static_authenticator(std::vector<StaticKey> keys);

}  // namespace pagemill
