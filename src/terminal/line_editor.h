// One line from a person at a terminal, edited with libedit: arrow keys, history, wide characters, pastes of several lines.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "terminal/interrupt.h"

namespace pagemill {

/// Belongs to the thread that reads the terminal on stdin and stdout.
class LineEditor {
 public:
  enum class End {
    line,         // Enter
    interrupted,  // Ctrl-C; what was typed is gone
    closed,       // Ctrl-D on an empty line, or the terminal went away
  };

  /// History is read from `history_file` and kept there (created with mode 0600); an empty path keeps it in memory.
  /// The process's character type must be a UTF-8 locale (see use_utf8_locale()).
  static Result<std::unique_ptr<LineEditor>> open(Interrupt& interrupt, std::filesystem::path history_file);
  ~LineEditor();

  /// Reads into `line`, without the newline that ended it; a paste may bring newlines of its own.
  End read(const std::string& prompt, std::string& line);
  /// Adds to the history, unless it repeats the last entry.
  void remember(const std::string& text);

 private:
  struct State;
  explicit LineEditor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Sets LC_CTYPE to the user's locale, or to C.UTF-8 where that is not UTF-8. Call once, before threads start.
void use_utf8_locale();

}  // namespace pagemill
