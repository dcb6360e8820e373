#include "terminal/chat_input.h"

#include <gtest/gtest.h>

namespace pagemill {
namespace {

/// The messages that `lines` make; an unfinished one is left out.
std::vector<std::string> messages(const std::vector<std::string>& lines) {
  MessageReader reader;
  std::vector<std::string> out;
  for (const std::string& line : lines)
    if (reader.add(line)) out.push_back(reader.text());
  return out;
}

using Texts = std::vector<std::string>;

TEST(MessageReader, OneLineIsAMessage) { EXPECT_EQ(messages({"hello", "world"}), (Texts{"hello", "world"})); }

TEST(MessageReader, ABackslashGoesOn) {
  EXPECT_EQ(messages({"one\\", "two\\", "three"}), (Texts{"one\ntwo\nthree"}));
  EXPECT_EQ(messages({"one\\"}), Texts{});
}

TEST(MessageReader, QuotesMakeABlock) {
  EXPECT_EQ(messages({"\"\"\"", "def f():", "  return 1\\", "\"\"\"", "next"}), (Texts{"def f():\n  return 1\\", "next"}));
  EXPECT_EQ(messages({"\"\"\"one", "two\"\"\""}), (Texts{"one\ntwo"}));
  EXPECT_EQ(messages({"\"\"\"in one line\"\"\""}), (Texts{"in one line"}));
  EXPECT_EQ(messages({"\"\"\"", "open"}), Texts{});
}

TEST(MessageReader, ResetForgetsAnOpenBlock) {
  MessageReader reader;
  EXPECT_FALSE(reader.add("\"\"\""));
  EXPECT_TRUE(reader.open());
  reader.reset();
  EXPECT_TRUE(reader.add("plain"));
  EXPECT_EQ(reader.text(), "plain");
}

TEST(ChatCommand, OnlyALoneLineWithASlashIsOne) {
  EXPECT_FALSE(parse_chat_command("hello /help")->has_value());
  EXPECT_FALSE(parse_chat_command(" /usr/bin")->has_value());
  EXPECT_FALSE(parse_chat_command("/help\nme")->has_value());
  const auto command = parse_chat_command("/system  You are a pirate. ");
  ASSERT_TRUE(command && *command);
  EXPECT_EQ((*command)->kind, ChatCommand::Kind::system);
  EXPECT_EQ((*command)->argument, "You are a pirate.");
  EXPECT_EQ((*parse_chat_command("/bye"))->kind, ChatCommand::Kind::exit);
  EXPECT_NE(parse_chat_command("/sytem x").error().message.find("/sytem"), std::string::npos);
  EXPECT_FALSE(parse_chat_command("/"));
}

TEST(SetParameter, ChecksNamesAndRanges) {
  SamplingParams params;
  EXPECT_TRUE(set_parameter(params, "temperature 0.25"));
  EXPECT_TRUE(set_parameter(params, "top_k=40"));
  EXPECT_TRUE(set_parameter(params, "seed 18446744073709551615"));
  EXPECT_TRUE(set_parameter(params, "max_tokens 5"));
  EXPECT_EQ(params.temperature, 0.25f);
  EXPECT_EQ(params.top_k, 40);
  EXPECT_EQ(params.seed, UINT64_MAX);
  EXPECT_EQ(params.max_tokens, 5);
  EXPECT_TRUE(set_parameter(params, "seed off"));
  EXPECT_TRUE(set_parameter(params, "max_tokens off"));
  EXPECT_FALSE(params.seed || params.max_tokens);
  for (const char* wrong : {"temperature", "temperature hot", "temperature nan", "temperature -1", "temperature 2.1", "top_p 0", "top_p 1.5",
                            "top_k -1", "top_k 1.5", "max_tokens 0", "colour 3", ""})
    EXPECT_FALSE(set_parameter(params, wrong)) << wrong;
  EXPECT_EQ(show_parameters(params), "temperature 0.25, top_p 1, top_k 40, min_p 0, seed off, max_tokens off");
}

}  // namespace
}  // namespace pagemill
