// Owners of what the runtime hands out, and its errors as ours. All of it belongs to the engine thread of the device.
//
// DeviceStatus keeps the device's first error: CUDA's own sticky errors make every later call fail too, and what a failed device
// computed is worthless, so ops after it do nothing and whoever waits gets this error.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "backend/backend.h"
#include "backend/cuda/runtime.h"

namespace pagemill::cuda {

/// Nothing, or an error that says what was being done. A refused allocation is out_of_memory.
Result<void> as_result(cudaError_t error, std::string_view doing);

class DeviceStatus {
 public:
  bool ok() const { return !failed_; }
  /// Remembers the first error; true where there is none.
  bool take(cudaError_t error, std::string_view doing);
  Result<void> result() const;

 private:
  bool failed_ = false;
  Error error_;
};

/// Device memory. Freeing waits for the device.
class DeviceMemory final : public DeviceBuffer {
 public:
  /// Not zeroed. `purpose` is for the error, which says how much is free.
  static Result<std::unique_ptr<DeviceMemory>> make(size_t bytes, std::string_view purpose);
  ~DeviceMemory() override;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  std::byte* data() override { return data_; }
  size_t size_bytes() const override { return bytes_; }

 private:
  DeviceMemory(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_;
  size_t bytes_;
};

/// Host memory that the device copies from and to by itself.
class PinnedMemory {
 public:
  static Result<std::unique_ptr<PinnedMemory>> make(size_t bytes, std::string_view purpose);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  std::byte* data() { return data_; }
  size_t size_bytes() const { return bytes_; }

 private:
  PinnedMemory(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_;
  size_t bytes_;
};

class Stream {
 public:
  static Result<Stream> make();
  Stream() = default;
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept { std::swap(handle_, other.handle_); return *this; }
  ~Stream();
  cudaStream_t get() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

/// Without timing.
class Event {
 public:
  static Result<Event> make();
  Event() = default;
  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&& other) noexcept { std::swap(handle_, other.handle_); return *this; }
  ~Event();
  cudaEvent_t get() const { return handle_; }

 private:
  cudaEvent_t handle_ = nullptr;
};

}  // namespace pagemill::cuda
