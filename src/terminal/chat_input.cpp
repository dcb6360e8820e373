#include "terminal/chat_input.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace pagemill {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

template <class T>
Result<T> number(std::string_view name, std::string_view text, T min, T max) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !(value >= min && value <= max))
    return fail(ErrorCode::invalid_argument, fmt::format("{} must be a number from {} to {}, not '{}'.", name, min, max, text), std::string(name));
  return value;
}

}  // namespace

void MessageReader::reset() {
  text_.clear();
  open_ = block_ = false;
}

bool MessageReader::add(std::string_view line) {
  if (!open_) reset();
  if (!open_ && trimmed(line).starts_with(kQuotes)) {
    block_ = open_ = true;
    line = trimmed(line).substr(kQuotes.size());
    if (line.empty()) return false;
  }
  if (block_) {
    const std::string_view end = trimmed(line);
    if (end.ends_with(kQuotes)) {
      text_ += line.substr(0, line.rfind(kQuotes));
      if (text_.ends_with('\n')) text_.pop_back();
      block_ = open_ = false;
      return true;
    }
    text_ += line;
    text_ += '\n';
    return false;
  }
  open_ = line.ends_with('\\');
  if (open_) line.remove_suffix(1);
  text_ += line;
  if (open_) text_ += '\n';
  return !open_;
}

Result<std::optional<ChatCommand>> parse_chat_command(std::string_view text) {
  if (!text.starts_with('/') || text.find('\n') != std::string_view::npos) return std::nullopt;
  const size_t space = std::min(text.find(' '), text.size());
  const std::string_view name = text.substr(1, space - 1);
  using Kind = ChatCommand::Kind;
  static constexpr std::pair<std::string_view, Kind> kNames[] = {
      {"help", Kind::help}, {"?", Kind::help}, {"system", Kind::system}, {"save", Kind::save}, {"clear", Kind::clear},
      {"set", Kind::set},   {"exit", Kind::exit}, {"quit", Kind::exit}, {"bye", Kind::exit},
  };
  for (const auto& [known, kind] : kNames)
    if (name == known) return ChatCommand{kind, std::string(trimmed(text.substr(space)))};
  return fail(ErrorCode::invalid_argument, fmt::format("There is no command /{}; /help lists them. To send text that begins with a slash, put a space before it.", name));
}

std::string_view chat_help() {
  return "  /system TEXT         set the system prompt (/system alone shows it, /system none removes it)\n"
         "  /set NAME VALUE      temperature, top_p, top_k, min_p, seed, max_tokens (/set alone shows them)\n"
         "  /save FILE           write the conversation: Markdown, or JSON where FILE ends in .json\n"
         "  /clear               forget the conversation\n"
         "  /exit                quit, as Ctrl-D does\n"
         "\n"
         "  Several lines: end a line with \\ to go on, or put them between \"\"\" and \"\"\", or paste them.\n"
         "  Ctrl-C stops an answer. Arrow keys edit and recall; Ctrl-R searches what you typed before.\n";
}

Result<void> set_parameter(SamplingParams& params, std::string_view assignment) {
  const size_t space = std::min(assignment.find_first_of(" ="), assignment.size());
  const std::string_view name = assignment.substr(0, space);
  const std::string_view value = trimmed(assignment.substr(std::min(space + 1, assignment.size())));
  if (name == "temperature") {
    PM_ASSIGN(params.temperature, number<float>(name, value, 0, 2));
  } else if (name == "top_p") {
    PM_ASSIGN(const float top_p, number<float>(name, value, 0, 1));
    if (top_p == 0) return fail(ErrorCode::invalid_argument, "top_p must be above 0; 1 turns it off.", "top_p");
    params.top_p = top_p;
  } else if (name == "top_k") {
    PM_ASSIGN(params.top_k, number<int32_t>(name, value, 0, 1'000'000));
  } else if (name == "min_p") {
    PM_ASSIGN(params.min_p, number<float>(name, value, 0, 1));
  } else if (name == "seed" && value == "off") {
    params.seed.reset();
  } else if (name == "seed") {
    PM_ASSIGN(params.seed, number<uint64_t>(name, value, 0, UINT64_MAX));
  } else if (name == "max_tokens" && value == "off") {
    params.max_tokens.reset();
  } else if (name == "max_tokens") {
    PM_ASSIGN(params.max_tokens, number<int32_t>(name, value, 1, 16'777'216));
  } else {
    return fail(ErrorCode::invalid_argument, fmt::format("There is no parameter '{}'; there are temperature, top_p, top_k, min_p, seed and max_tokens.", name));
  }
  return {};
}

std::string show_parameters(const SamplingParams& params) {
  return fmt::format("temperature {}, top_p {}, top_k {}, min_p {}, seed {}, max_tokens {}", params.temperature, params.top_p, params.top_k,
                     params.min_p, params.seed ? std::to_string(*params.seed) : "off", params.max_tokens ? std::to_string(*params.max_tokens) : "off");
}

}  // namespace pagemill
