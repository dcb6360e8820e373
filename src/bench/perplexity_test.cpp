#include "bench/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/test_files.h"
#include "engine/engine.h"
#include "format/gguf_writer.h"
#include "format/random_model.h"

namespace pagemill {
namespace {

TEST(Perplexity, ReadsTheEstimateOfBothPrograms) {
  const PeerPerplexity found = *read_llama_perplexity("took [x] 3 s\n[1]4.1,[2]5.0,\n[3]6.25,\nFinal estimate: PPL = 15.2134 +/- 0.40210\n");
  EXPECT_EQ(found.value, 15.2134);
  ASSERT_EQ(found.of_pieces.size(), 3u);
  EXPECT_NEAR(found.of_pieces[0], std::log(4.1), 1e-12);
  EXPECT_NEAR(found.of_pieces[1], std::log(25 / 4.1), 1e-12);
  EXPECT_NEAR(found.of_pieces[2], std::log(6.25 * 6.25 * 6.25 / 25), 1e-12);
  const PeerPerplexity other = *read_llama_perplexity("Final estimate: PPL over 12 chunks for n_ctx=512 = 8.5000 +/- 0.12345\n\nllama_print_timings:\n");
  EXPECT_EQ(other.value, 8.5);
  EXPECT_TRUE(other.of_pieces.empty());
  EXPECT_TRUE(read_llama_perplexity("[1]nan,\nFinal estimate: PPL = 8.5 +/- 0.1\n")->of_pieces.empty());
  for (const char* wrong : {"", "Final estimate: PPL", "Final estimate: PPL = nothing", "PPL = 3 +/- 1"}) EXPECT_FALSE(read_llama_perplexity(wrong)) << wrong;
}

TEST(Perplexity, DifferencesPieceByPieceSayHowSureARatioIs) {
  const Perplexity ours{.value = std::exp(2.03), .of_pieces = {1.0, 2.1, 2.99}};
  // Differences 0.02, 0.07, 0: mean 0.03, deviation 0.0361.
  const PeerPerplexity theirs{.value = std::exp(2.0), .of_pieces = {0.98, 2.03, 2.99}};
  EXPECT_NEAR(*error_of_ratio(ours, theirs), std::exp(0.03) * 0.036056 / std::sqrt(3), 1e-6);
  EXPECT_NEAR(*error_of_ratio(ours, {.value = ours.value, .of_pieces = ours.of_pieces}), 0, 1e-12);
  EXPECT_FALSE(error_of_ratio(ours, {.value = 7, .of_pieces = {1, 2}}));
  EXPECT_FALSE(error_of_ratio(ours, {.value = 7, .of_pieces = {}}));
}

/// A model whose weights are all zero finds every token equally likely.
TEST(Perplexity, OfAModelThatKnowsNothingIsItsVocabulary) {
  constexpr int32_t kVocab = 320;
  const TemporaryFolder folder;
  const auto path = folder.path() / "zeros.gguf";
  const GgufHeader header = random_model_header({.architecture = "llama", .name = "zeros", .layers = 1, .hidden = 32, .ffn = 32, .heads = 2, .kv_heads = 2,
                                                 .head_dim = 16, .vocab = kVocab, .context = 64, .rope_theta = 1e4, .rms_eps = 1e-5,
                                                 .tied_embeddings = true, .pre_tokenizer = "smollm", .types = {.base = DType::f32}});
  auto writer = GgufWriter::create(path, header);
  ASSERT_TRUE(writer) << writer.error().message;
  for (const GgufHeader::Tensor& tensor : header.tensors()) ASSERT_TRUE(writer->append(std::vector<std::byte>(tensor.bytes)));
  ASSERT_TRUE(writer->finish());
  const auto engine = make_engine({.model = path, .max_num_seqs = 2, .max_num_batched_tokens = 16, .kv_cache_memory_bytes = 8u << 20}, make_reference_backend(1));
  ASSERT_TRUE(wait_until_loaded(*engine));
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 100; ++i) tokens.push_back(i * 7 % kVocab);

  double done = 0;
  const auto all = measure_perplexity(*engine, tokens, {.context = 16, .begin_token = 1}, [&](double share) { done = share; });
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_NEAR(all->value, kVocab, 1e-3);
  EXPECT_NEAR(all->error, 0, 1e-3);
  EXPECT_EQ(all->pieces, 6);
  ASSERT_EQ(all->of_pieces.size(), 6u);
  for (const double piece : all->of_pieces) EXPECT_NEAR(piece, std::log(kVocab), 1e-5);
  EXPECT_EQ(all->tokens, 6 * 7) << "the second half of each piece, whose first token has been seen";
  EXPECT_EQ(done, 1);
  const auto some = measure_perplexity(*engine, tokens, {.context = 16, .pieces_max = 2}, [](double) {});
  EXPECT_EQ(some->tokens, 2 * 7);
  const auto too_short = measure_perplexity(*engine, std::span(tokens).first(31), {.context = 16}, [](double) {});
  ASSERT_FALSE(too_short);
  EXPECT_EQ(too_short.error().field, "--text");
}

}  // namespace
}  // namespace pagemill
