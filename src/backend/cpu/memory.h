// HostBuffer: zeroed memory straight from the system, so that a size that cannot be had is an error and not an abort.
#pragma once

#include <memory>
#include <string_view>

#include "backend/backend.h"

namespace pagemill {

class HostBuffer final : public DeviceBuffer {
 public:
  /// Zeroed and page-aligned; pages are taken as they are first written, huge ones for 4 MiB and more. Refuses what the machine or the cgroup does not have free.
  /// `purpose` names it in the error.
  static Result<std::unique_ptr<HostBuffer>> make(size_t bytes, std::string_view purpose);
  ~HostBuffer() override;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  std::byte* data() override { return data_; }
  size_t size_bytes() const override { return bytes_; }
  float* floats() { return reinterpret_cast<float*>(data_); }

 private:
  HostBuffer(std::byte* data, size_t bytes, void* mapped, size_t mapped_bytes)
      : data_(data), bytes_(bytes), mapped_(mapped), mapped_bytes_(mapped_bytes) {}
  std::byte* data_;
  size_t bytes_;
  void* mapped_;         // what the system gave: data_ lies in it at a huge page's start where it is large
  size_t mapped_bytes_;
};

}  // namespace pagemill
