#include "http/message.h"

#include <gtest/gtest.h>

namespace pagemill::http {
namespace {

TEST(SseFrame, WritesFields) {
  EXPECT_EQ(sse_frame("{\"a\":1}"), "data: {\"a\":1}\n\n");
  EXPECT_EQ(sse_frame("x", "delta", "7"), "id: 7\nevent: delta\ndata: x\n\n");
  EXPECT_EQ(sse_frame(""), "data: \n\n");
}

TEST(SseFrame, EveryLineEndBeginsADataLine) {
  EXPECT_EQ(sse_frame("a\nb\r\nc\rd"), "data: a\ndata: b\ndata: c\ndata: d\n\n");
  EXPECT_EQ(sse_frame("a\n\n"), "data: a\ndata: \ndata: \n\n");
  EXPECT_EQ(sse_frame("x", "e\ndata: forged", "1\r\nid: 2"), "id: 1\nevent: e\ndata: x\n\n");
}

TEST(ResponseHead, FramesAsAsked) {
  const std::string length = response_head(200, {{"X-A", "b"}}, BodyFraming::length, 12, true);
  EXPECT_TRUE(length.starts_with("HTTP/1.1 200 OK\r\nDate: ")) << length;
  EXPECT_TRUE(length.ends_with("X-A: b\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n")) << length;
  EXPECT_NE(response_head(200, {}, BodyFraming::chunked, 0, true).find("\r\nTransfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_EQ(response_head(204, {}, BodyFraming::length, 0, false).find("Content-Length"), std::string::npos);
}

TEST(ResponseHead, AValueCannotAddAField) {
  const std::string head = response_head(200, {{"X-Request-Id", "a\r\nSet-Cookie: b\n\nbody"}}, BodyFraming::length, 0, true);
  EXPECT_NE(head.find("X-Request-Id: a  Set-Cookie: b  body\r\n"), std::string::npos);
}

TEST(AppendChunk, NeverEndsTheBody) {
  std::string out;
  append_chunk(out, "");
  EXPECT_EQ(out, "");
  append_chunk(out, std::string(26, 'x'));
  EXPECT_EQ(out, "1a\r\n" + std::string(26, 'x') + "\r\n");
}

}  // namespace
}  // namespace pagemill::http
