#include "terminal/conversation.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/test_files.h"

namespace pagemill {
namespace {

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

Conversation sample() {
  Conversation conversation("Be brief.");
  conversation.add_user("Capital of Japan?");
  conversation.add_assistant("Tokyo \"東京\"");
  return conversation;
}

TEST(Conversation, MessagesHaveTheSystemPromptFirst) {
  EXPECT_EQ(json::serialize(sample().messages()),
            R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Capital of Japan?"},{"role":"assistant","content":"Tokyo \"東京\""}])");
  Conversation bare;
  EXPECT_TRUE(bare.messages().empty());
  bare.add_user("hi");
  EXPECT_EQ(bare.messages().size(), 1u);
  bare.drop_last();
  EXPECT_TRUE(bare.empty());
}

TEST(Conversation, SavesJsonAndMarkdown) {
  const TemporaryFolder folder;
  const std::string json_path = folder.path() / "conversation.json", text_path = folder.path() / "conversation.md";
  ASSERT_TRUE(sample().save(json_path, "m"));
  const auto saved = parse_json(contents(json_path));
  ASSERT_TRUE(saved);
  EXPECT_EQ(saved->at("model").as_string(), "m");
  EXPECT_EQ(saved->at("messages"), sample().messages());
  ASSERT_TRUE(sample().save(text_path, "m"));
  EXPECT_EQ(contents(text_path), "# Conversation with m\n\n## System\n\nBe brief.\n\n## You\n\nCapital of Japan?\n\n## Assistant\n\nTokyo \"東京\"\n");
}

TEST(Conversation, AFileThatCannotBeWrittenIsNamed) {
  const auto result = sample().save("/nonexistent/folder/x.md", "m");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("/nonexistent/folder/x.md"), std::string::npos);
}

}  // namespace
}  // namespace pagemill
