// Which device computes, and how: the flags that serve, chat and bench engine share, and the backend that they ask for.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "backend/backend.h"
#include "base/result.h"
#include "cli/gpu.h"

namespace pagemill {

struct DeviceFlags {
  std::string device = "auto";
  std::string isa = "auto";
  std::string kv_cache_dtype = "auto";
  int threads = 0;  // 0 = what affinity and cgroup allow
  GpuFlags gpu;

  /// Declares them in `group`. `command` keeps pointers: the flags must outlive it.
  void declare(CLI::App& command, const std::string& group);
};

/// Refuses by name a device that this build or machine lacks and an instruction set that this CPU lacks. `model` is the file, whose
/// types decide --dtype auto on a GPU.
Result<std::unique_ptr<Backend>> make_backend(const DeviceFlags& flags, const std::filesystem::path& model);

/// What --kv-cache-dtype says of keys and values, or else --dtype; none = the device's own choice.
Result<std::optional<DType>> kv_dtype_of(const DeviceFlags& flags);

/// The type of keys and values that --kv-cache-dtype names; none = auto, the device's own choice. A device refuses what it lacks.
Result<std::optional<DType>> parse_kv_cache_dtype(const std::string& flag, const std::string& name);

/// "AMD EPYC, avx2, 2 threads": what computes, for the line that a start prints.
std::string describe_device(const DeviceInfo& device, int threads);

}  // namespace pagemill
