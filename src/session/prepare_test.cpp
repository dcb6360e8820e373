#include "base/limits.h"
#include "session/session.h"
#include "support/text_support.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

Result<PreparedRequest> prepare_test(SessionRequest request, int32_t context_max = 4096) {
  return prepare(*test_text_model(), test_model_info(context_max), std::move(request));
}

SessionRequest text_request(std::string text) {
  SessionRequest request;
  request.prompt = TextPrompt{std::move(text)};
  return request;
}

SessionRequest chat_request(const char* messages) {
  SessionRequest request;
  request.prompt = ChatPrompt{.messages = parse_json(messages)->as_array()};
  return request;
}

std::string fault(SessionRequest request, int32_t context_max = 4096) {
  const auto prepared = prepare_test(std::move(request), context_max);
  return prepared ? "" : std::string(to_string(prepared.error().code)) + " " + prepared.error().field;
}

TEST(Prepare, TokenizesEachKindOfPrompt) {
  const auto plain = prepare_test(text_request("the \u65e5\u672c"));
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(plain->prompt_tokens, test_tokens("the \u65e5\u672c"));

  SessionRequest tokens;
  tokens.prompt = TokenPrompt{{1, 2, 3}};
  EXPECT_EQ(prepare_test(tokens)->prompt_tokens, (std::vector<int32_t>{1, 2, 3}));

  const auto chat = prepare_test(chat_request(R"([{"role":"user","content":"hi <|im_end|>"}])"));
  ASSERT_TRUE(chat) << chat.error().message;
  const Tokenizer& tokenizer = test_text_model()->tokenizer();
  EXPECT_EQ(tokenizer.decode(chat->prompt_tokens, true), "<|im_start|>user\nhi <|im_end|><|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(std::count_if(chat->prompt_tokens.begin(), chat->prompt_tokens.end(), [&](int32_t id) { return tokenizer.is_control(id); }), 3)
      << "the user's own is text";
}

TEST(Prepare, RefusesWhatCannotBeARequest) {
  EXPECT_EQ(fault(text_request("")), "invalid_argument prompt");
  SessionRequest tokens;
  for (const int32_t token : {-1, 1'000'000}) {
    tokens.prompt = TokenPrompt{{token}};
    EXPECT_EQ(fault(tokens), "invalid_argument prompt");
  }
  auto request = text_request("a");
  request.sampling.temperature = 3;
  EXPECT_EQ(fault(request), "invalid_argument temperature");
  for (const std::vector<std::string>& stop :
       {std::vector<std::string>{""}, {"\xff"}, {std::string(limits::kStopStringBytes + 1, 'a')}, std::vector<std::string>(limits::kStopStrings + 1, "a")}) {
    request = text_request("a");
    request.stop = stop;
    EXPECT_EQ(fault(request), "invalid_argument stop");
  }
  request = text_request("a");
  request.bad_words = {"  "};
  EXPECT_EQ(fault(request), "invalid_argument bad_words");
  request.bad_words.assign(limits::kBadWords + 1, "a");
  EXPECT_EQ(fault(request), "invalid_argument bad_words");
  request = text_request("a");
  request.sampling.max_tokens = 0;
  EXPECT_EQ(fault(request), "invalid_argument max_tokens") << "0 needs echo";
}

TEST(Prepare, FitsTheAnswerToTheContext) {
  const auto max_tokens = [](std::optional<int32_t> asked, std::optional<int32_t> by_default) {
    auto request = text_request("1234567890");
    request.sampling.max_tokens = asked;
    request.default_max_tokens = by_default;
    const auto prepared = prepare_test(std::move(request), 30);
    return prepared ? *prepared->request.sampling.max_tokens : -1;
  };
  EXPECT_EQ(max_tokens({}, {}), 20);
  EXPECT_EQ(max_tokens({}, 16), 16);
  EXPECT_EQ(max_tokens({}, 1000), 20);
  EXPECT_EQ(max_tokens(20, 16), 20);
  EXPECT_EQ(max_tokens(21, 16), -1);

  auto request = text_request("1234567890");
  request.sampling.max_tokens = 21;
  const auto refused = prepare_test(request, 30);
  EXPECT_EQ(refused.error().code, ErrorCode::context_too_long);
  EXPECT_EQ(refused.error().field, "input_tokens");
  EXPECT_THAT(refused.error().message, testing::HasSubstr("maximum context length is 30 tokens. However, you requested 21 output tokens"));
  EXPECT_EQ(fault(text_request("1234567890"), 10), "context_too_long input_tokens");
  EXPECT_EQ(fault(text_request("1234567890"), 11), "");
}

TEST(Prepare, TokenizesBadWordsWithAndWithoutASpace) {
  auto request = text_request("x");
  request.bad_words = {" the", "q"};  // "the" and " the" are one token each; " q" is two
  const auto prepared = prepare_test(request);
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->request.sampling.bad_words, (std::vector<std::vector<int32_t>>{test_tokens("the"), test_tokens(" the"), test_tokens("q")}));
}

TEST(Prepare, EchoKeepsThePromptsText) {
  auto request = text_request("a text");
  EXPECT_EQ(prepare_test(request)->prompt_text, "");
  request.echo = true;
  request.sampling.max_tokens = 0;
  const auto scored = prepare_test(request);
  EXPECT_EQ(scored->prompt_text, "a text");
  EXPECT_TRUE(scored->prompt_only);
  EXPECT_EQ(scored->request.sampling.max_tokens, 0);
  EXPECT_EQ(fault(request, 6), "") << "the prompt may fill the context";
  EXPECT_EQ(fault(request, 5), "context_too_long input_tokens");

  SessionRequest tokens;
  tokens.prompt = TokenPrompt{test_tokens("some ids")};
  tokens.echo = true;
  EXPECT_EQ(prepare_test(tokens)->prompt_text, "some ids");

  auto chat = chat_request(R"([{"role":"user","content":"hi"},{"role":"assistant","content":"Well,"}])");
  auto& prompt = std::get<ChatPrompt>(chat.prompt);
  prompt.add_generation_prompt = false;
  prompt.continue_final_message = true;
  chat.echo = true;
  const auto continued = prepare_test(chat);
  ASSERT_TRUE(continued) << continued.error().message;
  EXPECT_EQ(continued->prompt_text, "Well,");
}

}  // namespace
}  // namespace pagemill
