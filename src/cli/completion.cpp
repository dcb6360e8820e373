#include "cli/completion.h"

#include <fmt/format.h>

#include "cli/help.h"

namespace pagemill {
namespace {

/// What a shell is to offer where a value is expected.
enum class Value { none, choices, file, model, other };

struct Flag {
  std::vector<std::string> names;  // with their dashes
  std::string description;
  Value value = Value::none;       // none = takes no value
  std::vector<std::string> choices;
};

struct Node {
  std::string path;                // "pagemill bench machine"
  int depth = 0;                   // words before its own arguments
  std::vector<std::pair<std::string, std::string>> commands;  // name, description
  std::vector<Flag> flags;
  std::vector<Flag> positionals;   // names: the one shown
};

Flag describe_option(const CLI::Option& option) {
  Flag flag;
  for (const std::string& name : option.get_lnames()) flag.names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) flag.names.push_back("-" + name);
  if (option.get_positional()) flag.names.push_back(option.get_name(true, false));
  flag.description = option.get_description();
  flag.choices = choices(option);
  const std::string type = option.get_type_name();
  if (option.get_items_expected_max() == 0) flag.value = Value::none;
  else if (!flag.choices.empty()) flag.value = Value::choices;
  else if (type.starts_with("FILE")) flag.value = Value::file;
  else if (type.starts_with("MODEL")) flag.value = Value::model;
  else flag.value = Value::other;
  return flag;
}

void walk(const CLI::App& app, const std::string& path, int depth, std::vector<Node>& out) {
  Node node{path, depth, {}, {}, {}};
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* command : commands) node.commands.emplace_back(command->get_name(), command->get_description());
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    (option->get_positional() ? node.positionals : node.flags).push_back(describe_option(*option));
  }
  out.push_back(std::move(node));
  for (const CLI::App* command : commands) walk(*command, path + " " + command->get_name(), depth + 1, out);
}

/// In single quotes for any of the three shells.
std::string shell_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') out += "'\\''";
    else out += c;
  }
  return out + "'";
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

/// The shell loop that finds out which command the words so far name; bash and zsh share its case patterns.
std::string command_patterns(const std::vector<Node>& nodes) {
  std::string patterns;
  for (const Node& node : nodes)
    if (node.depth > 1) patterns += (patterns.empty() ? "" : "|") + shell_quoted(node.path);
  return patterns;
}

std::string bash_values(const Flag& flag) {
  switch (flag.value) {
    case Value::choices: return "words=" + shell_quoted(joined(flag.choices));
    case Value::file: return "words=; files=1";
    case Value::model: return "words=$(pagemill list --names 2>/dev/null); files=1";
    case Value::other: return "words=";
    case Value::none: break;
  }
  return {};
}

std::string bash_script(const std::vector<Node>& nodes) {
  std::string by_path, by_flag;
  for (const Node& node : nodes) {
    std::string words;
    for (const auto& command : node.commands) words += command.first + " ";
    for (const Flag& flag : node.flags) {
      words += joined(flag.names) + " ";
      if (flag.value == Value::none) continue;
      std::string patterns;
      for (const std::string& name : flag.names) patterns += (patterns.empty() ? "" : "|") + shell_quoted(node.path + " " + name);
      by_flag += "    " + patterns + ") " + bash_values(flag) + " ;;\n";
    }
    by_path += "    " + shell_quoted(node.path) + ") words=" + shell_quoted(words);
    for (const Flag& flag : node.positionals) {
      if (flag.value == Value::choices) by_path += "; words+=" + shell_quoted(joined(flag.choices));
      if (flag.value == Value::model) by_path += "; if [[ $cur != -* ]]; then words+=$(pagemill list --names 2>/dev/null); fi";
      if (flag.value == Value::model || flag.value == Value::file) by_path += "; files=1";
    }
    by_path += " ;;\n";
  }
  return fmt::format(R"sh(# bash completion for pagemill; load it with: source <(pagemill completion bash)
_pagemill() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} path=pagemill words='' files='' word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$path $word" in {}) path="$path $word" ;; esac
  done
  case "$path" in
{}  esac
  case "$path $prev" in
{}  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  if [[ -n $files && $cur != -* ]]; then
    compopt -o filenames
    mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$cur")
  fi
}}
complete -F _pagemill pagemill
)sh", command_patterns(nodes), by_path, by_flag);
}

/// A text inside an _arguments specification: brackets and colons have meanings there.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_value(const Flag& flag) {
  switch (flag.value) {
    case Value::choices: return ":value:(" + joined(flag.choices) + ")";
    case Value::file: return ":file:_files";
    case Value::model: return ":model:_pagemill_models";
    case Value::other: return ":value: ";
    case Value::none: break;
  }
  return {};
}

std::string zsh_script(const std::vector<Node>& nodes) {
  std::string cases;
  for (const Node& node : nodes) {
    cases += "    (" + shell_quoted(node.path) + ")\n";
    std::string specs;
    for (const Flag& flag : node.flags)
      for (const std::string& name : flag.names) specs += " \\\n        " + shell_quoted(name + "[" + zsh_text(flag.description) + "]" + zsh_value(flag));
    for (size_t i = 0; i < node.positionals.size(); ++i)
      specs += " \\\n        " + shell_quoted(std::to_string(i + 1) + zsh_value(node.positionals[i]));
    if (!node.commands.empty()) {
      cases += "      commands=(";
      for (const auto& [name, description] : node.commands) cases += "\n        " + shell_quoted(zsh_text(name) + ":" + description);
      cases += ")\n";
      specs += " \\\n        '1: :{_describe command commands}'";
    }
    cases += fmt::format("      shift {} words; (( CURRENT -= {} ))\n      _arguments{} ;;\n", node.depth - 1, node.depth - 1, specs);
  }
  return fmt::format(R"sh(#compdef pagemill
# zsh completion for pagemill; load it with: source <(pagemill completion zsh)
_pagemill_models() {{
  local -a models
  models=(${{(f)"$(pagemill list --names 2>/dev/null)"}})
  _alternative "models:model:($models)" 'files:file:_files'
}}
_pagemill() {{
  local path_so_far=pagemill word
  local -a commands
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    case "$path_so_far $word" in ({}) path_so_far="$path_so_far $word" ;; esac
  done
  case "$path_so_far" in
{}  esac
}}
compdef _pagemill pagemill
)sh", command_patterns(nodes), cases);
}

/// fish knows \' and \\ inside single quotes.
std::string fish_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string fish_value(const Flag& flag) {
  switch (flag.value) {
    case Value::choices: return " -x -a " + fish_quoted(joined(flag.choices));
    case Value::file: return " -r -F";
    case Value::model: return " -r -F -a '(pagemill list --names 2>/dev/null)'";
    case Value::other: return " -x";
    case Value::none: break;
  }
  return {};
}

std::string fish_script(const std::vector<Node>& nodes) {
  std::string paths, lines;
  for (const Node& node : nodes)
    if (node.depth > 1) paths += " " + fish_quoted(node.path);
  for (const Node& node : nodes) {
    const std::string start = "complete -c pagemill -n " + fish_quoted("__pagemill_at '" + node.path + "'");
    for (const auto& [name, description] : node.commands) lines += start + " -f -a " + name + " -d " + fish_quoted(description) + "\n";
    for (const Flag& flag : node.flags) {
      lines += start;
      for (const std::string& name : flag.names) lines += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      lines += fish_value(flag) + " -d " + fish_quoted(flag.description) + "\n";
    }
    for (const Flag& flag : node.positionals)
      if (flag.value != Value::other) lines += start + fish_value(flag) + "\n";
  }
  return fmt::format(R"sh(# fish completion for pagemill; load it with: pagemill completion fish | source
function __pagemill_at
  set -l path pagemill
  for word in (commandline -opc)[2..]
    if contains -- "$path $word"{}
      set path "$path $word"
    end
  end
  test "$path" = "$argv[1]"
end
complete -c pagemill -f
{})sh", paths, lines);
}

}  // namespace

std::string completion_script(const CLI::App& root, Shell shell) {
  std::vector<Node> nodes;
  walk(root, root.get_name(), 1, nodes);
  switch (shell) {
    case Shell::bash: return bash_script(nodes);
    case Shell::zsh: return zsh_script(nodes);
    case Shell::fish: return fish_script(nodes);
  }
  return {};
}

}  // namespace pagemill
