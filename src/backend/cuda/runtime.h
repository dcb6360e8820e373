// The CUDA runtime as this folder uses it: the one header over <cuda_runtime.h>.
//
// Every source of src/backend/cuda compiles in two ways. With nvcc, <cuda_runtime.h>, <cuda_fp16.h> and <cuda_bf16.h> are the
// toolkit's. With the host compiler they are those of tests/cuda_emulation/include, where a block's threads are fibers; then
// PAGEMILL_CUDA_EMULATION is 1. Nothing but these headers, <cublasLt.h> and the bodies of ptx.h is emulated.
//
// Rules for kernels, so that both ways hold:
//   1. No <<<>>>: cuda::launch(kernel, shape, stream, arguments…). Its arguments convert to the kernel's parameter types.
//   2. Dynamic shared memory is dynamic_shared<T>(); a static one is PM_SHARED(name, float[32]), inside the kernel's body or a
//      device function. No `extern __shared__`, no plain `__shared__`. Both start out poisoned (NaN), in each block anew.
//   3. Built-ins: threadIdx blockIdx blockDim gridDim; __syncthreads, __syncthreads_or, __syncwarp; __shfl_sync and its xor/up/down
//      variants (4- and 8-byte types, __half2), __ballot_sync, __any_sync, __all_sync, __activemask (all of the warp's live
//      lanes), __reduce_{add,min,max}_sync; atomicAdd (int, unsigned, unsigned long long, float), atomicMax, atomicMin, atomicExch,
//      atomicCAS, atomicOr, atomicAnd; __threadfence*, __ldg, __popc, __popcll, __ffs, __clz, __clzll, __brev, __byte_perm,
//      __float_as_uint & Co., __umulhi, __umul64hi; the _rn arithmetic (__fmul_rn, __fadd_rn, __fmaf_rn, __fdiv_rn, …), __expf,
//      __fdividef, exp2f, rsqrtf, <cmath>'s functions; min, max; vector types to 16 bytes with make_*.
//      __half, __half2, __nv_bfloat16, __nv_bfloat162 with the conversions from and to float and float2, and + - * fma.
//      What else you need: add it to tests/cuda_emulation/include first.
//   4. Every thread that has not returned must reach each __syncthreads, at the same line; every lane of the mask must reach the
//      same warp operation. Returning before a barrier that others wait at is an error here, as is anything that diverges.
//   5. Inline PTX only in ptx.h. In hot loops read and write global and shared memory by ptx.h's helpers: those are counted.
//   6. Code with wgmma, TMA, clusters, mbarriers or programmatic launch controls stands between `#if PM_NVCC … #endif` and
//      has a portable twin; what it computes addresses with is outside, `__host__ __device__`.
//   7. No device heap, printf, recursion, function pointers or device lambdas. Constants are constexpr.
//   8. A kernel owns nothing that needs a destructor: a block that fails is left where it stands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <cuda_runtime.h>
// In this order: the types of these two are used by the kernels' interfaces.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#ifdef __CUDACC__
#define PM_NVCC 1
#else
#define PM_NVCC 0
#endif

#if PAGEMILL_CUDA_EMULATION
#include <emulated_block.h>
#endif

namespace pagemill::cuda {

inline constexpr int kWarp = 32;

/// A block may use so much shared memory on every architecture that we build for (sm_86, 89 and 120 have 99 KB).
inline constexpr size_t kPortableSharedBytes = 99 * 1024;
/// On sm_90 it may use so much (as on sm_100 to 110), and on no other architecture that we build for (sm_80: 163 KB).
inline constexpr size_t kHopperSharedBytes = 227 * 1024;

struct LaunchShape {
  dim3 grid = 1;
  dim3 block = 1;
  size_t dynamic_shared_bytes = 0;  // above 32 KB the kernel's limit is raised first
  unsigned cluster = 1;             // blocks of a cluster, along x
  bool programmatic = false;        // may start before the kernel ahead in the stream has ended: it must wait with griddepcontrol
};

#if PM_NVCC
template <class T>
struct SharedType {
  using type = T;
};
#define PM_SHARED(name, ...) __shared__ typename ::pagemill::cuda::SharedType<__VA_ARGS__>::type name

/// The block's dynamic shared memory, aligned to 1,024 bytes (TMA's strictest swizzle).
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char pagemill_dynamic_shared[];
  return reinterpret_cast<T*>(pagemill_dynamic_shared);
}
#elif PAGEMILL_CUDA_EMULATION
#define PM_SHARED(name, ...)         \
  static const char name##_place = 0; \
  auto& name = ::emulated::shared_variable<__VA_ARGS__>(&name##_place)

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(::emulated::dynamic_shared_memory());
}
#endif

#if PM_NVCC || PAGEMILL_CUDA_EMULATION
/// Enqueues the kernel. An error of the launch itself is returned; one of the running kernel shows at the next synchronisation.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream, Arguments&&... arguments) {
#if PM_NVCC
  if (shape.dynamic_shared_bytes > 32 * 1024) {  // the default limit of 48 KB counts static shared memory too
    const cudaError_t raised = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(shape.dynamic_shared_bytes));
    if (raised != cudaSuccess) return raised;
  }
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.dynamic_shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  if (shape.programmatic) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs].val.clusterDim.x = shape.cluster;
    attributes[config.numAttrs].val.clusterDim.y = 1;
    attributes[config.numAttrs++].val.clusterDim.z = 1;
  }
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
#else
  return ::emulated::launch(kernel, shape.grid, shape.block, shape.dynamic_shared_bytes, stream,
                            static_cast<Parameters>(std::forward<Arguments>(arguments))...);
#endif
}
#endif

}  // namespace pagemill::cuda
