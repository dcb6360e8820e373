// Extractor: from a file's bytes to its text by pages, in a child process that can do nothing else (sandbox.h). The kind is decided by
// the first bytes, never by a name. Whatever happens in the child becomes an error with a reason; nothing of it reaches the server.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/problem.h"

namespace pagemill::chat {

enum class FileKind : uint8_t { text, pdf, docx, legacy_office, encrypted_office, other_archive };
FileKind sniff(std::string_view bytes);

struct Extracted {
  std::string kind;                      // "pdf", "docx", "text"; Document.kind but for what the name adds
  std::vector<std::string> pages;        // of a PDF its own; of others one
  std::string encoding;                  // of texts: "UTF-8", "GB18030", …
  std::vector<std::string> warnings;
};

/// Reads the file; blocks for up to 30 s. Problems have the reasons of docs/chat_api.md (scanned, encrypted, …).
Outcome<Extracted> extract(const std::filesystem::path& program, const std::filesystem::path& file);

/// What a child of this program can and cannot do here, tried from inside.
struct SandboxProbe {
  bool confined = false;                 // the file system is hidden and no socket can be made
  bool pdf = false;                      // and pdftotext is there
  std::string reason;                    // why not
  json::object seen;                     // the child's own words
};
SandboxProbe probe_sandbox(const std::filesystem::path& program);

/// The child's side: `extract-document KIND` with the file as standard input and its answer on standard output. Ends the process.
[[noreturn]] void run_extractor_child(std::string_view kind);

}  // namespace pagemill::chat
