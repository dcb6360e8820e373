// The child's side of the extractor: confine, then read.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <new>

#include "base/limits.h"
#include "chat/docx.h"
#include "chat/extractor.h"
#include "chat/plain_text.h"
#include "chat/sandbox.h"

namespace pagemill::chat {
namespace {

/// Written by hand in pieces: a short write is no reason to lose the rest.
bool write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(1, bytes.data(), bytes.size());
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

int answer(const Outcome<Extracted>& extracted) {
  json::object out;
  if (!extracted) {
    out["error"] = json::object{{"reason", extracted.error().reason}, {"message", extracted.error().message}};
  } else {
    json::array warnings;
    for (const std::string& one : extracted->warnings) warnings.emplace_back(one);
    out = {{"kind", extracted->kind}, {"text", extracted->pages.front()}, {"encoding", extracted->encoding}, {"warnings", std::move(warnings)}};
  }
  return write_all(json::serialize(out)) ? 0 : 1;
}

bool opens(const char* path) {
  const int fd = ::open(path, O_RDONLY);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

/// What can still be done from in here.
int probe() {
  const bool pdftotext = access(kPdfToText, X_OK) == 0;
  const Confinement confinement = confine_process(true);
  const int network = ::socket(AF_INET, SOCK_STREAM, 0), local = ::socket(AF_UNIX, SOCK_STREAM, 0);
  const int made = ::open("/tmp/pagemill-probe", O_CREAT | O_WRONLY, 0600);
  // Not even a child: fork() fails.
  const pid_t child = fork();
  if (child == 0) _exit(0);
  json::object seen{{"confined", confinement.whole()},
                    {"files", confinement.files == FilesHidden::landlock ? "landlock" : confinement.files == FilesHidden::mounts ? "mounts" : "visible"},
                    {"reason", confinement.reason},
                    {"pdftotext", pdftotext},
                    {"socket", network >= 0 || local >= 0},
                    {"passwd", opens("/etc/passwd")},
                    {"self", opens("/proc/self/environ")},
                    {"writes", made >= 0},
                    {"forks", child > 0},
                    {"executes", access("/bin/sh", X_OK) == 0 && opens("/bin/sh")}};
  return write_all(json::serialize(seen)) ? 0 : 1;
}

int read_pdf() {
  if (access(kPdfToText, X_OK) != 0) return kNoReaderExit;
  if (const Confinement confinement = confine_process(true); !confinement.whole()) {
    (void)!::write(2, confinement.reason.data(), confinement.reason.size());
    return kNoSandboxExit;
  }
  const char* const arguments[] = {"pdftotext", "-enc", "UTF-8", "-", "-", nullptr};
  const char* const environment[] = {"LC_ALL=C.UTF-8", nullptr};
  execve(kPdfToText, const_cast<char**>(arguments), const_cast<char**>(environment));
  return kNoReaderExit;
}

std::string read_input() {
  std::string bytes;
  std::array<char, 65'536> buffer;
  for (ssize_t got = 0; (got = ::read(0, buffer.data(), buffer.size())) > 0 && bytes.size() <= limits::kDocumentBytes;) bytes.append(buffer.data(), static_cast<size_t>(got));
  return bytes;
}

}  // namespace

namespace {

int run(std::string_view kind) {
  if (kind == "probe") return probe();
  if (kind == "pdf") return read_pdf();
  const Confinement confinement = confine_process(false);
  if (kind == "docx" && !confinement.whole()) {
    (void)!::write(2, confinement.reason.data(), confinement.reason.size());
    return kNoSandboxExit;
  }
  // A plain text is no danger to its reader: it is read with what confinement there is.
  try {
    const std::string bytes = read_input();
    return answer(kind == "docx" ? read_docx(bytes) : read_plain_text(bytes));
  } catch (const std::bad_alloc&) {
    return answer(refuse(400, "too_large", "This document needs too much memory."));
  }
}

}  // namespace

/// Without a program's usual end: nothing in here is to be tidied up, and much of that is forbidden.
void run_extractor_child(std::string_view kind) { _exit(run(kind)); }

}  // namespace pagemill::chat
