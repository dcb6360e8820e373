// Authenticator: from a credential to who is asking and what they may do. `api` implements it with static keys, `chat` with
// accounts. Every route declares the scope it needs in one table.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/server.h"

namespace pagemill {

enum class Scope : uint8_t { none, inference, metrics, chat, admin };
std::string_view to_string(Scope scope);

struct PrincipalLimits {
  int32_t concurrent_requests_max = 0;   // 0 = no own bound
};

/// Who is asking.
struct Principal {
  std::string id;                        // stable, may be logged; "anonymous" where no credential is needed
  uint64_t tenant = 0;                   // fairness and prefix-cache salt
  uint32_t scopes = 0;                   // bit 1 << Scope
  PrincipalLimits limits;
  bool has(Scope scope) const { return scope == Scope::none || (scopes >> static_cast<uint32_t>(scope) & 1) != 0; }
};

/// What one finished request used; for quotas and accounting.
struct Usage {
  int64_t prompt_tokens = 0, output_tokens = 0;
};

/// Safe from any thread; authenticate() does nothing slow (a password is never checked here).
class Authenticator {
 public:
  virtual ~Authenticator() = default;
  /// Looks at Authorization: Bearer, X-Api-Key and, where it knows them, cookies; never at the URL. unauthenticated where
  /// there is no good credential, permission_denied where there is one without `scope`. Comparison in constant time.
  virtual Result<Principal> authenticate(const http::Request& request, Scope scope) = 0;
  virtual void record_usage(const Principal& principal, const Usage& usage) = 0;
};

}  // namespace pagemill
