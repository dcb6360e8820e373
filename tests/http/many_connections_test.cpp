// Ten thousand connections that do nothing, and a client that is served all the same.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>

#include "http/raw_client.h"
#include "http/server.h"

namespace pagemill::http {
namespace {

using test::eventually;
using test::RawClient;

constexpr int kConnections = 10'000;

size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  size_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

/// Opens idle connections and waits to be told to end. In a process of its own: its descriptors do not count as ours.
pid_t open_idle_connections(uint16_t port, int ready, int go) {
  const pid_t child = fork();
  if (child != 0) return child;
  std::vector<RawClient> idle;
  for (int i = 0; i < kConnections; ++i) {
    idle.emplace_back(port);
    if (!idle.back().connected()) _exit(1);
  }
  char byte = 1;
  if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) < 0) _exit(2);
  _exit(0);
}

TEST(ManyConnections, TenThousandIdleOnesCostLittle) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < kConnections + 100) GTEST_SKIP() << "at most " << files.rlim_max << " open files are allowed here";
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  ServerOptions options;
  options.port = 0;
  options.limits.connections_max = options.limits.connections_per_address_max = kConnections + 10;
  auto server = Server::listen(options);
  ASSERT_TRUE(server);
  int ready[2], go[2];
  ASSERT_EQ(pipe(ready) + pipe(go), 0);
  const size_t before = resident_bytes();
  const pid_t child = open_idle_connections((*server)->port(), ready[1], go[0]);
  (*server)->start([](Request, std::shared_ptr<Responder> responder) { responder->send({200, {}, "served"}); });
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_TRUE(eventually([&] { return (*server)->connections() == kConnections; }));
  RawClient client((*server)->port());
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(client.read_answer().body, "served");
  const size_t each = (resident_bytes() - before) / kConnections;
  EXPECT_LT(each, 8'192u) << "bytes per idle connection";
  std::printf("%zu bytes per idle connection\n", each);
  client.close();
  ASSERT_EQ(write(go[1], &byte, 1), 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(eventually([&] { return (*server)->connections() == 0; }));
}

}  // namespace
}  // namespace pagemill::http
