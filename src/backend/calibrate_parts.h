// Parts of a buffer that reading probes take in turn.
#pragma once

#include <cstddef>

namespace pagemill::calibrate {

/// Whoever asks gets the next part: one comes round again only after all others, so that caches smaller than the rest have lost it. All probes of a
/// buffer share one of these. (With one each, in step, every probe but the first read what a cache of `part` bytes still held of the one before.)
class Parts {
 public:
  /// Parts of `part` bytes; 0 < part <= bytes. What is left at the end is not read.
  Parts(const std::byte* data, size_t bytes, size_t part) : data_(data), count_(bytes / part), part_(part) {}
  const std::byte* next() { return data_ + next_++ % count_ * part_; }

 private:
  const std::byte* data_;
  size_t count_, part_, next_ = 0;
};

}  // namespace pagemill::calibrate
