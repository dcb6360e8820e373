#include "telemetry/nvml.h"

#include <dlfcn.h>

namespace pagemill {

// Signatures as in nvml.h (NVML API reference); 0 is NVML_SUCCESS.
struct Nvml::Functions {
  struct Memory {
    unsigned long long total, free, used;
  };
  struct Utilization {
    unsigned int gpu, memory;            // per cent
  };
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned int*) = nullptr;
  int (*handle)(unsigned int, void**) = nullptr;
  int (*name)(void*, char*, unsigned int) = nullptr;
  int (*memory)(void*, Memory*) = nullptr;
  int (*utilization)(void*, Utilization*) = nullptr;
  int (*power)(void*, unsigned int*) = nullptr;        // milliwatts
  int (*temperature)(void*, int, unsigned int*) = nullptr;
};

Nvml::Nvml() : functions_(std::make_unique<Functions>()) {}

std::unique_ptr<Nvml> Nvml::open() {
  std::unique_ptr<Nvml> nvml(new Nvml);
  nvml->library_ = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!nvml->library_) return nullptr;
  Functions& f = *nvml->functions_;
  const auto load = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(nvml->library_, name));
    return function != nullptr;
  };
  const bool loaded = load(f.init, "nvmlInit_v2") && load(f.count, "nvmlDeviceGetCount_v2") && load(f.handle, "nvmlDeviceGetHandleByIndex_v2") && load(f.name, "nvmlDeviceGetName") && load(f.memory, "nvmlDeviceGetMemoryInfo") &&
                      load(f.utilization, "nvmlDeviceGetUtilizationRates") && load(f.power, "nvmlDeviceGetPowerUsage") && load(f.temperature, "nvmlDeviceGetTemperature");
  if (!loaded || f.init() != 0) return nullptr;
  load(f.shutdown, "nvmlShutdown");
  unsigned int count = 0;
  if (f.count(&count) != 0) return nullptr;
  for (unsigned int i = 0; i < count; ++i) {
    void* device = nullptr;
    char name[96] = "";
    Functions::Memory memory{};
    if (f.handle(i, &device) != 0) continue;
    f.name(device, name, sizeof name);
    f.memory(device, &memory);
    nvml->devices_.push_back(device);
    nvml->infos_.push_back({static_cast<int>(i), name, memory.total});
  }
  return nvml->devices_.empty() ? nullptr : std::move(nvml);
}

Nvml::~Nvml() {
  if (functions_->shutdown) functions_->shutdown();
  if (library_) dlclose(library_);
}

std::vector<GpuSample> Nvml::samples() const {
  std::vector<GpuSample> samples;
  for (size_t i = 0; i < devices_.size(); ++i) {
    GpuSample sample;
    sample.index = infos_[i].index;
    Functions::Memory memory{};
    Functions::Utilization utilization{};
    unsigned int value = 0;
    if (functions_->memory(devices_[i], &memory) == 0) sample.memory_used_bytes = memory.used, sample.memory_total_bytes = memory.total;
    if (functions_->utilization(devices_[i], &utilization) == 0) sample.utilization = utilization.gpu / 100.0;
    if (functions_->power(devices_[i], &value) == 0) sample.power_w = value / 1000.0;
    if (functions_->temperature(devices_[i], 0, &value) == 0) sample.temperature_c = value;
    samples.push_back(sample);
  }
  return samples;
}

}  // namespace pagemill
