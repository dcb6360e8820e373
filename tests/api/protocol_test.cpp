// What clients see: the shapes of answers, streams, usage, log-probabilities, embeddings, tokens.
#include <boost/json.hpp>

#include "api/api_fixture.h"

namespace pagemill::test {
namespace {

using json::value;

std::string chat(const std::string& text, const std::string& fields = {}) {
  return R"({"model":"test-model","messages":[{"role":"user","content":)" + json_quote(text) + "}]" + (fields.empty() ? "" : "," + fields) + "}";
}

std::string completion(const std::string& prompt, const std::string& fields = {}) {
  return R"({"model":"test-model","prompt":)" + prompt + (fields.empty() ? "" : "," + fields) + "}";
}

class ProtocolTest : public ApiTest {};

TEST_F(ProtocolTest, ChatAnswersWhole) {
  start();
  const value answer = post_json("/v1/chat/completions", chat("Hello, wörld 😀"));
  EXPECT_EQ(answer.at("object"), "chat.completion");
  EXPECT_EQ(answer.at("model"), "test-model");
  EXPECT_TRUE(answer.at("id").as_string().starts_with("chatcmpl-"));
  const value& choice = answer.at("choices").at(0);
  EXPECT_EQ(choice.at("message").at("role"), "assistant");
  EXPECT_EQ(choice.at("message").at("content"), "Hello, wörld 😀");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_TRUE(choice.at("logprobs").is_null());
  const value& usage = answer.at("usage");
  EXPECT_EQ(usage.at("total_tokens").as_int64(), usage.at("prompt_tokens").as_int64() + usage.at("completion_tokens").as_int64());
  EXPECT_GT(usage.at("completion_tokens").as_int64(), 5);
  EXPECT_TRUE(usage.at("prompt_tokens_details").at("cached_tokens").is_int64());
}

TEST_F(ProtocolTest, ChatStreams) {
  start();
  const std::string text = "Grüße aus 東京 👩‍👩‍👧";
  const auto chunks = stream("/v1/chat/completions", chat(text, R"("stream":true,"stream_options":{"include_usage":true})"));
  ASSERT_GE(chunks.size(), 4u);
  EXPECT_EQ(chunks[0].at("choices").at(0).at("delta").at("role"), "assistant");
  EXPECT_EQ(chunks[0].at("choices").at(0).at("delta").at("content"), "");
  std::string said;
  int finished = 0;
  for (size_t i = 0; i + 1 < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].at("object"), "chat.completion.chunk");
    EXPECT_EQ(chunks[i].at("id"), chunks[0].at("id"));
    EXPECT_TRUE(chunks[i].at("usage").is_null());
    said += chunks[i].at("choices").at(0).at("delta").at("content").as_string();
    finished += !chunks[i].at("choices").at(0).at("finish_reason").is_null();
  }
  EXPECT_EQ(said, text);
  EXPECT_EQ(finished, 1);
  EXPECT_EQ(chunks.back().at("choices").as_array().size(), 0u);
  EXPECT_GT(chunks.back().at("usage").at("completion_tokens").as_int64(), 0);
}

TEST_F(ProtocolTest, UsageInEveryChunkWhereAskedFor) {
  start();
  const auto chunks = stream("/v1/chat/completions", chat("abc", R"("stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true})"));
  int64_t before = 0;
  for (const value& chunk : chunks) {
    EXPECT_GE(chunk.at("usage").at("completion_tokens").as_int64(), before);
    before = chunk.at("usage").at("completion_tokens").as_int64();
  }
  EXPECT_GT(before, 0);
}

TEST_F(ProtocolTest, SeveralChoices) {
  start();
  const value answer = post_json("/v1/chat/completions", chat("same", R"("n":3)"));
  ASSERT_EQ(answer.at("choices").as_array().size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(answer.at("choices").at(i).at("index"), i);
    EXPECT_EQ(answer.at("choices").at(i).at("message").at("content"), "same");
  }
  std::map<int64_t, std::string> said;
  for (const value& chunk : stream("/v1/chat/completions", chat("same", R"("n":3,"stream":true)")))
    for (const value& choice : chunk.at("choices").as_array()) said[choice.at("index").as_int64()] += choice.at("delta").at("content").as_string();
  EXPECT_EQ(said, (std::map<int64_t, std::string>{{0, "same"}, {1, "same"}, {2, "same"}}));
}

TEST_F(ProtocolTest, ChatLogprobs) {
  start();
  const value answer = post_json("/v1/chat/completions", chat("hey", R"("logprobs":true,"top_logprobs":2)"));
  const json::array& content = answer.at("choices").at(0).at("logprobs").at("content").as_array();
  ASSERT_FALSE(content.empty());
  std::string joined;
  for (const value& entry : content) {
    joined += entry.at("token").as_string();
    EXPECT_LT(entry.at("logprob").as_double(), 0);
    EXPECT_EQ(entry.at("top_logprobs").as_array().size(), 2u);
    EXPECT_EQ(entry.at("bytes").as_array().size(), entry.at("token").as_string().size());
  }
  EXPECT_EQ(joined, "hey");
}

TEST_F(ProtocolTest, StopStringsAndTheirReason) {
  start();
  const value answer = post_json("/v1/chat/completions", chat("one two three", R"("stop":["tw"])"));
  EXPECT_EQ(answer.at("choices").at(0).at("message").at("content"), "one ");
  EXPECT_EQ(answer.at("choices").at(0).at("stop_reason"), "tw");
  EXPECT_EQ(answer.at("choices").at(0).at("finish_reason"), "stop");
  const value cut = post_json("/v1/chat/completions", chat("one two three", R"("max_completion_tokens":2)"));
  EXPECT_EQ(cut.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(cut.at("usage").at("completion_tokens"), 2);
}

TEST_F(ProtocolTest, CompletionsOfTextsAndTokens) {
  engine_config.script = [](const EngineRequest& request) { return ScriptedAnswer{.tokens = request.prompt}; };
  start();
  const value text = post_json("/v1/completions", completion(R"("abc")"));
  EXPECT_EQ(text.at("object"), "text_completion");
  EXPECT_EQ(text.at("choices").at(0).at("text"), "abc");
  const value tokens = post_json("/v1/completions", completion("[97,98]", R"("return_token_ids":true)"));
  EXPECT_EQ(tokens.at("choices").at(0).at("text"), "ab");
  EXPECT_EQ(tokens.at("choices").at(0).at("token_ids"), (json::array{97, 98}));
  EXPECT_EQ(tokens.at("choices").at(0).at("prompt_token_ids"), (json::array{97, 98}));
  const auto chunks = stream("/v1/completions", completion("[97,98]", R"("return_token_ids":true,"stream":true)"));
  json::array streamed;
  for (const value& chunk : chunks)
    for (const value& id : chunk.at("choices").at(0).at("token_ids").as_array()) streamed.push_back(id);
  EXPECT_EQ(streamed, (json::array{97, 98}));
  EXPECT_EQ(chunks[0].at("choices").at(0).at("prompt_token_ids"), (json::array{97, 98}));
  const value list = post_json("/v1/completions", completion(R"(["x","y",[122]])", R"("n":2)"));
  std::string all;
  for (const value& choice : list.at("choices").as_array()) all += choice.at("text").as_string();
  EXPECT_EQ(all, "xxyyzz");
  EXPECT_EQ(list.at("usage").at("prompt_tokens"), 3);
  EXPECT_EQ(list.at("choices").at(5).at("index"), 5);
}

TEST_F(ProtocolTest, CompletionsHaveADefaultLength) {
  start();
  engine_config.script = nullptr;
  const value answer = post_json("/v1/completions", completion(json_quote(std::string(100, 'x'))));
  EXPECT_LE(answer.at("usage").at("completion_tokens").as_int64(), 16);
}

TEST_F(ProtocolTest, EchoScoresThePrompt) {
  start();
  const value answer = post_json("/v1/completions", completion(R"("xyz")", R"("echo":true,"max_tokens":0,"logprobs":1)"));
  const value& choice = answer.at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "xyz");
  const value& logprobs = choice.at("logprobs");
  EXPECT_EQ(logprobs.at("tokens"), (json::array{"x", "y", "z"}));
  EXPECT_EQ(logprobs.at("text_offset"), (json::array{0, 1, 2}));
  EXPECT_TRUE(logprobs.at("token_logprobs").at(0).is_null());
  EXPECT_TRUE(logprobs.at("token_logprobs").at(1).is_double());
  EXPECT_EQ(logprobs.at("top_logprobs").as_array().size(), 3u);
  EXPECT_EQ(answer.at("usage").at("completion_tokens"), 0);
}

TEST_F(ProtocolTest, EchoScoresThePromptInAStreamToo) {
  engine_config.script = [](const EngineRequest& request) { return ScriptedAnswer{.tokens = request.prompt}; };
  start();
  std::string said;
  json::array tokens, offsets;
  for (const value& chunk : stream("/v1/completions", completion("[120,121]", R"("echo":true,"logprobs":1,"stream":true)"))) {
    const value& choice = chunk.at("choices").at(0);
    said += choice.at("text").as_string();
    if (choice.at("logprobs").is_null()) continue;
    for (const value& token : choice.at("logprobs").at("tokens").as_array()) tokens.push_back(token);
    for (const value& offset : choice.at("logprobs").at("text_offset").as_array()) offsets.push_back(offset);
  }
  EXPECT_EQ(said, "xyxy");
  EXPECT_EQ(tokens, (json::array{"x", "y", "x", "y"}));
  EXPECT_EQ(offsets, (json::array{0, 1, 2, 3}));
}

TEST_F(ProtocolTest, Embeddings) {
  start();
  const value answer = post_json("/v1/embeddings", R"({"model":"test-model","input":["!",[97,98]]})");
  EXPECT_EQ(answer.at("object"), "list");
  ASSERT_EQ(answer.at("data").as_array().size(), 2u);
  EXPECT_EQ(answer.at("data").at(1).at("index"), 1);
  const json::array& values = answer.at("data").at(0).at("embedding").as_array();
  ASSERT_EQ(values.size(), 8u);
  const value coded = post_json("/v1/embeddings", R"({"input":["!",[97,98]],"encoding_format":"base64"})");
  EXPECT_EQ(coded.at("data").at(0).at("embedding").as_string().size(), 44u);  // 32 bytes
  EXPECT_EQ(answer.at("usage").at("prompt_tokens"), 1 + 2);
}

TEST_F(ProtocolTest, TokenizeAndBack) {
  start();
  const value tokens = post_json("/tokenize", R"({"prompt":"abc","return_token_strs":true})");
  EXPECT_EQ(tokens.at("count").as_int64(), static_cast<int64_t>(tokens.at("tokens").as_array().size()));
  EXPECT_EQ(tokens.at("max_model_len"), 4096);
  EXPECT_EQ(post_json("/detokenize", R"({"tokens":)" + json::serialize(tokens.at("tokens")) + "}").at("prompt"), "abc");
  const value rendered = post_json("/tokenize", R"({"messages":[{"role":"user","content":"abc"}]})");
  EXPECT_GT(rendered.at("count").as_int64(), tokens.at("count").as_int64());
}

TEST_F(ProtocolTest, ModelsVersionHealthLoad) {
  options.root_path = "/llm";
  start();
  const value models = *parse_json(get("/v1/models").body);
  ASSERT_EQ(models.at("data").as_array().size(), 2u);
  EXPECT_EQ(models.at("data").at(0).at("id"), "test-model");
  EXPECT_EQ(models.at("data").at(0).at("max_model_len"), 4096);
  EXPECT_EQ(parse_json(get("/llm/v1/models/alias").body)->at("id"), "alias");
  EXPECT_EQ(get("/v1/models/other").status, 404);
  EXPECT_EQ(parse_json(get("/version").body)->at("version"), "1.2.3");
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(parse_json(get("/v1/load").body)->at("server_load"), 0);
}

TEST_F(ProtocolTest, SaysHowFarLoadingIs) {
  engine_config.load_ns = 3'600 * kNsPerSecond;
  start();
  const http::Response health = get("/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(header(health, "Retry-After"), "1");
  EXPECT_EQ(parse_json(health.body)->at("status"), "loading");
  EXPECT_TRUE(parse_json(health.body)->at("phase").is_string());
  EXPECT_LT(parse_json(health.body)->at("progress").to_number<double>(), 1);
  const http::Response answer = post("/v1/chat/completions", chat("x"));
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(header(answer, "Retry-After"), "1");
}

TEST_F(ProtocolTest, RequestIdsAreKeptWhereHarmless) {
  start();
  const http::Response kept = post("/v1/chat/completions", chat("x"), {{"X-Request-Id", "my-id.1"}});
  EXPECT_EQ(header(kept, "X-Request-Id"), "my-id.1");
  EXPECT_EQ(parse_json(kept.body)->at("id"), "chatcmpl-my-id.1");
  EXPECT_EQ(header(get("/version", {{"X-Request-Id", "a b"}}), "X-Request-Id").size(), 24u);
  EXPECT_EQ(parse_json(post("/v1/chat/completions", chat("x", R"("request_id":"field-1")")).body)->at("id"), "chatcmpl-field-1");
  EXPECT_EQ(parse_json(post("/v1/chat/completions", chat("x", R"("request_id":"field-1")"), {{"X-Request-Id", "head-1"}}).body)->at("id"), "chatcmpl-head-1");
  EXPECT_EQ(parse_json(post("/v1/chat/completions", chat("x", R"("request_id":"a b")")).body)->at("id").as_string().size(), 9u + 24u);
  EXPECT_EQ(header(get("/nowhere"), "X-Request-Id").size(), 24u);
}

TEST_F(ProtocolTest, ErrorsOfTheEngineBeforeAndWithinAStream) {
  engine_config.script = [](const EngineRequest& request) {
    ScriptedAnswer answer;
    if (request.prompt.size() == 2) answer.tokens = {97, 98};
    answer.reason = FinishReason::error;
    answer.error = {ErrorCode::internal, "the device is gone", ""};
    return answer;
  };
  start();
  const value early = post_json("/v1/completions", completion("[97]", R"("stream":true)"), 500);
  EXPECT_EQ(early.at("error").at("type"), "InternalServerError");
  const auto chunks = stream("/v1/completions", completion("[97,97]", R"("stream":true)"));
  ASSERT_GE(chunks.size(), 2u);
  EXPECT_EQ(chunks.back().at("error").at("message"), "the device is gone");
  EXPECT_EQ(chunks.back().at("error").at("code"), 500);
}

TEST_F(ProtocolTest, ADeveloperIsASystemAndPartsAreJoined) {
  start();
  const std::string parts = R"({"messages":[{"role":"developer","content":"d"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]})";
  EXPECT_EQ(post_json("/v1/chat/completions", parts).at("choices").at(0).at("message").at("content"), "a\nb");
}

}  // namespace
}  // namespace pagemill::test
