#include "format/catalogue.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "base/test_files.h"
#include "format/gguf.h"
#include "format/random_model.h"

namespace pagemill {
namespace {

using testing::HasSubstr;

class CatalogueTest : public testing::Test {
 protected:
  CatalogueTest() {
    RandomModelSpec spec = *random_model_spec("tiny-llama");
    spec.types = *type_mix_from_name("q4_k_m");
    folder_.write("Tiny-Llama.Q4_K_M.gguf", random_model_bytes(spec));
    spec = *random_model_spec("tiny-qwen2");
    folder_.write("tiny-qwen2.f16.gguf", random_model_bytes(spec));
    folder_.write("broken.gguf", "GGUF");
    folder_.write("notes.txt", "no model");
    folder_.write(".hidden.gguf", "no model");
  }
  std::string error_of(std::string_view argument) const {
    const auto result = resolve_model(argument, folder_.path());
    return result ? "resolved to " + result->string() : result.error().message;
  }
  std::filesystem::path path_of(std::string_view argument) const { return resolve_model(argument, folder_.path()).value_or("none"); }

  TemporaryFolder folder_;
};

TEST_F(CatalogueTest, ListsModelsAndSaysWhatIsBroken) {
  const auto entries = list_models(folder_.path());
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 3u);
  const CatalogueEntry& llama = entries->at(0);
  EXPECT_EQ(llama.name, "Tiny-Llama.Q4_K_M");
  EXPECT_EQ(llama.summary.architecture, "llama");
  EXPECT_EQ(llama.summary.parameters, 2'393'856);
  EXPECT_EQ(describe_types(llama.summary), "q4_k + q6_k");
  EXPECT_EQ(llama.bytes, static_cast<int64_t>(std::filesystem::file_size(llama.path)));
  EXPECT_EQ(llama.problem, "");
  EXPECT_EQ(entries->at(1).name, "broken");
  EXPECT_THAT(entries->at(1).problem, HasSubstr("broken.gguf: version"));
  EXPECT_EQ(entries->at(2).name, "tiny-qwen2.f16");
}

TEST_F(CatalogueTest, AFolderThatIsNotThereIsEmpty) { EXPECT_TRUE(list_models(folder_.path() / "none")->empty()); }

TEST_F(CatalogueTest, ResolvesPathsNamesAndBeginnings) {
  const auto llama = folder_.path() / "Tiny-Llama.Q4_K_M.gguf";
  EXPECT_EQ(path_of(llama.string()), llama);
  EXPECT_EQ(path_of("Tiny-Llama.Q4_K_M"), llama);
  EXPECT_EQ(path_of("tiny-llama.q4_k_m.GGUF"), llama);
  EXPECT_EQ(path_of("tiny-l"), llama);
}

TEST_F(CatalogueTest, SaysWhatThereIsInstead) {
  EXPECT_THAT(error_of("tiny"), HasSubstr("several models are called so: Tiny-Llama.Q4_K_M, tiny-qwen2.f16"));
  EXPECT_THAT(error_of("gpt"), HasSubstr("there: Tiny-Llama.Q4_K_M, broken, tiny-qwen2.f16"));
  EXPECT_THAT(error_of("Qwen/Qwen2.5-7B-Instruct"), HasSubstr("does not download models"));
  EXPECT_THAT(error_of("some/model.gguf"), HasSubstr("there is no such file"));
  EXPECT_THAT(error_of(folder_.path().string()), HasSubstr("is a folder"));
  EXPECT_THAT(error_of(""), HasSubstr("run script/setup"));
}

TEST_F(CatalogueTest, NothingNamedIsTheDefaultModel) {
  const auto file = folder_.write(kDefaultModelFile, "x");
  EXPECT_EQ(path_of(""), file);
}

TEST_F(CatalogueTest, SplitModelsAreListedOnce) {
  folder_.write("big-00001-of-00002.gguf", "abc");
  folder_.write("big-00002-of-00002.gguf", "defg");
  const auto entries = list_models(folder_.path()).value();
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[1].name, "big");
  EXPECT_EQ(entries[1].bytes, 7);
  EXPECT_EQ(path_of("big"), folder_.path() / "big-00001-of-00002.gguf");
}

TEST(ModelsFolder, FollowsXdg) {
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string saved = before ? before : "";
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(models_folder(), "/somewhere/pagemill/models");
  setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_THAT(models_folder().string(), testing::EndsWith("/.cache/pagemill/models"));
  saved.empty() ? unsetenv("XDG_CACHE_HOME") : setenv("XDG_CACHE_HOME", saved.c_str(), 1);
}

TEST(Inspect, SumsUpAModel) {
  RandomModelSpec spec = *random_model_spec("tiny-qwen2");
  const auto source = open_random_model(spec);
  const ModelSummary summary = summarize_model(*source);
  EXPECT_EQ(summary.name, "random weights in the shape of tiny-qwen2");
  EXPECT_EQ(summary.layers, 2);
  EXPECT_EQ(summary.hidden, 192);
  EXPECT_EQ(summary.ffn, 416);
  EXPECT_EQ(summary.heads, 6);
  EXPECT_EQ(summary.kv_heads, 2);
  EXPECT_EQ(summary.head_dim, 32);
  EXPECT_EQ(summary.vocab, 512);
  EXPECT_EQ(summary.context, 2'048);
  // 2 layers × 2 heads × (32 keys + 32 values).
  EXPECT_EQ(kv_bytes_per_token(summary, DType::f32), 1'024);
  EXPECT_EQ(kv_bytes_per_token(summary, DType::f16), 512);
  EXPECT_EQ(kv_bytes_per_token(summary, DType::q8_0), 272);
  ASSERT_EQ(summary.types.size(), 2u);
  EXPECT_EQ(summary.types[0].dtype, DType::f16);
  EXPECT_EQ(summary.types[0].tensors, 2 * 7 + 2);
  EXPECT_EQ(summary.types[0].bytes, 2 * summary.types[0].elements);
  EXPECT_EQ(describe_types(summary), "f16");
}

TEST(Inspect, WhatAFileDoesNotSayStaysEmpty) {
  GgufHeader header;
  header.set("general.architecture", std::string("clip"));
  header.set("clip.block_count", int64_t{-1});
  const auto source = open_gguf_image("dir/file.gguf", header.serialize()).value();
  const ModelSummary summary = summarize_model(*source);
  EXPECT_EQ(summary.name, "file");
  EXPECT_EQ(summary.layers, std::nullopt);
  EXPECT_EQ(kv_bytes_per_token(summary, DType::f16), std::nullopt);
  EXPECT_EQ(summary.parameters, 0);
}

}  // namespace
}  // namespace pagemill
