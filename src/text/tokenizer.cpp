#include "text/tokenizer.h"

#include "text/detokenizer.h"
#include "text/rust_result.h"

namespace pagemill {
namespace {

std::vector<PmtText> borrow_all(const std::vector<std::string_view>& texts) {
  std::vector<PmtText> borrowed;
  borrowed.reserve(texts.size());
  for (const std::string_view text : texts) borrowed.push_back(rust::borrow(text));
  return borrowed;
}

}  // namespace

void Tokenizer::Free::operator()(PmtTokenizer* handle) const { pmt_tokenizer_free(handle); }

Tokenizer::Tokenizer(PmtTokenizer* handle, SpecialTokens special, bool drops_leading_space)
    : handle_(handle), special_(special), drops_leading_space_(drops_leading_space) {
  kinds_.resize(pmt_tokenizer_vocabulary_size(handle));
  for (size_t id = 0; id < kinds_.size(); ++id) {
    kinds_[id] = static_cast<TokenKind>(pmt_tokenizer_token_kind(handle, static_cast<uint32_t>(id)));
  }
  added_.resize(pmt_tokenizer_added_count(handle));
  for (size_t i = 0; i < added_.size(); ++i) added_[i] = static_cast<int32_t>(pmt_tokenizer_added_id(handle, i));
}

Result<Tokenizer> Tokenizer::from_vocabulary(const Vocabulary& vocabulary) {
  const std::vector<PmtText> tokens = borrow_all(vocabulary.tokens);
  const std::vector<PmtText> merges = borrow_all(vocabulary.merges);
  const std::vector<float> scores(vocabulary.scores.begin(), vocabulary.scores.end());
  const std::vector<int32_t> types(vocabulary.types.begin(), vocabulary.types.end());

  PmtVocabulary view{};
  view.model = rust::borrow(vocabulary.model);
  view.pre = rust::borrow(vocabulary.pre_tokenizer);
  view.tokens = tokens.data();
  view.token_count = tokens.size();
  view.scores = scores.data();
  view.score_count = scores.size();
  view.types = types.data();
  view.type_count = types.size();
  view.merges = merges.data();
  view.merge_count = merges.size();
  view.unknown_id = vocabulary.special.unknown.value_or(-1);
  view.add_space_prefix = vocabulary.add_space_prefix;

  PmtTokenizer* handle = nullptr;
  rust::Buffer message;
  PM_TRY(rust::check(pmt_tokenizer_from_vocabulary(&view, &handle, message.out()), message, ErrorCode::invalid_file));
  const bool drops_leading_space = vocabulary.model == "llama" && vocabulary.add_space_prefix;
  return Tokenizer(handle, vocabulary.special, drops_leading_space);
}

Result<Tokenizer> Tokenizer::from_json(std::string_view tokenizer_json, SpecialTokens special) {
  PmtTokenizer* handle = nullptr;
  rust::Buffer message;
  PM_TRY(rust::check(pmt_tokenizer_from_json(rust::borrow(tokenizer_json), &handle, message.out()), message,
                     ErrorCode::invalid_file));
  return Tokenizer(handle, special, pmt_tokenizer_adds_space_prefix(handle) != 0);
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text) const {
  rust::Ids ids;
  rust::Buffer message;
  PM_TRY(rust::check(pmt_tokenizer_encode(handle_.get(), rust::borrow(text), ids.out(), message.out()), message,
                     ErrorCode::invalid_argument));
  return ids.ids();
}

Result<std::vector<int32_t>> Tokenizer::encode_prompt(std::string_view text) const {
  PM_ASSIGN(std::vector<int32_t> ids, encode(text));
  if (special_.add_bos) ids.insert(ids.begin(), *special_.bos);
  if (special_.add_eos) ids.push_back(*special_.eos);
  return ids;
}

Result<std::vector<int32_t>> Tokenizer::encode_rendered(std::string_view text) const {
  rust::Ids ids;
  rust::Buffer message;
  PM_TRY(rust::check(pmt_tokenizer_encode_rendered(handle_.get(), rust::borrow(text), ids.out(), message.out()), message,
                     ErrorCode::invalid_argument));
  return ids.ids();
}

Result<std::string> Tokenizer::shield(std::string_view text, Shield which) const {
  rust::Buffer shielded, message;
  const int32_t mode = which == Shield::all_added ? PMT_SHIELD_ALL : PMT_SHIELD_CONTROL_ONLY;
  PM_TRY(rust::check(pmt_tokenizer_shield(handle_.get(), rust::borrow(text), mode, shielded.out(), message.out()), message,
                     ErrorCode::invalid_argument));
  return shielded.text();
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool with_control) const {
  Detokenizer detokenizer(*this, with_control);
  std::string text;
  for (const int32_t id : ids) detokenizer.push(id, text);
  detokenizer.finish(text);
  return text;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  if (!valid(id)) return {};
  const PmtText bytes = pmt_tokenizer_token_bytes(handle_.get(), static_cast<uint32_t>(id));
  return {bytes.data, bytes.size};
}

}  // namespace pagemill
