#include "chat/search_tokens.h"

#include <gtest/gtest.h>

namespace pagemill::chat {
namespace {

std::string words(std::string_view text) {
  std::string out;
  for (const SearchToken& token : search_tokens(text)) out.append(out.empty() ? "" : "|").append(token.text);
  return out;
}

TEST(SearchTokens, WordsAreFolded) {
  EXPECT_EQ(words("Hello, WORLD 42!"), "hello|world|42");
  EXPECT_EQ(words("Crème Brûlée Ångström Straße"), "creme|brulee|angstrom|straße");
  EXPECT_EQ(words("ＡＢＣ　１２"), "abc|12");
  EXPECT_EQ(words("ПРИВЕТ Ёж ΣΟΦΙΑ"), "привет|ёж|σοφια");
  EXPECT_EQ(words("snake_case"), "snake·case");
  EXPECT_EQ(words("…—“”()<>"), "");
}

TEST(SearchTokens, RunsOfChineseBecomePairs) {
  EXPECT_EQ(words("排序法"), "排序|序法|法");
  EXPECT_EQ(words("排"), "排");
  EXPECT_EQ(words("用C++写排序。好"), "用|c|写排|排序|序|好");
  EXPECT_EQ(words("한국어"), "한국|국어|어");
}

TEST(SearchTokens, QueriesMatchWhatTextsHold) {
  EXPECT_EQ(match_expression("排序", "x"), "ux AND \"排序\"");
  EXPECT_EQ(match_expression("排", "x"), "ux AND \"排\" *");
  EXPECT_EQ(match_expression("快速排序", "x"), "ux AND \"快速 速排 排序\"");
  EXPECT_EQ(match_expression("sort fast", "x"), "ux AND \"sort\" AND \"fast\" *");
  EXPECT_EQ(match_expression("\" OR NEAR(a)", "x"), "ux AND \"or\" AND \"near\" AND \"a\" *");
  EXPECT_EQ(match_expression("!?", "x"), "");
}

TEST(SearchTokens, BrokenTextIsSurvived) {
  EXPECT_EQ(words("\xFF\xC3 ok \xE6\x8E"), "ok");
  EXPECT_EQ(search_tokens(std::string(1 << 20, 'a')).size(), 0u) << "no word is that long";
}

TEST(SearchTokens, SnippetsMarkTheHit) {
  std::string marked;
  for (const SnippetPart& part : snippet("前面有很多文字，快速排序算法，后面也有。", "排序")) marked += part.hit ? "[" + part.text + "]" : part.text;
  EXPECT_NE(marked.find("快速[排序]算法"), std::string::npos) << marked;
  marked.clear();
  for (const SnippetPart& part : snippet("a b <b>Sorting</b> c", "sort")) marked += part.hit ? "[" + part.text + "]" : part.text;
  EXPECT_EQ(marked, "a b <b>[Sorting]</b> c");
}

}  // namespace
}  // namespace pagemill::chat
