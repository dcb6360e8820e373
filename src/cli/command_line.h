// The command line: one CLI11 tree of commands, each with a function to run. Flags and wiring live here; logic below.
//
// Exit codes: 0 done, 1 failed (the message says what and what to do), 2 the command line was wrong, 130 interrupted.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/result.h"

namespace pagemill {

enum class ExitCode : int { done = 0, failed = 1, usage = 2, interrupted = 130 };

/// What a command does; an error is printed to stderr and becomes ExitCode::failed.
using CommandFunction = std::function<Result<ExitCode>()>;

class CommandLine {
 public:
  CommandLine();

  /// Adds a command below `parent` ("" or a command's name); `examples` are the lines that close its help.
  CLI::App& add(std::string_view parent, const std::string& name, const std::string& summary, const std::string& examples = {});
  /// What runs when `command` is the last one named.
  void on_run(const CLI::App& command, CommandFunction function);
  bool has_function(const CLI::App& command) const { return functions_.contains(&command); }

  /// Parses and runs. Help and version go to stdout, errors to stderr.
  ExitCode run(int argc, const char* const* argv);

  const CLI::App& root() const { return app_; }

 private:
  CLI::App app_;
  std::map<const CLI::App*, CommandFunction> functions_;
};

/// The command line of this program, with all its commands.
std::unique_ptr<CommandLine> make_command_line();

/// The candidate nearest to `word` by edits, or "" where none is near enough to be meant.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

// Each command declares its flags and its function in a file of its own.
void add_bench_engine_command(CommandLine& line);
void add_bench_machine_command(CommandLine& line);
void add_bench_perplexity_command(CommandLine& line);
void add_chat_command(CommandLine& line);
void add_inspect_command(CommandLine& line);
void add_list_command(CommandLine& line);
void add_serve_command(CommandLine& line);
void add_user_commands(CommandLine& line);
void add_backup_command(CommandLine& line);
void add_completion_command(CommandLine& line);

}  // namespace pagemill
