#include "api/static_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

namespace pagemill {
namespace {

using Digest = std::array<uint8_t, 32>;

Digest sha256(std::string_view text) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

Result<uint32_t> parse_scopes(std::string_view list) {
  uint32_t scopes = 0;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view name = list.substr(0, comma);
    const auto known = {Scope::inference, Scope::metrics, Scope::chat, Scope::admin};
    const auto* found = std::find_if(known.begin(), known.end(), [&](Scope scope) { return to_string(scope) == name; });
    if (found == known.end()) return fail(ErrorCode::invalid_file, "an unknown scope: there are inference, metrics, chat and admin");
    scopes |= 1u << static_cast<uint32_t>(*found);
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return scopes;
}

Result<StaticKey> parse_key_line(const std::string& line) {
  std::istringstream words(line);
  std::string key, word;
  words >> key;
  PM_ASSIGN(StaticKey made, make_static_key(key));
  while (words >> word) {
    if (word.starts_with("max=")) {
      const char* const end = word.data() + word.size();
      const auto parsed = std::from_chars(word.data() + 4, end, made.limits.concurrent_requests_max);
      if (parsed.ec != std::errc() || parsed.ptr != end || made.limits.concurrent_requests_max < 1)
        return fail(ErrorCode::invalid_file, "max= needs a number from 1");
    } else {
      PM_ASSIGN(made.scopes, parse_scopes(word));
    }
  }
  return made;
}

class StaticAuthenticator final : public Authenticator {
 public:
  explicit StaticAuthenticator(std::vector<StaticKey> keys) : keys_(std::move(keys)) {}

  Result<Principal> authenticate(const http::Request& request, Scope scope) override {
    if (keys_.empty()) return Principal{.id = "anonymous", .tenant = 0, .scopes = UINT32_MAX, .limits = {}};
    if (scope == Scope::none) return Principal{.id = "anonymous", .tenant = 0, .scopes = 0, .limits = {}};
    const std::string_view credential = credential_of(request);
    if (credential.empty() || credential.size() > kKeyBytesMax) return fail(ErrorCode::unauthenticated, "an API key is needed: Authorization: Bearer KEY");
    const Digest digest = sha256(credential);
    const StaticKey* found = nullptr;
    // Every key is compared whole, so that time tells nothing about which one came near.
    for (const StaticKey& key : keys_)
      if (CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0) found = &key;
    if (!found) return fail(ErrorCode::unauthenticated, "the API key is not known here");
    Principal principal{.id = found->id, .tenant = 0, .scopes = found->scopes, .limits = found->limits};
    for (size_t i = 0; i < 8; ++i) principal.tenant = principal.tenant << 8 | found->digest[i];
    if (!principal.has(scope)) return fail(ErrorCode::permission_denied, fmt::format("this API key lacks the scope {}", to_string(scope)));
    return principal;
  }

  void record_usage(const Principal&, const Usage&) override {}

 private:
  const std::vector<StaticKey> keys_;
};

}  // namespace

std::string_view to_string(Scope scope) {
  switch (scope) {
    case Scope::none: return "none";
    case Scope::inference: return "inference";
    case Scope::metrics: return "metrics";
    case Scope::chat: return "chat";
    case Scope::admin: return "admin";
  }
  return "none";
}

Result<StaticKey> make_static_key(std::string_view key, uint32_t scopes) {
  const bool printable = std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7F; });
  if (!printable || key.size() < kKeyBytesMin || key.size() > kKeyBytesMax)
    return fail(ErrorCode::invalid_argument, fmt::format("an API key has {} to {} printable characters and no spaces", kKeyBytesMin, kKeyBytesMax), "api-key");
  StaticKey made;
  made.digest = sha256(key);
  made.id = fmt::format("key-{:02x}{:02x}{:02x}{:02x}", made.digest[0], made.digest[1], made.digest[2], made.digest[3]);
  made.scopes = scopes;
  return made;
}

Result<std::vector<StaticKey>> read_key_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(ErrorCode::io, fmt::format("the key file {} cannot be read", path), "api-key-file");
  std::vector<StaticKey> keys;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '#') continue;
    auto key = parse_key_line(line);
    if (!key) return fail(ErrorCode::invalid_file, fmt::format("{} line {}: {}", path, number, key.error().message), "api-key-file");
    keys.push_back(std::move(*key));
  }
  if (file.bad()) return fail(ErrorCode::io, fmt::format("the key file {} cannot be read", path), "api-key-file");
  if (keys.empty()) return fail(ErrorCode::invalid_file, fmt::format("the key file {} holds no key", path), "api-key-file");
  return keys;
}

std::string_view credential_of(const http::Request& request) {
  std::string_view bearer = request.header("Authorization");
  constexpr std::string_view kScheme = "bearer ";
  const bool is_bearer = bearer.size() > kScheme.size() && std::equal(kScheme.begin(), kScheme.end(), bearer.begin(), [](char want, char have) {
    return want == (have >= 'A' && have <= 'Z' ? have + 32 : have);
  });
  bearer = is_bearer ? bearer.substr(kScheme.size()) : std::string_view();
  const std::string_view header = request.header("X-Api-Key");
  if (!bearer.empty() && !header.empty() && bearer != header) return {};
  return bearer.empty() ? header : bearer;
}

std::unique_ptr<Authenticator> make_static_authenticator(std::vector<StaticKey> keys) {
  return std::make_unique<StaticAuthenticator>(std::move(keys));
}

}  // namespace pagemill
