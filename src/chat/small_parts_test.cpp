// Template texts, titles, time zones, pages of documents, the login throttle.
#include <gtest/gtest.h>

#include "chat/documents.h"
#include "chat/fields.h"
#include "chat/login_throttle.h"
#include "chat/prompt.h"
#include "chat/template_text.h"
#include "chat/time_zone.h"
#include "chat/titles.h"

namespace pagemill::chat {
namespace {

TEST(TemplateText, FindsVariables) {
  EXPECT_EQ(variables_in("{{a}} {{ b_1 }} {{a}} {{语言}} {{}} {{ x y }} {{{c}}} {{unclosed"), (std::vector<std::string>{"a", "b_1", "语言", "c"}));
}

TEST(TemplateText, ValuesAreNotLookedAtAgain) {
  const auto value = [](const std::string& name) -> std::optional<std::string> { return name == "a" ? std::optional<std::string>("{{b}}") : std::nullopt; };
  EXPECT_EQ(fill_in("<{{a}}|{{b}}>", value), "<{{b}}|{{b}}>");
}

TEST(TemplateText, SystemValues) {
  const SystemValues values{"Ada", "ada@example.org", "en", "Asia/Shanghai", 1'700'000'000'000};  // 2023-11-14T22:13:20Z, a Tuesday
  EXPECT_EQ(system_value("CURRENT_DATETIME", values), "2023-11-15 06:13");
  EXPECT_EQ(system_value("CURRENT_WEEKDAY", values), "Wednesday");
  EXPECT_EQ(system_value("nonsense", values), std::nullopt);
}

TEST(PageSampling, IsCalmerThanTheApisUnlessSomebodyChose) {
  EXPECT_EQ(json::serialize(sampling_json(page_sampling({}))), R"({"temperature":6E-1,"top_p":9E-1,"top_k":0,"min_p":0E0,"repetition_penalty":1E0,"presence_penalty":0E0,"frequency_penalty":0E0})");
  SamplingDefaults chosen;
  chosen.top_k = 20;
  EXPECT_EQ(page_sampling(chosen).temperature, std::nullopt);
  EXPECT_EQ(page_sampling(chosen).top_p, std::nullopt);
  SamplingDefaults longest;
  longest.max_new_tokens = 100;
  EXPECT_EQ(page_sampling(longest).temperature, 0.6f);
  EXPECT_EQ(page_sampling(longest).max_new_tokens, 100);
}

TEST(TimeZone, OffsetsChangeWithTheSeason) {
  EXPECT_EQ(zone_offset_s("Europe/Berlin", 1'700'000'000), 3'600);
  EXPECT_EQ(zone_offset_s("Europe/Berlin", 1'690'000'000), 7'200);
  EXPECT_EQ(zone_offset_s("UTC", 0), 0);
  for (const char* hostile : {"../../etc/passwd", "/etc/passwd", "", "No/Where", "Asia/Shanghai\n"}) EXPECT_EQ(zone_offset_s(hostile, 0), std::nullopt) << hostile;
}

TEST(Titles, AreCleaned) {
  EXPECT_EQ(clean_title("\"Sorting in C++\""), "Sorting in C++");
  EXPECT_EQ(clean_title("Title: **Sorting.**\nmore"), "Sorting");
  EXPECT_EQ(clean_title("<think>hm\n</think>\n\n《快速排序》。"), "《快速排序》");
  EXPECT_EQ(clean_title("标题：“快速排序”"), "快速排序");
  EXPECT_EQ(clean_title("<think>never ends"), "");
  EXPECT_EQ(utf8_length(clean_title(std::string(500, 'a'))), 100u);
  EXPECT_EQ(fallback_title("\n  first line\nsecond"), "first line");
}

TEST(Documents, PagesOfAText) {
  std::string text;
  for (int i = 0; i < 2'000; ++i) text += "第" + std::to_string(i) + "行\n";
  std::string joined;
  for (const std::string& page : paginate(text)) {
    EXPECT_LE(page.size(), 9'000u);
    EXPECT_TRUE(valid_utf8(page));
    joined += (joined.empty() ? "" : "\n") + page;
  }
  EXPECT_EQ(joined, text);
  const std::vector<std::string> pages{"a", "b", "c"};
  EXPECT_EQ(*select_pages(pages, "1,3"), "a\nc");
  EXPECT_EQ(*select_pages(pages, " 2-3 , 2"), "b\nc");
  for (const char* wrong : {"", "0", "4", "3-1", "x", "1-", "-1", "1,,2", "99999999999999999999"}) EXPECT_FALSE(select_pages(pages, wrong)) << wrong;
}

TEST(LoginThrottle, WaitsDoubleAndAreForgiven) {
  ManualClock clock(kNsPerSecond * 1'000);
  LoginThrottle throttle(clock);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(throttle.attempt("a", "1.1.1.1"), 0);
  EXPECT_EQ(throttle.attempt("a", "1.1.1.1"), 1);
  EXPECT_EQ(throttle.attempt("a", "2.2.2.2"), 0) << "from elsewhere its owner still gets in";
  clock.advance_ns(kNsPerSecond);
  EXPECT_EQ(throttle.attempt("a", "1.1.1.1"), 0);
  EXPECT_EQ(throttle.attempt("a", "1.1.1.1"), 2);
  throttle.succeeded("a", "1.1.1.1");
  EXPECT_EQ(throttle.attempt("a", "1.1.1.1"), 0);
}

TEST(LoginThrottle, OneAddressCannotTryEveryAccount) {
  ManualClock clock(kNsPerSecond * 1'000);
  LoginThrottle throttle(clock);
  int refused = 0;
  for (int i = 0; i < 100; ++i) refused += throttle.attempt("account" + std::to_string(i), "1.1.1.1") > 0;
  EXPECT_EQ(refused, 80);
}

TEST(Fields, TakeWhatTheyAreAskedFor) {
  const json::object object{{"a", "x"}, {"n", 7}, {"null", nullptr}};
  Fields fields(object);
  EXPECT_EQ(**fields.text("a"), "x");
  EXPECT_FALSE(*fields.text("null"));
  EXPECT_EQ(fields.done().error().reason, "unknown_field");
  EXPECT_FALSE(fields.text("n"));
  EXPECT_EQ(**fields.integer("n", 0, 10), 7);
  EXPECT_FALSE(fields.integer("n", 8, 10));
  EXPECT_TRUE(fields.done());
  EXPECT_EQ(utf16_length("a排🌍"), 4u);
  EXPECT_EQ(utf8_prefix("排序", 4), "排");
}

}  // namespace
}  // namespace pagemill::chat
