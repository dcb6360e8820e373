// What a terminal can do, and what may be written to one.
#pragma once

#include <termios.h>

#include <optional>
#include <string>
#include <string_view>

namespace pagemill {

/// Colours for one output: empty where it is no terminal, or where NO_COLOR is set or TERM says "dumb".
struct Style {
  const char* dim = "";
  const char* bold = "";
  const char* red = "";
  const char* reset = "";
};
Style style_for(int fd);

/// Text of others (a model, a file) made safe for a terminal: control characters other than newline and tab become U+FFFD,
/// so that no escape sequence gets through; so do those that turn the writing direction. Broken UTF-8 becomes U+FFFD too.
std::string terminal_safe(std::string_view text);
/// As terminal_safe(), for a place within one line: newlines and tabs become U+FFFD too.
std::string terminal_safe_line(std::string_view text);

/// While it lives, what is typed on stdin is not shown: it would run into what the program prints. It is kept for the next line
/// that is read. Nothing where stdin is no terminal.
class NoEcho {
 public:
  NoEcho();
  ~NoEcho();
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;

 private:
  std::optional<termios> before_;
};

/// A line on stderr that is rewritten as work proceeds; nothing where stderr is no terminal.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();  // clears it
  void show(std::string_view what, double share);
  void clear();

 private:
  bool terminal_;
  bool shown_ = false;
};

}  // namespace pagemill
