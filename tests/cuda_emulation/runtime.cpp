// The runtime of the emulated device: memory, streams that run late, events, graphs, failures.
#include "emulated_runtime.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/check.h"
#include "control.h"
#include "executor.h"

namespace {

using Operation = std::function<void()>;

struct Device;
Device& device();

}  // namespace

struct CUstream_st {
  std::deque<Operation> queue;
  bool capturing = false, invalidated = false;
  std::vector<Operation> captured;
};
struct CUevent_st {
  CUstream_st* stream = nullptr;  // where it was recorded last
  uint64_t recorded = 0, reached = 0;
  double at_ms = 0;
};
struct CUgraph_st {
  std::vector<Operation> operations;
};
struct CUgraphExec_st {
  std::vector<Operation> operations;
};

namespace {

struct Device {
  std::recursive_mutex mutex;
  emulated::DeviceOptions options;
  std::map<std::byte*, size_t> allocations, pinned;
  std::vector<CUstream_st*> streams;
  size_t device_bytes = 0, pinned_bytes = 0, peak = 0;
  int events = 0, graphs = 0;
  uint64_t calls = 0, fail_at = UINT64_MAX, kernels = 0, graph_launches = 0;
  cudaError_t fail_with = cudaSuccess, sticky = cudaSuccess, last = cudaSuccess;
  std::string fault;
  double clock_ms = 0;  // what events show: a kernel takes a microsecond
};

Device& device() {
  static Device the_device;
  return the_device;
}

bool is_sticky(cudaError_t error) { return error != cudaSuccess && error != cudaErrorMemoryAllocation && error != cudaErrorInvalidValue && error != cudaErrorNotReady; }

/// Every call begins with this one: locks, counts, and says whether the call is to fail.
struct Call {
  Device& d = device();
  std::lock_guard<std::recursive_mutex> lock{d.mutex};
  cudaError_t error = cudaSuccess;

  explicit Call(bool counted = true) {
    if (counted && d.calls++ == d.fail_at) {
      error = d.fail_with;
      if (is_sticky(error)) d.sticky = error;
    }
    if (d.sticky != cudaSuccess) error = d.sticky;
    if (error == cudaSuccess && !d.options.present) error = cudaErrorNoDevice;
    if (error != cudaSuccess) d.last = error;
  }
  cudaError_t fail(cudaError_t with) { return d.last = with; }
};

void drop_queues(Device& d) {
  for (CUstream_st* stream : d.streams) stream->queue.clear();
}

void run_one(CUstream_st& stream) {
  Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  operation();
}

/// Runs what the stream holds. The device's failure ends it.
void run_all(Device& d, CUstream_st& stream) {
  while (!stream.queue.empty() && d.sticky == cudaSuccess) run_one(stream);
  if (d.sticky != cudaSuccess) drop_queues(d);
}

bool contains(const std::map<std::byte*, size_t>& ranges, const void* data, size_t bytes) {
  auto* at = static_cast<std::byte*>(const_cast<void*>(data));
  auto after = ranges.upper_bound(at);
  if (after == ranges.begin()) return false;
  --after;
  return at + bytes <= after->first + after->second;
}

cudaError_t enqueue(Call& call, cudaStream_t stream, Operation operation) {
  if (!stream) return call.fail(cudaErrorInvalidResourceHandle);  // the backend never uses the default stream
  if (stream->capturing) {
    stream->captured.push_back(std::move(operation));
  } else {
    stream->queue.push_back(std::move(operation));
  }
  return cudaSuccess;
}

constexpr size_t kLargeBytes = 4u << 20;

/// NaN, -1: nobody may rely on zeros. Of large memory only the ends, so that what is never used costs nothing.
void poison(void* data, size_t bytes) {
  auto* const begin = static_cast<std::byte*>(data);
  if (bytes <= kLargeBytes) {
    std::memset(begin, 0xFF, bytes);
    return;
  }
  std::memset(begin, 0xFF, kLargeBytes / 2);
  std::memset(begin + bytes - kLargeBytes / 2, 0xFF, kLargeBytes / 2);
}

/// memset, but large zeros come from the system when they are touched.
void fill(void* data, int value, size_t bytes) {
  auto* const begin = static_cast<std::byte*>(data);
  constexpr uintptr_t kPage = 4096;
  if (value != 0 || bytes < kLargeBytes) {
    std::memset(begin, value, bytes);
    return;
  }
  const auto first = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage, last = (reinterpret_cast<uintptr_t>(begin) + bytes) / kPage * kPage;
  auto* const inner = reinterpret_cast<std::byte*>(first);
  std::memset(begin, 0, static_cast<size_t>(inner - begin));
  if (madvise(inner, last - first, MADV_DONTNEED) != 0) std::memset(inner, 0, last - first);
  std::memset(reinterpret_cast<std::byte*>(last), 0, static_cast<size_t>(begin + bytes - reinterpret_cast<std::byte*>(last)));
}

/// Calls that wait or allocate are not allowed while any stream captures, and spoil its capture.
bool spoils_capture(Call& call) {
  bool any = false;
  for (CUstream_st* stream : call.d.streams)
    if (stream->capturing) any = stream->invalidated = true;
  return any;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorECCUncorrectable: return "cudaErrorECCUncorrectable";
    default: return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorECCUncorrectable: return "uncorrectable ECC error encountered";
    default: return "unknown error";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(device().last, device().sticky); }
cudaError_t cudaPeekAtLastError() { return device().last; }

// --- Device -------------------------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  Call call;
  *count = call.error == cudaSuccess ? 1 : 0;
  return call.error;
}
cudaError_t cudaSetDevice(int index) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  return index == 0 ? cudaSuccess : call.fail(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int* index) {
  Call call;
  *index = 0;
  return call.error;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  const auto& options = call.d.options;
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated device");
  properties->totalGlobalMem = options.memory_bytes;
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = options.shared_bytes_max;
  properties->major = options.major;
  properties->minor = options.minor;
  properties->multiProcessorCount = options.multiprocessors;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  Call call;
  const auto& options = call.d.options;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = options.multiprocessors; break;
    case cudaDevAttrComputeCapabilityMajor: *value = options.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = options.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(options.shared_bytes_max); break;
    case cudaDevAttrL2CacheSize: *value = 1 << 20; break;
  }
  return call.error;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = device().options.driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  Call call;
  *total_bytes = call.d.options.memory_bytes;
  *free_bytes = call.d.options.memory_bytes - call.d.options.context_bytes - call.d.device_bytes;
  return call.error;
}
cudaError_t cudaDeviceSynchronize() {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (spoils_capture(call)) return call.fail(cudaErrorStreamCaptureUnsupported);
  for (CUstream_st* stream : call.d.streams) run_all(call.d, *stream);
  return call.d.sticky;
}

// --- Memory -------------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** data, size_t bytes) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (spoils_capture(call)) return call.fail(cudaErrorStreamCaptureUnsupported);
  *data = nullptr;
  if (bytes == 0) return cudaSuccess;
  Device& d = call.d;
  if (d.device_bytes + d.options.context_bytes + bytes > d.options.memory_bytes) return call.fail(cudaErrorMemoryAllocation);
  if (posix_memalign(data, 256, bytes) != 0) return call.fail(cudaErrorMemoryAllocation);
  poison(*data, bytes);
  d.allocations[static_cast<std::byte*>(*data)] = bytes;
  d.device_bytes += bytes;
  d.peak = std::max(d.peak, d.device_bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  Call call(false);
  if (data == nullptr) return cudaSuccess;
  for (CUstream_st* stream : call.d.streams) run_all(call.d, *stream);  // cudaFree waits for the device
  const auto found = call.d.allocations.find(static_cast<std::byte*>(data));
  PM_CHECK(found != call.d.allocations.end(), "cudaFree of what cudaMalloc did not give");
  call.d.device_bytes -= found->second;
  call.d.allocations.erase(found);
  std::free(data);
  return call.error;
}
cudaError_t cudaMallocHost(void** data, size_t bytes) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (spoils_capture(call)) return call.fail(cudaErrorStreamCaptureUnsupported);
  if (posix_memalign(data, 4096, std::max<size_t>(bytes, 1)) != 0) return call.fail(cudaErrorMemoryAllocation);
  call.d.pinned[static_cast<std::byte*>(*data)] = bytes;
  call.d.pinned_bytes += bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  Call call(false);
  if (data == nullptr) return cudaSuccess;
  for (CUstream_st* stream : call.d.streams) run_all(call.d, *stream);
  const auto found = call.d.pinned.find(static_cast<std::byte*>(data));
  PM_CHECK(found != call.d.pinned.end(), "cudaFreeHost of what cudaMallocHost did not give");
  call.d.pinned_bytes -= found->second;
  call.d.pinned.erase(found);
  std::free(data);
  return call.error;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  Device& d = call.d;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (to_device && !contains(d.allocations, to, bytes)) return call.fail(cudaErrorInvalidValue);
  if (from_device && !contains(d.allocations, from, bytes)) return call.fail(cudaErrorInvalidValue);
  if (const cudaError_t error = enqueue(call, stream, [=] { std::memcpy(to, from, bytes); }); error != cudaSuccess) return error;
  const bool pageable = (!to_device && !contains(d.pinned, to, bytes)) || (!from_device && !contains(d.pinned, from, bytes));
  if (!pageable) return cudaSuccess;
  if (stream->capturing) {
    stream->invalidated = true;
    return call.fail(cudaErrorStreamCaptureUnsupported);
  }
  run_all(d, *stream);
  return d.sticky;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (!contains(call.d.allocations, to, bytes)) return call.fail(cudaErrorInvalidValue);
  return enqueue(call, stream, [=] { fill(to, value, bytes); });
}

// --- Streams and events -------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  *stream = new CUstream_st;
  call.d.streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Call call(false);
  run_all(call.d, *stream);
  std::erase(call.d.streams, stream);
  delete stream;
  return call.error;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (spoils_capture(call)) return call.fail(cudaErrorStreamCaptureUnsupported);
  run_all(call.d, *stream);
  return call.d.sticky;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (stream->queue.empty()) return call.d.sticky;
  run_one(*stream);  // time passes
  return cudaErrorNotReady;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  *event = new CUevent_st;
  ++call.d.events;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Call call(false);
  if (event->stream) run_all(call.d, *event->stream);
  --call.d.events;
  delete event;
  return call.error;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  const uint64_t number = ++event->recorded;
  event->stream = stream;
  return enqueue(call, stream, [event, number, &d = call.d] {
    event->reached = number;
    event->at_ms = d.clock_ms;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (spoils_capture(call)) return call.fail(cudaErrorStreamCaptureUnsupported);
  while (event->reached < event->recorded && call.d.sticky == cudaSuccess && !event->stream->queue.empty()) run_one(*event->stream);
  if (call.d.sticky != cudaSuccess) drop_queues(call.d);
  return call.d.sticky;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (event->reached == event->recorded) return cudaSuccess;
  if (!event->stream->queue.empty()) run_one(*event->stream);
  return call.d.sticky != cudaSuccess ? call.d.sticky : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (!event->stream) return cudaSuccess;
  const uint64_t number = event->recorded;
  return enqueue(call, stream, [event, number, &d = call.d] {
    while (event->reached < number && d.sticky == cudaSuccess && !event->stream->queue.empty()) run_one(*event->stream);
  });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Call call;
  *milliseconds = static_cast<float>(end->at_ms - start->at_ms);
  return call.error;
}

// --- Graphs -------------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  if (stream->capturing) return call.fail(cudaErrorInvalidValue);
  stream->capturing = true;
  stream->invalidated = false;
  stream->captured.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Call call;
  *graph = nullptr;
  const bool was = std::exchange(stream->capturing, false);
  std::vector<Operation> operations = std::move(stream->captured);
  stream->captured.clear();
  if (call.error != cudaSuccess) return call.error;
  if (!was) return call.fail(cudaErrorInvalidValue);
  if (stream->invalidated) return call.fail(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(operations)};
  ++call.d.graphs;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Call call;
  *status = stream->capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return call.error;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  Call call;
  *exec = nullptr;
  if (call.error != cudaSuccess) return call.error;
  *exec = new CUgraphExec_st{graph->operations};
  ++call.d.graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  Call call;
  return call.error;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  ++call.d.graph_launches;
  for (const Operation& operation : exec->operations)
    if (const cudaError_t error = enqueue(call, stream, operation); error != cudaSuccess) return error;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  Call call(false);
  --call.d.graphs;
  delete exec;
  return call.error;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Call call(false);
  --call.d.graphs;
  delete graph;
  return call.error;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  Call call;
  return call.error;
}

// --- Kernels and control ------------------------------------------------------------------------------------------------

namespace emulated {

cudaError_t enqueue_kernel(KernelLaunch launch, cudaStream_t stream) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  const uint64_t threads = uint64_t{launch.block.x} * launch.block.y * launch.block.z;
  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  if (threads == 0 || threads > 1024 || blocks == 0 || launch.grid.y > 65535 || launch.grid.z > 65535)
    return call.fail(cudaErrorInvalidConfiguration);
  if (launch.dynamic_shared_bytes > call.d.options.shared_bytes_max) return call.fail(cudaErrorInvalidValue);
  return enqueue(call, stream, [launch = std::move(launch), &d = call.d] {
    ++d.kernels;
    d.clock_ms += 0.001;
    const char* wrong = run_kernel(launch);
    if (wrong == nullptr) return;
    Dl_info symbol{};
    dladdr(launch.kernel, &symbol);
    d.fault = std::string(symbol.dli_sname ? symbol.dli_sname : "a kernel") + ": " + wrong;
    std::fprintf(stderr, "emulated device: %s\n", d.fault.c_str());
    d.sticky = d.last = cudaErrorLaunchFailure;
  });
}

cudaError_t enqueue_host(std::function<void()> work, cudaStream_t stream) {
  Call call;
  if (call.error != cudaSuccess) return call.error;
  return enqueue(call, stream, std::move(work));
}

size_t shared_bytes_max() { return device().options.shared_bytes_max; }

void reset_device(const DeviceOptions& options) {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  PM_CHECK(d.allocations.empty() && d.pinned.empty() && d.streams.empty() && d.events == 0 && d.graphs == 0,
           "left on the device: {} allocations, {} pinned, {} streams, {} events, {} graphs", d.allocations.size(), d.pinned.size(),
           d.streams.size(), d.events, d.graphs);
  d.options = options;
  d.calls = d.kernels = d.graph_launches = 0;
  d.fail_at = UINT64_MAX;
  d.fail_with = d.sticky = d.last = cudaSuccess;
  d.fault.clear();
  d.peak = 0;
  set_order_seed(0);
}

void set_thread_order(uint64_t seed) { set_order_seed(seed); }

void fail_call(uint64_t n, cudaError_t error) {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  d.fail_at = d.calls + n;
  d.fail_with = error;
}
uint64_t calls() { return device().calls; }
void clear_calls() {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  d.calls = d.kernels = d.graph_launches = 0;
}
void mend() {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  d.fail_at = UINT64_MAX;
  d.sticky = d.last = cudaSuccess;
  d.fault.clear();
}
std::string last_fault() {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  return d.fault;
}
Held held() {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  return {d.device_bytes, d.pinned_bytes, static_cast<int>(d.allocations.size() + d.pinned.size()), static_cast<int>(d.streams.size()), d.events, d.graphs};
}
size_t device_bytes_peak() { return device().peak; }
uint64_t kernels_run() { return device().kernels; }
uint64_t graphs_launched() { return device().graph_launches; }

}  // namespace emulated
