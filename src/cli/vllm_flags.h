// vLLM's flags that `pagemill serve` does not have, each with what to do instead.
#pragma once

#include <span>
#include <string_view>

namespace pagemill {

struct RefusedFlag {
  std::string_view name;    // without the dashes
  std::string_view advice;  // a whole sentence
};

std::span<const RefusedFlag> refused_vllm_flags();

}  // namespace pagemill
