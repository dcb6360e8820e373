#include "engine/step_limits.h"

#include <algorithm>

namespace pagemill {

namespace {

constexpr int32_t kRows = 2048, kRowsOfLargeGpu = 8192;
constexpr uint64_t kLargeGpuBytes = uint64_t{40} << 30;
constexpr double kMs = 200, kMsOfGpu = 60;

}  // namespace

StepLimits step_limits(const EngineOptions& options, const DeviceInfo& device) {
  const bool gpu = device.kind == DeviceKind::cuda;
  const int32_t rows = gpu && device.memory_total_bytes >= kLargeGpuBytes ? kRowsOfLargeGpu : kRows;
  return {.rows = options.max_num_batched_tokens.value_or(std::max(rows, options.max_num_seqs)), .max_ms = options.max_step_ms.value_or(gpu ? kMsOfGpu : kMs)};
}

}  // namespace pagemill
