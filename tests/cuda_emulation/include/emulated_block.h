// A block of the emulated device: its threads are fibers on the calling OS thread.
//
// A fiber runs until it waits (a barrier, a warp operation) or returns; who runs next is drawn by a seed, so code that relies on
// an order fails for some seed. What real hardware leaves undefined is an error here, with the place where it happened:
//   - threads that wait at different __syncthreads, or at one that others never reach (also by returning);
//   - lanes of one mask in different warp operations, or reading a lane that takes no part;
//   - more shared memory than the device has.
// Shared memory is poisoned (0xFF: NaN, -1) for each block anew. Bounds are AddressSanitizer's to watch: each shared variable
// and each device allocation is a heap block of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <tuple>
#include <type_traits>

#include "emulated_runtime.h"
#include "emulated_types.h"

// Set at every switch to a thread.
inline constinit thread_local uint3 threadIdx{0, 0, 0};
inline constinit thread_local uint3 blockIdx{0, 0, 0};
inline constinit thread_local dim3 blockDim{1, 1, 1};
inline constinit thread_local dim3 gridDim{1, 1, 1};
inline constexpr int warpSize = 32;

namespace emulated {

/// Where in the source something was called.
struct Place {
  const char* file;
  int line;
  static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
  bool operator==(const Place& other) const { return file == other.file && line == other.line; }
};

// --- For kernels: what the built-ins below and the emulated ptx.h are made of -------------------------------------------------
/// Ends the kernel with an error that names place and thread.
[[noreturn]] void fault(Place place, const char* what);
/// Waits until `threads` threads of the block have come to barrier `id`. A __syncthreads says `same_place`: all must come from
/// one line. arrive only counts.
void barrier_sync(int id, int threads, bool same_place, Place place);
void barrier_arrive(int id, int threads, Place place);
int block_threads();
int lane();
int warp();
/// Hands every lane's `argument` to `complete` once all lanes of `mask` are there. arguments[lane] means nothing outside of the mask.
using WarpOperation = void (*)(void** arguments, unsigned mask);
void warp_collective(unsigned mask, WarpOperation complete, void* argument, const char* name, Place place);
/// Lanes of this thread's warp that have not returned.
unsigned live_lanes();

/// One memory for all threads of a block, by the address of a static of the place that declares it.
void* shared_variable_memory(const void* key, size_t bytes, size_t alignment);
template <class T>
T& shared_variable(const void* key) {
  return *static_cast<T*>(shared_variable_memory(key, sizeof(T), alignof(T)));
}
void* dynamic_shared_memory();

/// cp.async: the destination holds garbage until its thread has waited for the copy's group.
void async_copy(void* to, const void* from, int bytes, int zero_from);
void async_commit();
void async_wait(int groups_left);

// --- Counters (control.h reads them) ------------------------------------------------------------------------------------------
extern thread_local bool counting;
enum class Access : uint8_t { global_read, global_write, shared_read, shared_write, shared_copied };
void count_access(Access kind, const void* address, int bytes, Place place);
inline void count(Access kind, const void* address, int bytes, Place place) {
  if (counting) count_access(kind, address, bytes, place);
}

// --- Launch -----------------------------------------------------------------------------------------------------------------
struct KernelLaunch {
  dim3 grid, block;
  size_t dynamic_shared_bytes = 0;
  const void* kernel = nullptr;
  std::function<void()> thread;
};
/// Enqueues; runtime.cpp.
cudaError_t enqueue_kernel(KernelLaunch launch, cudaStream_t stream);
/// Runs every block now, one after the other in an order drawn by the seed. Null, or what went wrong.
const char* run_kernel(const KernelLaunch& launch);

template <class... P>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t dynamic_shared_bytes, cudaStream_t stream, std::decay_t<P>... arguments) {
  return enqueue_kernel({grid, block, dynamic_shared_bytes, reinterpret_cast<const void*>(kernel),
                         [kernel, packed = std::tuple<std::decay_t<P>...>(arguments...)] { std::apply(kernel, packed); }},
                        stream);
}

// --- Warp operations --------------------------------------------------------------------------------------------------------
template <class T>
struct Shuffle {
  T value;
  int source;  // lane, or -1 = itself
};
template <class T>
void complete_shuffle(void** arguments, unsigned mask) {
  T values[32];
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) values[i] = static_cast<Shuffle<T>*>(arguments[i])->value;
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    auto& shuffle = *static_cast<Shuffle<T>*>(arguments[i]);
    if (shuffle.source < 0) continue;
    if (!(mask >> shuffle.source & 1)) fault(Place::here(), "a shuffle reads a lane that takes no part in it");
    shuffle.value = values[shuffle.source];
  }
}
template <class T>
T shuffle(unsigned mask, T value, int source, Place place) {
  static_assert(sizeof(T) <= 8);
  Shuffle<T> argument{value, source};
  warp_collective(mask, complete_shuffle<T>, &argument, "shuffle", place);
  return argument.value;
}
unsigned vote(unsigned mask, bool predicate, Place place);
template <class T>
struct Reduction {
  T value;
};
template <class T, class Combine>
T reduce(unsigned mask, T value, Combine, Place place) {
  Reduction<T> argument{value};
  warp_collective(mask, [](void** arguments, unsigned all) {
    T result{};
    bool first = true;
    for (int i = 0; i < 32; ++i) {
      if (!(all >> i & 1)) continue;
      const T next = static_cast<Reduction<T>*>(arguments[i])->value;
      result = first ? next : Combine()(result, next);
      first = false;
    }
    for (int i = 0; i < 32; ++i)
      if (all >> i & 1) static_cast<Reduction<T>*>(arguments[i])->value = result;
  }, &argument, "reduction", place);
  return argument.value;
}
void complete_nothing(void** arguments, unsigned mask);
int barrier_or(int predicate, Place place);
int barrier_count(int predicate, Place place);

}  // namespace emulated

// --- Built-ins by their CUDA names --------------------------------------------------------------------------------------------
#define PM_PLACE ::emulated::Place place = ::emulated::Place::here()

inline void __syncthreads(PM_PLACE) { ::emulated::barrier_sync(0, ::emulated::block_threads(), true, place); }
inline int __syncthreads_or(int predicate, PM_PLACE) { return ::emulated::barrier_or(predicate, place); }
inline int __syncthreads_count(int predicate, PM_PLACE) { return ::emulated::barrier_count(predicate, place); }
inline int __syncthreads_and(int predicate, PM_PLACE) { return !::emulated::barrier_or(!predicate, place); }
inline void __syncwarp(unsigned mask = 0xffffffffu, PM_PLACE) {
  ::emulated::warp_collective(mask, ::emulated::complete_nothing, nullptr, "__syncwarp", place);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, PM_PLACE) {
  const int lane = ::emulated::lane();
  return ::emulated::shuffle(mask, value, (lane & ~(width - 1)) | (from & (width - 1)), place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, PM_PLACE) {
  const int lane = ::emulated::lane(), from = lane ^ bits;
  return ::emulated::shuffle(mask, value, from < (lane & ~(width - 1)) + width ? from : -1, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, PM_PLACE) {
  const int lane = ::emulated::lane(), from = lane - static_cast<int>(delta);
  return ::emulated::shuffle(mask, value, from >= (lane & ~(width - 1)) ? from : -1, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, PM_PLACE) {
  const int lane = ::emulated::lane(), from = lane + static_cast<int>(delta);
  return ::emulated::shuffle(mask, value, from < (lane & ~(width - 1)) + width ? from : -1, place);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, PM_PLACE) { return ::emulated::vote(mask, predicate != 0, place); }
inline int __any_sync(unsigned mask, int predicate, PM_PLACE) { return ::emulated::vote(mask, predicate != 0, place) != 0; }
inline int __all_sync(unsigned mask, int predicate, PM_PLACE) { return ::emulated::vote(mask, predicate == 0, place) == 0; }
inline unsigned __activemask() { return ::emulated::live_lanes(); }
template <class T>
T __reduce_add_sync(unsigned mask, T value, PM_PLACE) {
  return ::emulated::reduce(mask, value, [](T a, T b) { return static_cast<T>(a + b); }, place);
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, PM_PLACE) {
  return ::emulated::reduce(mask, value, [](T a, T b) { return std::min(a, b); }, place);
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, PM_PLACE) {
  return ::emulated::reduce(mask, value, [](T a, T b) { return std::max(a, b); }, place);
}
template <class T>
T __reduce_or_sync(unsigned mask, T value, PM_PLACE) {
  return ::emulated::reduce(mask, value, [](T a, T b) { return a | b; }, place);
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}

// Blocks run one after the other and a fiber is never interrupted, so every access is atomic.
template <class T, class V>
T atomicAdd(T* at, V value) { const T old = *at; *at = static_cast<T>(old + static_cast<T>(value)); return old; }
template <class T, class V>
T atomicSub(T* at, V value) { const T old = *at; *at = static_cast<T>(old - static_cast<T>(value)); return old; }
template <class T, class V>
T atomicMax(T* at, V value) { const T old = *at; *at = std::max(old, static_cast<T>(value)); return old; }
template <class T, class V>
T atomicMin(T* at, V value) { const T old = *at; *at = std::min(old, static_cast<T>(value)); return old; }
template <class T, class V>
T atomicExch(T* at, V value) { const T old = *at; *at = static_cast<T>(value); return old; }
template <class T, class V>
T atomicOr(T* at, V value) { const T old = *at; *at = old | static_cast<T>(value); return old; }
template <class T, class V>
T atomicAnd(T* at, V value) { const T old = *at; *at = old & static_cast<T>(value); return old; }
template <class T, class C, class V>
T atomicCAS(T* at, C compare, V value) { const T old = *at; if (old == static_cast<T>(compare)) *at = static_cast<T>(value); return old; }
inline unsigned atomicInc(unsigned* at, unsigned limit) { const unsigned old = *at; *at = old >= limit ? 0 : old + 1; return old; }
