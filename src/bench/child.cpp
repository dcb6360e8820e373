#include "bench/child.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace pagemill {
namespace {

constexpr size_t kOutputBytesMax = 16u << 20;

Result<pid_t> start(const std::filesystem::path& program, const std::vector<std::string>& arguments, int output) {
  std::string name = program.string();
  std::vector<std::string> copies = arguments;
  std::vector<char*> argv{name.data()};
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const int error = posix_spawnp(&child, name.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail(ErrorCode::io, fmt::format("{} cannot be started: {}.", name, std::strerror(error)));
  return child;
}

}  // namespace

Result<std::string> run_and_read(const std::filesystem::path& program, const std::vector<std::string>& arguments) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::io, fmt::format("No pipe: {}.", std::strerror(errno)));
  const auto child = start(program, arguments, ends[1]);
  close(ends[1]);
  std::string output;
  char block[65536];
  bool too_long = false;
  for (ssize_t n; child && ((n = read(ends[0], block, sizeof block)) > 0 || (n < 0 && errno == EINTR));) {
    if (n <= 0) continue;
    too_long = too_long || output.size() + n > kOutputBytesMax;
    if (!too_long) output.append(block, n);
  }
  close(ends[0]);
  if (!child) return tl::unexpected(child.error());
  int status = 0;
  while (waitpid(*child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return fail(ErrorCode::io, fmt::format("{} was ended by signal {}.", program.string(), WTERMSIG(status)));
  if (WEXITSTATUS(status) != 0) return fail(ErrorCode::io, fmt::format("{} failed with status {}.", program.string(), WEXITSTATUS(status)));
  if (too_long) return fail(ErrorCode::io, fmt::format("{} printed more than 16 MiB.", program.string()));
  return output;
}

}  // namespace pagemill
