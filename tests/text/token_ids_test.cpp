// Token ids against Hugging Face's, with tokenizers built from GGUF vocabularies. script/goldens/text_token_ids.py made the truth.
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "support/paths.h"
#include "text/hf_tokenizer.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

const std::string kGoldens = test::source_path("tests/text/goldens/");

std::vector<std::string> lines_of(const std::string& file) {
  std::istringstream in(read_file(kGoldens + file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

json::value parsed(const std::string& line) {
  auto value = parse_json(line);
  EXPECT_TRUE(value) << line;
  return value ? *value : json::value();
}

uint64_t fnv1a(const std::vector<int32_t>& ids) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ (static_cast<uint32_t>(id) >> shift & 0xFF)) * 0x100000001B3;
  }
  return hash;
}

class TokenIds : public testing::TestWithParam<std::string> {
 protected:
  static Tokenizer from_gguf(const std::string& name) {
    const auto source = gguf_vocabulary(name);
    auto vocabulary = read_vocabulary(*source);
    EXPECT_TRUE(vocabulary) << vocabulary.error().message;
    auto tokenizer = Tokenizer::from_vocabulary(*vocabulary);
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return std::move(*tokenizer);
  }

  static void expect_golden_ids(const Tokenizer& tokenizer) {
    const auto strings = lines_of("strings.jsonl");
    const auto wanted = lines_of(GetParam() + ".ids");
    ASSERT_GE(strings.size(), 10'000u);
    ASSERT_EQ(strings.size(), wanted.size());
    int wrong = 0;
    for (size_t i = 0; i < strings.size() && wrong < 5; ++i) {
      const std::string text(parsed(strings[i]).as_string());
      const auto ids = tokenizer.encode(text);
      ASSERT_TRUE(ids) << ids.error().message;
      const std::string got = fmt::format("{} {:016x}", ids->size(), fnv1a(*ids));
      EXPECT_EQ(got, wanted[i]) << "line " << i + 1 << ": " << strings[i];
      wrong += got != wanted[i];
    }
  }
};

TEST_P(TokenIds, FromAGgufVocabularyEqualHuggingFaces) { expect_golden_ids(from_gguf(GetParam())); }

TEST_P(TokenIds, FromTokenizerJsonEqualHuggingFaces) {
  if (GetParam() == "smollm2") return;  // comes without a tokenizer.json
  auto tokenizer = Tokenizer::from_json(tokenizer_json(GetParam()), {});
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  expect_golden_ids(*tokenizer);
}

TEST_P(TokenIds, OfRenderedTextEqualHuggingFaces) {
  const Tokenizer tokenizer = from_gguf(GetParam());
  for (const std::string& line : lines_of(GetParam() + ".rendered.jsonl")) {
    const json::value pair = parsed(line);
    const auto ids = tokenizer.encode_rendered(pair.at(0).as_string());
    ASSERT_TRUE(ids) << ids.error().message;
    EXPECT_EQ(*ids, json::value_to<std::vector<int32_t>>(pair.at(1))) << line;
  }
}

// Decoding gives the text back. Qwen's normalizer may change it (then the ids stay), and SmolLM2's vocabulary lacks 21 bytes that
// UTF-8 hardly uses, which are dropped as Hugging Face does (then it gets shorter).
TEST_P(TokenIds, DecodeToTheirText) {
  const Tokenizer tokenizer = from_gguf(GetParam());
  for (const std::string& line : lines_of("strings.jsonl")) {
    const std::string text(parsed(line).as_string());
    const auto ids = tokenizer.encode(text);
    ASSERT_TRUE(ids);
    const std::string decoded = tokenizer.decode(*ids);
    if (GetParam() == "llama2" || GetParam() == "llama3") {
      ASSERT_EQ(decoded, text) << line;
      continue;
    }
    if (decoded == text) continue;
    if (GetParam() == "smollm2") {
      size_t bytes = 0;
      for (const int32_t id : *ids) bytes += tokenizer.token_bytes(id).size();
      ASSERT_LT(bytes, text.size()) << line;
    } else {
      const auto again = tokenizer.encode(decoded);
      ASSERT_TRUE(again);
      ASSERT_EQ(*again, *ids) << line;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, TokenIds, testing::ValuesIn(vocabulary_names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace pagemill
