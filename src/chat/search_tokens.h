// The search index's tokens: one function for texts and for queries, so that the two cannot disagree.
//
// Words of letters and digits are folded (case, full width, common accents) and kept whole. Runs of Chinese, Japanese and Korean characters become
// overlapping pairs, and the last character of a run by itself: 排序法 → 排序 序法 法. Then a word of two characters is one token,
// a longer one a phrase of pairs, and one character is found as the beginning of a token.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pagemill::chat {

struct SearchToken {
  std::string text;
  size_t begin = 0, end = 0;           // bytes of the original
  bool cjk = false;
};

/// At most 200,000 tokens of a text; the rest is not indexed.
std::vector<SearchToken> search_tokens(std::string_view text);

/// What goes into the index for a text of this user: its tokens between spaces, for FTS5's `ascii` tokenizer.
std::string index_text(std::string_view text, std::string_view user_id);
/// The same for a query, as an FTS5 expression: every word must occur, the last one may be a beginning. Empty where nothing can be searched for.
std::string match_expression(std::string_view query, std::string_view user_id);

struct SnippetPart {
  std::string text;
  bool hit = false;
};
/// About `chars` characters of `text` around the first hit.
std::vector<SnippetPart> snippet(std::string_view text, std::string_view query, size_t chars = 120);

}  // namespace pagemill::chat
