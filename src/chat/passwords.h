// Passwords: argon2id by libsodium, 19 MiB and two passes (OWASP's minimum of 2024). Slow on purpose: run it on a pool of one
// thread with a short queue, so that guessing cannot take the machine's memory or cores.
#pragma once

#include <string>
#include <string_view>

#include "chat/problem.h"

namespace pagemill::chat {

inline constexpr size_t kPasswordBytesMin = 8, kPasswordBytesMax = 1'024;
/// A password that no input matches: of accounts that have none.
inline constexpr std::string_view kNoPassword = "!";

/// 400 weak_password: too short, too long, the e-mail address itself, or one of the commonest.
Outcome<void> check_password(std::string_view password, std::string_view email);
/// A self-describing string ($argon2id$…).
Outcome<std::string> hash_password(std::string_view password);
/// Takes the same time for kNoPassword and for a wrong password.
bool verify_password(const std::string& hash, std::string_view password);

}  // namespace pagemill::chat
