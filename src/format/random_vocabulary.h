// A made-up byte-level BPE vocabulary for models with random weights.
#pragma once

#include <cstdint>
#include <string_view>

#include "format/gguf_writer.h"

namespace pagemill {

/// Sets tokenizer.* for `vocab` tokens (259 at least): the 256 bytes, merges of letter pairs as far as there is room (702), unused
/// words, and last <|endoftext|> (beginning, padding), <|im_start|> and <|im_end|> (end of an answer); a ChatML template.
void set_random_vocabulary(GgufHeader& header, int32_t vocab, std::string_view pre_tokenizer);

}  // namespace pagemill
