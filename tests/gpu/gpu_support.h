// What the GPU's op tests and benchmarks share: device arrays, random data, a table of results as CSV. Plain host code over
// src/backend/cuda/runtime.h, so that it also runs on the emulated device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "backend/cuda/kernels.h"
#include "base/dtype.h"
#include "base/limits.h"

namespace pagemill::gpu_test {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}
#define GPU_CHECK(call) ::pagemill::gpu_test::check(call, #call)

/// Where everything of a test program runs, in order; to the end of the program. (The emulated device refuses the null stream, whose
/// order with others is a trap.)
inline cudaStream_t test_stream() {
  static const cudaStream_t stream = [] {
    cudaStream_t made = nullptr;
    GPU_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return made;
  }();
  return stream;
}

/// A device array; lives to the end of its scope.
template <class T>
class Array {
 public:
  explicit Array(size_t count) : count_(count) {
    GPU_CHECK(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<size_t>(count * sizeof(T), 16)));
  }
  explicit Array(const std::vector<T>& values) : Array(values.size()) { set(values); }
  ~Array() { cudaFree(data_); }
  Array(const Array&) = delete;
  void operator=(const Array&) = delete;

  T* get() const { return data_; }
  size_t size() const { return count_; }
  void set(const std::vector<T>& values) {
    GPU_CHECK(cudaMemcpyAsync(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, test_stream()));
    GPU_CHECK(cudaDeviceSynchronize());
  }
  /// Poison: NaN in every float type.
  void poison() { GPU_CHECK(cudaMemsetAsync(data_, 0xFF, count_ * sizeof(T), test_stream())); }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    GPU_CHECK(cudaDeviceSynchronize());
    GPU_CHECK(cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost, test_stream()));
    GPU_CHECK(cudaDeviceSynchronize());
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

/// Random numbers by position, the same on every machine.
inline uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}
inline float uniform(uint64_t seed, uint64_t i) { return static_cast<float>(mix(seed * 0x10001 + i) >> 40) * 0x1p-23f - 1.0f; }

template <class F>
void parallel(int64_t count, F f) {
  const auto threads = static_cast<int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> pool;
  for (int64_t t = 0; t < threads; ++t) {
    pool.emplace_back([=] {
      for (int64_t i = count * t / threads; i < count * (t + 1) / threads; ++i) f(i);
    });
  }
  for (std::thread& thread : pool) thread.join();
}

/// 16-bit values with their floats.
struct Values {
  std::vector<uint16_t> bits;
  std::vector<float> floats;
};
inline uint16_t to_bits(cuda::ElementType type, float x) { return type == cuda::ElementType::f16 ? f32_to_f16(x) : f32_to_bf16(x); }
inline float to_float(cuda::ElementType type, uint16_t bits) { return type == cuda::ElementType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits); }
inline Values random_values(cuda::ElementType type, int64_t count, uint64_t seed, float scale) {
  Values values{std::vector<uint16_t>(static_cast<size_t>(count)), std::vector<float>(static_cast<size_t>(count))};
  parallel(count, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    values.bits[at] = to_bits(type, uniform(seed, at) * scale);
    values.floats[at] = to_float(type, values.bits[at]);
  });
  return values;
}
inline std::vector<float> floats_of(cuda::ElementType type, const std::vector<uint16_t>& bits) {
  std::vector<float> floats(bits.size());
  for (size_t i = 0; i < bits.size(); ++i) floats[i] = to_float(type, bits[i]);
  return floats;
}

/// ‖a − b‖ / ‖b‖; NaN counts as infinitely far.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    if (std::isnan(a[i])) return INFINITY;
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

/// Prints "name,value,limit,ok" lines and remembers failures.
class Report {
 public:
  void add(const std::string& name, double error, double limit) {
    const bool ok = error <= limit;
    failures_ += !ok;
    ++checks_;
    worst_ = std::max(worst_, error / limit);
    if (!ok || verbose) std::printf("%s,%.3g,%.3g,%s\n", name.c_str(), error, limit, ok ? "ok" : "WRONG");
  }
  /// Prints the sum of a section.
  void close(const char* section) {
    std::printf("%s,checks %d,failures %d,worst error %.2f of its limit\n", section, checks_, failures_, worst_);
    std::fflush(stdout);
    total_failures += failures_;
    checks_ = failures_ = 0;
    worst_ = 0;
  }
  bool verbose = false;
  int total_failures = 0;

 private:
  int checks_ = 0, failures_ = 0;
  double worst_ = 0;
};

inline cuda::KernelContext context_of_device() {
  int device = 0, sms = 0, major = 0, minor = 0, shared_bytes = 0;
  GPU_CHECK(cudaGetDevice(&device));
  GPU_CHECK(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device));
  GPU_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  GPU_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  GPU_CHECK(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  cuda::KernelContext context;
  context.stream = test_stream();
  context.block_shared_bytes = static_cast<size_t>(shared_bytes);
  context.multiprocessors = sms;
  context.arch = 10 * major + minor;
  context.programmatic = context.arch >= 90;
  GPU_CHECK(cudaMalloc(&context.product_workspace, cuda::product_workspace_bytes()));  // to the end of the program
  GPU_CHECK(cudaMemsetAsync(context.product_workspace, 0, cuda::product_workspace_bytes(), test_stream()));
  GPU_CHECK(cudaDeviceSynchronize());
  return context;
}

}  // namespace pagemill::gpu_test
