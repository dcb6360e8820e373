#include "format/requantize.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/dequantize.h"
#include "base/test_files.h"
#include "format/gguf.h"
#include "format/random_model.h"

namespace pagemill {
namespace {

std::vector<float> values_of(const TensorView& tensor) {
  int64_t elems = 1;
  for (const int64_t extent : tensor.shape) elems *= extent;
  std::vector<float> values(static_cast<size_t>(elems));
  dequantize_row(tensor.dtype, tensor.bytes, values);
  return values;
}

double relative_error(const TensorView& a, const TensorView& b) {
  const auto x = values_of(a), y = values_of(b);
  double error = 0, power = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(double{x[i]} - double{y[i]}, 2);
    power += double{x[i]} * double{x[i]};
  }
  return std::sqrt(error / power);
}

TEST(Requantize, KeepsMetadataAndValues) {
  const TemporaryFolder folder;
  RandomModelSpec spec = *random_model_spec("tiny-llama");
  spec.types = *type_mix_from_name("f32");
  const auto source = open_random_model(spec);
  const std::pair<const char*, double> bounds[] = {{"f16", 0.0005}, {"q8_0", 0.01}, {"q6_k", 0.025}, {"q4_k_m", 0.1}, {"q2_k", 0.4}};
  for (const auto& [name, bound] : bounds) {
    const TypeMix types = *type_mix_from_name(name);
    const auto path = folder.path() / name;
    const auto written = requantize(*source, types, path);
    ASSERT_TRUE(written) << written.error().message;
    const auto copy = open_gguf(path).value();
    EXPECT_EQ(copy->required_integer("general.file_type", 0, 99).value(), gguf_file_type(types));
    EXPECT_EQ(*copy->strings("tokenizer.ggml.tokens").value(), *source->strings("tokenizer.ggml.tokens").value());
    EXPECT_EQ(copy->metadata().size(), source->metadata().size());
    ASSERT_EQ(copy->tensors().size(), source->tensors().size());
    for (const TensorView& tensor : copy->tensors()) {
      const TensorView& original = *source->find_tensor(tensor.name);
      EXPECT_EQ(tensor.shape, original.shape);
      const bool output = tensor.name == "token_embd.weight";
      EXPECT_EQ(tensor.dtype, tensor_dtype(types, tensor.name, tensor.shape, spec.layers, output)) << tensor.name;
      EXPECT_LE(relative_error(original, tensor), bound) << tensor.name << " as " << name;
    }
  }
}

TEST(Requantize, TheSameTypesAreCopiedBitForBit) {
  const TemporaryFolder folder;
  RandomModelSpec spec = *random_model_spec("tiny-qwen2");
  spec.types = *type_mix_from_name("q4_k_m");
  const auto source = open_random_model(spec);
  ASSERT_TRUE(requantize(*source, spec.types, folder.path() / "m"));
  EXPECT_TRUE(folder.read("m") == random_model_bytes(spec));
}

TEST(Requantize, ATruncatedSourceGivesNoFile) {
  const TemporaryFolder folder;
  const auto original = folder.write("in.gguf", random_model_bytes(*random_model_spec("tiny-qwen2")));
  const auto source = open_gguf(original).value();
  std::filesystem::resize_file(original, 40'000);
  const auto result = requantize(*source, *type_mix_from_name("q8_0"), folder.path() / "out.gguf");
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, testing::HasSubstr("in.gguf: the file was truncated"));
  EXPECT_EQ(folder.count(), 1u);
}

}  // namespace
}  // namespace pagemill
