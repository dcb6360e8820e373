// ZipReader: named entries of a ZIP archive in memory (PKWARE's APPNOTE 6.3: stored and deflated, without ZIP64), for archives that nobody
// trusts. Every offset is checked, the bytes that really come are counted, nothing is written anywhere.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "chat/problem.h"

namespace pagemill::chat {

struct ZipLimits {
  uint64_t entries_max = 2'000;
  uint64_t part_bytes_max = 64u << 20, total_bytes_max = 96u << 20;  // inflated
  uint64_t ratio_max = 200;              // inflated to packed, beyond the first MiB
};

class ZipReader {
 public:
  /// Reads the directory. `bytes` must outlive the reader. Problems: damaged, encrypted, bomb (too many entries, or entries that overlap).
  static Outcome<ZipReader> open(std::string_view bytes, const ZipLimits& limits = {});
  /// The entry's bytes; empty where there is none of that name.
  Outcome<std::string> read(const std::string& name);

 private:
  struct Entry {
    uint64_t offset = 0, packed = 0;
    uint16_t method = 0;
  };
  Outcome<void> read_directory();

  std::string_view bytes_;
  ZipLimits limits_;
  std::map<std::string, Entry> entries_;
  uint64_t total_ = 0;
};

}  // namespace pagemill::chat
