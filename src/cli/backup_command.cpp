// pagemill backup: a consistent copy of the chat page's data while a server runs.
#include <cstdio>

#include "chat/store.h"
#include "cli/command_line.h"
#include "terminal/terminal.h"

namespace pagemill {
namespace {

struct Options {
  std::string data_dir, target;
};

}  // namespace

void add_backup_command(CommandLine& line) {
  CLI::App& command = line.add("", "backup", "Copy the chat page's accounts, conversations and documents",
                               "pagemill backup /backup/pagemill-today           a server may be running\n"
                               "pagemill serve --data-dir /backup/pagemill-today  the copy is a data folder like any other");
  const auto options = std::make_shared<Options>();
  command.add_option("TARGET", options->target, "A folder that does not exist yet")->type_name("DIR")->required();
  command.add_option("--data-dir", options->data_dir, "Folder of the server's data (default: ~/.local/share/pagemill)")->type_name("DIR");
  line.on_run(command, [options]() -> Result<ExitCode> {
    PM_TRY(chat::back_up(options->data_dir.empty() ? chat::default_data_dir() : std::filesystem::path(options->data_dir), options->target));
    std::printf("Copied to %s\n", terminal_safe_line(options->target).c_str());
    return ExitCode::done;
  });
}

}  // namespace pagemill
