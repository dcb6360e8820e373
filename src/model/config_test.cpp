#include "model/config.h"

#include <cmath>
#include <functional>

#include "format/gguf.h"
#include "format/random_model.h"

namespace pagemill {
namespace {

RandomModelSpec small_spec(std::string architecture = "llama") {
  return {.architecture = std::move(architecture), .name = "small", .layers = 2, .hidden = 32, .ffn = 64, .heads = 4, .kv_heads = 2,
          .head_dim = 8, .vocab = 300, .context = 512, .pre_tokenizer = "smollm", .types = {.base = DType::f32}};
}

// A header is a value; a test changes keys by writing a new one around the metadata it wants.
std::unique_ptr<WeightSource> source_with(const std::function<void(GgufHeader&)>& edit, const RandomModelSpec& spec = small_spec()) {
  GgufHeader header = random_model_header(spec);
  std::vector<std::vector<std::byte>> data;
  for (size_t i = 0; i < header.tensors().size(); ++i) data.push_back(random_tensor(spec, header, i));
  const size_t tensors = data.size();
  edit(header);
  for (size_t i = tensors; i < header.tensors().size(); ++i) data.emplace_back(header.tensors()[i].bytes, std::byte{0});
  auto source = open_gguf_image("small.gguf", gguf_bytes(header, data));
  EXPECT_TRUE(source) << source.error().message;
  return std::move(*source);
}

Result<ModelConfig> config_with(const std::function<void(GgufHeader&)>& edit) { return read_model_config(*source_with(edit)); }

Result<ModelConfig> config_of(RandomModelSpec spec) { return read_model_config(*open_random_model(spec)); }

json::object overrides(std::string_view text) { return parse_json(text).value().as_object(); }

Result<ModelConfig> overridden(std::string_view text) { return read_model_config(*open_random_model(small_spec()), overrides(text)); }

void expect_error(const Result<ModelConfig>& result, ErrorCode code, std::string_view field, std::string_view words = "") {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_EQ(result.error().field, field) << result.error().message;
  EXPECT_NE(result.error().message.find(words), std::string::npos) << result.error().message;
}

TEST(ModelConfig, ReadsEveryDimension) {
  const auto config = config_of(small_spec("qwen2"));
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->architecture, "qwen2");
  EXPECT_EQ(config->name, "small");
  EXPECT_EQ(config->layers, 2);
  EXPECT_EQ(config->hidden, 32);
  EXPECT_EQ(config->ffn, 64);
  EXPECT_EQ(config->heads, 4);
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->head_dim, 8);
  EXPECT_EQ(config->vocab, 300);
  EXPECT_EQ(config->context_max, 512);
  EXPECT_FLOAT_EQ(config->rms_eps, 1e-5f);
  EXPECT_EQ(config->rope.theta, 10'000);
  EXPECT_EQ(config->rope.rotary_dim, 8);
  EXPECT_EQ(config->rope.scaling, RopeScaling::none);
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_FALSE(config->tied_embeddings);
  EXPECT_EQ(kv_bytes_per_token(*config, DType::f16), 2 * 2 * 2 * 8 * 2);
}

TEST(ModelConfig, TiedWithoutAnOutputMatrix) {
  RandomModelSpec spec = small_spec();
  spec.tied_embeddings = true;
  EXPECT_TRUE(config_of(spec)->tied_embeddings);
  EXPECT_FALSE(config_of(spec)->qkv_bias);
}

TEST(ModelConfig, RefusesWhatDoesNotFitTogether) {
  RandomModelSpec spec = small_spec();
  spec.head_dim = 7;
  expect_error(config_of(spec), ErrorCode::invalid_file, "llama.attention.key_length", "even");
  spec = small_spec();
  spec.context = 1 << 30;
  expect_error(config_of(spec), ErrorCode::invalid_file, "llama.context_length");
  spec = small_spec();
  spec.rms_eps = 0.5;
  expect_error(config_of(spec), ErrorCode::invalid_file, "llama.attention.layer_norm_rms_epsilon", "small: ");
  spec = small_spec();
  spec.rope_theta = 0.5;
  expect_error(config_of(spec), ErrorCode::invalid_file, "llama.rope.freq_base");
  spec = small_spec();
  spec.architecture = "mamba";
  expect_error(config_of(spec), ErrorCode::unsupported, "general.architecture", "mamba");
}

TEST(ModelConfig, RefusesWhatItCannotRun) {
  expect_error(config_with([](GgufHeader& h) { h.set("llama.expert_count", uint64_t{8}); }), ErrorCode::unsupported, "llama.expert_count");
  expect_error(config_with([](GgufHeader& h) { h.set("llama.rope.scaling.type", std::string("longrope")); }), ErrorCode::unsupported,
               "llama.rope.scaling.type", "longrope");
  expect_error(config_with([](GgufHeader& h) {
                 h.set("llama.rope.scaling.type", std::string("linear"));
                 h.set("llama.rope.scaling.factor", 0.25);
               }), ErrorCode::invalid_file, "llama.rope.scaling.factor");
  expect_error(config_with([](GgufHeader& h) { h.add_tensor("rope_freqs.weight", DType::f32, {3}); }), ErrorCode::invalid_file, "rope_freqs.weight");
  expect_error(config_with([](GgufHeader& h) { h.add_tensor("rope_freqs.weight", DType::f32, {4}); }), ErrorCode::invalid_file,
               "rope_freqs.weight", "cannot divide");
}

TEST(ModelConfig, ReadsScalingFromTheFile) {
  const auto yarn = config_with([](GgufHeader& h) {
    h.set("llama.rope.scaling.type", std::string("yarn"));
    h.set("llama.rope.scaling.factor", 4.0);
    h.set("llama.rope.scaling.original_context_length", uint64_t{512});
    h.set("llama.rope.scaling.attn_factor", 2.0);
  });
  ASSERT_TRUE(yarn) << yarn.error().message;
  EXPECT_EQ(yarn->rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(yarn->context_max, 2048);
  EXPECT_NEAR(yarn->rope.attention_factor, 2 * (0.1 * std::log(4.0) + 1), 1e-12);
  const auto linear = config_with([](GgufHeader& h) { h.set("llama.rope.scale_linear", 2.0); });
  ASSERT_TRUE(linear) << linear.error().message;
  EXPECT_EQ(linear->rope.scaling, RopeScaling::linear);
  EXPECT_EQ(linear->context_max, 1024);
}

TEST(ModelConfig, NeverLeavesASlidingWindow) {
  EXPECT_EQ(config_with([](GgufHeader& h) { h.set("llama.attention.sliding_window", uint64_t{100}); })->context_max, 100);
  EXPECT_EQ(config_with([](GgufHeader& h) { h.set("llama.attention.sliding_window", uint64_t{100000}); })->context_max, 512);
  const auto scaled = config_with([](GgufHeader& h) {
    h.set("llama.attention.sliding_window", uint64_t{600});
    h.set("llama.rope.scale_linear", 2.0);
  });
  EXPECT_EQ(scaled->context_max, 600);
  const auto source = source_with([](GgufHeader& h) { h.set("llama.attention.sliding_window", uint64_t{100}); });
  EXPECT_EQ(read_model_config(*source, overrides(R"({"max_position_embeddings": 80})"))->context_max, 80);
  expect_error(read_model_config(*source, overrides(R"({"max_position_embeddings": 4096})")), ErrorCode::invalid_argument,
               "max_position_embeddings", "sliding window of 100");
}

TEST(ModelConfig, OverridesReplaceTheFilesScaling) {
  const auto yarn = overridden(R"({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}})");
  ASSERT_TRUE(yarn) << yarn.error().message;
  EXPECT_EQ(yarn->rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(yarn->rope.factor, 4);
  EXPECT_EQ(yarn->context_max, 2048);
  const auto plain = overridden(R"({"rope_parameters": null, "rope_theta": 500000, "max_position_embeddings": 256})");
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(plain->rope.theta, 500'000);
  EXPECT_EQ(plain->context_max, 256);
  const auto inside = overridden(R"({"rope_parameters": {"rope_type": "llama3", "rope_theta": 77.0, "factor": 8, "low_freq_factor": 1,
                                     "high_freq_factor": 4, "original_max_position_embeddings": 128}})");
  ASSERT_TRUE(inside) << inside.error().message;
  EXPECT_EQ(inside->rope.scaling, RopeScaling::llama3);
  EXPECT_EQ(inside->rope.theta, 77);
  EXPECT_EQ(inside->rope.original_context, 128);
  EXPECT_EQ(inside->context_max, 512);
}

TEST(ModelConfig, Qwen25ReachesItsLongContext) {
  RandomModelSpec spec = small_spec("qwen2");
  spec.context = 32'768;
  const auto config = read_model_config(*open_random_model(spec), overrides(R"({"rope_scaling": {"type": "yarn", "factor": 4.0,
                                                                               "original_max_position_embeddings": 32768}})"));
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->context_max, 131'072);
}

TEST(ModelConfig, RefusesWrongOverridesByName) {
  const auto expect = [](std::string_view text, std::string_view field, ErrorCode code = ErrorCode::invalid_argument) {
    SCOPED_TRACE(text);
    expect_error(overridden(text), code, field, "--hf-overrides");
  };
  expect(R"({"hidden_size": 5})", "hidden_size");
  expect(R"({"rope_theta": "big"})", "rope_theta");
  expect(R"({"rope_theta": 0})", "rope_theta");
  expect(R"({"max_position_embeddings": 1.5})", "max_position_embeddings");
  expect(R"({"max_position_embeddings": 0})", "max_position_embeddings");
  expect(R"({"rope_scaling": []})", "rope_scaling");
  expect(R"({"rope_scaling": {}})", "rope_type");
  expect(R"({"rope_scaling": {"type": 3}})", "rope_type");
  expect(R"({"rope_scaling": {"type": "dynamic", "factor": 2}})", "rope_type", ErrorCode::unsupported);
  expect(R"({"rope_scaling": {"type": "linear"}})", "factor");
  expect(R"({"rope_scaling": {"type": "linear", "factor": 0.5}})", "factor");
  expect(R"({"rope_scaling": {"type": "linear", "factor": 2, "beta_fast": 3}})", "beta_fast");
  expect(R"({"rope_scaling": {"type": "default", "factor": 2}})", "factor");
  expect(R"({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1}})", "beta_fast");
  expect(R"({"rope_scaling": {"type": "llama3", "factor": 2, "high_freq_factor": 1}})", "high_freq_factor");
  expect(R"({"rope_scaling": null, "rope_parameters": null})", "rope_scaling");
}

}  // namespace
}  // namespace pagemill
