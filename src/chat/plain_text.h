// Plain text of unknown encoding → UTF-8: byte order mark, else strict UTF-8, else uchardet's guess through iconv. Runs in the extractor's child.
#pragma once

#include <string_view>

#include "chat/extractor.h"

namespace pagemill::chat {

/// Line ends become \n, other control characters go. `binary` where it is no text, `too_large` beyond limits::kDocumentTextBytes.
Outcome<Extracted> read_plain_text(std::string_view bytes);

/// Normalises line ends and removes what no text holds; U+FDD0 goes too. For every kind of document.
std::string tidy_text(std::string_view text);

}  // namespace pagemill::chat
