#include "text/detokenizer.h"

#include "text/tokenizer.h"

namespace pagemill {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// Bytes of the character that starts with `byte`; 0 if none does.
int character_length(uint8_t byte) {
  if (byte < 0x80) return 1;
  if (byte >= 0xC2 && byte <= 0xDF) return 2;
  if (byte >= 0xE0 && byte <= 0xEF) return 3;
  if (byte >= 0xF0 && byte <= 0xF4) return 4;
  return 0;
}

/// Whether `byte` may follow `first` as the second byte: no overlong forms, no surrogates, nothing above U+10FFFF.
bool valid_second(uint8_t first, uint8_t byte) {
  switch (first) {
    case 0xE0: return byte >= 0xA0 && byte <= 0xBF;
    case 0xED: return byte >= 0x80 && byte <= 0x9F;
    case 0xF0: return byte >= 0x90 && byte <= 0xBF;
    case 0xF4: return byte >= 0x80 && byte <= 0x8F;
    default: return byte >= 0x80 && byte <= 0xBF;
  }
}

}  // namespace

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool with_control)
    : tokenizer_(&tokenizer), with_control_(with_control) {}

void Detokenizer::push(int32_t id, std::string& out) {
  if (!with_control_ && tokenizer_->is_control(id)) return;
  std::string_view bytes = tokenizer_->token_bytes(id);
  if (bytes.empty()) return;
  if (at_start_ && tokenizer_->drops_leading_space() && bytes.front() == ' ') bytes.remove_prefix(1);
  at_start_ = false;
  for (const char byte : bytes) push_byte(static_cast<uint8_t>(byte), out);
}

void Detokenizer::push_byte(uint8_t byte, std::string& out) {
  if (pending_size_ > 0) {
    const bool fits = pending_size_ == 1 ? valid_second(static_cast<uint8_t>(pending_[0]), byte) : (byte & 0xC0) == 0x80;
    if (fits) {
      pending_[pending_size_++] = static_cast<char>(byte);
      if (pending_size_ == pending_length_) {
        out.append(pending_.data(), static_cast<size_t>(pending_size_));
        pending_size_ = 0;
      }
      return;
    }
    out.append(kReplacement);
    pending_size_ = 0;
  }
  switch (const int length = character_length(byte)) {
    case 0: out.append(kReplacement); break;
    case 1: out.push_back(static_cast<char>(byte)); break;
    default:
      pending_[0] = static_cast<char>(byte);
      pending_size_ = 1;
      pending_length_ = length;
  }
}

void Detokenizer::finish(std::string& out) {
  if (pending_size_ > 0) out.append(kReplacement);
  pending_size_ = 0;
  at_start_ = true;
}

}  // namespace pagemill
