#include "terminal/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "base/json.h"

namespace pagemill {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";
constexpr int kBarWidth = 24;

/// Length of the well-formed UTF-8 character at `text`'s start, 0 where there is none.
size_t character_length(std::string_view text) {
  const auto byte = static_cast<unsigned char>(text[0]);
  const size_t length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
  return length <= text.size() && valid_utf8(text.substr(0, length)) ? length : 0;
}

/// U+202A … U+202E and U+2066 … U+2069, which can make text look like other text.
bool turns_direction(std::string_view character) {
  if (character.size() != 3 || character[0] != '\xe2') return false;
  const auto second = static_cast<unsigned char>(character[1]), third = static_cast<unsigned char>(character[2]);
  return (second == 0x80 && third >= 0xaa && third <= 0xae) || (second == 0x81 && third >= 0xa6 && third <= 0xa9);
}

bool is_control(std::string_view character) {
  const auto byte = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
  return character.size() == 2 && byte == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;  // C1
}

}  // namespace

Style style_for(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool plain = !isatty(fd) || (no_color != nullptr && *no_color != '\0') || term == nullptr || std::strcmp(term, "dumb") == 0;
  if (plain) return {};
  return {"\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"};
}

std::string terminal_safe(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = character_length(text);
    if (length == 0 || is_control(text.substr(0, length)) || turns_direction(text.substr(0, length)))
      out += kReplacement;
    else
      out += text.substr(0, length);
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return out;
}

std::string terminal_safe_line(std::string_view text) {
  const std::string safe = terminal_safe(text);
  std::string out;
  for (const char c : safe) {
    if (c == '\n' || c == '\t') out += kReplacement;
    else out += c;
  }
  return out;
}

NoEcho::NoEcho() {
  termios settings;
  if (tcgetattr(STDIN_FILENO, &settings) != 0) return;
  before_ = settings;
  settings.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON);
  tcsetattr(STDIN_FILENO, TCSANOW, &settings);
}

NoEcho::~NoEcho() {
  if (before_) tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
}

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) != 0) {}
ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::show(std::string_view what, double share) {
  if (!terminal_) return;
  const int filled = static_cast<int>(std::clamp(share, 0.0, 1.0) * kBarWidth);
  std::string bar;
  for (int i = 0; i < kBarWidth; ++i) bar += i < filled ? "█" : "░";
  std::fputs(fmt::format("\r\x1b[K{} {:3.0f} %  {}", bar, share * 100, terminal_safe(what)).c_str(), stderr);
  std::fflush(stderr);
  shown_ = true;
}

void ProgressLine::clear() {
  if (!shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace pagemill
