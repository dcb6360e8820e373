// pagemill completion: a completion script for the user's shell.
#include <cstdio>

#include "cli/command_line.h"
#include "cli/completion.h"

namespace pagemill {

void add_completion_command(CommandLine& line) {
  CLI::App& command = line.add("", "completion", "Print a completion script for a shell",
                               "source <(pagemill completion bash)            in ~/.bashrc\n"
                               "source <(pagemill completion zsh)             in ~/.zshrc, after compinit\n"
                               "pagemill completion fish | source             in ~/.config/fish/config.fish");
  const auto shell = std::make_shared<std::string>();
  const std::vector<std::string> shells{"bash", "zsh", "fish"};
  command.add_option("SHELL", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember(shells));
  line.on_run(command, [&line, shell]() -> Result<ExitCode> {
    const Shell kind = *shell == "bash" ? Shell::bash : *shell == "zsh" ? Shell::zsh : Shell::fish;
    std::fputs(completion_script(line.root(), kind).c_str(), stdout);
    return ExitCode::done;
  });
}

}  // namespace pagemill
