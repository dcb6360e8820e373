#include "backend/cuda/handles.h"

#include <fmt/format.h>

namespace pagemill::cuda {

namespace {

double mebibytes(size_t bytes) { return static_cast<double>(bytes) / (1u << 20); }

}  // namespace

Result<void> as_result(cudaError_t error, std::string_view doing) {
  if (error == cudaSuccess) return {};
  const ErrorCode code = error == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::io;
  return fail(code, fmt::format("The GPU failed while {}: {} ({}).", doing, cudaGetErrorString(error), cudaGetErrorName(error)));
}

bool DeviceStatus::take(cudaError_t error, std::string_view doing) {
  if (error == cudaSuccess) return !failed_;
  if (failed_) return false;
  failed_ = true;
  error_ = as_result(error, doing).error();
  error_.message += " Start Pagemill again; if it happens again, look at the kernel's log for Xid errors.";
  return false;
}

Result<void> DeviceStatus::result() const {
  if (failed_) return tl::unexpected(error_);
  return {};
}

Result<std::unique_ptr<DeviceMemory>> DeviceMemory::make(size_t bytes, std::string_view purpose) {
  void* data = nullptr;
  if (bytes > 0) {
    if (const cudaError_t error = cudaMalloc(&data, bytes); error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // not sticky: the device is whole
      size_t free_bytes = 0, total = 0;
      (void)cudaMemGetInfo(&free_bytes, &total);
      return fail(ErrorCode::out_of_memory, fmt::format("{} needs {:.0f} MiB of GPU memory and {:.0f} of {:.0f} MiB are free. Lower --max-model-len, "
                                                        "--max-num-seqs or --gpu-memory-utilization, or take a smaller model.",
                                                        purpose, mebibytes(bytes), mebibytes(free_bytes), mebibytes(total)));
    } else if (error != cudaSuccess) {
      return tl::unexpected(as_result(error, fmt::format("allocating {}", purpose)).error());
    }
  }
  return std::unique_ptr<DeviceMemory>(new DeviceMemory(static_cast<std::byte*>(data), bytes));
}
DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) (void)cudaFree(data_);
}

Result<std::unique_ptr<PinnedMemory>> PinnedMemory::make(size_t bytes, std::string_view purpose) {
  void* data = nullptr;
  if (bytes > 0) PM_TRY(as_result(cudaMallocHost(&data, bytes), fmt::format("allocating {:.0f} MiB of pinned host memory for {}", mebibytes(bytes), purpose)));
  return std::unique_ptr<PinnedMemory>(new PinnedMemory(static_cast<std::byte*>(data), bytes));
}
PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) (void)cudaFreeHost(data_);
}

Result<Stream> Stream::make() {
  Stream stream;
  PM_TRY(as_result(cudaStreamCreateWithFlags(&stream.handle_, cudaStreamNonBlocking), "making a stream"));
  return stream;
}
Stream::~Stream() {
  if (handle_ != nullptr) (void)cudaStreamDestroy(handle_);
}

Result<Event> Event::make() {
  Event event;
  PM_TRY(as_result(cudaEventCreateWithFlags(&event.handle_, cudaEventDisableTiming), "making an event"));
  return event;
}
Event::~Event() {
  if (handle_ != nullptr) (void)cudaEventDestroy(handle_);
}

}  // namespace pagemill::cuda
