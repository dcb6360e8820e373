#include "cli/help.h"

#include <algorithm>
#include <sstream>

namespace pagemill {
namespace {

constexpr size_t kColumns = 90;
constexpr size_t kNameColumns = 30;

/// `text` broken at spaces to fit beside a left column of `indent`, the first line already started.
std::string wrap(const std::string& text, size_t indent) {
  std::string out;
  size_t column = indent;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const bool starts_line = column == indent;
    if (!starts_line && column + 1 + word.size() > kColumns) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!starts_line) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

void add_row(std::string& out, const std::string& name, const std::string& text) {
  out += "  " + name;
  if (name.size() + 2 > kNameColumns - 2)
    out += "\n" + std::string(kNameColumns, ' ');
  else
    out += std::string(kNameColumns - 2 - name.size(), ' ');
  out += wrap(text, kNameColumns) + "\n";
}

/// "TEXT", "N", "bash|zsh|fish": what follows the option, or "" for a flag.
std::string value_name(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) return {};
  std::string name;
  for (const std::string& choice : choices(option)) name += (name.empty() ? "" : "|") + choice;
  if (!name.empty()) return name;
  const std::string type = option.get_type_name();
  return type.substr(0, type.find(':'));
}

std::string option_name(const CLI::Option& option) {
  std::string name;
  for (const std::string& short_name : option.get_snames()) name += (name.empty() ? "-" : ", -") + short_name;
  if (name.empty()) name = "    ";
  for (const std::string& long_name : option.get_lnames()) name += (name == "    " ? "--" : ", --") + long_name;
  const std::string value = value_name(option);
  return value.empty() ? name : name + " " + value;
}

std::string option_text(const CLI::Option& option) {
  std::string text = option.get_description();
  if (!option.get_default_str().empty()) text += " (default " + option.get_default_str() + ")";
  return text;
}

std::string positional_name(const CLI::Option& option) {
  const std::string name = option.get_name(true, false);
  return option.get_required() ? name : "[" + name + "]";
}

std::string usage(const CLI::App& command) {
  std::string line = "Usage: " + command_path(command);
  if (!command.get_subcommands([](const CLI::App*) { return true; }).empty()) return line + " COMMAND [OPTIONS]\n";
  line += " [OPTIONS]";
  for (const CLI::Option* option : command.get_options([](const CLI::Option* o) { return o->get_positional(); }))
    line += " " + positional_name(*option);
  return line + "\n";
}

/// The option groups in the order in which their first options were declared, the help flag's group last.
std::vector<std::string> groups_of(const CLI::App& command) {
  std::vector<std::string> groups;
  for (const CLI::Option* option : command.get_options([](const CLI::Option* o) { return o->nonpositional(); })) {
    const std::string& group = option->get_group();
    if (!group.empty() && group != "Options" && std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  groups.push_back("Options");
  return groups;
}

}  // namespace

std::string command_path(const CLI::App& command) {
  return command.get_parent() == nullptr ? command.get_name() : command_path(*command.get_parent()) + " " + command.get_name();
}

std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.rfind('}');
  std::vector<std::string> values;
  if (open == std::string::npos || close == std::string::npos || close < open) return values;
  std::istringstream list(type.substr(open + 1, close - open - 1));
  for (std::string value; std::getline(list, value, ',');) values.push_back(value);
  return values;
}

std::string render_help(const CLI::App& command) {
  std::string out = wrap(command.get_description(), 0) + "\n\n" + usage(command);
  const auto positionals = command.get_options([](const CLI::Option* o) { return o->get_positional(); });
  if (!positionals.empty()) out += "\n";
  for (const CLI::Option* option : positionals) add_row(out, option->get_name(true, false), option_text(*option));
  const auto commands = command.get_subcommands([](const CLI::App*) { return true; });
  if (!commands.empty()) out += "\nCommands:\n";
  for (const CLI::App* sub : commands) add_row(out, sub->get_name(), sub->get_description());
  for (const std::string& group : groups_of(command)) {
    const auto options = command.get_options([&](const CLI::Option* o) { return o->nonpositional() && o->get_group() == group; });
    if (options.empty()) continue;
    out += "\n" + group + ":\n";
    for (const CLI::Option* option : options) add_row(out, option_name(*option), option_text(*option));
  }
  if (command.get_footer().empty()) return out;
  out += "\nExamples:\n";
  std::istringstream examples(command.get_footer());
  bool prose = false;
  for (std::string line; std::getline(examples, line);) {
    prose = prose || line.empty();
    out += line.empty() ? "\n" : prose ? wrap(line, 0) + "\n" : "  " + line + "\n";
  }
  return out;
}

}  // namespace pagemill
