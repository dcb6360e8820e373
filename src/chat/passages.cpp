#include "chat/passages.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include <fmt/format.h>

#include "chat/search_tokens.h"
#include "text/tokenizer.h"

namespace pagemill::chat {
namespace {

constexpr size_t kPassageBytes = 1'200;
constexpr double kK1 = 1.2, kB = 0.75;
constexpr std::string_view kGap = "\n[…]\n";

int64_t count(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  return ids ? static_cast<int64_t>(ids->size()) : INT64_MAX / 4;
}

size_t at_character(std::string_view text, size_t at) {
  while (at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return std::min(at, text.size());
}

/// The longest prefix (or suffix) of at most that many tokens, by halving; ends at a line where one is near.
std::string_view fit(const Tokenizer& tokenizer, std::string_view text, int64_t tokens, bool from_end) {
  // A token is at most some dozens of bytes: no need to count millions of characters.
  const size_t most = std::min(text.size(), static_cast<size_t>(std::max<int64_t>(tokens, 0)) * 16);
  size_t low = 0, high = most;
  const auto part = [&](size_t bytes) { return from_end ? text.substr(at_character(text, text.size() - bytes)) : text.substr(0, at_character(text, bytes)); };
  if (count(tokenizer, part(high)) <= tokens) low = high;
  while (low + 8 < high) {
    const size_t middle = (low + high) / 2;
    if (count(tokenizer, part(middle)) <= tokens) low = middle;
    else high = middle;
  }
  std::string_view best = part(low);
  if (best.size() == text.size()) return best;
  const size_t line = from_end ? best.find('\n') : best.rfind('\n');
  if (line == std::string_view::npos) return best;
  const std::string_view whole_lines = from_end ? best.substr(line + 1) : best.substr(0, line);
  return whole_lines.size() * 10 >= best.size() * 8 ? whole_lines : best;
}

struct Passage {
  std::string_view text;
  size_t page = 0;
  std::unordered_map<std::string, int> words;
  int length = 0;
  double score = 0;
};

/// Cuts at an empty line, a line, a sentence or anywhere, whichever comes late enough.
std::vector<Passage> split(const std::vector<std::string>& pages) {
  std::vector<Passage> passages;
  for (size_t p = 0; p < pages.size(); ++p) {
    std::string_view rest = pages[p];
    while (!rest.empty()) {
      size_t cut = rest.size();
      if (cut > kPassageBytes) {
        cut = at_character(rest, kPassageBytes);
        for (const std::string_view end : {std::string_view("\n\n"), std::string_view("\n"), std::string_view("。"), std::string_view(". ")})
          if (const size_t found = rest.substr(0, cut).rfind(end); found != std::string_view::npos && found >= kPassageBytes / 3) {
            cut = found + end.size();
            break;
          }
      }
      Passage passage{rest.substr(0, cut), p + 1, {}, 0, 0};
      for (SearchToken& token : search_tokens(passage.text)) ++passage.words[std::move(token.text)], ++passage.length;
      if (passage.length > 0) passages.push_back(std::move(passage));
      rest.remove_prefix(cut);
    }
  }
  return passages;
}

void score(std::vector<Passage>& passages, std::string_view question) {
  double mean = 0;
  for (const Passage& passage : passages) mean += passage.length;
  mean = std::max(1.0, mean / static_cast<double>(std::max<size_t>(1, passages.size())));
  std::unordered_map<std::string, int> wanted;
  for (SearchToken& token : search_tokens(question)) ++wanted[std::move(token.text)];
  for (const auto& [word, times] : wanted) {
    const auto holding = static_cast<double>(std::count_if(passages.begin(), passages.end(), [&](const Passage& passage) { return passage.words.contains(word); }));
    const double total = static_cast<double>(passages.size());
    const double rarity = std::log(1 + (total - holding + 0.5) / (holding + 0.5));
    for (Passage& passage : passages) {
      const auto found = passage.words.find(word);
      if (found == passage.words.end()) continue;
      const double frequency = found->second;
      passage.score += rarity * frequency * (kK1 + 1) / (frequency + kK1 * (1 - kB + kB * passage.length / mean));
    }
  }
}

}  // namespace

std::string head_and_tail(const Tokenizer& tokenizer, const std::vector<std::string>& pages, int64_t tokens) {
  std::string text;
  for (const std::string& page : pages) text.append(text.empty() ? "" : "\n").append(page);
  const std::string_view head = fit(tokenizer, text, (tokens - 8) * 2 / 3, false);
  if (head.size() == text.size()) return text;
  const std::string_view tail = fit(tokenizer, std::string_view(text).substr(head.size()), (tokens - 8) / 3, true);
  return std::string(head).append(kGap).append(tail);
}

std::string best_passages(const Tokenizer& tokenizer, const std::vector<std::string>& pages, std::string_view question, int64_t tokens) {
  std::vector<Passage> passages = split(pages);
  score(passages, question);
  std::vector<const Passage*> ranked;
  for (const Passage& passage : passages)
    if (passage.score > 0) ranked.push_back(&passage);
  if (ranked.empty()) return head_and_tail(tokenizer, pages, tokens);
  std::stable_sort(ranked.begin(), ranked.end(), [](const Passage* a, const Passage* b) { return a->score > b->score; });
  std::vector<const Passage*> taken;
  int64_t left = tokens;
  for (const Passage* passage : ranked) {
    const int64_t cost = count(tokenizer, passage->text) + 12;  // and its heading
    if (cost > left) continue;
    left -= cost;
    taken.push_back(passage);
    if (left < 40) break;
  }
  std::sort(taken.begin(), taken.end(), [](const Passage* a, const Passage* b) { return a->text.data() < b->text.data() && a->page == b->page ? true : a->page < b->page; });
  std::string out;
  for (const Passage* passage : taken) out += fmt::format("{}[page {}]\n{}", out.empty() ? "" : "\n", passage->page, passage->text);
  return out.empty() ? head_and_tail(tokenizer, pages, tokens) : out;
}

}  // namespace pagemill::chat
