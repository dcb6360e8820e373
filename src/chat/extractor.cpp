// The parent's side: start the child, feed it nothing but a descriptor, read its answer within bounds of time and size.
#include "chat/extractor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include <fmt/format.h>

#include "base/limits.h"
#include "base/log.h"
#include "chat/sandbox.h"

namespace pagemill::chat {
namespace {

constexpr std::chrono::seconds kWallTime{30};
constexpr size_t kErrorBytes = 4'096, kWarnings = 100;

struct Finished {
  std::string output, errors;
  int status = 0;                        // of waitpid()
  bool timed_out = false, too_large = false;
};

class File {
 public:
  explicit File(int fd = -1) : fd_(fd) {}
  ~File() { reset(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return fd_; }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

bool make_pipe(File& read_end, File& write_end) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  read_end.reset(ends[0]);
  write_end.reset(ends[1]);
  return true;
}

/// Collects both pipes until they are closed, or the child is over its time or output.
void collect(pid_t child, const File& output, const File& errors, Finished& finished) {
  const auto deadline = std::chrono::steady_clock::now() + kWallTime;
  std::array<pollfd, 2> files{{{output.get(), POLLIN, 0}, {errors.get(), POLLIN, 0}}};
  std::array<char, 65'536> buffer;
  while (files[0].fd >= 0 || files[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) finished.timed_out = true;
    if (finished.output.size() > 3 * limits::kDocumentTextBytes) finished.too_large = true;
    if (finished.timed_out || finished.too_large) {
      kill(child, SIGKILL);
      return;
    }
    if (poll(files.data(), files.size(), static_cast<int>(left)) < 0) continue;
    for (size_t i = 0; i < files.size(); ++i) {
      if (files[i].fd < 0 || files[i].revents == 0) continue;
      const ssize_t got = ::read(files[i].fd, buffer.data(), buffer.size());
      if (got <= 0) files[i].fd = -1;
      else if (i == 0) finished.output.append(buffer.data(), static_cast<size_t>(got));
      else if (finished.errors.size() < kErrorBytes) finished.errors.append(buffer.data(), static_cast<size_t>(got));
    }
  }
}

Outcome<Finished> run_child(const std::filesystem::path& program, const char* kind, const std::filesystem::path& file) {
  const auto failed = [](const char* what) { return refuse(500, "internal", fmt::format("A reader for documents could not be started ({}).", what)); };
  File input(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (input.get() < 0) return failed("file");
  File output, output_write, errors, errors_write;
  if (!make_pipe(output, output_write) || !make_pipe(errors, errors_write)) return failed("pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, output_write.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, errors_write.get(), 2);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  const char* const arguments[] = {"pagemill", "extract-document", kind, nullptr};
  const char* const environment[] = {"LC_ALL=C.UTF-8", nullptr};
  pid_t child = 0;
  const int code = posix_spawn(&child, program.c_str(), &actions, &attributes, const_cast<char**>(arguments), const_cast<char**>(environment));
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (code != 0) return failed("spawn");
  output_write.reset();
  errors_write.reset();
  Finished finished;
  collect(child, output, errors, finished);
  while (waitpid(child, &finished.status, 0) < 0 && errno == EINTR) {}
  return finished;
}

Outcome<void> check_ending(const Finished& finished) {
  if (finished.timed_out) return refuse(400, "timeout", "Reading this document takes too long: it may be damaged, or very large.");
  if (finished.too_large) return refuse(400, "too_large", "This document holds too much text.");
  if (WIFSIGNALED(finished.status)) {
    const int signal = WTERMSIG(finished.status);
    log_warning("a reader of a document was ended by signal {}", signal);
    if (signal == SIGXCPU || signal == SIGKILL) return refuse(400, "timeout", "Reading this document takes too long: it may be damaged.");
    return refuse(400, "damaged", "This document is damaged: it could not be read.");
  }
  if (WEXITSTATUS(finished.status) == kNoSandboxExit) return refuse(400, "no_sandbox", "This machine cannot confine a reader of documents: " + finished.errors.substr(0, 200));
  return {};
}

Outcome<Extracted> read_pdf(const Finished& finished) {
  if (WEXITSTATUS(finished.status) == kNoReaderExit) return refuse(400, "no_pdf_reader", "pdftotext is not installed on the server (Debian: poppler-utils).");
  if (finished.errors.find("Incorrect password") != std::string::npos || WEXITSTATUS(finished.status) == 3) return refuse(400, "encrypted", "This PDF is protected by a password: save it without one.");
  if (WEXITSTATUS(finished.status) != 0 && finished.output.empty()) return refuse(400, "damaged", "This PDF is damaged: it could not be read.");
  Extracted extracted{"pdf", {}, "", {}};
  std::string_view rest = finished.output;
  bool any = false;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\f'), rest.size());
    extracted.pages.emplace_back(rest.substr(0, end));
    any |= extracted.pages.back().find_first_not_of(" \t\r\n") != std::string::npos;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (!any) return refuse(400, "scanned", "This PDF has no text, only pictures of it (a scan): run it through text recognition first.");
  return extracted;
}

Outcome<Extracted> read_answer(const Finished& finished) {
  auto parsed = parse_json(finished.output);
  if (!parsed || !parsed->is_object()) return refuse(400, "damaged", "This document is damaged: it could not be read.");
  const json::object& answer = parsed->get_object();
  // A hostile document may have taken the child over: nothing that it says is relied on.
  const auto text = [](const json::object& object, std::string_view name) -> std::optional<std::string> {
    const json::value* value = object.if_contains(name);
    return value && value->is_string() ? std::optional(std::string(value->get_string())) : std::nullopt;
  };
  const auto damaged = [] { return refuse(400, "damaged", "This document is damaged: it could not be read."); };
  if (const json::value* error = answer.if_contains("error")) {
    const auto reason = error->is_object() ? text(error->get_object(), "reason") : std::nullopt, message = error->is_object() ? text(error->get_object(), "message") : std::nullopt;
    if (!reason || !message || reason->size() > kErrorBytes || message->size() > kErrorBytes) return damaged();
    return refuse(400, *reason, *message);
  }
  const auto kind = text(answer, "kind"), content = text(answer, "text"), encoding = text(answer, "encoding");
  const json::value* warnings = answer.if_contains("warnings");
  if (!kind || (*kind != "text" && *kind != "docx") || !content || !encoding || encoding->size() > kErrorBytes || !warnings || !warnings->is_array() || warnings->get_array().size() > kWarnings) return damaged();
  if (content->size() > limits::kDocumentTextBytes) return refuse(400, "too_large", "This document holds too much text.");
  Extracted extracted{*kind, {*content}, *encoding, {}};
  for (const json::value& warning : warnings->get_array()) {
    if (!warning.is_string() || warning.get_string().size() > kErrorBytes) return damaged();
    extracted.warnings.emplace_back(warning.get_string());
  }
  return extracted;
}

}  // namespace

FileKind sniff(std::string_view bytes) {
  if (bytes.substr(0, 1'024).find("%PDF-") != std::string_view::npos) return FileKind::pdf;
  if (bytes.starts_with("PK\x03\x04")) return bytes.find("word/document.xml") != std::string_view::npos || bytes.find("[Content_Types].xml") != std::string_view::npos ? FileKind::docx : FileKind::other_archive;
  if (bytes.starts_with("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1")) {
    using namespace std::string_view_literals;
    return bytes.find("E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0"sv) != std::string_view::npos ? FileKind::encrypted_office : FileKind::legacy_office;
  }
  return FileKind::text;
}

Outcome<Extracted> extract(const std::filesystem::path& program, const std::filesystem::path& file) {
  std::string bytes;
  {
    File input(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 65'536> buffer;
    for (ssize_t got = 0; (got = ::read(input.get(), buffer.data(), buffer.size())) > 0;) bytes.append(buffer.data(), static_cast<size_t>(got));
  }
  const FileKind kind = sniff(bytes);
  if (bytes.empty()) return refuse(400, "empty", "This file is empty.");
  if (kind == FileKind::legacy_office) return refuse(400, "legacy_doc", "This is an old Office format (.doc, .xls, .ppt): save it as .docx or PDF.");
  if (kind == FileKind::encrypted_office) return refuse(400, "encrypted", "This document is protected by a password: save it without one.");
  if (kind == FileKind::other_archive) return refuse(400, "unsupported_type", "Archives cannot be read: upload the documents inside.");
  bytes.clear();
  bytes.shrink_to_fit();
  PM_ASSIGN(const Finished finished, run_child(program, kind == FileKind::pdf ? "pdf" : kind == FileKind::docx ? "docx" : "text", file));
  PM_TRY(check_ending(finished));
  return kind == FileKind::pdf ? read_pdf(finished) : read_answer(finished);
}

SandboxProbe probe_sandbox(const std::filesystem::path& program) {
  SandboxProbe probe;
  const auto finished = run_child(program, "probe", "/dev/null");
  if (!finished) return probe.reason = finished.error().message, probe;
  auto parsed = parse_json(finished->output);
  if (!parsed || !parsed->is_object()) return probe.reason = "the reader of documents does not start", probe;
  probe.seen = std::move(parsed->get_object());
  const auto flag = [&](const char* name) {
    const json::value* value = probe.seen.if_contains(name);
    return value && value->is_bool() && value->get_bool();
  };
  probe.confined = flag("confined") && !flag("socket") && !flag("passwd");
  probe.pdf = probe.confined && flag("pdftotext");
  if (!probe.confined) probe.reason = "this kernel offers neither Landlock nor a mount namespace to the server";
  else if (!probe.pdf) probe.reason = "pdftotext is not installed (Debian: poppler-utils)";
  return probe;
}

}  // namespace pagemill::chat
