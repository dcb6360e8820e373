// What a person types at the chat prompt: messages over one or several lines, and commands that begin with a slash.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "session/session.h"

namespace pagemill {

/// Puts a message together from lines. A line that ends in a backslash goes on with the next; a line that begins with """
/// opens a block that goes on to the next """ at the end of a line.
class MessageReader {
 public:
  /// True once the message is whole: then text() has it, and the next line begins another.
  bool add(std::string_view line);
  /// More lines are wanted.
  bool open() const { return open_; }
  const std::string& text() const { return text_; }
  void reset();

 private:
  std::string text_;
  bool open_ = false;   // the message goes on
  bool block_ = false;  // inside """
};

struct ChatCommand {
  enum class Kind { help, system, save, clear, set, exit };
  Kind kind = Kind::help;
  std::string argument;  // the rest of the line, trimmed
};

/// Nothing where `text` is a message: it has no slash at its start, or several lines. An unknown command is an error.
Result<std::optional<ChatCommand>> parse_chat_command(std::string_view text);

/// What /help prints.
std::string_view chat_help();

/// `/set temperature 0.2`: changes one parameter; errors name it and its range. "seed off" draws a fresh one each time.
Result<void> set_parameter(SamplingParams& params, std::string_view assignment);
/// One line with every parameter that /set knows.
std::string show_parameters(const SamplingParams& params);

}  // namespace pagemill
