// Vocabulary: what a model file says about its tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/weight_source.h"

namespace pagemill {

/// Ids of the tokens with a role; nothing where the file names none.
struct SpecialTokens {
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::optional<int32_t> end_of_turn;
  std::optional<int32_t> end_of_message;
  std::optional<int32_t> unknown;
  std::optional<int32_t> padding;
  bool add_bos = false;  // a plain text starts with bos
  bool add_eos = false;
};

/// The texts are views into the source it was read from.
struct Vocabulary {
  std::string model;                     // "gpt2": byte-level BPE, "llama": SentencePiece BPE
  std::string pre_tokenizer;             // "qwen2", "llama-bpe", "smollm", "gpt-2", …; empty: the file names none
  std::vector<std::string_view> tokens;  // by id, as the file spells them
  std::vector<double> scores;            // one per token, or none
  std::vector<int64_t> types;            // GGUF's token types (1 to 6), one per token, or none
  std::vector<std::string_view> merges;  // "left right", lowest rank first
  SpecialTokens special;
  bool add_space_prefix = false;
};

/// Reads the `tokenizer.ggml.*` keys of `source`, which has to outlive the result. A special id outside the vocabulary is an
/// error (-1 means none). Where the file has no types, the ids of bos, eos and the ends of turns and messages are control tokens
/// and the others normal. That the rest makes sense is checked when a tokenizer is built from it.
Result<Vocabulary> read_vocabulary(const WeightSource& source);

}  // namespace pagemill
