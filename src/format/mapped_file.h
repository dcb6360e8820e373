// MappedFile: a file mapped read-only that survives being truncated while in use.
//
// Reading a mapped page that the file no longer has raises SIGBUS. A handler, installed with the first mapping, puts
// zero pages under the missing range and marks the file; faults anywhere else go on to the handler that was there before.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace pagemill {

/// Immutable once open; reads are safe from any thread.
class MappedFile {
 public:
  /// A regular, non-empty file. Holds its descriptor until destroyed.
  static Result<std::unique_ptr<MappedFile>> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& name() const { return name_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  /// Copies the part of bytes() that begins at `from` without mapping a page of it. False where the file does not give all of it:
  /// then `to` holds anything.
  bool read(const std::byte* from, std::span<std::byte> to) const;

  /// An error that names the file once it is shorter than it was when opened, or a page of it could not be read.
  Result<void> check_intact() const;

 private:
  MappedFile(std::string name, int descriptor, std::span<const std::byte> bytes, size_t guard);

  const std::string name_;
  const int descriptor_;
  const std::span<const std::byte> bytes_;
  const size_t guard_;  // its place in the table that the SIGBUS handler reads
};

}  // namespace pagemill
