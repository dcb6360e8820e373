// Small vocabularies for tests: every byte, a few merges, and a handful of added tokens.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace pagemill {

/// The printable character that GPT-2's vocabularies write for `byte`.
inline std::string gpt2_spelling(uint8_t byte) {
  const auto prints = [](int b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; };
  int code = byte;
  if (!prints(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += prints(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// Owns the strings that its vocabulary views. Ids: 0 to 255 are the bytes, then come `merged` and `added`.
class TestVocabulary {
 public:
  explicit TestVocabulary(std::string pre_tokenizer = "qwen2") {
    vocabulary_.model = "gpt2";
    vocabulary_.pre_tokenizer = std::move(pre_tokenizer);
    for (int byte = 0; byte < 256; ++byte) add(gpt2_spelling(static_cast<uint8_t>(byte)), 1);
  }

  /// A merge of two tokens that are there; gives the id of the result.
  int32_t merge(std::string_view left, std::string_view right) {
    vocabulary_.merges.push_back(keep(std::string(left) + " " + std::string(right)));
    return add(std::string(left) + std::string(right), 1);
  }
  int32_t control(std::string_view text) { return add(std::string(text), 3); }
  int32_t user_defined(std::string_view text) { return add(std::string(text), 4); }

  Vocabulary& get() { return vocabulary_; }

 private:
  std::string_view keep(std::string text) { return strings_.emplace_back(std::move(text)); }
  int32_t add(std::string text, int64_t type) {
    vocabulary_.tokens.push_back(keep(std::move(text)));
    vocabulary_.types.push_back(type);
    return static_cast<int32_t>(vocabulary_.tokens.size()) - 1;
  }

  std::deque<std::string> strings_;
  Vocabulary vocabulary_;
};

}  // namespace pagemill
