// Tokenizer: hostile vocabularies are refused or work; a working one gives back any text, and shielded text holds no added token.
// Input: a flag byte, then lines: tokens ("+" control, "=" user-defined, "~" merge), an empty line, and the text.
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/json.h"
#include "text/test_vocabulary.h"

namespace {

using namespace pagemill;

constexpr const char* kPreTokenizers[] = {"qwen2", "llama-bpe", "smollm", "gpt-2", ""};

void add_line(TestVocabulary& vocabulary, std::string_view line) {
  const std::string_view rest = line.substr(1);
  if (line[0] == '+') {
    vocabulary.control(rest);
  } else if (line[0] == '=') {
    vocabulary.user_defined(rest);
  } else if (const size_t cut = rest.find(' '); cut != std::string_view::npos) {
    vocabulary.merge(rest.substr(0, cut), rest.substr(cut + 1));
  }
}

void check(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  if (!ids) std::abort();
  for (const int32_t id : *ids) {
    if (!tokenizer.valid(id)) std::abort();
  }
  if (!valid_utf8(text)) return;
  const auto shielded = tokenizer.shield(text, Shield::all_added);
  if (!shielded) return;  // holds U+FDD0
  const auto rendered = tokenizer.encode_rendered(*shielded);
  if (!rendered) std::abort();
  for (const int32_t id : *rendered) {
    if (tokenizer.is_control(id)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  TestVocabulary vocabulary(kPreTokenizers[data[0] % 5]);
  if (data[0] >= 128) {
    vocabulary.get().model = "llama";
    vocabulary.get().add_space_prefix = data[0] >= 192;
  }
  while (!input.empty() && input[0] != '\n') {
    const size_t end = std::min(input.find('\n'), input.size());
    add_line(vocabulary, input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  if (data[0] >= 128) vocabulary.get().scores.assign(vocabulary.get().tokens.size(), 0.5);
  const auto tokenizer = Tokenizer::from_vocabulary(vocabulary.get());
  if (tokenizer && !input.empty()) check(*tokenizer, input.substr(1));
  return 0;
}
