// The Authenticator of a server with accounts: users' API keys, and beside them the keys given by flag.
#pragma once

#include <memory>

#include "api/auth.h"
#include "chat/accounts.h"

namespace pagemill::chat {

/// `others` decides about every credential that is not a user's key (it knows the static keys; without any it lets everybody in).
/// With `credential_needed` a request without any credential is refused: beyond loopback. `accounts` must outlive it.
std::unique_ptr<Authenticator> make_key_authenticator(Accounts& accounts, std::unique_ptr<Authenticator> others, bool credential_needed);

}  // namespace pagemill::chat
