// A timeline of what a GPU and the runtime's calls did, from outside any program: a library that the driver loads into it
// (CUDA_INJECTION64_PATH=timeline.so) and that writes what CUPTI's activity records say to timeline.raw in the working folder. timeline.py reads it.
//
// A line: kernel|copy|set|call, start ns, end ns, grid (kernels), the name or the call's number. Kernels of a replayed graph are there one
// by one; being watched costs them up to a microsecond each, so shares come from here and totals from a run that nobody watches.
#include <cupti.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace {

constexpr size_t kBufferBytes = 8u << 20;
std::mutex mutex;
FILE* file = nullptr;

void need(CUptiResult result, const char* what) {
  if (result == CUPTI_SUCCESS) return;
  const char* text = "";
  cuptiGetResultString(result, &text);
  std::fprintf(stderr, "timeline: %s: %s\n", what, text);
}

void give_buffer(uint8_t** buffer, size_t* size, size_t* records_max) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, kBufferBytes));
  *size = kBufferBytes;
  *records_max = 0;
}

void write(const CUpti_Activity* record) {
  switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
      std::fprintf(file, "kernel,%llu,%llu,%d,%s\n", static_cast<unsigned long long>(kernel->start), static_cast<unsigned long long>(kernel->end),
                   kernel->gridX * kernel->gridY * kernel->gridZ, kernel->name);
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const auto* copy = reinterpret_cast<const CUpti_ActivityMemcpy6*>(record);
      std::fprintf(file, "copy,%llu,%llu,0,copy of %llu bytes\n", static_cast<unsigned long long>(copy->start), static_cast<unsigned long long>(copy->end),
                   static_cast<unsigned long long>(copy->bytes));
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const auto* set = reinterpret_cast<const CUpti_ActivityMemset4*>(record);
      std::fprintf(file, "set,%llu,%llu,0,set\n", static_cast<unsigned long long>(set->start), static_cast<unsigned long long>(set->end));
      break;
    }
    case CUPTI_ACTIVITY_KIND_RUNTIME: {
      const auto* call = reinterpret_cast<const CUpti_ActivityAPI*>(record);
      const char* name = "";
      cuptiGetCallbackName(CUPTI_CB_DOMAIN_RUNTIME_API, call->cbid, &name);
      std::fprintf(file, "call,%llu,%llu,%u,%s\n", static_cast<unsigned long long>(call->start), static_cast<unsigned long long>(call->end), call->threadId, name);
      break;
    }
    default: break;
  }
}

void take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  {
    const std::scoped_lock lock(mutex);
    CUpti_Activity* record = nullptr;
    while (valid > 0 && file != nullptr && cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) write(record);
  }
  std::free(buffer);
}

void finish() {
  need(cuptiActivityFlushAll(1), "flushing");
  const std::scoped_lock lock(mutex);
  if (file != nullptr) std::fclose(file);
  file = nullptr;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  file = std::fopen("timeline.raw", "w");
  if (file == nullptr) return 0;
  need(cuptiActivityRegisterCallbacks(give_buffer, take_buffer), "registering");
  for (const CUpti_ActivityKind kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET, CUPTI_ACTIVITY_KIND_RUNTIME})
    need(cuptiActivityEnable(kind), "enabling");
  std::atexit(finish);
  return 1;
}
