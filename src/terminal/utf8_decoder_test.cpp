#include "terminal/utf8_decoder.h"

#include <string>
#include <string_view>

namespace pagemill {
namespace {

std::wstring decoded(std::string_view bytes) {
  Utf8Decoder decoder;
  std::wstring out;
  wchar_t character = 0;
  for (const char byte : bytes)
    for (bool whole = decoder.add(static_cast<unsigned char>(byte), character); whole; whole = decoder.more(character)) out += character;
  return out;
}

TEST(Utf8Decoder, ReadsEveryLength) { EXPECT_EQ(decoded("a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x97\xbc"), L"a\u00e9\u4e2d\U0001f5fc"); }

TEST(Utf8Decoder, KeepsTheByteThatBreaksASequence) {
  EXPECT_EQ(decoded("\xe9\r"), L"\xfffd\r");                  // Latin-1 é and Enter
  EXPECT_EQ(decoded("\xe4\xb8\xc3\xa9"), L"\xfffd\u00e9");
  EXPECT_EQ(decoded("\xff\x80z"), L"\xfffd\xfffdz");
}

TEST(Utf8Decoder, RefusesOverlongFormsSurrogatesAndTooHighOnes) {
  EXPECT_EQ(decoded("\xe0\x80\x80"), L"\xfffd");
  EXPECT_EQ(decoded("\xed\xa0\x80"), L"\xfffd");
  EXPECT_EQ(decoded("\xf0\x8f\xbf\xbf"), L"\xfffd");
  EXPECT_EQ(decoded("\xf4\x90\x80\x80"), L"\xfffd");
}

}  // namespace
}  // namespace pagemill
