// The Rust library's C ABI in C++ terms: owned results and errors. Only for the .cpp files of this folder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "pagemill_text.h"

namespace pagemill::rust {

inline PmtText borrow(std::string_view text) { return {text.data(), text.size()}; }

/// A buffer of the library's, freed with it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { pmt_buffer_free(&buffer_); }

  PmtBuffer* out() { return &buffer_; }
  std::string_view view() const { return {buffer_.data, buffer_.size}; }
  std::string text() const { return std::string(view()); }

 private:
  PmtBuffer buffer_{};
};

/// Token ids of the library's, freed with it.
class Ids {
 public:
  Ids() = default;
  Ids(const Ids&) = delete;
  Ids& operator=(const Ids&) = delete;
  ~Ids() { pmt_ids_free(&ids_); }

  PmtIds* out() { return &ids_; }
  std::vector<int32_t> ids() const { return {ids_.data, ids_.data + ids_.size}; }

 private:
  PmtIds ids_{};
};

/// Nothing for PMT_OK, else the error that `message` describes. `invalid` is the code of a wrong input.
Result<void> check(PmtStatus status, const Buffer& message, ErrorCode invalid);

}  // namespace pagemill::rust
