#include "text/chat_template.h"

#include "text/rust_result.h"
#include "text/tokenizer.h"

namespace pagemill {

void ChatTemplate::Free::operator()(PmtTemplate* handle) const { pmt_template_free(handle); }

Result<ChatTemplate> ChatTemplate::compile(std::string_view source) {
  PmtTemplate* handle = nullptr;
  rust::Buffer message;
  PM_TRY(rust::check(pmt_template_compile(rust::borrow(source), &handle, message.out()), message, ErrorCode::invalid_file));
  return ChatTemplate(handle);
}

Result<std::string> ChatTemplate::render(const TemplateInput& input) const {
  PmtRequest request{};
  request.messages = rust::borrow(input.messages);
  request.tools = rust::borrow(input.tools);
  request.documents = rust::borrow(input.documents);
  request.special_tokens = rust::borrow(input.special_tokens);
  request.variables = rust::borrow(input.variables);
  request.add_generation_prompt = input.add_generation_prompt;
  request.continue_final_message = input.continue_final_message;
  request.local_time_s = input.local_time_s;
  request.output_bytes_max = input.output_bytes_max;
  request.shield = input.shield == nullptr ? nullptr : input.shield->handle();
  rust::Buffer prompt, message;
  PM_TRY(rust::check(pmt_template_render(handle_.get(), &request, prompt.out(), message.out()), message,
                     ErrorCode::invalid_argument));
  return prompt.text();
}

}  // namespace pagemill
