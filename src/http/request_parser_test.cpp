#include "http/request_parser.h"

#include <gtest/gtest.h>

namespace pagemill::http {
namespace {

using State = RequestParser::State;
const ServerLimits kLimits;

/// Feeds `text` in pieces of `piece` bytes until the request is decided; returns what was left over.
std::string feed(RequestParser& parser, const std::string& text, size_t piece) {
  std::string input;
  for (size_t at = 0; at < text.size(); at += piece) {
    input += text.substr(at, piece);
    for (State before = State::refused; before != parser.state() && parser.state() < State::complete;) {
      before = parser.state();
      parser.parse(input);
    }
    if (parser.state() >= State::complete) return input + text.substr(std::min(text.size(), at + piece));
  }
  return input;
}

TEST(RequestParser, ReadsTheSameUnderEverySplit) {
  const std::string text =
      "POST /v1/x%20y?q=1 HTTP/1.1\r\nHost: h\r\nX-Two: a\r\nX-Two: b\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;name=\"v\"\r\nhello\r\n1\r\n \r\n0005\r\nworld\r\n0\r\nAuthorization: Bearer smuggled\r\n\r\nGET / HTTP/1.1\r\n";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    RequestParser parser(kLimits);
    const std::string rest = feed(parser, text, piece);
    ASSERT_EQ(parser.state(), State::complete) << piece << ": " << parser.refusal().message;
    EXPECT_EQ(rest, "GET / HTTP/1.1\r\n");
    EXPECT_EQ(parser.request().method, "POST");
    EXPECT_EQ(parser.request().path, "/v1/x y");
    EXPECT_EQ(parser.request().query, "q=1");
    EXPECT_EQ(parser.request().body, "hello world");
    EXPECT_EQ(parser.request().header("x-two"), "a");
    EXPECT_EQ(parser.request().headers.size(), 4u);  // the trailer is not among them
    EXPECT_TRUE(parser.keep_alive());
  }
}

TEST(RequestParser, StopsAfterTheHead) {
  RequestParser parser(kLimits);
  std::string input = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabcX";
  EXPECT_EQ(parser.parse(input), State::body);
  EXPECT_EQ(parser.request().body, "");
  EXPECT_EQ(parser.announced_body_bytes(), 3u);
  EXPECT_TRUE(parser.expects_continue());
  EXPECT_EQ(parser.parse(input), State::complete);
  EXPECT_EQ(parser.request().body, "abc");
  EXPECT_EQ(input, "X");
}

TEST(RequestParser, RefusesBrokenBodies) {
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string body : {"5\r\nhelloX\n", "zz\r\n", "-1\r\n", "\r\n", "ffffffffffffffffff\r\nx", "10000000000000000\r\nx", "5\nhello\r\n0\r\n\r\n", "5;a\nhello\r\n0\r\n\r\n", "5 5\r\n"}) {
    RequestParser parser(kLimits);
    feed(parser, head + body, 1);
    EXPECT_EQ(parser.state(), State::refused) << body;
    EXPECT_TRUE(parser.refusal().status == 400 || parser.refusal().status == 413) << body << parser.refusal().status;
  }
}

TEST(RequestParser, BoundsTheBodyBeforeItComes) {
  ServerLimits limits;
  limits.body_bytes_max = 10;
  RequestParser announced(limits);
  feed(announced, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n", 7);
  EXPECT_EQ(announced.refusal().status, 413);
  RequestParser chunked(limits);
  feed(chunked, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\n", 1000);
  EXPECT_EQ(chunked.refusal().status, 413);
  RequestParser fits(limits);
  feed(fits, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789", 1000);
  EXPECT_EQ(fits.state(), State::complete);
}

TEST(RequestParser, BoundsChunkExtensionsAndTrailers) {
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  RequestParser extension(kLimits);
  feed(extension, head + "5;x=" + std::string(100'000, 'a'), 1000);
  EXPECT_EQ(extension.state(), State::refused);
  RequestParser trailer(kLimits);
  feed(trailer, head + "0\r\nX: " + std::string(100'000, 'a'), 1000);
  EXPECT_EQ(trailer.state(), State::refused);
}

TEST(RequestParser, OneEmptyLineBeforeARequestIsTolerated) {
  RequestParser one(kLimits), two(kLimits);
  feed(one, "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 1);
  EXPECT_EQ(one.state(), State::complete);
  feed(two, "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
  EXPECT_EQ(two.state(), State::refused);
}

TEST(RequestParser, KeepsTheConnectionAsAsked) {
  const auto keeps = [](const std::string& text) {
    RequestParser parser(kLimits);
    feed(parser, text, 1000);
    EXPECT_EQ(parser.state(), State::complete);
    return parser.keep_alive();
  };
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0\r\n\r\n"));
}

}  // namespace
}  // namespace pagemill::http
