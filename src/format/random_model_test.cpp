#include "format/random_model.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/test_files.h"
#include "format/gguf.h"
#include "format/quantize.h"
#include "format/random_blocks.h"

namespace pagemill {
namespace {

struct Moments {
  double mean = 0;
  double deviation = 0;
};

Moments moments(DType dtype, std::span<const std::byte> bytes, int64_t elems) {
  std::vector<float> values(static_cast<size_t>(elems));
  dequantize_row(dtype, bytes, values);
  double sum = 0, squares = 0;
  for (const float value : values) {
    EXPECT_TRUE(std::isfinite(value));
    sum += value;
    squares += double{value} * value;
  }
  const auto n = static_cast<double>(elems);
  return {sum / n, std::sqrt(squares / n - (sum / n) * (sum / n))};
}

TEST(RandomBlocks, HaveTheWantedSpreadInEveryType) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    const int64_t elems = 256 * 512;
    std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(dtype, elems)));
    RandomBlocks(dtype, {0, 0.02}, 1).fill(bytes);
    const Moments found = moments(dtype, bytes, elems);
    EXPECT_NEAR(found.mean, 0, 0.001) << to_string(dtype);
    EXPECT_NEAR(found.deviation, 0.02, 0.0008) << to_string(dtype);
  }
}

TEST(RandomModel, TrueShapes) {
  // Parameters as published (Qwen2.5: 0.49B and 7.61B; Llama-3: 8.03B; SmolLM2: 134.5M), counted from the tensors.
  const std::tuple<const char*, uint64_t> expected[] = {
      {"smollm2-135m", 134'515'008}, {"qwen2.5-0.5b", 494'032'768}, {"qwen2.5-7b", 7'615'616'512}, {"llama-3-8b", 8'030'261'248}};
  for (const auto& [shape, parameters] : expected) {
    const GgufHeader header = random_model_header(*random_model_spec(shape));
    uint64_t total = 0;
    for (const auto& tensor : header.tensors()) {
      uint64_t elements = 1;
      for (const int64_t extent : tensor.shape) elements *= static_cast<uint64_t>(extent);
      total += elements;
    }
    EXPECT_EQ(total, parameters) << shape;
  }
  EXPECT_FALSE(random_model_spec("gpt-5"));
}

TEST(RandomModel, FileDependsOnItsSpecAlone) {
  const TemporaryFolder folder;
  RandomModelSpec spec = *random_model_spec("tiny-llama");
  spec.types = *type_mix_from_name("q4_k_m");
  double last = 0;
  ASSERT_TRUE(write_random_model(spec, folder.path() / "m.gguf", [&](double share) {
    EXPECT_GE(share, last);
    last = share;
  }));
  EXPECT_NEAR(last, 1, 0.01);
  const std::string bytes = random_model_bytes(spec);
  EXPECT_TRUE(folder.read("m.gguf") == bytes);
  spec.seed = 2;
  EXPECT_FALSE(random_model_bytes(spec) == bytes);
}

TEST(RandomModel, TensorsAreNeitherAlikeNorTrivial) {
  for (const char* shape : {"tiny-llama", "tiny-qwen2"}) {
    for (const char* types : {"f32", "q8_0", "q4_k_m", "q2_k"}) {
      RandomModelSpec spec = *random_model_spec(shape);
      spec.types = *type_mix_from_name(types);
      const auto source = open_random_model(spec);
      const TensorView* before = nullptr;
      for (const TensorView& tensor : source->tensors()) {
        int64_t elems = 1;
        for (const int64_t extent : tensor.shape) elems *= extent;
        const Moments found = moments(tensor.dtype, tensor.bytes, elems);
        EXPECT_GT(found.deviation, 0.01) << tensor.name;
        if (tensor.name.ends_with("norm.weight")) {
          EXPECT_NEAR(found.mean, 1, 0.2) << tensor.name;
        }
        if (before && before->bytes.size() == tensor.bytes.size()) {
          EXPECT_FALSE(std::equal(before->bytes.begin(), before->bytes.end(), tensor.bytes.begin())) << tensor.name;
        }
        before = &tensor;
      }
      EXPECT_EQ(source->strings("tokenizer.ggml.tokens").value()->size(), 512u);
      EXPECT_EQ(source->find_tensor("blk.0.attn_q.bias") != nullptr, spec.architecture == "qwen2");
      EXPECT_EQ(source->find_tensor("output.weight") == nullptr, spec.tied_embeddings);
    }
  }
}

TEST(RandomModel, SmallestVocabulary) {
  RandomModelSpec spec = *random_model_spec("tiny-llama");
  spec.vocab = kRandomVocabMin;
  const auto source = open_random_model(spec);
  EXPECT_EQ(source->strings("tokenizer.ggml.tokens").value()->size(), 259u);
  EXPECT_TRUE(source->strings("tokenizer.ggml.merges").value()->empty());
}

TEST(TypeMix, Names) {
  EXPECT_EQ(to_string(*type_mix_from_name("Q4_K_M")), "q4_k_m");
  EXPECT_EQ(to_string(*type_mix_from_name("bf16")), "bf16");
  EXPECT_FALSE(type_mix_from_name("q8_0_m"));
  EXPECT_FALSE(type_mix_from_name("q9"));
  EXPECT_FALSE(type_mix_from_name(""));
  EXPECT_THAT(type_mix_names(), testing::HasSubstr("q4_k, q4_k_m, q5_k"));
}

// As llama.cpp's quantiser does for a 32-layer llama and for rows of 896.
TEST(TypeMix, MediumRecipe) {
  const TypeMix mix = *type_mix_from_name("q4_k_m");
  const std::vector<int64_t> wide{4096, 4096}, narrow{896, 896};
  const auto type = [&](const char* name, const std::vector<int64_t>& shape, bool output = false) {
    return tensor_dtype(mix, name, shape, 32, output);
  };
  EXPECT_EQ(type("blk.5.attn_q.weight", wide), DType::q4_k);
  EXPECT_EQ(type("blk.5.attn_norm.weight", {4096}), DType::f32);
  EXPECT_EQ(type("output.weight", wide, true), DType::q6_k);
  EXPECT_EQ(type("token_embd.weight", wide), DType::q4_k);
  int more = 0;
  for (int layer = 0; layer < 32; ++layer) more += type(fmt::format("blk.{}.attn_v.weight", layer).c_str(), wide) == DType::q6_k;
  EXPECT_EQ(more, 4 + 8 + 4);
  EXPECT_EQ(type("blk.3.ffn_down.weight", wide), DType::q6_k);
  EXPECT_EQ(type("blk.4.ffn_down.weight", wide), DType::q4_k);
  EXPECT_EQ(type("blk.6.ffn_down.weight", wide), DType::q6_k);
  EXPECT_EQ(type("blk.28.ffn_down.weight", wide), DType::q6_k);
  EXPECT_EQ(type("blk.5.attn_q.weight", narrow), DType::q5_0);
  EXPECT_EQ(type("blk.3.attn_v.weight", narrow), DType::q8_0);
}

}  // namespace
}  // namespace pagemill
