// A libnvidia-ml.so.1 for nvml_test: two devices, of which the second does not say how busy it is, as some in virtual machines.
#include <cstdint>
#include <cstdio>

namespace {
constexpr int kSuccess = 0, kInvalidArgument = 2, kNotSupported = 3;
struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned int gpu, memory;
};
uintptr_t index_of(void* device) { return reinterpret_cast<uintptr_t>(device) - 100; }
int users = 0;
}  // namespace

extern "C" {
int nvmlInit_v2() { return ++users, kSuccess; }
int nvmlShutdown() { return --users, kSuccess; }
int fake_nvml_users() { return users; }
int nvmlDeviceGetCount_v2(unsigned int* count) { return *count = 2, kSuccess; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void** device) {
  if (index > 1) return kInvalidArgument;
  *device = reinterpret_cast<void*>(uintptr_t{100} + index);
  return kSuccess;
}
int nvmlDeviceGetName(void* device, char* name, unsigned int length) {
  std::snprintf(name, length, "Fake GPU %d", static_cast<int>(index_of(device)));
  return kSuccess;
}
int nvmlDeviceGetMemoryInfo(void* device, Memory* memory) {
  memory->total = 80ull << 30;
  memory->used = (1 + index_of(device)) << 30;
  memory->free = memory->total - memory->used;
  return kSuccess;
}
int nvmlDeviceGetUtilizationRates(void* device, Utilization* utilization) {
  if (index_of(device) == 1) return kNotSupported;
  *utilization = {37, 12};
  return kSuccess;
}
int nvmlDeviceGetPowerUsage(void* device, unsigned int* milliwatts) {
  if (index_of(device) == 1) return kNotSupported;
  return *milliwatts = 123'500, kSuccess;
}
int nvmlDeviceGetTemperature(void*, int sensor, unsigned int* celsius) {
  if (sensor != 0) return kInvalidArgument;
  return *celsius = 41, kSuccess;
}
}
