#include "chat/plain_text.h"

#include <iconv.h>
#include <uchardet.h>

#include <algorithm>
#include <cerrno>

#include "base/limits.h"
#include "chat/utf8.h"

namespace pagemill::chat {
namespace {

constexpr size_t kGuessBytes = 256 << 10;

Outcome<std::string> convert(std::string_view bytes, const char* encoding) {
  const iconv_t converter = iconv_open("UTF-8", encoding);
  if (converter == reinterpret_cast<iconv_t>(-1)) return refuse(400, "unsupported_type", std::string("Text in ") + encoding + " cannot be read here: save it as UTF-8.");
  std::string out;
  char* in = const_cast<char*>(bytes.data());
  size_t left = bytes.size();
  char buffer[65'536];
  while (left > 0) {
    char* to = buffer;
    size_t room = sizeof buffer;
    const size_t code = iconv(converter, &in, &left, &to, &room);
    out.append(buffer, sizeof buffer - room);
    if (out.size() > limits::kDocumentTextBytes) break;
    if (code == static_cast<size_t>(-1) && errno != E2BIG && left > 0) {
      out += "\xEF\xBF\xBD";  // a broken character
      ++in;
      --left;
    }
  }
  iconv_close(converter);
  return out;
}

/// Without a byte order mark: every other byte of Latin text is NUL.
const char* utf16_without_mark(std::string_view bytes) {
  size_t even = 0, odd = 0;
  const size_t count = std::min<size_t>(bytes.size(), 4'096) / 2;
  for (size_t i = 0; i < count; ++i) even += bytes[2 * i] == 0, odd += bytes[2 * i + 1] == 0;
  if (count > 8 && odd * 10 >= count * 6 && even * 10 < count) return "UTF-16LE";
  if (count > 8 && even * 10 >= count * 6 && odd * 10 < count) return "UTF-16BE";
  return nullptr;
}

std::string guess(std::string_view bytes) {
  const uchardet_t detector = uchardet_new();
  uchardet_handle_data(detector, bytes.data(), std::min(bytes.size(), kGuessBytes));
  uchardet_data_end(detector);
  std::string name = uchardet_get_charset(detector);
  uchardet_delete(detector);
  // Both are subsets of it, and texts of today use what it adds.
  if (name == "GB2312" || name == "GBK") name = "GB18030";
  return name.empty() || name == "ASCII" ? "WINDOWS-1252" : name;
}

}  // namespace

std::string tidy_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_code_point(text, at);
    if (c == '\r') {
      if (at >= text.size() || text[at] != '\n') out += '\n';
    } else if (c == '\f') {
      out += '\n';
    } else if ((c >= 0x20 && c != 0x7F && c != 0xFDD0 && c != 0xFEFF) || c == '\n' || c == '\t') {
      if (c == 0xFFFD) append_utf8(out, c);
      else out.append(text.substr(begin, at - begin));
    }
  }
  return out;
}

Outcome<Extracted> read_plain_text(std::string_view bytes) {
  Extracted extracted{"text", {}, "UTF-8", {}};
  std::string text;
  const char* utf16 = bytes.starts_with("\xFF\xFE") ? "UTF-16LE" : bytes.starts_with("\xFE\xFF") ? "UTF-16BE" : utf16_without_mark(bytes);
  if (utf16) {
    extracted.encoding = utf16;
    PM_ASSIGN(text, convert(bytes, utf16));
  } else if (bytes.find('\0') != std::string_view::npos) {
    return refuse(400, "binary", "This is no text: only PDF, Word (.docx) and text files can be read.");
  } else if (valid_utf8(bytes)) {
    text = bytes;
  } else {
    extracted.encoding = guess(bytes);
    PM_ASSIGN(text, convert(bytes, extracted.encoding.c_str()));
  }
  const auto broken = static_cast<size_t>(std::count(text.begin(), text.end(), '\xEF')) > 0 ? text.find("\xEF\xBF\xBD") : std::string::npos;
  if (broken != std::string::npos) extracted.warnings.emplace_back("some characters could not be read (" + extracted.encoding + ")");
  text = tidy_text(text);
  if (text.size() > limits::kDocumentTextBytes) return refuse(400, "too_large", "This document holds too much text.");
  if (text.find_first_not_of(" \t\n") == std::string::npos) return refuse(400, "empty", "This file holds no text.");
  extracted.pages.push_back(std::move(text));
  return extracted;
}

}  // namespace pagemill::chat
