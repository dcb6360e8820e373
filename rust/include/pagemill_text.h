// C ABI of the Rust library in rust/: tokenizers and chat templates.
//
// Rules. Every function that can fail returns a PmtStatus and, unless it is PMT_OK, writes a message in English to `message`
// (which may be null) and leaves its result untouched. No panic, callback or thread crosses this border. Input strings are
// borrowed for the call and need not end in a NUL; those named "text" must be UTF-8. Buffers and ids that the library returns
// are owned by the caller until given to the function that frees them. Both handles are immutable: any number of threads may
// use one at once; only the freeing call needs it alone.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t PmtStatus;
#define PMT_OK 0       // done
#define PMT_INVALID 1  // the input is wrong; the message says what to change
#define PMT_LIMIT 2    // a bound on size, time or steps was hit
#define PMT_RAISED 3   // the template called raise_exception; the message is the template's own
#define PMT_PANIC 4    // a bug of the library; the handle stays usable

typedef uint8_t PmtTokenKind;
#define PMT_TOKEN_NORMAL 0
#define PMT_TOKEN_USER_DEFINED 1  // added, plain vocabulary: printed as it is
#define PMT_TOKEN_CONTROL 2       // added, steers the model: not printed
#define PMT_TOKEN_BYTE 3          // stands for one byte, spelled <0x0A>
#define PMT_TOKEN_UNUSED 4

#define PMT_SHIELD_ALL 0           // no look-alike of any added token
#define PMT_SHIELD_CONTROL_ONLY 1  // none of a control token

typedef struct PmtTokenizer PmtTokenizer;
typedef struct PmtTemplate PmtTemplate;

// Borrowed bytes. `data` may be null if `size` is 0.
typedef struct PmtText {
  const char* data;
  size_t size;
} PmtText;

// Owned bytes; free with pmt_buffer_free. Start from all zero.
typedef struct PmtBuffer {
  char* data;
  size_t size;
} PmtBuffer;

// Owned token ids; free with pmt_ids_free. Start from all zero.
typedef struct PmtIds {
  uint32_t* data;
  size_t size;
} PmtIds;

// The `tokenizer.ggml.*` values of a GGUF file.
typedef struct PmtVocabulary {
  PmtText model;          // text: "gpt2" or "llama"
  PmtText pre;            // text; empty if the file has none
  const PmtText* tokens;  // text, [token_count]
  size_t token_count;
  const float* scores;  // [score_count]; token_count or none
  size_t score_count;
  const int32_t* types;  // [type_count]; token_count or none
  size_t type_count;
  const PmtText* merges;  // text, [merge_count]
  size_t merge_count;
  int64_t unknown_id;        // -1: none
  uint8_t add_space_prefix;  // bool
} PmtVocabulary;

// One prompt. The JSON texts may be empty, which is None to the template.
typedef struct PmtRequest {
  PmtText messages;               // JSON array
  PmtText tools;                  // JSON array
  PmtText documents;              // JSON array
  PmtText special_tokens;         // JSON object: bos_token, eos_token, ...; trusted, never shielded
  PmtText variables;              // JSON object: enable_thinking, ...; wins over special_tokens
  uint8_t add_generation_prompt;  // bool
  uint8_t continue_final_message;  // bool: end the prompt after the last message's text
  int64_t local_time_s;           // seconds since 1970-01-01 00:00 on the local clock
  size_t output_bytes_max;
  const PmtTokenizer* shield;  // whose added tokens the input must not imitate; null: render it as it is
} PmtRequest;

void pmt_buffer_free(PmtBuffer* buffer);
void pmt_ids_free(PmtIds* ids);

// Build a tokenizer from a vocabulary, or from the text of a tokenizer.json.
PmtStatus pmt_tokenizer_from_vocabulary(const PmtVocabulary* vocabulary, PmtTokenizer** tokenizer, PmtBuffer* message);
PmtStatus pmt_tokenizer_from_json(PmtText json, PmtTokenizer** tokenizer, PmtBuffer* message);
void pmt_tokenizer_free(PmtTokenizer* tokenizer);  // null is fine

// Ids of a text in which nothing is an added token. Any bytes: what is not UTF-8 reads as U+FFFD.
PmtStatus pmt_tokenizer_encode(const PmtTokenizer* tokenizer, PmtText bytes, PmtIds* ids, PmtBuffer* message);
// Ids of a rendered template: added tokens are found, U+FDD0 is removed.
PmtStatus pmt_tokenizer_encode_rendered(const PmtTokenizer* tokenizer, PmtText text, PmtIds* ids, PmtBuffer* message);
// `text` with U+FDD0 put into everything that looks like an added token (`which`: PMT_SHIELD_*). Fails if it holds U+FDD0.
PmtStatus pmt_tokenizer_shield(const PmtTokenizer* tokenizer, PmtText text, int32_t which, PmtBuffer* shielded,
                               PmtBuffer* message);

// 1 if a text gets a space before it, as SentencePiece does, which its decoded form does not show.
uint8_t pmt_tokenizer_adds_space_prefix(const PmtTokenizer* tokenizer);
size_t pmt_tokenizer_vocabulary_size(const PmtTokenizer* tokenizer);
// The bytes a token prints, valid as long as the tokenizer; empty for an id that is not in the vocabulary.
PmtText pmt_tokenizer_token_bytes(const PmtTokenizer* tokenizer, uint32_t id);
PmtTokenKind pmt_tokenizer_token_kind(const PmtTokenizer* tokenizer, uint32_t id);  // unknown ids: unused
size_t pmt_tokenizer_added_count(const PmtTokenizer* tokenizer);
// Id of the added token at `index` (below pmt_tokenizer_added_count).
uint32_t pmt_tokenizer_added_id(const PmtTokenizer* tokenizer, size_t index);

PmtStatus pmt_template_compile(PmtText source, PmtTemplate** compiled, PmtBuffer* message);
PmtStatus pmt_template_render(const PmtTemplate* compiled, const PmtRequest* request, PmtBuffer* prompt,
                              PmtBuffer* message);
void pmt_template_free(PmtTemplate* compiled);  // null is fine

#ifdef __cplusplus
}

// The Rust side has the same layouts (64-bit machines only); its tests look for these lines.
static_assert(sizeof(PmtText) == 16, "");
static_assert(sizeof(PmtBuffer) == 16, "");
static_assert(sizeof(PmtIds) == 16, "");
static_assert(sizeof(PmtVocabulary) == 112, "");
static_assert(sizeof(PmtRequest) == 112, "");
#endif
