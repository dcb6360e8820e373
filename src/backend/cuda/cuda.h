// The CUDA backend's front door: which GPUs there are, and a Backend on one of them. Includes nothing of CUDA's, and is there
// in every build: one without CUDA says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/calibrate.h"

namespace pagemill {

struct CudaOptions {
  int device = 0;                     // as CUDA_VISIBLE_DEVICES counts
  DType dtype = DType::f16;           // of activations, weights on the device, and KV: f16 or bf16
  double memory_utilization = 0.92;   // share of the device's memory that may be in use, by whomever (--gpu-memory-utilization)
  bool graphs = true;                 // false: --enforce-eager
  bool deterministic = false;         // a row's value depends on its own tokens alone, as on the CPU
  int arch = 0;                       // 80 forces the portable kernels on a newer device (--cuda-arch); 0 = the device's own
  int threads = 0;                    // that read weights; 0 = what affinity and cgroup allow
};

/// Errors: no driver, too old a driver, no such device, an architecture this build has no kernels for; each says what to do.
Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions& options);

/// The devices, without making a context on any. An error where make_cuda_backend would give one.
Result<std::vector<DeviceInfo>> cuda_devices();

/// A GPU's limits in the shape of a machine's: its name, memory read by all multiprocessors, 16-bit products (0 without cuBLASLt).
/// Takes 0.7 GB of its memory for a second.
Result<MachineLimits> measure_cuda(int device);

}  // namespace pagemill
