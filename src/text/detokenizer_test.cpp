#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "base/rng.h"
#include "text/test_vocabulary.h"

namespace pagemill {
namespace {

Tokenizer byte_tokenizer() {
  TestVocabulary vocabulary;
  vocabulary.control("<|end|>");
  auto tokenizer = Tokenizer::from_vocabulary(vocabulary.get());
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return std::move(*tokenizer);
}

std::vector<int32_t> ids_of_bytes(std::string_view bytes) {
  std::vector<int32_t> ids;
  for (const char byte : bytes) ids.push_back(static_cast<uint8_t>(byte));
  return ids;
}

TEST(Detokenizer, KeepsBackUnfinishedCharacters) {
  const Tokenizer tokenizer = byte_tokenizer();
  Detokenizer detokenizer(tokenizer);
  std::string out;
  const std::string text = "a\u00e9\u65e5\U0001F600";
  std::vector<std::string> pieces;
  for (const int32_t id : ids_of_bytes(text)) {
    std::string piece;
    detokenizer.push(id, piece);
    EXPECT_TRUE(valid_utf8(piece));
    pieces.push_back(piece);
    out += piece;
  }
  EXPECT_FALSE(detokenizer.pending());
  EXPECT_EQ(out, text);
  const std::vector<std::string> wanted = {"a", "", "\u00e9", "", "", "\u65e5", "", "", "", "\U0001F600"};
  EXPECT_EQ(pieces, wanted);
}

// What Python's bytes.decode("utf-8", "replace") makes of the same bytes.
TEST(Detokenizer, ReplacesEachMaximalSubpart) {
  const Tokenizer tokenizer = byte_tokenizer();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\x80", "\ufffd"},
      {"a\xC3", "a\ufffd"},
      {"\xC3(", "\ufffd("},
      {"\xE6\x97", "\ufffd"},
      {"\xE6\x97z", "\ufffdz"},
      {"\xF0\x9F\x98\xC3\xA9", "\ufffd\u00e9"},
      {"\xED\xA0\x80", "\ufffd\ufffd\ufffd"},      // a surrogate
      {"\xC0\xAF", "\ufffd\ufffd"},                // overlong
      {"\xF4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},  // above U+10FFFF
      {"\xFF\xFE", "\ufffd\ufffd"},
  };
  for (const auto& [bytes, wanted] : cases) EXPECT_EQ(tokenizer.decode(ids_of_bytes(bytes)), wanted);
}

TEST(Detokenizer, AnySplitEqualsTheWhole) {
  const Tokenizer tokenizer = byte_tokenizer();
  SplitMix64 random(5);
  const std::string material = "ab \u00e9\u00df\u65e5\u672c\U0001F600\U0010FFFF\x80\xC3\xE6\x97\xF0\x9F\xED\xA0\xFF\xC0";
  for (int round = 0; round < 5'000; ++round) {
    std::string bytes;
    for (uint64_t n = random.below(24); n > 0; --n) bytes.push_back(material[random.below(material.size())]);
    const std::string whole = tokenizer.decode(ids_of_bytes(bytes));
    ASSERT_TRUE(valid_utf8(whole));
    Detokenizer detokenizer(tokenizer);
    std::string out;
    for (const int32_t id : ids_of_bytes(bytes)) {
      std::string piece;
      detokenizer.push(id, piece);
      ASSERT_TRUE(valid_utf8(piece));
      out += piece;
    }
    detokenizer.finish(out);
    ASSERT_EQ(out, whole);
    if (valid_utf8(bytes)) {
      ASSERT_EQ(whole, bytes);
    }
  }
}

TEST(Detokenizer, ControlTokensPrintOnlyWhenAsked) {
  const Tokenizer tokenizer = byte_tokenizer();
  const std::vector<int32_t> ids = {'h', 'i', 256, '!'};
  EXPECT_EQ(tokenizer.decode(ids), "hi!");
  EXPECT_EQ(tokenizer.decode(ids, true), "hi<|end|>!");
}

TEST(Detokenizer, IgnoresIdsOutsideTheVocabulary) {
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_EQ(tokenizer.decode({-1, 'a', 1'000'000, 'b', 257}), "ab");
}

TEST(Detokenizer, ASteadyStreamDoesNotAllocate) {
  const Tokenizer tokenizer = byte_tokenizer();
  Detokenizer detokenizer(tokenizer);
  std::string out;
  out.reserve(256);
  const char* data = out.data();
  for (int i = 0; i < 200; ++i) detokenizer.push('a' + i % 26, out);
  EXPECT_EQ(out.data(), data);
  EXPECT_EQ(out.size(), 200u);
}

}  // namespace
}  // namespace pagemill
