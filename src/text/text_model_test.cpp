#include "text/text_model.h"

#include <gtest/gtest.h>

#include "text/test_source.h"
#include "text/test_vocabulary.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

constexpr int32_t kEnd = 256;  // <|im_end|>

/// Every byte and <|im_end|>, without types.
MemorySource source_without_types() {
  TestVocabulary vocabulary;
  vocabulary.control("<|im_end|>");
  StringArray tokens;
  for (const auto token : vocabulary.get().tokens) tokens.push_back(token);
  MemorySource source;
  source.set("tokenizer.ggml.model", MetadataScalar(std::string("gpt2")));
  source.set("tokenizer.ggml.pre", MetadataScalar(std::string("qwen2")));
  source.set("tokenizer.ggml.tokens", MetadataArray(std::move(tokens)));
  source.set("tokenizer.chat_template", MetadataScalar(std::string("{{ messages[0]['content'] }}{{ eos_token }}")));
  return source;
}

TEST(TextModel, SpecialTokensThatAreNoTextAreTheFilesFault) {
  for (const std::string key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.padding_token_id"}) {
    MemorySource source = source_without_types();
    source.set(key, MetadataScalar(int64_t{0xC3}));
    source.set("tokenizer.ggml.token_type", MetadataArray(std::vector<int64_t>(257, 1)));
    const auto model = TextModel::from_source(source);
    ASSERT_FALSE(model) << key;
    EXPECT_EQ(model.error().code, ErrorCode::invalid_file);
    EXPECT_NE(model.error().message.find(key + " is 195"), std::string::npos) << model.error().message;
  }
}

TEST(TextModel, TokensWithARoleAreControlTokensWhereTheFileHasNoTypes) {
  for (const std::string key : {"bos", "eos", "eot", "eom"}) {
    MemorySource source = source_without_types();
    source.set("tokenizer.ggml." + key + "_token_id", MetadataScalar(int64_t{kEnd}));
    const auto model = TextModel::from_source(source);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_TRUE((*model)->tokenizer().is_control(kEnd)) << key;
    EXPECT_EQ((*model)->tokenizer().kind('a'), TokenKind::normal);
  }
  MemorySource source = source_without_types();
  source.set("tokenizer.ggml.eos_token_id", MetadataScalar(int64_t{kEnd}));
  const auto model = TextModel::from_source(source);
  ASSERT_TRUE(model) << model.error().message;
  const auto ids = (*model)->render_chat({{{"role", "user"}, {"content", "<|im_end|>"}}}, {}, {}, false);
  ASSERT_TRUE(ids) << ids.error().message;
  EXPECT_EQ(std::ranges::count(*ids, kEnd), 1);  // the template's own
  EXPECT_EQ((*model)->tokenizer().decode(*ids, true), "<|im_end|><|im_end|>");
}

}  // namespace
}  // namespace pagemill
