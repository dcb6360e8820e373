#include "cli/command_line.h"

#include <algorithm>
#include <cstdio>

#include "cli/help.h"
#include "terminal/terminal.h"

namespace pagemill {
namespace {

constexpr const char* kSummary = "Serve, chat with and measure language models on this machine.";
constexpr const char* kExamples =
    "pagemill chat                      talk to the default model\n"
    "pagemill inspect model.gguf        what is in a model file, and whether it fits here\n"
    "pagemill bench machine             what this machine can do at best\n"
    "\n"
    "`pagemill COMMAND --help` tells more. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

/// The command that was named last.
const CLI::App* selected(const CLI::App* app) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return app;
}

std::vector<std::string> names_of_options(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::vector<std::string> names_of_commands(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) names.push_back(command->get_name());
  return names;
}

/// "unknown command 'caht': did you mean 'chat'?", about the first word that nothing took; "" where every word found a place.
std::string unknown_word(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining();
  if (left.empty()) return {};
  const std::string word = left.front().substr(0, left.front().find('='));
  const bool option = word.starts_with("-");
  const bool command = !option && !names_of_commands(app).empty();
  const std::string near = nearest(word, option ? names_of_options(app) : names_of_commands(app));
  return (option ? "unknown option '" : command ? "unknown command '" : "unexpected argument '") + word + "'" +
         (near.empty() ? "" : ": did you mean '" + near + "'?");
}

ExitCode usage_error(const CLI::App& app, const std::string& message) {
  std::fprintf(stderr, "pagemill: %s\nTry `%s --help`.\n", message.c_str(), command_path(app).c_str());
  return ExitCode::usage;
}

}  // namespace

CommandLine::CommandLine() : app_(kSummary, "pagemill") {
  app_.set_help_flag("-h,--help", "Show this help and exit");
  app_.set_version_flag("--version", "pagemill " PAGEMILL_VERSION, "Show the version and exit");
  app_.formatter_fn([](const CLI::App* app, const std::string&, CLI::AppFormatMode) { return render_help(*app); });
  app_.footer(kExamples);
}

CLI::App& CommandLine::add(std::string_view parent, const std::string& name, const std::string& summary, const std::string& examples) {
  CLI::App* above = parent.empty() ? &app_ : app_.get_subcommand(std::string(parent));
  CLI::App* command = above->add_subcommand(name, summary);
  command->footer(examples);
  return *command;
}

void CommandLine::on_run(const CLI::App& command, CommandFunction function) { functions_[&command] = std::move(function); }

ExitCode CommandLine::run(int argc, const char* const* argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(render_help(*selected(&app_)).c_str(), stdout);
    return ExitCode::done;
  } catch (const CLI::CallForVersion& version) {
    std::printf("%s\n", version.what());
    return ExitCode::done;
  } catch (const CLI::ParseError& error) {
    const CLI::App& command = *selected(&app_);
    const std::string unknown = unknown_word(command);
    return usage_error(command, unknown.empty() ? error.what() : unknown);
  }
  const CLI::App* command = selected(&app_);
  const auto function = functions_.find(command);
  if (function == functions_.end()) {
    std::fputs(render_help(*command).c_str(), stderr);
    return ExitCode::usage;
  }
  const Result<ExitCode> result = function->second();
  if (result) return *result;
  std::fprintf(stderr, "pagemill: %s\n", terminal_safe(result.error().message).c_str());
  return ExitCode::failed;
}

std::unique_ptr<CommandLine> make_command_line() {
  auto line = std::make_unique<CommandLine>();
  add_serve_command(*line);
  add_chat_command(*line);
  add_list_command(*line);
  add_inspect_command(*line);
  line->add("", "bench", "Measure this machine and the models on it",
            "pagemill bench machine             what this machine can do at best\n"
            "pagemill bench engine              how near the default model comes to that");
  add_bench_machine_command(*line);
  add_bench_engine_command(*line);
  add_bench_perplexity_command(*line);
  add_user_commands(*line);
  add_backup_command(*line);
  add_completion_command(*line);
  return line;
}

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_edits = std::max<size_t>(1, word.size() / 3) + 1;  // more than that was not a slip of the finger
  for (const std::string& candidate : candidates) {
    std::vector<size_t> row(candidate.size() + 1), above(candidate.size() + 1), two_above;
    for (size_t j = 0; j <= candidate.size(); ++j) above[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      row[0] = i;
      for (size_t j = 1; j <= candidate.size(); ++j) {
        row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (word[i - 1] != candidate[j - 1])});
        if (i > 1 && j > 1 && word[i - 1] == candidate[j - 2] && word[i - 2] == candidate[j - 1]) row[j] = std::min(row[j], two_above[j - 2] + 1);
      }
      two_above = std::exchange(above, row);
    }
    if (above.back() < best_edits) {
      best_edits = above.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace pagemill
