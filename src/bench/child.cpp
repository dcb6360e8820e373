#include "bench/child.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace pagemill {
namespace {

constexpr size_t kOutputBytesMax = 16u << 20;

Result<pid_t> start(const std::filesystem::path& program, const std::vector<std::string>& arguments, int output, int errors) {
  std::string name = program.string();
  std::vector<std::string> copies = arguments;
  std::vector<char*> argv{name.data()};
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
  pid_t child = 0;
  const int error = posix_spawnp(&child, name.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail(ErrorCode::io, fmt::format("{} cannot be started: {}.", name, std::strerror(error)));
  return child;
}

/// A pipe whose write end is the child's.
struct Pipe {
  int ends[2] = {-1, -1};
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  void close_end(int end) {
    if (ends[end] >= 0) close(ends[end]);
    ends[end] = -1;
  }
};

/// Takes what is there; false at the end. What is more than the bound is read and dropped.
bool read_some(int from, std::string& to, bool& too_long) {
  char block[65536];
  const ssize_t n = read(from, block, sizeof block);
  if (n < 0) return errno == EINTR;
  too_long = too_long || to.size() + static_cast<size_t>(n) > kOutputBytesMax;
  if (!too_long) to.append(block, static_cast<size_t>(n));
  return n > 0;
}

bool read_all(Pipe& out, Pipe& errors, ChildOutput& to) {
  bool too_long = false, errors_too_long = false;
  while (out.ends[0] >= 0 || errors.ends[0] >= 0) {
    pollfd waiting[2] = {{.fd = out.ends[0], .events = POLLIN, .revents = 0}, {.fd = errors.ends[0], .events = POLLIN, .revents = 0}};
    if (poll(waiting, 2, -1) < 0) continue;
    if (waiting[0].revents != 0 && !read_some(out.ends[0], to.out, too_long)) out.close_end(0);
    if (waiting[1].revents != 0 && !read_some(errors.ends[0], to.errors, errors_too_long)) errors.close_end(0);
  }
  return !too_long;
}

std::string last_line(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1).substr(0, 200));
}

}  // namespace

Result<ChildOutput> run_and_read(const std::filesystem::path& program, const std::vector<std::string>& arguments) {
  Pipe out, errors;
  if (pipe2(out.ends, O_CLOEXEC) != 0 || pipe2(errors.ends, O_CLOEXEC) != 0) return fail(ErrorCode::io, fmt::format("No pipe: {}.", std::strerror(errno)));
  PM_ASSIGN(const pid_t child, start(program, arguments, out.ends[1], errors.ends[1]));
  out.close_end(1);
  errors.close_end(1);
  ChildOutput output;
  const bool whole = read_all(out, errors, output);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const std::string complaint = output.errors.empty() ? "" : ": " + last_line(output.errors);
  if (WIFSIGNALED(status)) return fail(ErrorCode::io, fmt::format("{} was ended by signal {}{}.", program.string(), WTERMSIG(status), complaint));
  if (WEXITSTATUS(status) != 0) return fail(ErrorCode::io, fmt::format("{} failed with status {}{}.", program.string(), WEXITSTATUS(status), complaint));
  if (!whole) return fail(ErrorCode::io, fmt::format("{} printed more than 16 MiB.", program.string()));
  return output;
}

}  // namespace pagemill
