#include "chat/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>

namespace pagemill::chat {
namespace {

constexpr rlim_t kMemoryBytes = rlim_t{768} << 20;
constexpr rlim_t kCpuSeconds = 10;

/// What a reader may read; all of it is the distribution's.
constexpr const char* kReadable[] = {"/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/fonts", "/usr/share/fontconfig", "/usr/share/poppler", "/usr/share/i18n", "/etc/ld.so.cache", "/etc/fonts"};

void limit(__rlimit_resource resource, rlim_t value) {
  const rlimit both{value, value};
  setrlimit(resource, &both);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PM_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PM_SANITIZED 1
#endif

void limit_resources() {
#ifndef PM_SANITIZED  // a sanitizer reserves terabytes of addresses
  limit(RLIMIT_AS, kMemoryBytes);
#endif
  limit(RLIMIT_CPU, kCpuSeconds);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NOFILE, 64);
  limit(RLIMIT_CORE, 0);
}

// ---- files ----

constexpr uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;

bool allow(int ruleset, const char* path, uint64_t access) {
  const int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) return false;
  struct stat status{};
  fstat(fd, &status);
  landlock_path_beneath_attr rule{};
  rule.parent_fd = fd;
  rule.allowed_access = S_ISDIR(status.st_mode) ? access : access & ~static_cast<uint64_t>(LANDLOCK_ACCESS_FS_READ_DIR);
  const bool added = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
  close(fd);
  return added;
}

bool hide_files_by_landlock(bool runs_reader) {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 1) return false;
  landlock_ruleset_attr attributes{};
  attributes.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;  // everything of the first version
  const int ruleset = static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes.handled_access_fs, 0));
  if (ruleset < 0) return false;
  for (const char* path : kReadable) allow(ruleset, path, runs_reader ? kRead | LANDLOCK_ACCESS_FS_EXECUTE : kRead);
  if (runs_reader) allow(ruleset, kPdfToText, LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE);
  const bool in_force = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
  close(ruleset);
  return in_force;
}

bool make_path(const std::string& path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) mkdir(path.substr(0, at).c_str(), 0755);
  return true;
}

/// A root of its own: an empty file system with the readable folders bound into it, read-only.
bool hide_files_by_mounts(bool runs_reader) {
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0 && unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) return false;
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  const std::string root = "/tmp";
  if (mount("tmpfs", root.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755") != 0) return false;
  const auto bind = [&](const char* path) {
    struct stat status{};
    if (lstat(path, &status) != 0) return;
    const std::string target = root + path;
    make_path(target);
    if (S_ISLNK(status.st_mode)) {
      char link[256];
      const ssize_t size = readlink(path, link, sizeof link - 1);
      if (size > 0 && symlink(std::string(link, static_cast<size_t>(size)).c_str(), target.c_str()) != 0) return;
      return;
    }
    if (S_ISDIR(status.st_mode)) mkdir(target.c_str(), 0755);
    else close(open(target.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    if (mount(path, target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0) mount("none", target.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, nullptr);
  };
  for (const char* path : kReadable) bind(path);
  if (runs_reader) bind(kPdfToText);
  return chdir(root.c_str()) == 0 && mount(".", "/", nullptr, MS_MOVE, nullptr) == 0 && chroot(".") == 0 && chdir("/") == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

// ---- system calls ----

constexpr const char* kCalls[] = {
    "read", "readv", "pread64", "write", "writev", "close", "lseek", "fstat", "newfstatat", "stat", "lstat", "statx", "open", "openat", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    "getdents64", "fcntl", "dup", "dup2", "dup3", "ioctl", "poll", "ppoll", "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", "set_robust_list", "set_tid_address", "rseq", "arch_prctl", "prlimit64",
    "getrlimit", "sigaltstack", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "clock_gettime", "clock_getres", "gettimeofday", "time", "nanosleep", "clock_nanosleep", "sched_yield", "sched_getaffinity", "getpid",
    "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo", "getcwd", "getrandom", "exit", "exit_group", "tgkill", "fadvise64", "restart_syscall", "getrusage", "membarrier", "fstatfs", "statfs"};

bool filter_calls(bool runs_reader) {
  // What is not on the list fails with EPERM: a library that can do without goes on.
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  if (!filter) return false;
  bool made = true;
  for (const char* name : kCalls)
    if (const int number = seccomp_syscall_resolve_name(name); number != __NR_SCMP_ERROR && number >= 0) made = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0) == 0 && made;
  if (runs_reader) made = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(execve), 0) == 0 && made;
  made = made && seccomp_load(filter) == 0;
  seccomp_release(filter);
  return made;
}

}  // namespace

Confinement confine_process(bool runs_reader) {
  Confinement confinement;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_DUMPABLE, 0);
  if (hide_files_by_landlock(runs_reader)) confinement.files = FilesHidden::landlock;
  else if (hide_files_by_mounts(runs_reader)) confinement.files = FilesHidden::mounts;
  else confinement.reason = "neither Landlock nor a mount namespace can be used here";
  limit_resources();
  confinement.calls = filter_calls(runs_reader);
  if (!confinement.calls && confinement.reason.empty()) confinement.reason = "system calls cannot be filtered (seccomp)";
  return confinement;
}

}  // namespace pagemill::chat
