// The server over real sockets: what it answers, what it refuses, and that every bound of ServerLimits holds.
#include "http/server.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <latch>

#include "http/client.h"
#include "http/raw_client.h"

namespace pagemill::http {
namespace {

using test::eventually;
using test::RawClient;

std::string get(const std::string& path, const std::string& fields = {}) { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n"; }

std::string post(const std::string& path, const std::string& body) {
  return "POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

/// A server whose handler echoes "METHOD path body"; tests set `handler` for anything else.
class ServerTest : public testing::Test {
 protected:
  void start(HeadHandler head_handler = {}) {
    options.port = 0;
    if (options.io_threads == 0) options.io_threads = 2;
    auto made = Server::listen(options);
    ASSERT_TRUE(made) << made.error().message;
    server = std::move(*made);
    server->start([this](Request request, std::shared_ptr<Responder> responder) { handler(std::move(request), std::move(responder)); },
                  std::move(head_handler));
  }
  RawClient connect(int receive_buffer_bytes = 0) { return RawClient(server->port(), receive_buffer_bytes); }

  /// Destroys the server first: handlers refer to members of the test.
  void TearDown() override { server.reset(); }

  ServerOptions options;
  Handler handler = [](Request request, std::shared_ptr<Responder> responder) {
    responder->send({200, {{"Content-Type", "text/plain"}}, request.method + " " + request.path + " " + request.body});
  };
  std::unique_ptr<Server> server;
};

TEST_F(ServerTest, AnswersOverOneConnection) {
  start();
  RawClient client = connect();
  for (int i = 0; i < 3; ++i) {
    client.send(post("/a", "body" + std::to_string(i)));
    const auto answer = client.read_answer();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "POST /a body" + std::to_string(i));
  }
  EXPECT_EQ(server->connections(), 1);
}

TEST_F(ServerTest, ReadsARequestInAnySplit) {
  start();
  const std::string request = post("/split", "0123456789");
  RawClient client = connect();
  for (size_t cut = 1; cut < request.size(); ++cut) {
    client.send(request.substr(0, cut));
    client.send(request.substr(cut));
    ASSERT_EQ(client.read_answer().body, "POST /split 0123456789") << cut;
  }
  for (const char c : request) client.send(std::string_view(&c, 1));
  EXPECT_EQ(client.read_answer().body, "POST /split 0123456789");
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInOrder) {
  std::vector<std::thread> threads;
  handler = [&](Request request, std::shared_ptr<Responder> responder) {
    // The first takes longest: order must not come from speed.
    threads.emplace_back([request, responder] {
      std::this_thread::sleep_for(std::chrono::milliseconds(request.path == "/0" ? 50 : 1));
      responder->send({200, {}, request.path});
    });
  };
  start();
  RawClient client = connect();
  std::string all;
  for (int i = 0; i < 20; ++i) all += get("/" + std::to_string(i));
  client.send(all);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.read_answer().body, "/" + std::to_string(i));
  server.reset();
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ServerTest, PipeliningIsBounded) {
  std::shared_ptr<Responder> first;
  std::latch asked(1);
  handler = [&](Request, std::shared_ptr<Responder> responder) {
    if (!first) {
      first = responder;
      asked.count_down();
    } else {
      responder->send({});
    }
  };
  start();
  RawClient client = connect();
  timeval timeout{0, 300'000};
  setsockopt(client.fd(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  client.send(get("/"));
  asked.wait();
  const std::string flood = get("/", "X: " + std::string(8'000, 'x') + "\r\n");
  size_t sent = 0;
  while (sent < (64u << 20) && client.send(flood)) sent += flood.size();
  EXPECT_LT(sent, 64u << 20) << "the server read everything while an answer was due";
  first.reset();
}

TEST_F(ServerTest, HeadHasNoBody) {
  start();
  RawClient client = connect();
  client.send("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n" + get("/y"));
  const auto head = client.read_answer(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_NE(head.head.find("Content-Length: 8\r\n"), std::string::npos) << head.head;
  EXPECT_EQ(client.read_answer().body, "GET /y ");
}

TEST_F(ServerTest, Http10ConnectionsEnd) {
  handler = [](Request, std::shared_ptr<Responder> responder) {
    responder->start(200, {});
    responder->write("streamed");
    responder->finish();
  };
  start();
  RawClient client = connect();
  client.send("GET / HTTP/1.0\r\n\r\n");
  const std::string all = client.read_to_end();
  EXPECT_TRUE(all.ends_with("\r\n\r\nstreamed")) << all;
  EXPECT_EQ(all.find("chunked"), std::string::npos);
}

TEST_F(ServerTest, RefusesSmuggling) {
  start();
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\n";
  for (const std::string& request : {head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
                                    head + "Content-Length: 4\r\nContent-Length: 0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
                                    head + "Transfer-Encoding: chunked\r\n\r\nzz\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"}) {
    RawClient client = connect();
    client.send(request);
    const std::string all = client.read_to_end();
    EXPECT_TRUE(all.starts_with("HTTP/1.1 400 ")) << all;
    EXPECT_EQ(all.find("HTTP/1.1", 1), std::string::npos) << "answered twice: " << all;
  }
}

TEST_F(ServerTest, RefusesLongHeadsBeforeTheyEnd) {
  start();
  RawClient client = connect();
  client.send("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(options.limits.header_bytes_max, 'x'));
  EXPECT_EQ(client.read_answer().status, 431);
  EXPECT_EQ(client.read_to_end(), "");
}

TEST_F(ServerTest, RefusesLongBodiesUnread) {
  options.limits.body_bytes_max = 1'000;
  start();
  RawClient announced = connect();
  announced.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
  EXPECT_EQ(announced.read_answer().status, 413);
  RawClient chunked = connect();
  chunked.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1'001, 'x') + "\r\n");
  EXPECT_EQ(chunked.read_answer().status, 413);
  // A client that sends all the same finds the answer, not a reset.
  RawClient stubborn = connect();
  stubborn.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + std::string(1'000'000, 'x'));
  EXPECT_EQ(stubborn.read_answer().status, 413);
}

TEST_F(ServerTest, BoundsTheSumOfBodies) {
  options.limits.body_bytes_total_max = 100'000;
  std::vector<std::shared_ptr<Responder>> held;
  std::mutex mutex;
  handler = [&](Request, std::shared_ptr<Responder> responder) {
    std::lock_guard lock(mutex);
    held.push_back(std::move(responder));
  };
  start();
  RawClient first = connect(), second = connect();
  first.send(post("/", std::string(90'000, 'x')));
  ASSERT_TRUE(eventually([&] { std::lock_guard lock(mutex); return held.size() == 1; }));
  second.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 90000\r\n\r\n" + std::string(80'000, 'x'));
  EXPECT_EQ(second.read_answer().status, 503);
  held[0]->send({});
  EXPECT_EQ(first.read_answer().status, 200);
  first.close();
  second.close();
  ASSERT_TRUE(eventually([&] { return server->connections() == 0; }));
  RawClient third = connect();
  third.send(post("/", std::string(90'000, 'x')));
  ASSERT_TRUE(eventually([&] { std::lock_guard lock(mutex); return held.size() == 2; }));
  held.clear();
}

TEST_F(ServerTest, TheHeadHandlerRefusesBeforeTheBody) {
  start([](Request& request) -> std::optional<Response> {
    if (request.path == "/no") return Response{401, {}, "no"};
    request.admission = 7;
    return {};
  });
  RawClient client = connect();
  client.send("POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n");
  const auto answer = client.read_answer();
  EXPECT_EQ(answer.status, 401);
  EXPECT_NE(answer.head.find("Connection: close"), std::string::npos);
  RawClient other = connect();
  other.send(get("/no") + get("/yes"));
  EXPECT_EQ(other.read_answer().status, 401);
  EXPECT_EQ(other.read_answer().status, 200);
}

TEST_F(ServerTest, ExpectContinueIsAnswered) {
  start();
  RawClient client = connect();
  client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_answer().status, 100);
  client.send("ok");
  EXPECT_EQ(client.read_answer().body, "POST / ok");
}

TEST_F(ServerTest, SlowHeadsAndBodiesAreCutOff) {
  options.limits.header_timeout_s = 1;
  options.limits.body_timeout_s = 1;
  start();
  RawClient head = connect(), body = connect();
  head.send("GET / HT");
  body.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(head.read_answer().status, 408);
  EXPECT_EQ(body.read_answer().status, 408);
  EXPECT_EQ(head.read_to_end(), "");
  EXPECT_EQ(body.read_to_end(), "");
  head.close();
  body.close();
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST_F(ServerTest, IdleConnectionsAreClosed) {
  options.limits.idle_timeout_s = 1;
  start();
  RawClient fresh = connect(), used = connect();
  used.send(get("/"));
  EXPECT_EQ(used.read_answer().status, 200);
  EXPECT_EQ(fresh.read_to_end(), "");
  EXPECT_EQ(used.read_to_end(), "");
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST_F(ServerTest, AStreamIsBoundedAndCutOff) {
  options.limits.write_buffer_bytes_max = 100'000;
  std::shared_ptr<Responder> stream;
  std::atomic<bool> gone = false;
  std::latch asked(1);
  handler = [&](Request, std::shared_ptr<Responder> responder) {
    stream = responder;
    responder->on_disconnect([&] { gone = true; });
    responder->start(200, {});
    asked.count_down();
  };
  start();
  RawClient client = connect(4'096);
  client.send(get("/"));
  asked.wait();
  size_t most = 0;
  int64_t written = 0;
  while (stream->write(std::string(1'000, 'x'))) {
    most = std::max(most, stream->buffered_bytes());
    ASSERT_LT(written += 1'000, int64_t{1} << 30);
  }
  EXPECT_LE(most, 100'000u);
  EXPECT_TRUE(eventually([&] { return gone && server->connections() == 0; }));
  EXPECT_FALSE(stream->write("more"));
}

TEST_F(ServerTest, AReaderThatStopsIsCutOff) {
  options.limits.write_stall_timeout_s = 1;
  handler = [](Request, std::shared_ptr<Responder> responder) { responder->send({200, {}, std::string(32 << 20, 'x')}); };
  start();
  RawClient client = connect(4'096);
  client.send(get("/"));
  EXPECT_TRUE(eventually([&] { return server->connections() == 1; }));
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST_F(ServerTest, ADisconnectIsNoticedInEveryState) {
  std::atomic<int> asked = 0, gone = 0;
  std::vector<std::shared_ptr<Responder>> held;
  std::mutex mutex;
  handler = [&](Request request, std::shared_ptr<Responder> responder) {
    responder->on_disconnect([&] { ++gone; });
    if (request.path == "/stream") {
      responder->start(200, {});
      responder->write("x");
    }
    std::lock_guard lock(mutex);
    held.push_back(responder);
    ++asked;
  };
  start();
  for (const bool reset : {false, true})
    for (const std::string& bytes : {std::string(), std::string("GET"), std::string("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"), get("/wait"), get("/stream")}) {
      RawClient client = connect();
      const int before = asked;
      client.send(bytes);
      if (bytes.starts_with("GET /")) {
        ASSERT_TRUE(eventually([&] { return asked > before; }));
      }
      if (reset) client.reset();
      else client.close();
    }
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(gone, 4);
  for (const auto& responder : held) responder->send({});  // does nothing any more
}

TEST_F(ServerTest, ADroppedResponderAnswers500) {
  handler = [](Request, std::shared_ptr<Responder>) {};
  start();
  RawClient client = connect();
  client.send(get("/"));
  EXPECT_EQ(client.read_answer().status, 500);
}

TEST_F(ServerTest, ADroppedStreamIsCutNotEnded) {
  handler = [](Request, std::shared_ptr<Responder> responder) {
    responder->start(200, {});
    responder->write("half");
  };
  start();
  RawClient client = connect();
  client.send(get("/"));
  EXPECT_EQ(client.read_to_end().find("0\r\n\r\n"), std::string::npos);
}

TEST_F(ServerTest, StreamsAreByteExact) {
  std::string expected;
  for (int i = 0; i < 200; ++i) expected += sse_frame("{\"n\":" + std::to_string(i) + ",\"text\":\"" + std::string(static_cast<size_t>(i), 'a') + "\"}");
  std::vector<std::thread> threads;
  handler = [&](Request request, std::shared_ptr<Responder> responder) {
    threads.emplace_back([&expected, responder, piece = std::stoul(request.query)] {
      responder->start(200, {{"Content-Type", "text/event-stream"}});
      for (size_t at = 0; at < expected.size(); at += piece) EXPECT_TRUE(responder->write(std::string_view(expected).substr(at, piece)));
      responder->finish();
    });
  };
  start();
  RawClient client = connect();
  for (const size_t piece : {1, 2, 3, 7, 64, 1'000, 100'000}) {
    client.send(get("/?" + std::to_string(piece)));
    EXPECT_TRUE(client.read_answer().body == expected) << piece;
  }
  server.reset();
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ServerTest, AcceptingPausesAtTheBound) {
  options.limits.connections_max = 3;
  start();
  std::vector<RawClient> open;
  for (int i = 0; i < 3; ++i) {
    open.push_back(connect());
    open.back().send(get("/"));
    ASSERT_EQ(open.back().read_answer().status, 200);
  }
  RawClient waiting = connect();  // the system's queue takes it
  waiting.send(get("/late"));
  pollfd poll_waiting{waiting.fd(), POLLIN, 0};
  EXPECT_EQ(poll(&poll_waiting, 1, 200), 0);
  EXPECT_EQ(server->connections(), 3);
  open.pop_back();
  EXPECT_EQ(waiting.read_answer().body, "GET /late ");
}

TEST_F(ServerTest, OneAddressHasItsShare) {
  options.limits.connections_per_address_max = 2;
  start();
  RawClient first = connect(), second = connect();
  first.send(get("/"));
  second.send(get("/"));
  EXPECT_EQ(first.read_answer().status, 200);
  EXPECT_EQ(second.read_answer().status, 200);
  RawClient third = connect();
  EXPECT_EQ(third.read_to_end(), "");
  first.close();
  EXPECT_TRUE(eventually([&] {
    RawClient again = connect();
    again.send(get("/"));
    return again.read_answer().status == 200;
  }));
}

TEST_F(ServerTest, RecoversFromRunningOutOfDescriptors) {
  start();
  RawClient before = connect();
  before.send(get("/"));
  ASSERT_EQ(before.read_answer().status, 200);
  rlimit saved{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &saved), 0);
  RawClient waiting = connect();
  ASSERT_TRUE(eventually([&] { return server->connections() == 2; }));
  // Every number below the limit is taken: client ends take the last ones, so that the server's accept finds none.
  rlimit low = saved;
  low.rlim_cur = static_cast<rlim_t>(dup(0)) + 1;
  ::close(static_cast<int>(low.rlim_cur) - 1);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  RawClient starving = connect();  // the last descriptor
  starving.send(get("/starving"));
  pollfd poll_starving{starving.fd(), POLLIN, 0};
  EXPECT_EQ(poll(&poll_starving, 1, 300), 0) << "there was a descriptor left";
  before.send(get("/"));
  EXPECT_EQ(before.read_answer().status, 200) << "open connections go on";
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &saved), 0);
  EXPECT_EQ(starving.read_answer().body, "GET /starving ");
}

TEST_F(ServerTest, StoppingFinishesWhatIsUnderWay) {
  std::shared_ptr<Responder> held;
  std::latch asked(1);
  handler = [&](Request, std::shared_ptr<Responder> responder) {
    held = std::move(responder);
    asked.count_down();
  };
  start();
  RawClient busy = connect(), idle = connect();
  busy.send(get("/"));
  asked.wait();
  ASSERT_TRUE(eventually([&] { return server->connections() == 2; }));
  server->stop_accepting();
  EXPECT_EQ(idle.read_to_end(), "");
  EXPECT_TRUE(eventually([&] { return !connect().connected(); }));
  held->send({200, {}, "last"});
  const auto answer = busy.read_answer();
  EXPECT_EQ(answer.body, "last");
  EXPECT_NE(answer.head.find("Connection: close"), std::string::npos);
  EXPECT_EQ(busy.read_to_end(), "");
}

TEST_F(ServerTest, UnsentBytesAreThoseThatNobodyTook) {
  constexpr size_t kBytes = 16 << 20;  // more than the kernel keeps for a reader
  handler = [&](Request request, std::shared_ptr<Responder> responder) { responder->send({200, {}, std::string(request.path == "/long" ? kBytes : 1, 'x')}); };
  start();
  RawClient quick = connect();
  quick.send(get("/"));
  EXPECT_EQ(quick.read_answer().body, "x");
  EXPECT_TRUE(eventually([&] { return server->unsent_bytes() == 0; }));
  RawClient slow = connect(), leaving = connect();
  slow.send(get("/long"));
  leaving.send(get("/long"));
  EXPECT_TRUE(eventually([&] { return server->unsent_bytes() > 0; }));
  EXPECT_EQ(slow.read_answer().body.size(), kBytes);
  EXPECT_GT(server->unsent_bytes(), 0) << "the other's";
  EXPECT_LE(server->unsent_bytes(), static_cast<int64_t>(kBytes + 1024));
  leaving.reset();
  EXPECT_TRUE(eventually([&] { return server->unsent_bytes() == 0; }));
}

TEST_F(ServerTest, AWakeupRunsItsTaskOnceForAllSignalsBeforeIt) {
  start();
  std::latch running(1), let_go(1);
  std::atomic<int> runs = 0;
  std::atomic<std::thread::id> thread;
  std::function<void()> wake = server->make_wakeup(0, [&] {
    thread = std::this_thread::get_id();
    if (++runs > 1) return;
    running.count_down();
    let_go.wait();
  });
  wake();
  running.wait();
  for (int i = 0; i < 100; ++i) wake();
  let_go.count_down();
  EXPECT_TRUE(eventually([&] { return runs == 2; }));
  std::latch posted(1);
  server->post(0, [&] {
    EXPECT_EQ(thread.load(), std::this_thread::get_id());
    posted.count_down();
  });
  posted.wait();
  EXPECT_EQ(runs, 2);
  server.reset();
  wake();
  EXPECT_EQ(runs, 2) << "nobody is left to run it";
}

TEST_F(ServerTest, AWakeupOfAServerThatNeverStartedDoesNothing) {
  server = std::move(*Server::listen({.port = 0}));
  const std::function<void()> wake = server->make_wakeup(0, [] { FAIL(); });
  server.reset();
  wake();
}

TEST_F(ServerTest, ListenNamesAnAddressInUse) {
  start();
  ServerOptions second;
  second.port = server->port();
  const auto made = Server::listen(second);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::io);
  EXPECT_NE(made.error().message.find("127.0.0.1:" + std::to_string(second.port)), std::string::npos);
  second.host = "no.such.host.invalid";
  EXPECT_EQ(Server::listen(second).error().field, "host");
}

TEST_F(ServerTest, RespondersOutliveTheServer) {
  std::shared_ptr<Responder> held;
  std::latch asked(1);
  std::atomic<int> gone = 0;
  handler = [&](Request, std::shared_ptr<Responder> responder) {
    responder->on_disconnect([&] { ++gone; });
    responder->start(200, {});
    held = std::move(responder);
    asked.count_down();
  };
  start();
  RawClient client = connect();
  client.send(get("/"));
  asked.wait();
  server.reset();
  EXPECT_EQ(gone, 1);
  EXPECT_FALSE(held->write("x"));
  held->finish();
}

TEST_F(ServerTest, TheClientTalksToIt) {
  handler = [](Request request, std::shared_ptr<Responder> responder) {
    if (request.path == "/stream") {
      responder->start(200, {});
      for (int i = 0; i < 100; ++i) responder->write("0123456789");
      return responder->finish();
    }
    responder->send({request.path == "/none" ? 404 : 200, {{"X-Length", std::to_string(request.body.size())}}, request.method + std::string(request.header("X-A"))});
  };
  start();
  const std::string base = "http://127.0.0.1:" + std::to_string(server->port());
  Client client;
  auto answer = client.fetch({.method = "POST", .url = base + "/", .headers = {{"X-A", "b"}}, .body = std::string(3'000'000, 'x')});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->body, "POSTb");
  EXPECT_EQ(answer->headers[1], Header("X-Length", "3000000"));
  EXPECT_EQ(client.fetch({.url = base + "/none"})->status, 404);
  EXPECT_EQ(client.fetch({.method = "HEAD", .url = base + "/"})->body, "");
  EXPECT_EQ(client.fetch({.url = base + "/stream"})->body.size(), 1'000u);
  EXPECT_EQ(client.fetch({.url = base + "/stream", .body_bytes_max = 999}).error().code, ErrorCode::resource_exhausted);
  size_t seen = 0;
  EXPECT_TRUE(client.fetch({.url = base + "/stream", .on_data = [&](std::string_view bytes) { seen += bytes.size(); return false; }}));
  EXPECT_GT(seen, 0u);
  EXPECT_EQ(client.fetch({.url = base + "/", .headers = {{"X-A", "b\r\nX-B: c"}}}).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(client.fetch({.url = "file:///etc/passwd"}).error().code, ErrorCode::invalid_argument);
  server.reset();
  EXPECT_EQ(client.fetch({.url = base + "/"}).error().code, ErrorCode::io);
}

}  // namespace
}  // namespace pagemill::http
