// The real engine on a real GPU, deterministic: alone, batched, chunked at every size, from the prefix cache, preempted and forked, all bitwise the
// same, with sequences that no emulated device could bear, by the GPU's own kernels and by the portable ones. Linked with the emulated
// device's engine tests (tests/cuda_emulation/engine_test.cpp), which ask for the reference's logits and tokens.
#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "base/check.h"
#include "engine/invariance_test.h"
#include "format/random_model.h"

namespace pagemill {
namespace {

struct Case {
  const char* name;
  const char* architecture;
  int32_t heads, kv_heads, head_dim;
  DType dtype;
  int arch;                              // --cuda-arch
};

class DeterministicOnGpu : public testing::TestWithParam<Case> {};

TEST_P(DeterministicOnGpu, BitwiseTheSameInEveryWay) {
  const Case& each = GetParam();
  RandomModelSpec spec = *random_model_spec("tiny-llama");
  spec.architecture = each.architecture;
  spec.layers = 4;
  spec.hidden = 1024;
  spec.ffn = 2816;
  spec.heads = each.heads;
  spec.kv_heads = each.kv_heads;
  spec.head_dim = each.head_dim;
  spec.vocab = 8192;
  spec.types = *type_mix_from_name(each.dtype == DType::f16 ? "f16" : "bf16");
  if (spec.architecture == "qwen2") spec.pre_tokenizer = "qwen2";
  const auto source = open_random_model(spec);
  const BackendUnderTest gpu{.name = each.name,
                             .make = [&each](int threads) {
                               auto backend = make_cuda_backend({.dtype = each.dtype, .deterministic = true, .arch = each.arch, .threads = threads});
                               PM_CHECK(backend, "{}", backend.error().message);
                               return std::move(*backend);
                             },
                             .kv_dtype = each.dtype};
  expect_invariant(*source, gpu, {.prompt_min = 60, .prompt_max = 150, .output = 70, .chunked_prompt = 33});
}

constexpr Case kCases[] = {
    {"qwen2_f16", "qwen2", 14, 2, 128, DType::f16, 0},  {"llama3_bf16", "llama", 16, 4, 128, DType::bf16, 0},  {"smollm2_f16", "llama", 9, 3, 64, DType::f16, 0},
    {"qwen2_f16_sm80", "qwen2", 14, 2, 128, DType::f16, 80}, {"llama3_bf16_sm80", "llama", 16, 4, 128, DType::bf16, 80},
};
INSTANTIATE_TEST_SUITE_P(Models, DeterministicOnGpu, testing::ValuesIn(kCases), [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace pagemill
