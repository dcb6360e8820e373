// A GPU's limits: the best of several runs of reading half a gigabyte, and of cuBLASLt's bfloat16 products at the shape of a prompt's
// largest layer.
#include <algorithm>

#include <fmt/format.h>

#include "backend/cuda/calibrate_kernels.h"
#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/handles.h"

namespace pagemill {

namespace cuda {
namespace {

constexpr int kRuns = 7, kRepeats = 5;
constexpr int kSettledRepeats = 300;                          // a second of products in all: the card has come to the clock that its power allows
constexpr size_t kReadBytes = size_t{512} << 20;              // ten times an L2
constexpr int kRows = 2048, kIn = 3584, kOut = 18'944;        // Qwen2.5-7B's gate projection of a full step

/// Events that time.
struct Stopwatch {
  cudaEvent_t begin = nullptr, end = nullptr;
  ~Stopwatch() {
    if (begin != nullptr) (void)cudaEventDestroy(begin);
    if (end != nullptr) (void)cudaEventDestroy(end);
  }
};

/// Amount per second over `repeats` calls of `work`, kRuns times after one that warms up.
template <class Work>
Result<LimitRate> rate_of(const std::string& variant, double amount, cudaStream_t stream, Work work, int repeats = kRepeats) {
  Stopwatch watch;
  PM_TRY(as_result(cudaEventCreateWithFlags(&watch.begin, 0), "making an event"));
  PM_TRY(as_result(cudaEventCreateWithFlags(&watch.end, 0), "making an event"));
  std::vector<double> rates;
  for (int run = 0; run <= kRuns; ++run) {
    PM_TRY(as_result(cudaEventRecord(watch.begin, stream), "measuring"));
    for (int i = 0; i < repeats; ++i) PM_TRY(work());
    PM_TRY(as_result(cudaEventRecord(watch.end, stream), "measuring"));
    PM_TRY(as_result(cudaEventSynchronize(watch.end), "measuring"));
    float milliseconds = 0;
    PM_TRY(as_result(cudaEventElapsedTime(&milliseconds, watch.begin, watch.end), "measuring"));
    if (run > 0) rates.push_back(amount * repeats / (std::max(milliseconds, 1e-6f) * 1e-3));
  }
  std::sort(rates.begin(), rates.end());
  return LimitRate{.variant = variant, .best = rates.back(), .median = rates[rates.size() / 2], .worst = rates.front()};
}

}  // namespace
}  // namespace cuda

Result<MachineLimits> measure_cuda(int device) {
  using namespace cuda;
  PM_TRY(cuda_devices());
  PM_TRY(as_result(cudaSetDevice(device), "choosing the device"));
  cudaDeviceProp properties{};
  PM_TRY(as_result(cudaGetDeviceProperties(&properties, device), "asking for the device's properties"));
  PM_ASSIGN(const Stream stream, Stream::make());
  KernelContext context;
  context.stream = stream.get();
  context.multiprocessors = properties.multiProcessorCount;
  context.block_shared_bytes = properties.sharedMemPerBlockOptin;
  context.arch = 10 * properties.major + properties.minor;

  MachineLimits limits;
  limits.cpu_model = properties.name;
  limits.isa_best = fmt::format("sm_{}", context.arch);
  limits.threads = properties.multiProcessorCount;
  {
    PM_ASSIGN(const auto memory, DeviceMemory::make(kReadBytes + 256, "measuring the bandwidth"));
    PM_TRY(as_result(cudaMemsetAsync(memory->data(), 1, kReadBytes, context.stream), "measuring"));
    PM_ASSIGN(limits.read_all_threads, rate_of("16-byte loads", static_cast<double>(kReadBytes), context.stream, [&] {
      return as_result(read_once(context, memory->data(), kReadBytes, reinterpret_cast<uint32_t*>(memory->data() + kReadBytes)), "reading memory");
    }));
    limits.variants.push_back(limits.read_all_threads);
  }
  const auto library = CublasLt::open();
  if (!library) return limits;  // no rate of products: speeds bound by them cannot be judged
  const size_t x_bytes = size_t{kRows} * kIn * 2, weight_bytes = size_t{kOut} * kIn * 2, out_bytes = size_t{kRows} * kOut * 2;
  PM_ASSIGN(const auto memory, DeviceMemory::make(x_bytes + weight_bytes + out_bytes + kCublasWorkspaceBytes, "measuring matrix products"));
  std::byte *x = memory->data(), *weight = x + x_bytes, *out = weight + weight_bytes, *workspace = out + out_bytes;
  PM_TRY(as_result(fill_bf16(context, x, int64_t{kRows} * kIn, 1), "measuring"));
  PM_TRY(as_result(fill_bf16(context, weight, int64_t{kOut} * kIn, 2), "measuring"));
  DeviceStatus status;
  const std::string variant = fmt::format("bf16 {} × {} × {}, cuBLASLt", kRows, kOut, kIn);
  const auto multiply = [&]() -> Result<void> {
    if (!(*library)->multiply({.type = ElementType::bf16, .x = x, .weight = weight, .bias = nullptr, .out = out, .out_f32 = false, .rows = kRows, .in = kIn, .out_features = kOut},
                              workspace, kCublasWorkspaceBytes, context.stream, status))
      return fail(ErrorCode::unsupported, "cuBLASLt has no plan for the product that the limit is measured with");
    return status.result();
  };
  // The limit is what the card does in milliseconds, at its highest clock; under load it does less, which stands beside it.
  const double operations = 2.0 * kRows * kOut * kIn;
  PM_ASSIGN(limits.float16_ops, rate_of(variant, operations, context.stream, multiply));
  limits.variants.push_back(limits.float16_ops);
  PM_ASSIGN(limits.float16_held, rate_of(variant + ", under load", operations, context.stream, multiply, kSettledRepeats));
  limits.variants.push_back(limits.float16_held);
  return limits;
}

}  // namespace pagemill
