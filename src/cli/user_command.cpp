// pagemill user: accounts of the chat page from the command line; a server may be running.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include <sodium.h>

#include "chat/accounts.h"
#include "chat/passwords.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "terminal/terminal.h"

namespace pagemill {
namespace {

struct Options {
  std::string data_dir, email, name, role = "user";
  bool json = false;
};

/// The accounts of a data folder.
struct Opened {
  std::unique_ptr<chat::Store> store;
  std::unique_ptr<chat::Accounts> accounts;
};

tl::unexpected<Error> failure(const chat::Problem& problem) { return fail(ErrorCode::invalid_argument, problem.message, problem.field); }

/// `fresh`: makes the folder where there is none, which is right for the first account alone.
Result<Opened> open_accounts(const Options& options, bool fresh = false) {
  if (sodium_init() < 0) return fail(ErrorCode::internal, "libsodium could not be started");
  const std::filesystem::path folder = options.data_dir.empty() ? chat::default_data_dir() : std::filesystem::path(options.data_dir);
  if (!fresh) PM_TRY(chat::check_has_data(folder));
  Opened opened;
  PM_ASSIGN(opened.store, chat::Store::open(folder, chat::Store::Use::command));
  opened.accounts = std::make_unique<chat::Accounts>(*opened.store);
  if (const auto loaded = opened.accounts->load(); !loaded) return failure(loaded.error());
  return opened;
}

Result<chat::User> find_user(const Opened& opened, const std::string& email) {
  const auto user = opened.accounts->user_by_email(email);
  if (!user) return fail(ErrorCode::not_found, "there is no account with the e-mail address " + email + "; `pagemill user list` shows them");
  return *user;
}

Result<std::string> read_line(const char* prompt) {
  std::string line;
  const bool terminal = isatty(STDIN_FILENO);
  if (terminal) std::fputs(prompt, stderr);
  {
    const NoEcho quiet;
    if (!std::getline(std::cin, line)) return fail(ErrorCode::invalid_argument, "no password was given");
  }
  if (terminal) std::fputc('\n', stderr);
  return line;
}

/// From the terminal, twice; from a pipe, one line.
Result<std::string> read_password(const std::string& email) {
  PM_ASSIGN(std::string password, read_line("Password: "));
  if (const auto good = chat::check_password(password, email); !good) return failure(good.error());
  if (isatty(STDIN_FILENO)) {
    PM_ASSIGN(const std::string again, read_line("Once more: "));
    if (again != password) return fail(ErrorCode::invalid_argument, "the two passwords differ");
  }
  auto hash = chat::hash_password(password);
  if (!hash) return failure(hash.error());
  return std::move(*hash);
}

Result<ExitCode> add(const Options& options) {
  if (const auto email = chat::checked_email(options.email); !email) return failure(email.error());
  PM_ASSIGN(const Opened opened, open_accounts(options, true));
  const auto role = chat::parse_role(options.role);
  // Before anybody is asked for a password.
  if (opened.accounts->user_by_email(options.email)) return fail(ErrorCode::invalid_argument, "there is an account with the e-mail address " + options.email + " already; `pagemill user passwd` sets its password", "email");
  PM_ASSIGN(const std::string hash, read_password(options.email));
  std::string name = options.name.empty() ? options.email.substr(0, options.email.find('@')) : options.name;
  // The first account takes over what was written under --auth none.
  const bool first = opened.accounts->setup_needed() && *role == chat::Role::admin;
  auto user = first ? opened.accounts->create_first(options.email, std::move(name), hash) : opened.accounts->create(options.email, std::move(name), *role, hash);
  if (!user) return failure(user.error());
  std::printf("%s may sign in as %s.\n", terminal_safe_line(user->email).c_str(), std::string(to_string(user->role)).c_str());
  return ExitCode::done;
}

Result<ExitCode> list(const Options& options) {
  PM_ASSIGN(const Opened opened, open_accounts(options));
  const std::vector<chat::User> users = opened.accounts->users("", "", limits::kChatUsers);
  if (options.json) {
    json::array all;
    for (const chat::User& user : users) all.push_back(user_json(user));
    std::fputs(pretty_json(json::object{{"users", std::move(all)}}).c_str(), stdout);
    return ExitCode::done;
  }
  std::vector<std::vector<std::string>> rows{{"e-mail", "role", "state", "name"}};
  for (const chat::User& user : users) rows.push_back({terminal_safe_line(user.email), std::string(to_string(user.role)), user.disabled ? "disabled" : "active", terminal_safe_line(user.name)});
  std::fputs(users.empty() ? "No accounts.\n" : render_table(rows, true).c_str(), stdout);
  return ExitCode::done;
}

Result<ExitCode> passwd(const Options& options) {
  PM_ASSIGN(const Opened opened, open_accounts(options));
  PM_ASSIGN(const chat::User user, find_user(opened, options.email));
  PM_ASSIGN(const std::string hash, read_password(user.email));
  if (const auto set = opened.accounts->set_password(user.id, hash, ""); !set) return failure(set.error());
  std::printf("The password of %s is changed; its sessions have ended and its API keys are revoked.\n", terminal_safe_line(user.email).c_str());
  return ExitCode::done;
}

Result<ExitCode> set_disabled(const Options& options, bool disabled) {
  PM_ASSIGN(const Opened opened, open_accounts(options));
  PM_ASSIGN(const chat::User user, find_user(opened, options.email));
  chat::Accounts::Change change;
  change.disabled = disabled;
  if (const auto changed = opened.accounts->change(user.id, std::move(change)); !changed) return failure(changed.error());
  std::printf("%s is %s.\n", terminal_safe_line(user.email).c_str(), disabled ? "disabled" : "enabled");
  return ExitCode::done;
}

}  // namespace

void add_user_commands(CommandLine& line) {
  line.add("", "user", "Manage the accounts of the chat page",
           "pagemill user add --role admin me@example.org   asks for the password\n"
           "pagemill user list\n"
           "pagemill user passwd me@example.org\n"
           "pagemill user disable someone@example.org");
  const auto options = std::make_shared<Options>();
  const auto declare = [&](const char* name, const char* summary, bool with_email, const char* example, CommandFunction run) -> CLI::App& {
    CLI::App& command = line.add("user", name, summary, example);
    if (with_email) command.add_option("EMAIL", options->email, "The account's e-mail address")->type_name("EMAIL")->required();
    command.add_option("--data-dir", options->data_dir, "Folder of the server's data (default: ~/.local/share/pagemill)")->type_name("DIR");
    line.on_run(command, std::move(run));
    return command;
  };
  CLI::App& adding = declare("add", "Make an account; the password comes from the terminal or as a line of standard input", true,
                             "pagemill user add --role admin me@example.org", [options] { return add(*options); });
  adding.add_option("--role", options->role, "admin, user or pending")->check(CLI::IsMember({"admin", "user", "pending"}))->capture_default_str();
  adding.add_option("--name", options->name, "How the page calls them (default: the address up to the @)");
  declare("list", "Show the accounts", false, "pagemill user list --json", [options] { return list(*options); }).add_flag("--json", options->json, "Print JSON");
  declare("passwd", "Set a password; ends the account's sessions and revokes its API keys", true, "pagemill user passwd me@example.org",
          [options] { return passwd(*options); });
  declare("disable", "Lock an account; its data are kept", true, "pagemill user disable someone@example.org", [options] { return set_disabled(*options, true); });
  declare("enable", "Unlock an account", true, "pagemill user enable someone@example.org", [options] { return set_disabled(*options, false); });
}

}  // namespace pagemill
