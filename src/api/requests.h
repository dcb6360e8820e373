// The bodies of the API: JSON → typed requests, checked by tables (fields.h). Nothing here knows sockets or the engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/fields.h"
#include "base/json.h"
#include "base/result.h"
#include "session/session.h"

namespace pagemill::api {

inline constexpr size_t kPromptsMax = 1'024;      // of one completion or embedding request
inline constexpr size_t kMessagesMax = 65'536;

using Prompt = std::variant<TextPrompt, TokenPrompt>;

/// What chat completions and completions have in common, and what is peculiar to each.
struct GenerationBody {
  std::string model;
  bool stream = false;
  bool stream_options = false;             // were given
  bool include_usage = false;
  bool continuous_usage = false;
  SamplingParams sampling;
  std::vector<std::string> stop;
  std::vector<std::string> bad_words;
  bool include_stop = false;
  bool skip_special_tokens = true;
  bool echo = false;
  bool return_token_ids = false;
  bool return_tokens_as_ids = false;       // "token_id:7" in place of texts
  int32_t priority = 0;
  std::string cache_salt;
  std::string request_id;
  std::optional<int32_t> max_completion_tokens;
  std::optional<int32_t> default_max_tokens;  // where the request names none; none = what the context leaves

  // Chat.
  ChatPrompt chat;
  bool chat_logprobs = false;
  int32_t top_logprobs = 0;
  std::string tool_choice;

  // Completions.
  std::vector<Prompt> prompts;
  bool add_special_tokens = true;
  std::optional<int32_t> completion_logprobs;
};

struct EmbeddingBody {
  std::string model;
  std::vector<Prompt> inputs;
  bool base64 = false;
};

struct TokenizeBody {
  std::string model;
  std::optional<std::string> prompt;
  std::optional<ChatPrompt> chat;
  bool add_special_tokens = true;
  bool return_token_strings = false;
  bool add_generation_prompt = true, continue_final_message = false;
  json::object template_arguments;
};

struct DetokenizeBody {
  std::string model;
  std::vector<int32_t> tokens;
};

/// `defaults`: for fields that the request leaves out. Names of fields nobody knows go to `unknown`.
Result<GenerationBody> read_chat_body(const json::value& body, const SamplingDefaults& defaults, std::vector<std::string>& unknown);
Result<GenerationBody> read_completion_body(const json::value& body, const SamplingDefaults& defaults, std::vector<std::string>& unknown);
Result<EmbeddingBody> read_embedding_body(const json::value& body, std::vector<std::string>& unknown);
Result<TokenizeBody> read_tokenize_body(const json::value& body, std::vector<std::string>& unknown);
Result<DetokenizeBody> read_detokenize_body(const json::value& body, std::vector<std::string>& unknown);

/// Their schemas, from the same tables.
json::object chat_body_schema();
json::object completion_body_schema();
json::object embedding_body_schema();
json::object tokenize_body_schema();
json::object detokenize_body_schema();

/// Checks messages and brings them into the form that templates expect: texts in parts joined by line breaks, "developer"
/// as "system", a tool call's arguments as an object.
Result<json::array> read_messages(const json::array& messages);
/// A prompt field: a text, token ids, or a list of either.
Result<std::vector<Prompt>> read_prompts(const json::value& value, std::string_view field, bool add_special_tokens);

}  // namespace pagemill::api
