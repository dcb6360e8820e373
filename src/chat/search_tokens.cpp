#include "chat/search_tokens.h"

#include <algorithm>

#include "chat/utf8.h"

namespace pagemill::chat {
namespace {

constexpr size_t kTokensMax = 200'000;
constexpr size_t kWordBytesMax = 64;
constexpr size_t kQueryTokensMax = 64;

bool is_cjk(char32_t c) {
  return (c >= 0x2E80 && c <= 0x2FDF) || (c >= 0x3005 && c <= 0x3007) || (c >= 0x3041 && c <= 0x30FF) || (c >= 0x3105 && c <= 0x318F) || (c >= 0x31A0 && c <= 0x31FF) ||
         (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7AF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x3FFFF);
}

/// Letters and digits outside ASCII: everything but what Unicode keeps for spaces, punctuation, symbols and the like.
bool is_word(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  if (c < 0xC0) return c == 0xAA || c == 0xB5 || c == 0xBA;
  if (c == 0xD7 || c == 0xF7) return false;
  const bool odd = (c >= 0x2000 && c <= 0x2BFF) || (c >= 0x2E00 && c <= 0x2E7F) || (c >= 0x3000 && c <= 0x3004) || (c >= 0x3008 && c <= 0x3040) || (c >= 0xD800 && c <= 0xF8FF) ||
                   (c >= 0xFE00 && c <= 0xFE6F) || (c >= 0xFF00 && c <= 0xFF0F) || (c >= 0xFF1A && c <= 0xFF20) || (c >= 0xFF3B && c <= 0xFF40) || (c >= 0xFF5B && c <= 0xFF65) ||
                   (c >= 0xFFE0 && c <= 0xFFFF) || (c >= 0x1F000 && c <= 0x1FAFF) || c >= 0xE0000;
  return !odd;
}

/// Latin letters of U+00C0 … U+017F without their accents, in lower case; 0 = as it is.
constexpr char kLatin[] =
    "aaaaaa\0ceeeeiiii\0nooooo\0ouuuuy\0\0aaaaaa\0ceeeeiiii\0nooooo\0ouuuuy\0y"
    "aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiii\0\0jjkk\0llllllllllnnnnnn\0\0\0oooooo\0\0rrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs";

char32_t fold(char32_t c) {
  if (c >= 0xFF01 && c <= 0xFF5E) c -= 0xFEE0;  // full width
  if (c >= 'A' && c <= 'Z') return c + 32;
  if (c >= 0xC0 && c <= 0x17F) return kLatin[c - 0xC0] ? static_cast<char32_t>(kLatin[c - 0xC0]) : c == 0xC6 || c == 0xD0 || c == 0xD8 || c == 0xDE ? c + 32 : c;
  if ((c >= 0x391 && c <= 0x3A9) || (c >= 0x410 && c <= 0x42F)) return c + 32;
  if (c >= 0x400 && c <= 0x40F) return c + 80;
  return c;
}

}  // namespace

std::vector<SearchToken> search_tokens(std::string_view text) {
  std::vector<SearchToken> tokens;
  SearchToken word;
  size_t before = 0;                   // where the previous character of a CJK run began
  char32_t previous = 0;               // … and which it is; 0 = no run
  const auto end_word = [&](size_t at) {
    if (word.text.empty()) return;
    word.end = at;
    if (word.text.size() <= kWordBytesMax) tokens.push_back(word);
    word.text.clear();
  };
  const auto end_run = [&](size_t at) {
    if (!previous) return;
    std::string one;
    append_utf8(one, previous);
    tokens.push_back({std::move(one), before, at, true});
    previous = 0;
  };
  size_t at = 0;
  while (at < text.size() && tokens.size() < kTokensMax) {
    const size_t begin = at;
    const char32_t c = next_code_point(text, at);
    if (is_cjk(c)) {
      end_word(begin);
      if (previous) {
        std::string pair;
        append_utf8(pair, previous);
        append_utf8(pair, c);
        tokens.push_back({std::move(pair), before, at, true});
      }
      previous = c;
      before = begin;
      continue;
    }
    end_run(begin);
    if (!is_word(c)) {
      end_word(begin);
      continue;
    }
    if (word.text.empty()) word.begin = begin;
    append_utf8(word.text, fold(c) == U'_' ? U'\x00B7' : fold(c));  // "_" would part words in FTS5
  }
  end_word(at);
  end_run(at);
  return tokens;
}

std::string index_text(std::string_view text, std::string_view user_id) {
  std::string out = "u" + std::string(user_id);
  for (const SearchToken& token : search_tokens(text)) out.append(" ").append(token.text);
  return out;
}

std::string match_expression(std::string_view query, std::string_view user_id) {
  std::vector<SearchToken> tokens = search_tokens(query);
  if (tokens.size() > kQueryTokensMax) tokens.resize(kQueryTokensMax);
  std::string out;
  // A run's tokens overlap: they form one phrase. Its last, the single character, is needed only where it is the whole run.
  for (size_t i = 0; i < tokens.size();) {
    size_t end = i + 1;
    if (tokens[i].cjk)
      while (end < tokens.size() && tokens[end].cjk && tokens[end].begin < tokens[end - 1].end) ++end;
    const bool single = tokens[i].cjk && end == i + 1;
    const size_t last = tokens[i].cjk && !single ? end - 1 : end;
    out += " AND \"";
    for (size_t k = i; k < last; ++k) out.append(k > i ? " " : "").append(tokens[k].text);
    out += single || (!tokens[i].cjk && end == tokens.size()) ? "\" *" : "\"";
    i = end;
  }
  return out.empty() ? out : "u" + std::string(user_id) + out;
}

std::vector<SnippetPart> snippet(std::string_view text, std::string_view query, size_t chars) {
  std::vector<SearchToken> wanted = search_tokens(query);
  const std::vector<SearchToken> tokens = search_tokens(text.substr(0, 1 << 20));
  // As in match_expression(): a run's last character by itself is wanted only where it is the whole run.
  for (size_t i = wanted.size(); i-- > 1;)
    if (wanted[i].cjk && wanted[i - 1].cjk && wanted[i].begin < wanted[i - 1].end && wanted[i].end == wanted[i - 1].end) wanted.erase(wanted.begin() + static_cast<std::ptrdiff_t>(i));
  const auto is_hit = [&](const SearchToken& token) {
    return std::any_of(wanted.begin(), wanted.end(), [&](const SearchToken& want) { return token.text.starts_with(want.text) && (token.cjk || token.text == want.text || &want == &wanted.back()); });
  };
  std::vector<std::pair<size_t, size_t>> hits;
  for (const SearchToken& token : tokens) {
    if (!is_hit(token)) continue;
    // One character wanted: only the first of a pair is the hit.
    size_t end = token.end;
    if (token.cjk && wanted.size() == 1 && wanted.front().text.size() < token.text.size()) {
      end = token.begin;
      next_code_point(text, end);
    }
    if (!hits.empty() && token.begin <= hits.back().second) hits.back().second = std::max(hits.back().second, end);
    else hits.emplace_back(token.begin, end);
  }
  size_t from = hits.empty() ? 0 : hits.front().first;
  for (size_t back = 0; from > 0 && back < chars / 4;) {
    --from;
    if ((static_cast<unsigned char>(text[from]) & 0xC0) != 0x80) ++back;
  }
  size_t to = from;
  for (size_t count = 0; to < text.size() && count < chars; ++count) next_code_point(text, to);
  std::vector<SnippetPart> parts;
  const auto add = [&](size_t begin, size_t end, bool hit) {
    if (begin < end) parts.push_back({std::string(text.substr(begin, end - begin)), hit});
  };
  size_t at = from;
  for (const auto& [begin, end] : hits) {
    if (begin >= to) break;
    add(at, begin, false);
    add(begin, std::min(end, to), true);
    at = std::max(at, std::min(end, to));
  }
  add(at, to, false);
  if (from > 0 && !parts.empty()) parts.insert(parts.begin(), {"…", false});
  if (to < text.size()) parts.push_back({"…", false});
  return parts;
}

}  // namespace pagemill::chat
