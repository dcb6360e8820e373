#include "model/size.h"

#include <gtest/gtest.h>

#include "format/random_model.h"

namespace pagemill {
namespace {

ModelSize size_of(const std::string& shape, bool tied, const std::string& types) {
  RandomModelSpec spec = *random_model_spec(shape);
  spec.tied_embeddings = tied;
  spec.types = *type_mix_from_name(types);
  const auto source = open_random_model(spec);
  return model_size(*source, *read_model_config(*source));
}

/// Elements of the seven matrices of all layers.
int64_t layer_elements(const RandomModelSpec& s) {
  const int64_t q = int64_t{s.heads} * s.head_dim, kv = int64_t{s.kv_heads} * s.head_dim;
  return s.layers * (s.hidden * (2 * q + 2 * kv) + int64_t{3} * s.hidden * s.ffn);
}

TEST(ModelSize, CountsEachMatrixOnce) {
  const RandomModelSpec spec = *random_model_spec("tiny-llama");
  const int64_t embedding = int64_t{spec.vocab} * spec.hidden, norms = int64_t{2 * spec.layers + 1} * spec.hidden;
  const ModelSize untied = size_of("tiny-llama", false, "f16");
  EXPECT_EQ(untied.layer_float16, layer_elements(spec));
  EXPECT_EQ(untied.layer_quantized + untied.layer_float32, 0);
  EXPECT_EQ(untied.head, embedding);
  EXPECT_EQ(untied.parameters, layer_elements(spec) + 2 * embedding + norms);
  EXPECT_EQ(untied.weight_bytes - untied.step_bytes, embedding * 2);

  const ModelSize tied = size_of("tiny-llama", true, "f16");
  EXPECT_EQ(tied.head, embedding);
  EXPECT_EQ(tied.parameters, untied.parameters - embedding);
  EXPECT_EQ(tied.weight_bytes, tied.step_bytes);
}

TEST(ModelSize, TellsTypesApart) {
  const RandomModelSpec spec = *random_model_spec("tiny-llama");
  EXPECT_EQ(size_of("tiny-llama", true, "q8_0").layer_quantized, layer_elements(spec));
  EXPECT_EQ(size_of("tiny-llama", true, "f32").layer_float32, layer_elements(spec));
  EXPECT_LT(size_of("tiny-llama", true, "q8_0").weight_bytes, size_of("tiny-llama", true, "f16").weight_bytes);
}

}  // namespace
}  // namespace pagemill
