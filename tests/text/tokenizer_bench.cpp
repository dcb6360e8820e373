// Tokenization speed on texts made to be slow. The bound that every line has to keep is 1 MB/s.
#include <benchmark/benchmark.h>

#include "text/hf_tokenizer.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

constexpr size_t kBytes = 1'000'000;

std::string repeated(std::string_view unit) {
  std::string text;
  while (text.size() < kBytes) text += unit;
  return text;
}

/// Letters or symbols in no order, from a fixed seed.
std::string scrambled(std::string_view alphabet) {
  std::string text;
  uint64_t state = 1;
  while (text.size() < kBytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    text.push_back(alphabet[(state >> 33) % alphabet.size()]);
  }
  return text;
}

void tokenize(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  for (auto _ : state) {
    auto ids = tokenizer.encode(text);
    if (!ids) state.SkipWithError(ids.error().message.c_str());
    benchmark::DoNotOptimize(ids);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(text.size()));
}

int run(int argc, char** argv) {
  const std::vector<std::pair<std::string, std::string>> texts = {
      {"spaces", repeated(" ")},
      {"newlines", repeated("\n")},
      {"one_letter", repeated("a")},
      {"combining_marks", repeated("\u0301")},
      {"mixed_marks", repeated("a\u0323\u0301\u0302")},
      {"letter_space", repeated("a ")},
      {"letters", scrambled("abcdefghijklmnopqrstuvwxyz")},
      {"symbols", scrambled("!@#$%^&*()_+-=[]{}|;:,./<>?")},
      {"one_han", repeated("\u7684")},
      {"digits", scrambled("0123456789")},
      {"rare_plane", repeated("\U00012345\U0001f9ff\U000e0041")},
      {"broken_utf8", repeated("\xff\xc3")},
      {"surrogates", repeated("\xed\xa0\x80")},
      {"english", repeated("The quick brown fox doesn't jump over the lazy dog, 42 times a day. ")},
  };
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const std::string& name : vocabulary_names()) {
    const auto source = gguf_vocabulary(name);
    const auto vocabulary = read_vocabulary(*source);
    tokenizers.push_back(std::make_unique<Tokenizer>(std::move(*Tokenizer::from_vocabulary(*vocabulary))));
    for (const auto& [label, text] : texts) {
      const Tokenizer* tokenizer = tokenizers.back().get();
      benchmark::RegisterBenchmark((name + "/" + label).c_str(), [tokenizer, &text = text](benchmark::State& state) {
        tokenize(state, *tokenizer, text);
      })->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace pagemill

int main(int argc, char** argv) { return pagemill::run(argc, argv); }
