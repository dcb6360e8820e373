#include "http/request_head.h"

#include <gtest/gtest.h>

namespace pagemill::http {
namespace {

int status_of(const std::string& text) {
  RequestHead head;
  return parse_head(text, {}, head).status;
}

TEST(ParseHead, AcceptsOrdinaryHeads) {
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
  EXPECT_EQ(status_of("POST /v1/x?y=1 HTTP/1.1\r\nhost:a\r\nContent-Length:\t5 \r\nX-Empty:\r\n\r\n"), 0);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"), 0);
  EXPECT_EQ(status_of("GET / HTTP/1.0\r\n\r\n"), 0);
}

struct BadHead {
  const char* what;
  std::string head;
  int status;
};

TEST(ParseHead, RefusesWhatTwoParsersCouldReadDifferently) {
  const std::string host = "POST / HTTP/1.1\r\nHost: a\r\n";
  const BadHead table[] = {
      {"length and chunked", host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"chunked and length", host + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n", 400},
      {"two lengths", host + "Content-Length: 4\r\nContent-Length: 5\r\n\r\n", 400},
      {"the same length twice", host + "Content-Length: 4\r\nContent-Length: 4\r\n\r\n", 400},
      {"a list of lengths", host + "Content-Length: 4, 4\r\n\r\n", 400},
      {"signed length", host + "Content-Length: +4\r\n\r\n", 400},
      {"negative length", host + "Content-Length: -1\r\n\r\n", 400},
      {"hexadecimal length", host + "Content-Length: 0x4\r\n\r\n", 400},
      {"empty length", host + "Content-Length: \r\n\r\n", 400},
      {"length of 2^64", host + "Content-Length: 18446744073709551616\r\n\r\n", 413},
      {"space before the colon", host + "Content-Length : 4\r\n\r\n", 400},
      {"chunked twice", host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"other coding", host + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"coding by another name", host + "Transfer-Encoding: xchunked\r\n\r\n", 501},
      {"vertical tab before chunked", host + "Transfer-Encoding: \vchunked\r\n\r\n", 400},
      {"chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"folded field", host + "X-A: 1\r\n Content-Length: 4\r\n\r\n", 400},
      {"folded first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400},
      {"bare LF inside", host + "X-A: 1\nContent-Length: 4\r\n\r\n", 400},
      {"bare CR inside", host + "X-A: 1\rContent-Length: 4\r\n\r\n", 400},
      {"NUL in a value", host + std::string("X-A: a\0b\r\n\r\n", 12), 400},
      {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"no name", host + ": x\r\n\r\n", 400},
      {"no colon", host + "Content-Length\r\n\r\n", 400},
      {"no version", "GET /\r\nHost: a\r\n\r\n", 400},
      {"HTTP/2 in clear", "PRI * HTTP/2.0\r\n\r\n", 505},
      {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"method with a slash", "G/T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"TLS hello", "\x16\x03\x01\x02\r\n\r\n", 400},
  };
  for (const BadHead& bad : table) EXPECT_EQ(status_of(bad.head), bad.status) << bad.what;
}

TEST(ParseHead, BoundsTheHead) {
  ServerLimits limits;
  limits.header_bytes_max = 100;
  RequestHead head;
  EXPECT_EQ(parse_head("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(100, 'x') + "\r\n\r\n", limits, head).status, 431);
  EXPECT_EQ(check_partial_head("GET / HTTP/1.1\r\nX: " + std::string(100, 'x'), limits).status, 431);
  limits = {};
  std::string many = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < limits.header_count_max; ++i) many += "X: 1\r\n";
  head = {};
  EXPECT_EQ(parse_head(many + "\r\n", limits, head).status, 431);
}

TEST(ParseHead, SeesNonsenseBeforeTheHeadIsComplete) {
  EXPECT_EQ(check_partial_head("GET / HTTP/1.1\nHost", {}).status, 400);
  EXPECT_EQ(check_partial_head(std::string_view("GET /\0", 6), {}).status, 400);
  EXPECT_EQ(check_partial_head("GET / HTTP/1.1\r\nHost", {}).status, 0);
}

TEST(DecodeTarget, SplitsAndDecodes) {
  std::string path, query;
  ASSERT_TRUE(decode_target("/v1/models/a%2Fb%20c?x=%31&y", path, query));
  EXPECT_EQ(path, "/v1/models/a/b c");
  EXPECT_EQ(query, "x=%31&y");
  ASSERT_TRUE(decode_target("http://host:80/a?b", path, query));
  EXPECT_EQ(path, "/a");
  ASSERT_TRUE(decode_target("http://host", path, query));
  EXPECT_EQ(path, "/");
  ASSERT_TRUE(decode_target("*", path, query));
  ASSERT_TRUE(decode_target("/a..b/.c/d.", path, query));
}

TEST(DecodeTarget, RefusesTricks) {
  std::string path, query;
  for (const char* target : {"/..", "/../etc", "/a/../b", "/a/..", "/%2e%2e/b", "/a/%2E%2e", "/a%2f..%2fb", "/./a", "/a\\b", "/%5c..", "/%00",
                             "/a%0d%0ab", "/%", "/%1", "/%zz", "/%ff", "/%c0%ae", "", "a", "ftp://x/", "//../x", "/%7f"})
    EXPECT_FALSE(decode_target(target, path, query)) << target;
}

}  // namespace
}  // namespace pagemill::http
