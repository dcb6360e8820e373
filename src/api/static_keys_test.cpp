#include "api/static_keys.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/test_files.h"

namespace pagemill {
namespace {

http::Request request_with(std::vector<http::Header> headers, std::string target = "/") {
  http::Request request;
  request.headers = std::move(headers);
  request.target = std::move(target);
  return request;
}

TEST(StaticKeys, KnowsItsKeysInBothCarriers) {
  auto authenticator = make_static_authenticator({*make_static_key("first-key"), *make_static_key("second-key", 1u << static_cast<uint32_t>(Scope::metrics))});
  const auto first = authenticator->authenticate(request_with({{"authorization", "Bearer first-key"}}), Scope::inference);
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->id.starts_with("key-"));
  EXPECT_NE(first->tenant, 0u);
  EXPECT_TRUE(authenticator->authenticate(request_with({{"Authorization", "bearer first-key"}}), Scope::metrics));
  const auto second = authenticator->authenticate(request_with({{"X-API-Key", "second-key"}}), Scope::metrics);
  ASSERT_TRUE(second);
  EXPECT_NE(second->tenant, first->tenant);
  EXPECT_EQ(authenticator->authenticate(request_with({{"X-API-Key", "second-key"}}), Scope::inference).error().code, ErrorCode::permission_denied);
}

TEST(StaticKeys, RefusesEverythingElse) {
  auto authenticator = make_static_authenticator({*make_static_key("first-key")});
  for (const http::Request& request :
       {request_with({}), request_with({}, "/?api_key=first-key"), request_with({{"Authorization", "first-key"}}), request_with({{"Authorization", "Bearer"}}),
        request_with({{"Authorization", "Bearer "}}), request_with({{"Authorization", "Basic first-key"}}), request_with({{"Authorization", "Bearer first-ke"}}),
        request_with({{"Authorization", "Bearer first-key "}}), request_with({{"Authorization", "Bearer FIRST-KEY"}}), request_with({{"Cookie", "api_key=first-key"}}),
        request_with({{"Authorization", "Bearer first-key"}, {"X-Api-Key", "other"}}), request_with({{"X-Api-Key", std::string(100'000, 'x')}})})
    EXPECT_EQ(authenticator->authenticate(request, Scope::inference).error().code, ErrorCode::unauthenticated);
}

TEST(StaticKeys, WithoutKeysEveryoneIsAnonymous) {
  auto authenticator = make_static_authenticator({});
  EXPECT_EQ(authenticator->authenticate(request_with({}), Scope::admin)->id, "anonymous");
}

TEST(StaticKeys, ErrorsNeverRepeatAKey) {
  EXPECT_EQ(make_static_key("short").error().message.find("short"), std::string::npos);
  EXPECT_FALSE(make_static_key("with space"));
  EXPECT_FALSE(make_static_key(std::string(513, 'x')));
}

class KeyFile : public testing::Test {
 protected:
  Result<std::vector<StaticKey>> read(const std::string& text) {
    std::ofstream(path_) << text;
    return read_key_file(path_);
  }
  const TemporaryFolder folder_;
  const std::string path_ = folder_.path() / "keys";
};

TEST_F(KeyFile, HoldsKeysScopesAndLimits) {
  const auto keys = read("# team keys\n\nsk-aaaaaaaa\n  sk-bbbbbbbb metrics,admin max=3\r\n");
  ASSERT_TRUE(keys) << keys.error().message;
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_EQ((*keys)[0].scopes, kDefaultKeyScopes);
  EXPECT_EQ((*keys)[1].scopes, 1u << static_cast<uint32_t>(Scope::metrics) | 1u << static_cast<uint32_t>(Scope::admin));
  EXPECT_EQ((*keys)[1].limits.concurrent_requests_max, 3);
}

TEST_F(KeyFile, ErrorsGiveTheLine) {
  for (const char* text : {"sk-aaaaaaaa\nsk-secret1 everything\n", "sk-aaaaaaaa\nsk-secret1 max=0\n", "sk-aaaaaaaa\nsecret\n", "sk-aaaaaaaa\nsk-secret1 max=2x\n"}) {
    const auto keys = read(text);
    ASSERT_FALSE(keys) << text;
    EXPECT_NE(keys.error().message.find(" line 2: "), std::string::npos) << keys.error().message;
    EXPECT_EQ(keys.error().message.find("secret"), std::string::npos);
  }
  EXPECT_FALSE(read("# none\n"));
  EXPECT_EQ(read_key_file("/nonexistent/keys").error().code, ErrorCode::io);
}

}  // namespace
}  // namespace pagemill
