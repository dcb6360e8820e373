#include "text/tokenizer.h"

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "text/test_vocabulary.h"

namespace pagemill {
namespace {

Tokenizer built(TestVocabulary& vocabulary) {
  auto tokenizer = Tokenizer::from_vocabulary(vocabulary.get());
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return std::move(*tokenizer);
}

TEST(Tokenizer, MergesByRank) {
  TestVocabulary vocabulary;
  const int32_t ab = vocabulary.merge("a", "b");
  const int32_t bc = vocabulary.merge("b", "c");
  const int32_t abc = vocabulary.merge("ab", "c");
  const Tokenizer tokenizer = built(vocabulary);
  EXPECT_EQ(*tokenizer.encode("abc"), std::vector<int32_t>{abc});
  EXPECT_EQ(*tokenizer.encode("bcab"), (std::vector<int32_t>{bc, ab}));
  EXPECT_EQ(*tokenizer.encode(""), std::vector<int32_t>{});
  EXPECT_EQ(tokenizer.token_bytes(abc), "abc");
  EXPECT_EQ(tokenizer.vocabulary_size(), 259);
}

TEST(Tokenizer, FindsAddedTokensOnlyInRenderedText) {
  TestVocabulary vocabulary;
  const int32_t start = vocabulary.control("<|s|>");
  const int32_t longer = vocabulary.user_defined("<|s|>>");
  const Tokenizer tokenizer = built(vocabulary);
  EXPECT_EQ(*tokenizer.encode_rendered("a<|s|>b<|s|>>"), (std::vector<int32_t>{'a', start, 'b', longer}));
  EXPECT_EQ(*tokenizer.encode("<|s|>"), (std::vector<int32_t>{'<', '|', 's', '|', '>'}));
  EXPECT_TRUE(tokenizer.is_control(start));
  EXPECT_EQ(tokenizer.kind(longer), TokenKind::user_defined);
  EXPECT_EQ(tokenizer.added_tokens(), (std::vector<int32_t>{start, longer}));
  const auto shielded = tokenizer.shield("<|s|>", Shield::all_added);
  ASSERT_TRUE(shielded);
  EXPECT_EQ(*tokenizer.encode_rendered(*shielded), *tokenizer.encode("<|s|>"));
}

TEST(Tokenizer, APlainPromptGetsItsBos) {
  TestVocabulary vocabulary;
  vocabulary.get().special.bos = vocabulary.control("<s>");
  vocabulary.get().special.add_bos = true;
  EXPECT_EQ(*built(vocabulary).encode_prompt("a"), (std::vector<int32_t>{256, 'a'}));
}

// "a" and "b" merge into "ab", which is also a control token.
TEST(Tokenizer, ShieldedTextDoesNotMergeIntoAControlToken) {
  TestVocabulary vocabulary("llama-bpe");
  vocabulary.get().model = "llama";
  const int32_t control = vocabulary.control("ab");
  vocabulary.get().scores.assign(vocabulary.get().tokens.size(), 0.5);
  const Tokenizer tokenizer = built(vocabulary);
  const auto shielded = tokenizer.shield("\nab", Shield::all_added);
  ASSERT_TRUE(shielded);
  EXPECT_EQ(std::ranges::count(*tokenizer.encode_rendered(*shielded), control), 0);
  EXPECT_EQ(std::ranges::count(*tokenizer.encode("ab"), control), 0);
  EXPECT_EQ(std::ranges::count(*tokenizer.encode_rendered("ab"), control), 1);
}

TEST(Tokenizer, BrokenUtf8ReadsAsReplacementCharacters) {
  TestVocabulary vocabulary;
  const Tokenizer tokenizer = built(vocabulary);
  EXPECT_EQ(tokenizer.decode(*tokenizer.encode("a\xff\xc3z")), "a\ufffd\ufffdz");
  EXPECT_FALSE(tokenizer.encode_rendered("\xff"));
  EXPECT_FALSE(tokenizer.shield("\xff", Shield::all_added));
}

TEST(Tokenizer, HostileVocabulariesAreRefusedByName) {
  struct Case {
    std::function<void(TestVocabulary&)> spoil;
    std::string message;
  };
  const std::string megabyte(1 << 20, 'a');
  const std::vector<Case> cases = {
      {[](auto& v) { v.get().tokens.clear(); v.get().types.clear(); }, "tokens is empty"},
      {[](auto& v) { v.user_defined("a"); }, "repeats token"},
      {[&](auto& v) { v.user_defined(megabyte); }, "bytes; at most"},
      {[](auto& v) { v.control(std::string(1000, '<')); }, "added token 256 has 1000 bytes"},
      {[](auto& v) { v.control("<\ufdd0>"); }, "U+FDD0"},
      {[](auto& v) { v.get().merges.push_back("a zz"); }, "merges[0]: 'zz' is not in the vocabulary"},
      {[](auto& v) { v.get().merges.push_back("a b"); }, "merges[0]: 'ab' is not in the vocabulary"},
      {[](auto& v) { v.get().merges.push_back("ab"); }, "merges[0] is not two tokens"},
      {[](auto& v) { v.get().merges.push_back("a "); }, "merges[0] is not two tokens"},
      {[](auto& v) { v.get().merges.push_back(""); }, "merges[0] is not two tokens"},
      {[](auto& v) { v.get().tokens.push_back("\xff"); v.get().types.push_back(1); }, "tokens[256]: not UTF-8"},
      {[](auto& v) { v.get().types.pop_back(); }, "token_type has 255 entries"},
      {[](auto& v) { v.get().scores = {1.0}; }, "scores has 1 entries"},
      {[](auto& v) { v.get().types[3] = 77; }, "token_type[3] is 77"},
      {[](auto& v) { v.get().special.unknown = 256; }, "unknown_token_id"},
      {[](auto& v) { v.get().model = "bert"; }, "model is 'bert'"},
      {[](auto& v) { v.get().model = "llama"; }, "scores is missing"},
      {[](auto& v) { v.get().model = "llama"; v.get().scores.assign(256, std::nan("")); }, "scores[0] is not a number"},
      {[](auto& v) { v.get().pre_tokenizer = "nonsense"; }, "pre is 'nonsense'"},
  };
  for (const Case& hostile : cases) {
    TestVocabulary vocabulary;
    hostile.spoil(vocabulary);
    const auto tokenizer = Tokenizer::from_vocabulary(vocabulary.get());
    ASSERT_FALSE(tokenizer) << hostile.message;
    EXPECT_NE(tokenizer.error().message.find(hostile.message), std::string::npos) << tokenizer.error().message;
    EXPECT_EQ(tokenizer.error().code, ErrorCode::invalid_file);
  }
}

// A merge whose result merges again with itself, and merges listed twice or in a circle, end nevertheless.
TEST(Tokenizer, MergesThatFeedEachOtherEnd) {
  TestVocabulary vocabulary;
  vocabulary.merge("a", "a");
  vocabulary.merge("aa", "aa");
  vocabulary.get().merges.push_back("a a");
  const Tokenizer tokenizer = built(vocabulary);
  const std::string text(10'000, 'a');
  EXPECT_EQ(tokenizer.decode(*tokenizer.encode(text)), text);
}

TEST(Tokenizer, HostileTokenizerJsonIsRefused) {
  for (const std::string text : {"", "{", "[]", "{}", "null", R"({"model":{}})", R"({"model":{"type":"BPE","vocab":{"a":99999999},"merges":[]}})",
                                 R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}})", R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})",
                                 R"({"added_tokens":[{"id":1}],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})"}) {
    EXPECT_FALSE(Tokenizer::from_json(text, {})) << text;
  }
  EXPECT_FALSE(Tokenizer::from_json(std::string(100'000, '['), {}));
}

}  // namespace
}  // namespace pagemill
