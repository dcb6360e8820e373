#include "format/random_vocabulary.h"

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"

namespace pagemill {
namespace {

enum TokenType : int64_t { kNormal = 1, kControl = 3 };

constexpr std::string_view kTemplate =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

std::string utf8(uint32_t code) {
  PM_CHECK(code < 0x800);
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// Byte-level BPE writes a byte as a printable character: itself where it is one in Latin-1, else the next of U+0100, U+0101, …
std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    tokens.push_back(utf8(printable ? byte : next++));
  }
  return tokens;
}

std::vector<std::pair<std::string, std::string>> letter_pairs(const std::string& space) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (char letter = 'a'; letter <= 'z'; ++letter) pairs.emplace_back(space, std::string{letter});
  for (char first = 'a'; first <= 'z'; ++first)
    for (char second = 'a'; second <= 'z'; ++second) pairs.emplace_back(std::string{first}, std::string{second});
  return pairs;
}

}  // namespace

void set_random_vocabulary(GgufHeader& header, int32_t vocab, std::string_view pre_tokenizer) {
  constexpr size_t kSpecial = 3;
  const auto size = static_cast<size_t>(vocab);
  const std::vector<std::string> bytes = byte_tokens();
  PM_CHECK(size >= bytes.size() + kSpecial, "a vocabulary of {}", vocab);

  StringArray tokens, merges;
  for (const std::string& token : bytes) tokens.push_back(token);
  const std::string& space = bytes[' '];
  for (const auto& [left, right] : letter_pairs(space)) {
    if (tokens.size() + kSpecial == size) break;
    tokens.push_back(left + right);
    merges.push_back(left + " " + right);
  }
  while (tokens.size() + kSpecial < size) tokens.push_back(fmt::format("{}word{}", space, tokens.size()));
  for (const std::string_view special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) tokens.push_back(special);

  std::vector<int64_t> types(size, kNormal);
  for (size_t i = size - kSpecial; i < size; ++i) types[i] = kControl;
  header.set("tokenizer.ggml.model", std::string("gpt2"));
  header.set("tokenizer.ggml.pre", std::string(pre_tokenizer));
  header.set("tokenizer.ggml.tokens", std::move(tokens));
  header.set("tokenizer.ggml.token_type", std::move(types));
  header.set("tokenizer.ggml.merges", std::move(merges));
  header.set("tokenizer.ggml.bos_token_id", uint64_t{size - 3});
  header.set("tokenizer.ggml.eos_token_id", uint64_t{size - 1});
  header.set("tokenizer.ggml.padding_token_id", uint64_t{size - 3});
  header.set("tokenizer.ggml.add_bos_token", false);
  header.set("tokenizer.chat_template", std::string(kTemplate));
}

}  // namespace pagemill
