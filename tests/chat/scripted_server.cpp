// A whole server with a scripted engine, for tests in a browser and for those that kill it: chat_scripted_server DATA_DIR [PORT [none|accounts [MS_PER_TOKEN [CONTEXT]]]]. Prints
// its address, then the setup token. The model repeats what the user said; a message that begins with "long" gets a long answer.
#include <csignal>
#include <cstdio>

#include "chat_server.h"

namespace {

pagemill::ScriptedAnswer answer(const pagemill::EngineRequest& request, pagemill::TimeNs per_token_ns) {
  pagemill::ScriptedAnswer said = pagemill::repeat_user(request);
  // As tokens: the tokenizer merges some bytes.
  const auto starts = [&](std::string_view word) {
    const std::vector<int32_t> tokens = pagemill::test_tokens(word);
    return said.tokens.size() >= tokens.size() && std::equal(tokens.begin(), tokens.end(), said.tokens.begin());
  };
  if (starts("long")) {
    std::string text;
    for (int i = 1; i <= 200; ++i) text += "Line " + std::to_string(i) + " of a long answer.\n";
    said = pagemill::say(text);
  }
  said.per_token_ns = per_token_ns;
  return said;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  auto options = pagemill::test::chat_server_options(argv[1]);
  options.http.port = static_cast<uint16_t>(argc > 2 ? std::atoi(argv[2]) : 0);
  if (argc > 3 && std::string_view(argv[3]) == "none") options.chat.auth = pagemill::chat::AuthMode::none;
  const auto per_token_ns = static_cast<pagemill::TimeNs>((argc > 4 ? std::atof(argv[4]) : 2) * pagemill::kNsPerMs);
  if (argc > 5) options.engine.model = pagemill::test_model_info(std::atoi(argv[5]));
  options.engine.script = [per_token_ns](const pagemill::EngineRequest& request) { return answer(request, per_token_ns); };
  auto server = pagemill::test::ChatServer::start(options);
  if (!server) {
    std::fprintf(stderr, "%s\n", server.error().message.c_str());
    return 1;
  }
  std::printf("%s\n%s\n", (*server)->url().c_str(), (*server)->site->setup_token().c_str());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  return 0;
}
