// What is refused, with which status, and whether the answer names the field.
#include "api/api_fixture.h"
#include "api/requests.h"

namespace pagemill::test {
namespace {

using json::value;

constexpr const char* kMessages = R"("messages":[{"role":"user","content":"x"}])";

class ValidationTest : public ApiTest {
 protected:
  /// Sends a body; the answer must be an error of that status in OpenAI's shape that names `field`.
  void expect_error(const std::string& path, const std::string& body, int status, const std::string& field) {
    const http::Response answer = post(path, body);
    EXPECT_EQ(answer.status, status) << body << " → " << answer.body;
    const auto parsed = parse_json(answer.body);
    ASSERT_TRUE(parsed && parsed->is_object() && parsed->as_object().contains("error")) << answer.body;
    const value& error = parsed->at("error");
    EXPECT_FALSE(error.at("message").as_string().empty());
    EXPECT_EQ(error.at("code"), status);
    const std::string param = error.at("param").is_string() ? std::string(error.at("param").as_string()) : "";
    EXPECT_TRUE(field.empty() || param == field) << body << " → " << answer.body;
  }
  std::string chat_with(const std::string& field) { return std::string("{") + kMessages + "," + field + "}"; }
};

TEST_F(ValidationTest, EveryNumericFieldAgainstHostileValues) {
  start();
  const std::vector<std::string> hostile{"-1", "0", "1", "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615", "-9223372036854775809",
                                         "1e308", "-1e308", "1e-320", "0.5", "\"1\"", "true", "[]", "{}", "null"};
  for (const auto& [path, schema, base] : {std::tuple{"/v1/chat/completions", api::chat_body_schema(), std::string(kMessages) + R"(,"max_tokens":2)"},
                                           std::tuple{"/v1/completions", api::completion_body_schema(), std::string(R"("prompt":"x","max_tokens":2)")}})
    for (const auto& [name, field] : schema.at("properties").as_object()) {
      const value& type = field.at("type").at(0);
      if (type != "integer" && type != "number") continue;
      for (const std::string& one : hostile) {
        std::string body = "{" + base;
        if (name == "max_tokens") body = body.substr(0, body.find(",\"max_tokens\""));
        body += ",\"" + std::string(name) + "\":" + one + "}";
        const http::Response answer = post(path, body);
        EXPECT_TRUE(answer.status == 200 || answer.status == 400 || answer.status == 501) << body << " → " << answer.status << answer.body;
        EXPECT_TRUE(answer.status != 400 || answer.body.find(name) != std::string::npos) << body << " → " << answer.body;
        const bool wrong_type = one == "\"1\"" || one == "true" || one == "[]" || one == "{}";
        EXPECT_TRUE(!wrong_type || answer.status == 400) << body;
      }
    }
  EXPECT_EQ(get("/health").status, 200);
}

TEST_F(ValidationTest, NumbersThatJsonDoesNotHave) {
  start();
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e999", "+1", "01", ".5", "0x10"})
    EXPECT_EQ(post("/v1/chat/completions", chat_with(std::string("\"temperature\":") + number)).status, 400) << number;
}

TEST_F(ValidationTest, FieldsAreNamed) {
  start();
  const std::string path = "/v1/chat/completions";
  expect_error(path, chat_with(R"("temperature":3)"), 400, "temperature");
  expect_error(path, chat_with(R"("top_p":0)"), 400, "top_p");
  expect_error(path, chat_with(R"("n":0)"), 400, "n");
  expect_error(path, chat_with(R"("n":1000000)"), 400, "n");
  expect_error(path, chat_with(R"("n":2,"temperature":0)"), 400, "n");
  expect_error(path, chat_with(R"("max_tokens":0)"), 400, "max_tokens");
  expect_error(path, chat_with(R"("stop":"")"), 400, "stop");
  expect_error(path, chat_with(R"("stop":[1])"), 400, "stop");
  expect_error(path, chat_with(R"("logit_bias":{"x":1})"), 400, "logit_bias");
  expect_error(path, chat_with(R"("logit_bias":{"100000":1})"), 400, "logit_bias");
  expect_error(path, chat_with(R"("logit_bias":{"1":"a"})"), 400, "logit_bias");
  expect_error(path, chat_with(R"("stop_token_ids":[-1])"), 400, "stop_token_ids");
  expect_error(path, chat_with(R"("top_logprobs":2)"), 400, "top_logprobs");
  expect_error(path, chat_with(R"("logprobs":true,"top_logprobs":21)"), 400, "top_logprobs");
  expect_error(path, chat_with(R"("stream":"yes")"), 400, "stream");
  expect_error(path, chat_with(R"("stream":true,"stream_options":{"include_usage":1})"), 400, "stream_options.include_usage");
  expect_error(path, chat_with(R"("stream_options":{"include_usage":true})"), 400, "stream_options");
  expect_error(path, chat_with(R"("tool_choice":1)"), 400, "tool_choice");
  expect_error(path, chat_with(R"("chat_template":"{{ 1 }}")"), 400, "chat_template");
  expect_error(path, chat_with(R"("chat_template_kwargs":{"messages":[]})"), 400, "chat_template_kwargs.messages");
  expect_error(path, chat_with(R"("prompt_logprobs":1,"stream":true)"), 400, "prompt_logprobs");
  expect_error(path, chat_with(R"("min_tokens":5,"max_tokens":2)"), 400, "min_tokens");
  expect_error(path, chat_with(R"("model":"other")"), 404, "model");
  expect_error("/v1/completions", R"({"prompt":[100000]})", 400, "prompt");
  expect_error("/v1/completions", R"({"prompt":[]})", 400, "prompt");
  expect_error("/v1/completions", R"({"prompt":["a",1]})", 400, "prompt[1]");
  expect_error("/v1/completions", "{}", 400, "prompt");
  expect_error("/v1/embeddings", R"({"input":"x","encoding_format":"hex"})", 400, "encoding_format");
  expect_error("/v1/embeddings", R"({"input":[300000]})", 400, "input");
  expect_error("/detokenize", R"({"tokens":[300000]})", 400, "tokens");
  expect_error("/tokenize", R"({"prompt":"x","messages":[]})", 400, "");
}

TEST_F(ValidationTest, MessagesAreNamedByTheirPlace) {
  start();
  const auto messages = [](const std::string& list) { return "{\"messages\":" + list + "}"; };
  const std::string path = "/v1/chat/completions";
  expect_error(path, "{}", 400, "messages");
  expect_error(path, messages("[]"), 400, "messages");
  expect_error(path, messages("[1]"), 400, "messages[0]");
  expect_error(path, messages(R"([{"content":"x"}])"), 400, "messages[0].role");
  expect_error(path, messages(R"([{"role":"robot","content":"x"}])"), 400, "messages[0].role");
  expect_error(path, messages(R"([{"role":"user"}])"), 400, "messages[0].content");
  expect_error(path, messages(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x/"}}]}])"), 400, "messages[0].content[0]");
  expect_error(path, messages(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}])"), 400, "messages[0].tool_calls[0].function.arguments");
}

TEST_F(ValidationTest, WhatCannotBeEnforcedIsRefused) {
  start();
  const std::string path = "/v1/chat/completions";
  expect_error(path, chat_with(R"("response_format":{"type":"json_object"})"), 501, "response_format");
  expect_error(path, chat_with(R"("structured_outputs":{"regex":"a"})"), 501, "structured_outputs");
  expect_error(path, chat_with(R"("tools":[{"type":"function","function":{"name":"f"}}])"), 501, "tools");
  expect_error(path, chat_with(R"("tool_choice":"required")"), 501, "tools");
  expect_error(path, chat_with(R"("tool_choice":{"type":"function","function":{"name":"f"}})"), 501, "tools");
  expect_error(path, chat_with(R"("best_of":2)"), 501, "best_of");
  EXPECT_EQ(post(path, chat_with(R"("response_format":{"type":"text"},"tool_choice":"none","user":"u","unheard_of":1)")).status, 200);
}

TEST_F(ValidationTest, BrokenJson) {
  start();
  const std::string path = "/v1/chat/completions";
  for (const std::string& body : {std::string(), std::string("{"), std::string("[]"), std::string("\"x\""), std::string("{\"a\":1,\"a\":2}"), std::string("{} x"), std::string(200'000, '['),
                                  chat_with("\"user\":\"\xff\""), chat_with("\"user\":\"\\ud800\""), chat_with("\"temperature\":1,\"temperature\":2"), std::string("{\"messages\":\0}", 14)})
    expect_error(path, body, 400, "");
}

TEST_F(ValidationTest, APromptBeyondTheContextSaysHowLongItMayBe) {
  start();
  const http::Response answer = post("/v1/completions", R"({"prompt":")" + std::string(5'000, '!') + R"("})");
  EXPECT_EQ(answer.status, 400);
  EXPECT_NE(answer.body.find("maximum context length is 4096 tokens"), std::string::npos) << answer.body;
  EXPECT_EQ(parse_json(answer.body)->at("error").at("param"), "input_tokens");
}

TEST_F(ValidationTest, ABodyOfSixteenMebibytesIsReadAndOneBeyondTheLimitIsNot) {
  start();
  const std::string spaces(17 << 20, ' ');
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"x","max_tokens":1)" + spaces + "}").status, 200);
  const http::Response long_prompt = post("/v1/completions", R"({"prompt":")" + std::string(17 << 20, 'a') + R"("})");
  EXPECT_EQ(long_prompt.status, 400);
  EXPECT_TRUE(parse_json(long_prompt.body)->at("error").at("param").is_string()) << long_prompt.body;
  RawClient raw(server->port());
  raw.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n{");
  EXPECT_EQ(raw.read_answer().status, 413);
}

TEST_F(ValidationTest, ContentTypesMethodsAndPaths) {
  start();
  const auto send = [&](const std::string& method, const std::string& path, const std::string& type) {
    return *client.fetch({.method = method, .url = url(path), .headers = {{"Content-Type", type}}, .body = method == "POST" ? "{}" : ""});
  };
  EXPECT_EQ(send("POST", "/v1/chat/completions", "text/plain").status, 400);
  EXPECT_EQ(send("POST", "/v1/chat/completions", "application/jsonx").status, 400);
  EXPECT_EQ(send("GET", "/v1/chat/completions", "").status, 405);
  EXPECT_EQ(header(send("DELETE", "/v1/models", ""), "Allow"), "GET, HEAD");
  EXPECT_EQ(send("GET", "/v1/nothing", "").status, 404);
  EXPECT_EQ(send("GET", "/V1/models", "").status, 404);
  EXPECT_EQ(send("HEAD", "/v1/models", "").status, 200);
  EXPECT_EQ(send("OPTIONS", "/v1/models", "").status, 204);
}

}  // namespace
}  // namespace pagemill::test
