// Parts of a document that fit a number of tokens: its beginning and end, or the passages that match a question best.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pagemill {
class Tokenizer;
}

namespace pagemill::chat {

/// Two thirds from the beginning and one third from the end, cut at line ends where there are some, with a mark between.
std::string head_and_tail(const Tokenizer& tokenizer, const std::vector<std::string>& pages, int64_t tokens);

/// Passages of about 1,000 characters ranked by BM25 (Robertson, Zaragoza 2009; k1 = 1.2, b = 0.75) over the tokens of search_tokens.h, taken while they fit
/// and given in the document's order with their pages. A question that matches nothing gets head_and_tail().
std::string best_passages(const Tokenizer& tokenizer, const std::vector<std::string>& pages, std::string_view question, int64_t tokens);

}  // namespace pagemill::chat
