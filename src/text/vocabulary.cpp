#include "text/vocabulary.h"

#include <array>
#include <limits>

#include <fmt/format.h>

#include "base/limits.h"

namespace pagemill {
namespace {

constexpr int64_t kTypeNormal = 1, kTypeControl = 3;
constexpr int64_t kTypeMin = 1, kTypeMax = 6;

/// Views of the strings under `key`; none if the key is absent.
Result<std::vector<std::string_view>> strings(const WeightSource& source, const char* key, size_t count_max) {
  PM_ASSIGN(const StringArray* found, source.strings(key));
  std::vector<std::string_view> views;
  if (found == nullptr) return views;
  if (found->size() > count_max) {
    return fail(ErrorCode::invalid_file,
                fmt::format("{}: {} has {} entries; at most {} are allowed", source.name(), key, found->size(), count_max), key);
  }
  views.reserve(found->size());
  for (size_t i = 0; i < found->size(); ++i) views.push_back((*found)[i]);
  return views;
}

template <class T>
Result<std::vector<T>> or_empty(Result<std::optional<std::vector<T>>> found) {
  if (!found) return tl::unexpected(std::move(found).error());
  if (!found->has_value()) return std::vector<T>();
  return std::move(**found);
}

/// GGUF files write "none" as -1, which an unsigned field holds as 2^32 - 1.
Result<std::optional<int32_t>> token_id(const WeightSource& source, const std::string& key, size_t token_count) {
  PM_ASSIGN(const auto id, source.integer(key, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()));
  if (!id || *id == -1 || *id == std::numeric_limits<uint32_t>::max()) return std::nullopt;
  if (*id < 0 || static_cast<uint64_t>(*id) >= token_count) {
    return fail(ErrorCode::invalid_file,
                fmt::format("{}: {} is {}, but the vocabulary has {} tokens", source.name(), key, *id, token_count), key);
  }
  return static_cast<int32_t>(*id);
}

Result<SpecialTokens> special_tokens(const WeightSource& source, const Vocabulary& vocabulary) {
  SpecialTokens special;
  const std::array<std::pair<const char*, std::optional<int32_t>*>, 6> roles = {{
      {"tokenizer.ggml.bos_token_id", &special.bos},
      {"tokenizer.ggml.eos_token_id", &special.eos},
      {"tokenizer.ggml.eot_token_id", &special.end_of_turn},
      {"tokenizer.ggml.eom_token_id", &special.end_of_message},
      {"tokenizer.ggml.unknown_token_id", &special.unknown},
      {"tokenizer.ggml.padding_token_id", &special.padding},
  }};
  for (const auto& [key, id] : roles) {
    PM_ASSIGN(*id, token_id(source, key, vocabulary.tokens.size()));
  }
  const std::string& pre = vocabulary.pre_tokenizer;
  const bool starts_with_bos = vocabulary.model == "llama" || pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
  PM_ASSIGN(const auto add_bos, source.boolean("tokenizer.ggml.add_bos_token"));
  PM_ASSIGN(const auto add_eos, source.boolean("tokenizer.ggml.add_eos_token"));
  special.add_bos = add_bos.value_or(starts_with_bos) && special.bos.has_value();
  special.add_eos = add_eos.value_or(false) && special.eos.has_value();
  return special;
}

/// The types of a file that names none: plain, but for the tokens whose role is to steer the model, which no text may become.
std::vector<int64_t> default_types(const Vocabulary& vocabulary) {
  const SpecialTokens& special = vocabulary.special;
  std::vector<int64_t> types(vocabulary.tokens.size(), kTypeNormal);
  for (const auto& id : {special.bos, special.eos, special.end_of_turn, special.end_of_message}) {
    if (id) types[static_cast<size_t>(*id)] = kTypeControl;
  }
  return types;
}

}  // namespace

Result<Vocabulary> read_vocabulary(const WeightSource& source) {
  Vocabulary vocabulary;
  PM_ASSIGN(vocabulary.model, source.required_string("tokenizer.ggml.model"));
  PM_ASSIGN(const auto pre, source.string("tokenizer.ggml.pre"));
  vocabulary.pre_tokenizer = pre.value_or("");
  PM_ASSIGN(vocabulary.tokens, strings(source, "tokenizer.ggml.tokens", limits::kModelVocab));
  PM_ASSIGN(vocabulary.merges, strings(source, "tokenizer.ggml.merges", limits::kMerges));
  PM_ASSIGN(vocabulary.scores, or_empty(source.numbers("tokenizer.ggml.scores")));
  PM_ASSIGN(vocabulary.types, or_empty(source.integers("tokenizer.ggml.token_type", kTypeMin, kTypeMax)));
  PM_ASSIGN(vocabulary.special, special_tokens(source, vocabulary));
  if (vocabulary.types.empty()) vocabulary.types = default_types(vocabulary);
  PM_ASSIGN(const auto prefix, source.boolean("tokenizer.ggml.add_space_prefix"));
  vocabulary.add_space_prefix = prefix.value_or(vocabulary.model == "llama");
  PM_ASSIGN(const auto squeeze, source.boolean("tokenizer.ggml.remove_extra_whitespaces"));
  if (squeeze.value_or(false)) {
    const char* key = "tokenizer.ggml.remove_extra_whitespaces";
    return fail(ErrorCode::unsupported, fmt::format("{}: {} is not supported", source.name(), key), key);
  }
  return vocabulary;
}

}  // namespace pagemill
