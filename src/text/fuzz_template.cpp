// Chat templates: any source and any messages render or fail, within the bounds. Input: template, NUL, messages.
#include <cstdlib>
#include <string_view>

#include "base/json.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const auto compiled = pagemill::ChatTemplate::compile(input.substr(0, cut));
  if (!compiled) return 0;
  pagemill::TemplateInput request;
  request.messages = cut == std::string_view::npos ? R"([{"role":"user","content":"hi"}])" : input.substr(cut + 1);
  request.special_tokens = R"({"bos_token":"<s>","eos_token":"</s>"})";
  request.add_generation_prompt = true;
  request.output_bytes_max = 65'536;
  const auto prompt = compiled->render(request);
  if (prompt && (prompt->size() > 65'536 || !pagemill::valid_utf8(*prompt))) std::abort();
  return 0;
}
