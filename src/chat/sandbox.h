// Sandbox: takes everything from a process that a reader of documents does not need, before it looks at the first byte: memory, time and
// output are bounded, no socket, no other process, no file but the system's libraries, fonts and character maps.
//
// Files are hidden by Landlock, or where the kernel has none by a mount namespace with a small root; system calls are allowed by list (seccomp).
#pragma once

#include <string>

namespace pagemill::chat {

inline constexpr int kNoSandboxExit = 90, kNoReaderExit = 91;
inline constexpr const char* kPdfToText = "/usr/bin/pdftotext";

enum class FilesHidden { no, landlock, mounts };

struct Confinement {
  FilesHidden files = FilesHidden::no;
  bool calls = false;                    // the seccomp filter is in force
  std::string reason;                    // why not
  bool whole() const { return files != FilesHidden::no && calls; }
};

/// For this process and what it becomes. `runs_reader`: it will execute kPdfToText. Cannot be undone.
Confinement confine_process(bool runs_reader);

}  // namespace pagemill::chat
