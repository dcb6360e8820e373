// What the host spends on a token between engine and socket: streams of a scripted engine read by another process. Prints the
// server's processor time per token, and how many tokens a second that makes on one core.
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdio>

#include "api/api.h"
#include "api/static_keys.h"
#include "base/log.h"
#include "http/raw_client.h"
#include "session/scripted_engine.h"
#include "support/text_support.h"

namespace pagemill {
namespace {

constexpr int kTokens = 400'000;  // of all streams together

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Frames that end in `text`; one that is cut in two there is not counted, which few are.
long count_frames(std::string_view text) {
  long frames = 0;
  for (size_t at = 0; (at = text.find("}\n\n", at)) != std::string_view::npos; ++at) ++frames;
  return frames;
}

/// In a process of its own, so that its time does not count: waits for the port, reads every stream to its end.
[[noreturn]] void run_client(int port_pipe, int streams) {
  uint16_t port = 0;
  if (read(port_pipe, &port, sizeof port) != sizeof port) _exit(1);
  const std::string body = R"({"messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":)" + std::to_string(kTokens / streams) + "}";
  std::vector<test::RawClient> clients;
  for (int i = 0; i < streams; ++i) {
    clients.emplace_back(port);
    clients.back().send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  // Round and round: a slow reader would be measured otherwise.
  std::vector<bool> open(clients.size(), true);
  long frames = 0;
  for (size_t left = clients.size(); left > 0;)
    for (size_t i = 0; i < clients.size(); ++i) {
      if (!open[i]) continue;
      if (!clients[i].receive()) {
        open[i] = false;
        --left;
      }
      const std::string text = clients[i].take();
      frames += count_frames(text);
    }
  std::printf("%ld frames for %d tokens; ", frames, kTokens);
  std::fflush(stdout);
  _exit(0);
}

void measure(int streams) {
  int port_pipe[2];
  if (pipe(port_pipe) != 0) return;
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) run_client(port_pipe[0], streams);
  ScriptedEngineConfig config;
  config.model = test_model_info(kTokens + 1'000);
  config.script = [streams](const EngineRequest&) {
    ScriptedAnswer answer;
    answer.tokens.assign(static_cast<size_t>(kTokens / streams), 'a');
    answer.per_token_ns = streams * 8 * 1'000;  // one token of every stream a step, 125,000 tokens a second in all
    return answer;
  };
  auto engine = make_scripted_engine(config);
  auto authenticator = make_static_authenticator({});
  http::ServerOptions options;
  options.port = 0;
  options.io_threads = 1;
  options.limits.write_buffer_bytes_max = 64 << 20;
  auto server = http::Server::listen(options);
  if (!server) return;
  MetricRegistry registry;
  api::ApiOptions api_options;
  api_options.model_names = {"bench"};
  api::Api the_api(api_options, *engine, *authenticator, registry, **server);
  the_api.set_text(test_text_model());
  the_api.start();
  const double cpu_before = cpu_seconds();
  const TimeNs before = SteadyClock::instance().now_ns();
  const uint16_t port = (*server)->port();
  if (write(port_pipe[1], &port, sizeof port) != sizeof port) return;
  int status = 0;
  waitpid(child, &status, 0);
  const double seconds = static_cast<double>(SteadyClock::instance().now_ns() - before) * 1e-9, cpu = cpu_seconds() - cpu_before;
  std::printf("%4d streams: %.2f µs of processor time a token (engine thread included), %.0f tokens/s on one core; %.0f tokens/s in %.1f s\n", streams, cpu * 1e6 / kTokens,
              kTokens / cpu, kTokens / seconds, seconds);
  the_api.close();
  server->reset();
  close(port_pipe[0]);
  close(port_pipe[1]);
}

}  // namespace
}  // namespace pagemill

int main() {
  pagemill::configure_log(pagemill::LogLevel::warning);
  for (const int streams : {1, 64, 256}) pagemill::measure(streams);
}
