// Level (b) along a long prompt: a quantised model with the KV cache of a type, as it would be served, beside one pass of the same values in
// f32 with keys and values in f32, at several depths of one prompt. Ends with 1 where level (b) does not hold.
//
//   long_context_bench [MODEL.gguf] [--tokens 32768] [--depths 16] [--kv q8_0] [--isa auto] [--threads N] [--overrides JSON]
//
// MODEL: the default model where none is given. The prompt is made of pieces of the goldens' texts in random order; the last 64 tokens before each
// depth are compared. --overrides: settings that replace the file's, as of config.json; by default its positions are stretched by YaRN as far as
// the prompt needs.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/test_files.h"
#include "format/gguf.h"
#include "format/requantize.h"
#include "model/config.h"
#include "support/cpu_backends.h"
#include "support/level_b.h"
#include "support/model_bench.h"
#include "support/paths.h"

namespace pagemill {
namespace {

constexpr int32_t kCompared = 64;  // tokens before each depth

struct Options {
  std::string model, kv = "q8_0", isa = "auto", overrides;
  int32_t tokens = 32768, depths = 16;
  int threads = 0;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (!flag.starts_with("--")) {
      options.model = flag;
      continue;
    }
    if (++i == argc) return false;
    const std::string value = argv[i];
    if (flag == "--tokens") options.tokens = std::atoi(value.c_str());
    else if (flag == "--depths") options.depths = std::atoi(value.c_str());
    else if (flag == "--threads") options.threads = std::atoi(value.c_str());
    else if (flag == "--kv") options.kv = value;
    else if (flag == "--isa") options.isa = value;
    else if (flag == "--overrides") options.overrides = value;
    else return false;
  }
  return options.depths > 0 && options.tokens / options.depths > kCompared && dtype_from_name(options.kv).has_value();
}

/// Pieces of 32 tokens of the goldens' texts.
std::vector<int32_t> long_prompt(size_t tokens) {
  constexpr size_t kPiece = 32;
  const auto texts = level_b_texts(SIZE_MAX);
  SplitMix64 random(1);
  std::vector<int32_t> prompt;
  while (prompt.size() < tokens) {
    const std::vector<int32_t>& text = texts[random.below(texts.size())];
    const size_t begin = random.below(text.size() - kPiece);
    prompt.insert(prompt.end(), text.begin() + static_cast<ptrdiff_t>(begin), text.begin() + static_cast<ptrdiff_t>(begin + kPiece));
  }
  prompt.resize(tokens);
  return prompt;
}

json::object overrides_of(const Options& options, const WeightSource& source) {
  if (!options.overrides.empty()) return json::parse(options.overrides).as_object();
  const auto config = read_model_config(source);
  PM_CHECK(config.has_value(), "{}", config.error().message);
  if (config->context_max >= options.tokens) return {};
  const double factor = static_cast<double>(options.tokens) / config->context_max;
  return {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", config->context_max}}}};
}

/// The logits of the last tokens before each depth.
std::vector<ForcedText> read_prompt(const WeightSource& source, Backend& backend, DType kv_dtype, const std::vector<int32_t>& prompt, const Options& options) {
  const int32_t chunk = options.tokens / options.depths;
  auto bench = ModelBench::make(source, backend, {.rows_max = chunk, .logit_rows_max = kCompared, .kv_blocks = options.tokens / limits::kBlockTokens + 1, .kv_dtype = kv_dtype,
                                                  .overrides = overrides_of(options, source)});
  PM_CHECK(bench.has_value(), "{}", bench.error().message);
  const std::vector<int32_t> blocks = consecutive_blocks(0, options.tokens);
  const auto part = [&](int32_t begin, int32_t end) { return std::vector<int32_t>(prompt.begin() + begin, prompt.begin() + end); };
  std::vector<ForcedText> out;
  const auto start = std::chrono::steady_clock::now();
  for (int32_t depth = 1; depth <= options.depths; ++depth) {
    const int32_t end = depth * chunk, begin = end - kCompared;
    (*bench)->step({{part(end - chunk, begin), end - chunk, blocks}});
    std::vector<int32_t> compared = part(begin, end);
    std::vector<float> logits = (*bench)->step({{compared, begin, blocks, true}});
    out.push_back({std::move(compared), std::move(logits)});
    std::fprintf(stderr, "\r%s keys and values: %d tokens after %.0f s ", std::string(to_string(kv_dtype)).c_str(), end, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::fputc('\n', stderr);
  return out;
}

int run(const Options& options) {
  const auto source = open_gguf(options.model.empty() ? test::default_model_path() : std::filesystem::path(options.model));
  if (!source) {
    std::fprintf(stderr, "%s\n", source.error().message.c_str());
    return 2;
  }
  const TemporaryFolder folder;
  const auto file = folder.path() / "f32.gguf";
  const auto written = requantize(**source, type_mix_from_name("f32").value(), file);
  PM_CHECK(written.has_value(), "{}", written.error().message);
  const auto values = open_gguf(file);
  PM_CHECK(values.has_value(), "{}", values.error().message);

  const std::vector<int32_t> prompt = long_prompt(static_cast<size_t>(options.tokens));
  const std::vector<ForcedText> fast = read_prompt(**source, *open_cpu_backend(options.isa, options.threads, false), *dtype_from_name(options.kv), prompt, options);
  const std::vector<ForcedText> reference = read_prompt(**values, *open_cpu_backend(options.isa, options.threads, false), DType::f32, prompt, options);
  std::puts("| depth | mean KL | perplexity | another token leads, at most so many logits behind |");
  std::puts("| --- | --- | --- | --- |");
  for (size_t i = 0; i < fast.size(); ++i) {
    const LevelB found = measure_level_b({reference[i]}, {fast[i]});
    std::printf("| %d | %.1e | %+.3f %% | %d, %.3f |\n", options.tokens / options.depths * static_cast<int>(i + 1), found.kl, (found.perplexity_ratio - 1) * 100, found.switches, found.gap_of_worst_switch);
  }
  const LevelB all = measure_level_b(reference, fast);
  const bool holds = all.holds(true);
  std::printf("all %d positions: %s; level (b): %s\n", all.positions, all.describe().c_str(), holds ? "yes" : "NO");
  return holds ? 0 : 1;
}

}  // namespace
}  // namespace pagemill

int main(int argc, char** argv) {
  pagemill::Options options;
  if (!pagemill::parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: long_context_bench [MODEL.gguf] [--tokens 32768] [--depths 16] [--kv q8_0] [--isa auto] [--threads N] [--overrides JSON]\n");
    return 2;
  }
  return pagemill::run(options);
}
