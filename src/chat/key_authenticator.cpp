#include "chat/key_authenticator.h"

#include <fmt/format.h>

namespace pagemill::chat {
namespace {

class KeyAuthenticator final : public Authenticator {
 public:
  KeyAuthenticator(Accounts& accounts, std::unique_ptr<Authenticator> others, bool credential_needed) : accounts_(accounts), others_(std::move(others)), credential_needed_(credential_needed) {}

  Result<Principal> authenticate(const http::Request& request, Scope scope) override {
    const std::string_view key = key_of(request);
    if (scope == Scope::none || !key.starts_with(kKeyPrefix)) {
      if (credential_needed_ && scope != Scope::none) return fail(ErrorCode::unauthenticated, "an API key is needed: Authorization: Bearer KEY");
      return others_->authenticate(request, scope);
    }
    auto principal = accounts_.by_api_key(key);
    if (!principal) {
      // A key by flag may begin like ours; where there are none, everybody would pass.
      if (auto other = others_->authenticate(request, scope); other && other->id != "anonymous") return other;
      return fail(ErrorCode::unauthenticated, "the API key is not known here, has expired or was revoked");
    }
    if (!principal->has(scope)) return fail(ErrorCode::permission_denied, fmt::format("this API key lacks the scope {}", to_string(scope)));
    return *principal;
  }

  void record_usage(const Principal& principal, const Usage& usage) override { others_->record_usage(principal, usage); }

 private:
  /// Authorization: Bearer, else X-Api-Key; both with different values count as none.
  static std::string_view key_of(const http::Request& request) {
    std::string_view bearer = request.header("Authorization");
    const std::string_view header = request.header("X-Api-Key");
    const size_t space = bearer.find(' ');
    bearer = space == 6 && (bearer.starts_with("Bearer") || bearer.starts_with("bearer")) ? bearer.substr(7) : std::string_view();
    if (!bearer.empty() && !header.empty() && bearer != header) return {};
    return bearer.empty() ? header : bearer;
  }

  Accounts& accounts_;
  const std::unique_ptr<Authenticator> others_;
  const bool credential_needed_;
};

}  // namespace

std::unique_ptr<Authenticator> make_key_authenticator(Accounts& accounts, std::unique_ptr<Authenticator> others, bool credential_needed) {
  return std::make_unique<KeyAuthenticator>(accounts, std::move(others), credential_needed);
}

}  // namespace pagemill::chat
