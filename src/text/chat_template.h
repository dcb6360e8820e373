// ChatTemplate: messages → prompt text, as Hugging Face's apply_chat_template does it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct PmtTemplate;

namespace pagemill {

class Tokenizer;

/// What a template is given. The JSON texts may be empty, which the template sees as None.
struct TemplateInput {
  std::string_view messages;             // array
  std::string_view tools = {};           // array
  std::string_view documents = {};       // array
  std::string_view special_tokens = {};  // object: bos_token, eos_token, …; trusted, never shielded
  std::string_view variables = {};       // object: enable_thinking, …; wins over special_tokens
  bool add_generation_prompt = false;
  bool continue_final_message = false;   // the prompt ends after the last message's text
  int64_t local_time_s = 0;              // seconds since 1970-01-01 00:00 on the local clock, for strftime_now
  size_t output_bytes_max = 1u << 20;
  const Tokenizer* shield = nullptr;     // breaks up look-alikes of its added tokens; null: the input is taken as it is
};

/// Immutable once made; safe from any thread. Template code reaches nothing but its input; time, memory, nesting and output are
/// bounded, and a template that exceeds them fails its request.
class ChatTemplate {
 public:
  /// Errors give the line.
  static Result<ChatTemplate> compile(std::string_view source);

  /// The prompt. invalid_argument with the template's own words if it refuses the messages (raise_exception).
  Result<std::string> render(const TemplateInput& input) const;

 private:
  struct Free {
    void operator()(PmtTemplate* handle) const;
  };
  explicit ChatTemplate(PmtTemplate* handle) : handle_(handle) {}

  std::unique_ptr<PmtTemplate, Free> handle_;
};

}  // namespace pagemill
