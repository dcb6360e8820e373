// Utf8Decoder: bytes → characters, a byte at a time, as they come from a keyboard.
#pragma once

#include <cstdint>

namespace pagemill {

/// Broken UTF-8 (overlong forms and surrogates too) becomes U+FFFD; the byte that broke a sequence is read again by itself.
class Utf8Decoder {
 public:
  /// True once `character` is whole. Then ask more() until it is false.
  bool add(unsigned char byte, wchar_t& character) {
    if (left_ == 0) return begin(byte, character);
    if ((byte & 0xc0) != 0x80) {
      left_ = 0;
      again_ = byte;
      has_again_ = true;
      return character = kBroken, true;
    }
    value_ = value_ << 6 | (byte & 0x3f);
    if (--left_ != 0) return false;
    const bool valid = value_ >= least_ && value_ <= 0x10ffff && (value_ < 0xd800 || value_ > 0xdfff);
    return character = valid ? static_cast<wchar_t>(value_) : kBroken, true;
  }

  /// A further character of the byte given last.
  bool more(wchar_t& character) {
    if (!has_again_) return false;
    has_again_ = false;
    return begin(again_, character);
  }

 private:
  static constexpr wchar_t kBroken = 0xfffd;

  bool begin(unsigned char byte, wchar_t& character) {
    if (byte < 0x80) return character = byte, true;
    if (byte < 0xc2 || byte > 0xf4) return character = kBroken, true;
    left_ = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
    least_ = left_ == 3 ? 0x10000 : left_ == 2 ? 0x800 : 0x80;
    value_ = byte & (0x3f >> left_);
    return false;
  }

  uint32_t value_ = 0, least_ = 0;
  int left_ = 0;                 // bytes still to come
  unsigned char again_ = 0;
  bool has_again_ = false;
};

}  // namespace pagemill
