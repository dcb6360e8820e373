#include "session/stop_strings.h"

#include "base/rng.h"

namespace pagemill {
namespace {

struct Found {
  std::string text;
  int stop = -1;
  bool operator==(const Found&) const = default;
};

/// The rule by plain search: the earliest end, of those the longest.
Found search(const std::string& text, const std::vector<std::string>& stops, bool include) {
  Found found{text, -1};
  size_t best_end = std::string::npos;
  for (size_t s = 0; s < stops.size(); ++s) {
    const size_t at = text.find(stops[s]);
    if (at == std::string::npos) continue;
    const size_t end = at + stops[s].size();
    if (end > best_end || (end == best_end && stops[s].size() <= stops[static_cast<size_t>(found.stop)].size())) continue;
    best_end = end;
    found = {text.substr(0, include ? end : at), static_cast<int>(s)};
  }
  return found;
}

Found match(const std::string& text, const std::vector<std::string>& stops, bool include, SplitMix64& rng) {
  const StopStrings strings(stops);
  StopMatcher matcher(strings, include);
  Found found;
  for (size_t at = 0; at < text.size();) {
    const size_t length = 1 + rng.below(6);
    const size_t before = found.text.size();
    found.stop = matcher.push(std::string_view(text).substr(at, length), found.text);
    if (found.stop >= 0) return found;
    at += length;
    EXPECT_GE(found.text.size(), before);
    EXPECT_TRUE(text.starts_with(found.text)) << "what came out is certain";
  }
  matcher.finish(found.text);
  return found;
}

TEST(StopStrings, HoldBackOnlyWhatMayBecomeOne) {
  const StopStrings strings({"END", "\n\n"});
  StopMatcher matcher(strings, false);
  std::string out;
  EXPECT_EQ(matcher.push("an EN", out), -1);
  EXPECT_EQ(out, "an ");
  EXPECT_EQ(matcher.push("ENEN", out), -1);
  EXPECT_EQ(out, "an ENEN");
  EXPECT_EQ(matcher.push("x\n", out), -1);
  EXPECT_EQ(out, "an ENENENx");
  EXPECT_EQ(matcher.push("E", out), -1);
  EXPECT_EQ(out, "an ENENENx\n");
  EXPECT_EQ(matcher.push("NDx", out), 0);
  EXPECT_EQ(out, "an ENENENx\n");
}

TEST(StopStrings, IncludedOnesHoldNothingBack) {
  const StopStrings strings({"END"});
  StopMatcher matcher(strings, true);
  std::string out;
  EXPECT_EQ(matcher.push("an EN", out), -1);
  EXPECT_EQ(out, "an EN");
  EXPECT_EQ(matcher.push("D of", out), 0);
  EXPECT_EQ(out, "an END");
}

TEST(StopStrings, TheLongestOfThoseThatEndTogether) {
  SplitMix64 rng(1);
  EXPECT_EQ(match("xabc", {"c", "abc", "bc"}, false, rng), (Found{"x", 1}));
  EXPECT_EQ(match("xabcd", {"abcd", "bc"}, false, rng), (Found{"xa", 1})) << "bc is complete first";
}

TEST(StopStrings, RestartForgetsABeginning) {
  const StopStrings strings({"abab"});
  StopMatcher matcher(strings, false);
  std::string out;
  EXPECT_EQ(matcher.push("xaba", out), -1);
  matcher.restart(out);
  EXPECT_EQ(out, "xaba");
  EXPECT_EQ(matcher.push("b", out), -1);
  EXPECT_EQ(matcher.push("ab", out), -1);
  matcher.finish(out);
  EXPECT_EQ(out, "xababab");
}

TEST(StopStrings, FindWhatASearchFindsHoweverTheTextIsCut) {
  SplitMix64 rng(7);
  const auto word = [&](size_t length) {
    std::string text(length, ' ');
    for (char& c : text) c = "ab"[rng.below(2)];
    return text;
  };
  int stopped = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string text = word(rng.below(60));
    std::vector<std::string> stops(rng.below(4));
    for (std::string& stop : stops) stop = word(1 + rng.below(9));
    const bool include = rng.below(2);
    const Found expected = search(text, stops, include);
    const Found found = match(text, stops, include, rng);
    EXPECT_EQ(found.text, expected.text);
    // Equal strings may be named either way.
    ASSERT_EQ(found.stop < 0, expected.stop < 0);
    if (found.stop < 0) continue;
    EXPECT_EQ(stops[static_cast<size_t>(found.stop)], stops[static_cast<size_t>(expected.stop)]);
    ++stopped;
  }
  EXPECT_GT(stopped, 5'000);
}

}  // namespace
}  // namespace pagemill
