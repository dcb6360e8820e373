// Detokenizer: token ids → text, one at a time, never half a character.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace pagemill {

class Tokenizer;

/// One generation's text. However the ids are split between calls, the pieces add up to the same text: every byte that cannot
/// be part of a UTF-8 character becomes U+FFFD as Unicode recommends (one per maximal subpart). Not thread-safe; the tokenizer
/// has to outlive it. Allocates only through `out`.
class Detokenizer {
 public:
  /// `with_control`: control tokens print their text too.
  explicit Detokenizer(const Tokenizer& tokenizer, bool with_control = false);

  /// Appends the text that `id` completes; what may still become a character is kept back. Ids outside the vocabulary and, unless
  /// asked for, control tokens print nothing.
  void push(int32_t id, std::string& out);
  /// Appends what is still kept back, as U+FFFD. Afterwards the detokenizer is as new.
  void finish(std::string& out);
  /// Whether bytes of an unfinished character are kept back.
  bool pending() const { return pending_size_ > 0; }

 private:
  void push_byte(uint8_t byte, std::string& out);

  const Tokenizer* tokenizer_;
  bool with_control_;
  bool at_start_ = true;
  std::array<char, 4> pending_{};  // the start of a character
  int pending_size_ = 0;
  int pending_length_ = 0;  // bytes the character will have
};

}  // namespace pagemill
