// NVML by dlopen: the driver's library where there is a driver, nothing where there is none. Only functions that every driver since 2014 has.
#pragma once

#include <memory>
#include <vector>

#include "telemetry/machine_sampler.h"

namespace pagemill {

/// Used by one thread at a time.
class Nvml {
 public:
  /// Null where there is no libnvidia-ml.so.1, or no device that it can see.
  static std::unique_ptr<Nvml> open();
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  const std::vector<GpuInfo>& infos() const { return infos_; }
  std::vector<GpuSample> samples() const;

 private:
  struct Functions;
  Nvml();
  void* library_ = nullptr;
  std::unique_ptr<Functions> functions_;
  std::vector<void*> devices_;           // nvmlDevice_t
  std::vector<GpuInfo> infos_;
};

}  // namespace pagemill
