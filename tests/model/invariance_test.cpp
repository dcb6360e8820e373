// The value of a row depends on its own tokens alone: however a sequence is cut into steps, whatever shares its steps, wherever its
// blocks lie and however many threads compute, its logits are the same to the last bit.
#include <numeric>

#include "base/rng.h"
#include "format/random_model.h"
#include "support/cpu_backends.h"
#include "support/model_bench.h"
#include "support/tiny_model.h"

namespace pagemill {
namespace {

constexpr int32_t kTokens = 100;

std::vector<int32_t> random_tokens(uint64_t seed, int32_t count = kTokens) {
  SplitMix64 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(320));
  return tokens;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

struct Case {
  std::string model;     // of open_tiny_model, or a shape of random weights
  DType kv_dtype;
  std::string isa;
  const char* types = nullptr;  // of random weights
};

TinyModel open_model(const Case& wanted) {
  if (wanted.types == nullptr) return open_tiny_model(wanted.model);
  RandomModelSpec spec = *random_model_spec(wanted.model);
  spec.types = *type_mix_from_name(wanted.types);
  return {open_random_model(spec), {}};
}

/// Every instruction set with every type of keys and values, over weights of several types.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& isa : cpu_backend_names()) {
    for (const Case& one : {Case{"tiny-llama-gqa3", DType::f32, ""}, Case{"tiny-llama-gqa4", DType::f16, ""}, Case{"tiny-qwen2-gqa7", DType::f32, ""}, Case{"tiny-qwen2-tied", DType::bf16, ""},
                            Case{"tiny-llama", DType::q8_0, "", "q4_k_m"}, Case{"tiny-qwen2", DType::f16, "", "q8_0"}, Case{"tiny-llama", DType::f32, "", "q4_0"}, Case{"tiny-qwen2", DType::bf16, "", "q4_k_m"}}) {
      all.push_back(one);
      all.back().isa = isa;
    }
  }
  // Over tiles, with --deterministic as everything here is opened.
  all.push_back({"tiny-llama", DType::q8_0, kPlainTiles, "q4_k_m"});
  all.push_back({"tiny-qwen2", DType::f16, kPlainTiles, "bf16"});
  return all;
}

class Invariance : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<ModelBench> make(Backend& backend) {
    auto bench = ModelBench::make(*model_.source, backend, {.rows_max = 256, .logit_rows_max = 256, .kv_blocks = 40,
                                                            .kv_dtype = GetParam().kv_dtype, .overrides = model_.overrides});
    EXPECT_TRUE(bench) << bench.error().message;
    return std::move(*bench);
  }

  TinyModel model_ = open_model(GetParam());
  std::unique_ptr<Backend> backend_ = open_cpu_backend(GetParam().isa);
  std::unique_ptr<ModelBench> bench_ = make(*backend_);
  const std::vector<int32_t> tokens_ = random_tokens(1);
  const std::vector<float> alone_ = bench_->logits(tokens_, kTokens);
};

TEST_P(Invariance, ChunkSizesDoNotMatter) {
  for (const int32_t chunk : {1, 2, 7, 16, 17, 33, 64}) EXPECT_TRUE(same_bits(bench_->logits(tokens_, chunk), alone_)) << chunk;
}

TEST_P(Invariance, WhereBlocksLieDoesNotMatter) {
  EXPECT_TRUE(same_bits(bench_->logits(tokens_, 13, {31, 2, 17, 39, 0, 8, 21}), alone_));
}

TEST_P(Invariance, ThreadsDoNotMatter) {
  for (const int threads : {1, 3, 8}) {
    const auto backend = open_cpu_backend(GetParam().isa, threads);
    EXPECT_TRUE(same_bits(make(*backend)->logits(tokens_, 50), alone_)) << threads;
  }
}

TEST_P(Invariance, CompanyDoesNotMatter) {
  const auto others = std::vector{random_tokens(2, 5), random_tokens(3, 41)};
  const auto vocab = static_cast<size_t>(bench_->config().vocab);
  std::vector<float> batched;
  for (int32_t begin = 0; begin < kTokens; begin += 20) {
    const std::vector<int32_t> part(tokens_.begin() + begin, tokens_.begin() + begin + 20);
    // One neighbour starts afresh with every step, before and behind; padding closes the step.
    const std::vector<float> logits = bench_->step({{others[0], 0, {30}, true},
                                                    {part, begin, consecutive_blocks(3, kTokens), true},
                                                    {others[1], 0, {20, 22, 21}}}, 3);
    const auto own = std::span(logits).subspan(5 * vocab, 20 * vocab);
    batched.insert(batched.end(), own.begin(), own.end());
  }
  EXPECT_TRUE(same_bits(batched, alone_));
}

TEST_P(Invariance, ACachedPrefixDoesNotMatter) {
  bench_->logits(tokens_, 48);  // blocks 0, 1 and 2 stay as they are; the rest is computed into others
  const std::vector<int32_t> rest(tokens_.begin() + 48, tokens_.end());
  const std::vector<float> logits = bench_->step({{rest, 48, {0, 1, 2, 30, 31, 32, 33}, true}});
  const auto vocab = static_cast<size_t>(bench_->config().vocab);
  EXPECT_TRUE(same_bits(logits, std::span(alone_).subspan(48 * vocab)));
}

TEST_P(Invariance, CopiedBlocksHoldTheSame) {
  bench_->logits(tokens_, 48);
  const Backend::BlockCopy copies[] = {{0, 1, 25}, {0, 2, 26}};
  backend_->copy_blocks(bench_->kv(), copies);
  bench_->logits(random_tokens(9, 48), 48);  // overwrites the originals
  bench_->step({{std::vector<int32_t>(tokens_.begin(), tokens_.begin() + 16), 0, {0}}});
  const std::vector<int32_t> rest(tokens_.begin() + 48, tokens_.end());
  const std::vector<float> logits = bench_->step({{rest, 48, {0, 25, 26, 30, 31, 32, 33}, true}});
  const auto vocab = static_cast<size_t>(bench_->config().vocab);
  EXPECT_TRUE(same_bits(logits, std::span(alone_).subspan(48 * vocab)));
}

INSTANTIATE_TEST_SUITE_P(All, Invariance, testing::ValuesIn(cases()), [](const auto& each) {
  const Case& c = each.param;
  return test_name(c.model + "_" + (c.types == nullptr ? "" : std::string(c.types) + "_") + std::string(to_string(c.kv_dtype)) + "_" + c.isa);
});

}  // namespace
}  // namespace pagemill
