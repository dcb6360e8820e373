// A response is the same bytes however the socket splits its writes, and the same body however its producer splits them.
#include <gtest/gtest.h>

#include <functional>

#include <boost/asio/post.hpp>

#include "base/rng.h"
#include "http/connection.h"

namespace pagemill::http {
namespace {

/// A socket that gives one request, then takes as many bytes a write as `take` says.
class SplittingStream final : public Stream {
 public:
  SplittingStream(boost::asio::io_context& context, std::string request, std::string& written, std::function<size_t()> take)
      : context_(context), request_(std::move(request)), written_(written), take_(std::move(take)) {}

  void handshake(std::function<void(const boost::system::error_code&)> done) override {
    boost::asio::post(context_, [done = std::move(done)] { done({}); });
  }
  void read_some(Received done) override {
    if (request_.empty()) {
      waiting_ = std::move(done);  // until close()
      return;
    }
    boost::asio::post(context_, [done = std::move(done), request = std::exchange(request_, {})] { done({}, request); });
  }
  void write_some(const char* data, size_t size, Written done) override {
    const size_t taken = std::min(size, take_());
    written_.append(data, taken);
    boost::asio::post(context_, [done = std::move(done), taken] { done({}, taken); });
  }
  void shutdown_send(std::function<void()> done) override {
    boost::asio::post(context_, std::move(done));
    // The peer reads to the end and closes.
    if (waiting_) boost::asio::post(context_, [done = std::exchange(waiting_, nullptr)] { done(boost::asio::error::eof, {}); });
  }
  void close() override {
    if (waiting_) boost::asio::post(context_, [done = std::exchange(waiting_, nullptr)] { done(boost::asio::error::operation_aborted, {}); });
  }

 private:
  boost::asio::io_context& context_;
  std::string request_;
  std::string& written_;
  const std::function<size_t()> take_;
  Received waiting_;
};

/// All bytes that a connection writes in answer to one GET, without the date.
std::string answer_bytes(const Handler& handler, std::function<size_t()> take, const std::string& version = "1.1") {
  auto thread = std::make_shared<IoThread>();
  auto shared = std::make_shared<ServerShared>();
  shared->handler = handler;
  shared->on_closed = [](const std::string&) {};
  std::string written;
  auto stream = std::make_unique<SplittingStream>(thread->context, "GET / HTTP/" + version + "\r\nHost: h\r\nConnection: close\r\n\r\n", written, std::move(take));
  auto connection = std::make_shared<Connection>(std::move(stream), thread, shared, "peer", false);
  thread->connections.insert(connection);
  connection->start();
  connection.reset();
  thread->context.run();
  EXPECT_TRUE(thread->connections.empty());
  const size_t date = written.find("Date: ");
  EXPECT_NE(date, std::string::npos) << written;
  return date == std::string::npos ? written : written.erase(date, written.find("\r\n", date) + 2 - date);
}

/// The body of a chunked answer; fails where a byte is out of place.
std::string unchunked(std::string_view answer) {
  std::string body;
  answer.remove_prefix(answer.find("\r\n\r\n") + 4);
  for (;;) {
    size_t digits = 0;
    const size_t size = std::stoul(std::string(answer.substr(0, 9)), &digits, 16);
    EXPECT_EQ(answer.substr(digits, 2), "\r\n");
    answer.remove_prefix(digits + 2);
    body += answer.substr(0, size);
    answer.remove_prefix(std::min(size, answer.size()));
    EXPECT_TRUE(answer.starts_with("\r\n"));
    answer.remove_prefix(2);
    if (size == 0) break;
  }
  EXPECT_EQ(answer, "") << "bytes after the last chunk";
  return body;
}

const std::string kFrames = sse_frame(R"({"delta":"Grüße"})") + sse_frame("two\nlines", "message", "7") + sse_frame("東京 👩‍👩‍👧") + sse_frame("[DONE]");

/// Streams kFrames in pieces of `piece` bytes.
Handler stream_in_pieces(size_t piece) {
  return [piece](Request, std::shared_ptr<Responder> responder) {
    responder->start(200, {{"Content-Type", "text/event-stream"}});
    for (size_t at = 0; at < kFrames.size(); at += piece) EXPECT_TRUE(responder->write(std::string_view(kFrames).substr(at, piece)));
    responder->finish();
  };
}

TEST(Split, AStreamIsTheSameBytesUnderEverySplitOfWrites) {
  for (size_t piece = 1; piece <= kFrames.size(); piece += piece < 8 ? 1 : 13) {
    const Handler handler = stream_in_pieces(piece);
    const std::string whole = answer_bytes(handler, [] { return SIZE_MAX; });
    EXPECT_EQ(unchunked(whole), kFrames) << "written in pieces of " << piece;
    for (size_t taken = 1; taken < whole.size(); taken += taken < 64 ? 1 : 17)
      ASSERT_EQ(answer_bytes(handler, [=] { return taken; }), whole) << "the socket takes " << taken << " bytes at a time, pieces of " << piece;
  }
}

/// The socket takes all up to one place, then the rest: every place.
TEST(Split, AStreamMayBeCutAtEveryByte) {
  const Handler handler = stream_in_pieces(17);
  const std::string whole = answer_bytes(handler, [] { return SIZE_MAX; });
  for (size_t cut = 1; cut < whole.size(); ++cut) {
    bool first = true;
    ASSERT_EQ(answer_bytes(handler, [&] { return std::exchange(first, false) ? cut : SIZE_MAX; }), whole) << cut;
  }
}

TEST(Split, RandomSplitsOfBothSides) {
  SplitMix64 random(1);
  for (int round = 0; round < 300; ++round) {
    const Handler handler = [&](Request, std::shared_ptr<Responder> responder) {
      responder->start(200, {});
      for (size_t at = 0; at < kFrames.size();) {
        const size_t piece = random.below(40);  // nothing, too
        EXPECT_TRUE(responder->write(std::string_view(kFrames).substr(at, piece)));
        at += piece;
      }
      responder->finish();
    };
    ASSERT_EQ(unchunked(answer_bytes(handler, [&] { return 1 + random.below(50); })), kFrames);
  }
}

TEST(Split, WholeAnswersAndOldClients) {
  const Handler whole = [](Request, std::shared_ptr<Responder> responder) { responder->send({200, {}, kFrames}); };
  const std::string expected = answer_bytes(whole, [] { return SIZE_MAX; }), old = answer_bytes(stream_in_pieces(5), [] { return SIZE_MAX; }, "1.0");
  EXPECT_TRUE(expected.ends_with("\r\n\r\n" + kFrames));
  EXPECT_TRUE(old.ends_with("\r\n\r\n" + kFrames)) << "HTTP/1.0 knows no chunks";
  for (size_t taken = 1; taken < 80; ++taken) {
    EXPECT_EQ(answer_bytes(whole, [=] { return taken; }), expected);
    EXPECT_EQ(answer_bytes(stream_in_pieces(5), [=] { return taken; }, "1.0"), old);
  }
}

}  // namespace
}  // namespace pagemill::http
