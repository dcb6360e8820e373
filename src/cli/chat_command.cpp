// pagemill chat: talk to a model in the terminal, or answer one prompt in a pipe.
#include <unistd.h>

#include <cstdlib>

#include "base/log.h"
#include "cli/command_line.h"
#include "cli/load_model.h"
#include "terminal/chat.h"

namespace pagemill {
namespace {

/// One conversation runs at a time, but the auto-fitted KV pool is sized for so many of 4096 tokens, and a long one may fill it.
constexpr int kPoolShares = 8;

struct Options {
  ModelFlags model;
  ChatOptions chat;
};

/// ${XDG_STATE_HOME:-~/.local/state}/pagemill/chat_history; empty where its folder cannot be made: then none is kept.
std::filesystem::path history_file() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::filesystem::path folder;
  if (state != nullptr && *state == '/') folder = state;
  else if (home != nullptr && *home != '\0') folder = std::filesystem::path(home) / ".local" / "state";
  else return {};
  folder /= "pagemill";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  return error ? std::filesystem::path() : folder / "chat_history";
}

void declare_sampling(CLI::App& command, SamplingParams& sampling) {
  sampling.temperature = 0.7f;
  sampling.top_p = 0.95f;
  const std::string group = "Sampling";
  command.add_option("-t,--temperature", sampling.temperature, "How freely tokens are chosen, 0 to 2; 0 takes the likeliest")->type_name("X")->check(CLI::Range(0.0, 2.0))->default_str("0.7")->group(group);
  command.add_option("--top-p", sampling.top_p, "Choose among the likeliest tokens that make up this share")->type_name("X")->check(CLI::Range(0.0, 1.0))->default_str("0.95")->group(group);
  command.add_option("--top-k", sampling.top_k, "Choose among so many of the likeliest tokens; 0 = off")->type_name("N")->check(CLI::Range(0, 1'000'000))->default_str("0")->group(group);
  command.add_option("--seed", sampling.seed, "The same seed gives the same answer (default: another each time)")->type_name("N")->group(group);
  command.add_option("-n,--max-tokens", sampling.max_tokens, "Longest answer in tokens (default: what the context leaves)")->type_name("N")->check(CLI::Range(1, limits::kModelContext))->group(group);
}

Result<ExitCode> chat(Options& options) {
  const bool interactive = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
  configure_log(LogLevel::warning);
  EngineOptions engine;
  engine.max_num_seqs = kPoolShares;
  PM_ASSIGN(const LoadedModel model, load_model(options.model, std::move(engine)));
  PM_TRY(validate_sampling(options.chat.sampling, model.info.vocab));
  options.chat.model = model.info.name;
  options.chat.history_file = interactive ? history_file() : std::filesystem::path();
  Answerer answerer(*model.engine, *model.text, model.info);
  PM_TRY(interactive ? run_terminal_chat(answerer, options.chat) : run_piped_chat(answerer, options.chat));
  return ExitCode::done;
}

}  // namespace

void add_chat_command(CommandLine& line) {
  CLI::App& command = line.add("", "chat", "Talk to a model in the terminal; in a pipe, answer the text on stdin",
                               "pagemill chat\n"
                               "pagemill chat model.gguf --system 'You are a patient teacher.'\n"
                               "echo 'What is the capital of Japan?' | pagemill chat --temperature 0\n"
                               "\n"
                               "At the prompt, /help lists the commands.");
  const auto options = std::make_shared<Options>();
  options->model.declare(command);
  command.add_option("-s,--system", options->chat.system, "What the model is told before the conversation")->type_name("TEXT")->group("Conversation");
  declare_sampling(command, options->chat.sampling);
  line.on_run(command, [options] { return chat(*options); });
}

}  // namespace pagemill
