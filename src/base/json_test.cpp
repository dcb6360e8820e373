#include "base/json.h"

namespace pagemill {
namespace {

std::string error_of(std::string_view text) {
  auto result = parse_json(text);
  return result ? "" : result.error().message;
}

TEST(Json, KeepsOrderAndIntegers) {
  const auto value = parse_json(R"({"b": 1, "a": [18446744073709551615, -1, 1.5, "\u00e9\ud83d\ude00"]})");
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_EQ(value->as_object().begin()->key(), "b");
  const auto& array = value->at("a").as_array();
  EXPECT_EQ(array[0].as_uint64(), UINT64_MAX);
  EXPECT_EQ(array[3].as_string(), "\xC3\xA9\xF0\x9F\x98\x80");
}

TEST(Json, RefusesWhatIsNotStrictJson) {
  for (std::string_view text : {"", "{", "[1,]", "{\"a\":1,}", "nul", "01", "+1", "'a'", "[1] 2", "NaN", "[Infinity]", "\"\x01\"",
                                "\"\xFF\"", "\"\xED\xA0\x80\"", "\"\\ud800\"", "1e400", "// x\n1"})
    EXPECT_NE(error_of(text), "") << text;
}

TEST(Json, RefusesDuplicateKeysAtAnyDepthAndNamesThem) {
  EXPECT_EQ(error_of(R"({"a":1,"b":{"a":1}})"), "");
  EXPECT_NE(error_of(R"({"a":1,"\u0061":2})").find("\"a\" appears twice"), std::string::npos);
  const auto nested = parse_json(R"([{"x":{"k":1,"j":2,"k":3}}])");
  ASSERT_FALSE(nested);
  EXPECT_EQ(nested.error().field, "k");
}

TEST(Json, DepthAndSizeAreBounded) {
  const std::string deep = std::string(1'000'000, '[');
  EXPECT_NE(error_of(deep), "");
  EXPECT_EQ(error_of(std::string(100, '[') + std::string(100, ']')), "");
  EXPECT_FALSE(parse_json("[1,2,3]", {.bytes_max = 3}));
}

TEST(Json, QuotesAnyBytes) {
  EXPECT_EQ(json_quote("a\"\n\xC3\xA9"), "\"a\\\"\\n\xC3\xA9\"");
  EXPECT_EQ(json_quote("\xFFz"), "\"\xEF\xBF\xBDz\"");
}

TEST(Utf8, AcceptsExactlyWellFormedText) {
  for (std::string_view good : {"", "a", "\xC2\x80", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(valid_utf8(good));
  for (std::string_view bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5", "\xE2\x82"})
    EXPECT_FALSE(valid_utf8(bad));
}

}  // namespace
}  // namespace pagemill
