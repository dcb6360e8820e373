#include "terminal/terminal.h"

#include <gtest/gtest.h>

#include "terminal/chat.h"

namespace pagemill {
namespace {

TEST(TerminalSafe, LetsTextThroughAndEscapesNot) {
  EXPECT_EQ(terminal_safe("Zürich 東京 🗼\n\tok"), "Zürich 東京 🗼\n\tok");
  EXPECT_EQ(terminal_safe("a\x1b[31mb"), "a\xef\xbf\xbd[31mb");
  EXPECT_EQ(terminal_safe("a\rb\x07\x7f"), "a\xef\xbf\xbd" "b\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(terminal_safe("\xc2\x9b" "2J"), "\xef\xbf\xbd" "2J");       // the one-character CSI of C1
  EXPECT_EQ(terminal_safe("\xc2\xa9"), "\xc2\xa9");
  EXPECT_EQ(terminal_safe("a\xe2\x80\xae" "b\xe2\x81\xa9\xe2\x80\xa6"), "a\xef\xbf\xbd" "b\xef\xbf\xbd\xe2\x80\xa6");  // bidi override; … stays
  EXPECT_EQ(terminal_safe_line("a\nb\tc"), "a\xef\xbf\xbd" "b\xef\xbf\xbd" "c");
  EXPECT_EQ(terminal_safe("\xff\xe6\x9d"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(Style, IsPlainWithoutATerminal) { EXPECT_STREQ(style_for(-1).dim, ""); }

TEST(DescribeAnswer, SaysWhatHappened) {
  AnswerStats stats;
  stats.tokens = 11;
  stats.first_token_s = 0.12;
  stats.after_first_s = 0.1;
  stats.usage.prompt_tokens = 38;
  stats.usage.cached_tokens = 16;
  EXPECT_EQ(describe(stats), "11 tokens · 100.0 tokens/s · first after 120 ms · prompt 38 tokens (16 cached)");
  stats.reason = FinishReason::cancelled;
  stats.tokens = 1;
  stats.usage.cached_tokens = 0;
  EXPECT_EQ(describe(stats), "1 token · first after 120 ms · prompt 38 tokens · stopped");
}

}  // namespace
}  // namespace pagemill
