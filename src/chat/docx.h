// Word documents (OOXML, ECMA-376) → text with Markdown's headings and tables. Runs in the extractor's child.
//
// Only the parts that hold text are inflated, with every inflated byte counted; nothing is ever written to disk; a part with a DOCTYPE
// is refused, for OOXML has none. Deleted and hidden text is left out, the latter with a warning.
#pragma once

#include <string_view>

#include "chat/extractor.h"

namespace pagemill::chat {

inline constexpr int kDocxDepthMax = 256;

/// Problems: damaged, encrypted, bomb, unsupported_type, too_large, empty.
Outcome<Extracted> read_docx(std::string_view bytes);

}  // namespace pagemill::chat
