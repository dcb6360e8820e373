#include "format/gguf_writer.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/check.h"

namespace pagemill {
namespace {

constexpr uint64_t kAlignment = 32;
constexpr size_t kBufferBytes = 4u << 20;

tl::unexpected<Error> refused(const std::filesystem::path& path, const char* action) {
  return fail(ErrorCode::io, fmt::format("{}: cannot {}: {}", path.string(), action, std::strerror(errno)));
}

Result<void> check_room(const std::filesystem::path& path, uint64_t bytes) {
  const std::filesystem::path parent = path.parent_path();
  const std::filesystem::path folder = parent.empty() ? "." : parent;
  struct statvfs disk {};
  if (statvfs(folder.c_str(), &disk) != 0) return refused(folder, "examine the disk");
  const uint64_t room = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (room >= bytes) return {};
  return fail(ErrorCode::io, fmt::format("{}: the file takes {} MB and the disk has {} MB free", path.string(), bytes >> 20, room >> 20));
}

}  // namespace

Result<GgufWriter> GgufWriter::create(const std::filesystem::path& path, const GgufHeader& header) {
  std::string text = header.serialize();
  PM_TRY(check_room(path, text.size() + header.data_bytes()));
  static std::atomic<uint64_t> writers{0};
  std::string temporary = fmt::format("{}.part-{}-{}", path.string(), getpid(), writers++);
  const int descriptor = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) return refused(path, "create a file beside it");
  std::vector<uint64_t> sizes;
  for (const GgufHeader::Tensor& tensor : header.tensors()) sizes.push_back(tensor.bytes);
  GgufWriter writer(path, temporary, descriptor, std::move(sizes));
  writer.buffer_ = std::move(text);
  return writer;
}

GgufWriter::GgufWriter(std::filesystem::path path, std::filesystem::path temporary, int descriptor, std::vector<uint64_t> sizes)
    : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor), sizes_(std::move(sizes)) {}

GgufWriter::GgufWriter(GgufWriter&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)),
      sizes_(std::move(other.sizes_)),
      current_(other.current_),
      current_bytes_(other.current_bytes_),
      buffer_(std::move(other.buffer_)) {}

GgufWriter::~GgufWriter() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Result<void> GgufWriter::append(std::span<const std::byte> bytes) {
  PM_CHECK(current_ < sizes_.size() && bytes.size() <= sizes_[current_] - current_bytes_, "more bytes than the tensor has");
  buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  current_bytes_ += bytes.size();
  if (current_bytes_ == sizes_[current_]) {
    buffer_.append((kAlignment - current_bytes_ % kAlignment) % kAlignment, '\0');
    ++current_;
    current_bytes_ = 0;
  }
  return buffer_.size() < kBufferBytes ? Result<void>() : flush();
}

Result<void> GgufWriter::flush() {
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t written = write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return refused(path_, "write it");
    done += static_cast<size_t>(written);
  }
  buffer_.clear();
  return {};
}

Result<void> GgufWriter::finish() {
  PM_CHECK(current_ == sizes_.size(), "tensor {} of {} is not complete", current_, sizes_.size());
  PM_TRY(flush());
  if (fsync(descriptor_) != 0) return refused(path_, "flush it");
  if (close(std::exchange(descriptor_, -1)) != 0) return refused(path_, "close it");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return refused(path_, "put it in place");
  temporary_.clear();
  return {};
}

}  // namespace pagemill
