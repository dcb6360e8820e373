// What make_engine() refuses to load, and says why.
#include "engine/engine.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/test_files.h"
#include "format/gguf_writer.h"
#include "format/random_model.h"

namespace pagemill {
namespace {

constexpr int32_t kVocab = 320;

/// A small model whose weights are all zero, in a file of its own.
struct EngineLoadTest : testing::Test {
  TemporaryFolder folder;
  std::filesystem::path path = folder.path() / "model.gguf";
  GgufHeader header = random_model_header({.architecture = "llama", .name = "zeros", .layers = 1, .hidden = 32, .ffn = 32, .heads = 2, .kv_heads = 2,
                                           .head_dim = 16, .vocab = kVocab, .context = 64, .rope_theta = 1e4, .rms_eps = 1e-5,
                                           .tied_embeddings = true, .pre_tokenizer = "smollm", .types = {.base = DType::f32}});
  EngineOptions options{.model = path, .max_num_seqs = 2, .max_num_batched_tokens = 16, .kv_cache_memory_bytes = 8u << 20};

  Result<void> load() {
    PM_ASSIGN(GgufWriter writer, GgufWriter::create(path, header));
    for (const GgufHeader::Tensor& tensor : header.tensors()) PM_TRY(writer.append(std::vector<std::byte>(tensor.bytes)));
    PM_TRY(writer.finish());
    return wait_until_loaded(*make_engine(options, make_reference_backend(1)));
  }
};

TEST_F(EngineLoadTest, LoadsWithStopTokensOfTheVocabulary) {
  options.stop_tokens = {0, kVocab - 1};
  header.set("tokenizer.ggml.eos_token_id", int64_t{-1});  // "none": the text model's business
  const auto loaded = load();
  EXPECT_TRUE(loaded) << loaded.error().message;
}

TEST_F(EngineLoadTest, RefusesATokenizerWithMoreTokensThanTheModelHasRows) {
  StringArray tokens;
  for (int32_t i = 0; i <= kVocab; ++i) tokens.push_back(std::to_string(i));
  header.set("tokenizer.ggml.tokens", tokens);
  const auto loaded = load();
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::invalid_file);
  EXPECT_NE(loaded.error().message.find("tokenizer.ggml.tokens names 321 tokens"), std::string::npos) << loaded.error().message;
}

TEST_F(EngineLoadTest, RefusesStopTokensOutsideOfTheVocabulary) {
  for (const int32_t token : {-1, kVocab}) {
    options.stop_tokens = {token};
    const auto loaded = load();
    ASSERT_FALSE(loaded) << token;
    EXPECT_EQ(loaded.error().code, ErrorCode::invalid_argument);
  }
}

TEST_F(EngineLoadTest, RefusesDurationsThatAreNone) {
  for (const double value : {-1.0, std::nan(""), std::numeric_limits<double>::infinity(), 1e300}) {
    options.max_step_ms = value;
    auto loaded = load();
    ASSERT_FALSE(loaded) << value;
    EXPECT_NE(loaded.error().message.find("--max-step-ms"), std::string::npos);
    options.max_step_ms = 0;
    options.stall_s = value;
    loaded = load();
    ASSERT_FALSE(loaded) << value;
    EXPECT_NE(loaded.error().message.find("stall_s"), std::string::npos);
    options.stall_s = 60;
  }
}

}  // namespace
}  // namespace pagemill
