#include "support/text_support.h"

#include "base/check.h"
#include "text/test_source.h"
#include "text/test_vocabulary.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

constexpr std::string_view kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{% if not (continue_final_message is defined and continue_final_message and loop.last) %}{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

struct Special {
  int32_t start_of_turn, end_of_turn, end_of_text;
};

Special add_tokens(TestVocabulary& vocabulary) {
  const auto byte = [](int value) { return gpt2_spelling(static_cast<uint8_t>(value)); };
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
           {"t", "h"}, {"th", "e"}, {byte(' '), "a"}, {byte(' '), "the"}, {"i", "n"}, {"in", "g"}, {"e", "r"}, {"o", "n"}, {byte(' '), byte(' ')},
           {byte(0xE6), byte(0x97)},                          // the start of 日
           {byte(0x9C), byte(0xAC)},                          // the end of 本
           {byte(0xF0), byte(0x9F)}}) {                       // the start of most emoji
    vocabulary.merge(left, right);
  }
  vocabulary.user_defined("<tool_call>");
  vocabulary.user_defined("</tool_call>");
  return {vocabulary.control("<|im_start|>"), vocabulary.control("<|im_end|>"), vocabulary.control("<|endoftext|>")};
}

struct TestModel {
  std::shared_ptr<const TextModel> text;
  Special special;
};

TestModel make_model() {
  TestVocabulary vocabulary;
  TestModel model;
  model.special = add_tokens(vocabulary);
  StringArray tokens, merges;
  for (const auto token : vocabulary.get().tokens) tokens.push_back(token);
  for (const auto merge : vocabulary.get().merges) merges.push_back(merge);
  MemorySource source;
  source.set("tokenizer.ggml.model", MetadataScalar(vocabulary.get().model));
  source.set("tokenizer.ggml.pre", MetadataScalar(vocabulary.get().pre_tokenizer));
  source.set("tokenizer.ggml.tokens", MetadataArray(std::move(tokens)));
  source.set("tokenizer.ggml.merges", MetadataArray(std::move(merges)));
  source.set("tokenizer.ggml.token_type", MetadataArray(vocabulary.get().types));
  source.set("tokenizer.ggml.eos_token_id", MetadataScalar(static_cast<int64_t>(model.special.end_of_turn)));
  source.set("tokenizer.chat_template", MetadataScalar(std::string(kChatMl)));
  auto text = TextModel::from_source(source);
  PM_CHECK(text.has_value(), "{}", text.error().message);
  model.text = std::move(*text);
  return model;
}

const TestModel& test_model() {
  static const TestModel model = make_model();
  return model;
}

}  // namespace

std::shared_ptr<const TextModel> test_text_model() { return test_model().text; }

EngineModelInfo test_model_info(int32_t context_max) {
  const TextModel& text = *test_model().text;
  return {.name = "test", .context_max = context_max, .vocab = text.tokenizer().vocabulary_size(), .stop_tokens = text.stop_tokens()};
}

std::vector<int32_t> test_tokens(std::string_view text) {
  auto tokens = test_model().text->tokenizer().encode(text);
  PM_CHECK(tokens.has_value(), "{}", tokens.error().message);
  return std::move(*tokens);
}

ScriptedAnswer say(std::string_view text) {
  ScriptedAnswer answer;
  answer.tokens = test_tokens(text);
  answer.tokens.push_back(test_model().special.end_of_turn);
  return answer;
}

ScriptedAnswer repeat_user(const EngineRequest& request) {
  const std::string prompt = test_model().text->tokenizer().decode(request.prompt, true);
  constexpr std::string_view kUser = "<|im_start|>user\n";
  const size_t begin = prompt.rfind(kUser);
  if (begin == std::string::npos) return say(prompt);
  const size_t from = begin + kUser.size();
  return say(std::string_view(prompt).substr(from, prompt.find("<|im_end|>", from) - from));
}

}  // namespace pagemill
