// The flags that say how a GPU computes, and the backend on it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "backend/backend.h"
#include "base/result.h"

namespace pagemill {

struct GpuFlags {
  std::string dtype = "auto";          // of activations, weights on the GPU and KV: f16, bf16
  double memory_utilization = 0.92;
  bool enforce_eager = false;
  bool deterministic = false;
  int cuda_arch = 0;                   // 0 = the GPU's own

  /// Declares them, except --dtype, in `group`. `command` keeps pointers: the flags must outlive it.
  void declare(CLI::App& command, const std::string& group);
};

/// "cuda" and "auto" are 0, "cuda:1" is 1.
Result<int> gpu_index(const std::string& device);

/// The backend on the GPU that `device` names: "cuda", "cuda:1", or "auto": the first GPU. Null where the CPU is to compute: "cpu", and
/// "auto" where there is no GPU that this build can use. `model` is the file, whose types decide --dtype auto. `threads` read weights.
Result<std::unique_ptr<Backend>> make_gpu_backend(const std::string& device, const GpuFlags& flags, const std::filesystem::path& model, int threads);

}  // namespace pagemill
