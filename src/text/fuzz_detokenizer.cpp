// Detokenizer: any ids give whole characters, and any split of them the same text. Two bytes of input make an id.
#include <cstdlib>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/detokenizer.h"
#include "text/test_vocabulary.h"

namespace {

const pagemill::Tokenizer& tokenizer() {
  static const pagemill::Tokenizer made = [] {
    pagemill::TestVocabulary vocabulary;
    vocabulary.control("<|end|>");
    vocabulary.user_defined("\u65e5");
    return std::move(*pagemill::Tokenizer::from_vocabulary(vocabulary.get()));
  }();
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i + 1 < size; i += 2) ids.push_back(data[i] % 3 == 0 ? data[i] * 256 + data[i + 1] : data[i + 1]);
  const std::string whole = tokenizer().decode(ids);
  pagemill::Detokenizer detokenizer(tokenizer());
  std::string text;
  for (const int32_t id : ids) {
    std::string piece;
    detokenizer.push(id, piece);
    if (!pagemill::valid_utf8(piece)) std::abort();
    text += piece;
  }
  detokenizer.finish(text);
  if (text != whole) std::abort();
  return 0;
}
