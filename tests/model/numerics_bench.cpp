// Level (b) and batch invariance on the default model, for every type of weights × instruction set of this CPU, as a table; ends with 1
// where one does not hold. script/numerics writes its table into docs/kernels.md. The plain instances (--isas plain,plain_tiles) take
// seconds for a token of a whole model: they are judged op by op in cpu_backend_test and linear_test, and here where asked for.
//
//   numerics_bench [--types q4_0,…] [--isas plain,…] [--tokens N] [--plain-tokens N]
//
// N: tokens of each of three texts that are compared, at most.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include <fmt/format.h>

#include "base/test_files.h"
#include "format/gguf.h"
#include "format/requantize.h"
#include "support/cpu_backends.h"
#include "support/level_b.h"
#include "support/model_bench.h"
#include "support/paths.h"

namespace pagemill {
namespace {

constexpr int32_t kInvariantTokens = 60;

struct Options {
  std::vector<std::string> types{"f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl"};
  std::vector<std::string> isas;
  size_t tokens = 1000, plain_tokens = 48;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

bool parse(int argc, char** argv, Options& options) {
  options.isas = fast_backend_names();
  if (options.isas.size() > 1) std::erase(options.isas, "plain");
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--types") options.types = split(value);
    else if (flag == "--isas") options.isas = split(value);
    else if (flag == "--tokens") options.tokens = std::strtoul(value.c_str(), nullptr, 10);
    else if (flag == "--plain-tokens") options.plain_tokens = std::strtoul(value.c_str(), nullptr, 10);
    else return false;
  }
  return argc % 2 == 1 && options.tokens > 1 && options.plain_tokens > 1;
}

/// "q4_0 81 %, q6_k 19 %": what the matrices are, by their elements.
std::string shares(const WeightSource& source) {
  std::map<DType, double> elements;
  double all = 0;
  for (const TensorView& tensor : source.tensors()) {
    if (tensor.shape.size() < 2) continue;
    double count = 1;
    for (const int64_t extent : tensor.shape) count *= static_cast<double>(extent);
    elements[tensor.dtype] += count;
    all += count;
  }
  std::vector<std::pair<double, DType>> ordered;
  for (const auto& [dtype, count] : elements) ordered.emplace_back(count, dtype);
  std::sort(ordered.rbegin(), ordered.rend());
  std::string text;
  for (const auto& [count, dtype] : ordered) text += fmt::format("{}{} {:.0f} %", text.empty() ? "" : ", ", to_string(dtype), 100 * count / all);
  return text;
}

/// Empty where the logits of a text are the same to the bit however it comes: else in which way they were not.
std::string variance(const WeightSource& source, Backend& backend, const std::vector<std::vector<int32_t>>& texts) {
  auto bench = ModelBench::make(source, backend, {.rows_max = 64, .logit_rows_max = 64, .kv_blocks = 16, .kv_dtype = DType::f16});
  PM_CHECK(bench.has_value(), "{}", bench.error().message);
  const auto head = [&](size_t text, int32_t tokens) {
    PM_CHECK(static_cast<int32_t>(texts[text].size()) >= tokens);
    return std::vector<int32_t>(texts[text].begin(), texts[text].begin() + tokens);
  };
  const std::vector<int32_t> tokens = head(0, kInvariantTokens);
  const std::vector<float> whole = (*bench)->logits(tokens, kInvariantTokens);
  const auto equal = [&](std::span<const float> other, size_t from) {
    return from + other.size() <= whole.size() && std::memcmp(other.data(), whole.data() + from, other.size_bytes()) == 0;
  };
  for (const int32_t chunk : {1, 7, 20, 33}) {
    const std::vector<float> chunked = (*bench)->logits(tokens, chunk);
    if (chunked.size() != whole.size() || !equal(chunked, 0)) return fmt::format("in steps of {}", chunk);
  }
  const auto vocab = static_cast<size_t>((*bench)->config().vocab);
  constexpr int32_t kPart = 20, kBefore = 5, kBehind = 17;
  for (int32_t begin = 0; begin < kInvariantTokens; begin += kPart) {
    const std::vector<int32_t> part(tokens.begin() + begin, tokens.begin() + begin + kPart);
    const std::vector<float> logits = (*bench)->step({{head(1, kBefore), 0, {10}, true}, {part, begin, consecutive_blocks(2, kInvariantTokens), true}, {head(2, kBehind), 0, {12, 13}}}, 3);
    if (!equal(std::span(logits).subspan(kBefore * vocab, kPart * vocab), static_cast<size_t>(begin) * vocab)) return "in company";
  }
  return {};
}

bool plain(const std::string& isa) { return isa.starts_with("plain"); }

/// True where all holds.
bool measure_type(const std::string& name, const WeightSource& source, const Options& options) {
  const auto types = type_mix_from_name(name);
  PM_CHECK(types.has_value(), "no type {}", name);
  const TemporaryFolder folder;
  const auto file = folder.path() / "model.gguf";
  const auto written = requantize(source, *types, file);
  PM_CHECK(written.has_value(), "{}", written.error().message);
  const auto model = open_gguf(file);
  PM_CHECK(model.has_value(), "{}", model.error().message);
  const bool all_plain = std::all_of(options.isas.begin(), options.isas.end(), plain);
  const auto texts = level_b_texts(options.tokens), short_texts = level_b_texts(std::min(options.plain_tokens, options.tokens));
  const std::vector<ForcedText> reference = teacher_forced(**model, *open_cpu_backend("reference"), DType::f32, all_plain ? short_texts : texts);
  bool all_hold = true;
  for (const std::string& isa : options.isas) {
    const auto backend = open_cpu_backend(isa, 2, false);
    const LevelB found = measure_level_b(reference, teacher_forced(**model, *backend, DType::f16, plain(isa) ? short_texts : texts));
    const bool holds = found.holds(traits(types->base).quantized);
    const std::string varies = variance(**model, *open_cpu_backend(isa), level_b_texts(kInvariantTokens));
    all_hold = all_hold && holds && varies.empty();
    std::printf("| %s | %s | %s | %d | %.1e | %+.3f %% | %d, %.3f | %s | %s |\n", name.c_str(), shares(**model).c_str(), isa.c_str(), found.positions, found.kl,
                (found.perplexity_ratio - 1) * 100, found.switches, found.gap_of_worst_switch, holds ? "yes" : "NO",
                varies.empty() ? "yes" : ("NO, " + varies).c_str());
    std::fflush(stdout);
  }
  return all_hold;
}

int run(const Options& options) {
  const auto source = open_gguf(test::default_model_path());
  if (!source) {
    std::fprintf(stderr, "%s\nscript/setup --test fetches the default model\n", source.error().message.c_str());
    return 2;
  }
  std::puts("| weights | that is | instruction set | positions | mean KL | perplexity | another token leads, at most so many logits behind | level (b) | same bits |");
  std::puts("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
  bool all_hold = true;
  for (const std::string& type : options.types) all_hold = measure_type(type, **source, options) && all_hold;
  if (!all_hold) std::fprintf(stderr, "not everywhere within level (b) or the same to the bit: see NO above\n");
  return all_hold ? 0 : 1;
}

}  // namespace
}  // namespace pagemill

int main(int argc, char** argv) {
  pagemill::Options options;
  if (!pagemill::parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: numerics_bench [--types q4_0,…] [--isas plain,…] [--tokens N] [--plain-tokens N]\n");
    return 2;
  }
  return pagemill::run(options);
}
