#include "chat/passwords.h"

#include <sodium.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace pagemill::chat {
namespace {

constexpr unsigned long long kPasses = 2;
constexpr size_t kMemoryBytes = 19 << 20;

/// Of the lists of leaked passwords, those of at least kPasswordBytesMin characters that lead them.
constexpr std::string_view kCommon[] = {"password",   "12345678",  "123456789", "1234567890", "qwertyuiop", "password1", "iloveyou", "11111111", "88888888", "qwerty123",
                                        "1q2w3e4r",   "sunshine",  "princess",  "football",   "baseball",   "superman",  "trustno1", "welcome1", "admin123", "00000000",
                                        "1qaz2wsx",   "passw0rd",  "abcd1234",  "asdfghjkl",  "87654321",   "changeme",  "letmein1", "woaini1314", "5201314520", "a1b2c3d4"};

}  // namespace

Outcome<void> check_password(std::string_view password, std::string_view email) {
  if (password.size() < kPasswordBytesMin || password.size() > kPasswordBytesMax)
    return refuse(400, "weak_password", fmt::format("A password has {} to {} characters.", kPasswordBytesMin, kPasswordBytesMax), "password");
  std::string lower(password);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const bool repeated = lower.find_first_not_of(lower.front()) == std::string::npos;
  if (repeated || lower == email || std::find(std::begin(kCommon), std::end(kCommon), lower) != std::end(kCommon))
    return refuse(400, "weak_password", "This password is among the first that anybody would try; choose another.", "password");
  return {};
}

Outcome<std::string> hash_password(std::string_view password) {
  std::array<char, crypto_pwhash_STRBYTES> out;
  if (crypto_pwhash_str_alg(out.data(), password.data(), password.size(), kPasses, kMemoryBytes, crypto_pwhash_ALG_ARGON2ID13) != 0)
    return refuse(503, "queue_full", "There is no memory for checking passwords at this moment; try again.");
  return std::string(out.data());
}

bool verify_password(const std::string& hash, std::string_view password) {
  if (hash != kNoPassword) return crypto_pwhash_str_verify(hash.c_str(), password.data(), password.size()) == 0;
  (void)hash_password(password);
  return false;
}

}  // namespace pagemill::chat
