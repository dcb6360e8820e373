// What is done to whole rows outside of the matrix products: embedding, norms, and the plain elementwise ops.
//
// Shapes: [rows, n] of T, n a multiple of 8. Grid: a block per row (norms: 128 … 1,024 threads with 8 elements each and a loop),
// or a grid-stride loop over groups of 8 elements. Bytes: each input read once, each output written once; at decode sizes
// (a few hundred KB) they lie in L2 and the time is the launch's, 2 µs, of which programmatic launch hides most. At prefill sizes
// 85 % of the read bandwidth is expected.
#include "backend/cuda/device_math.h"

namespace pagemill::cuda {
namespace {

constexpr int kVector = 8;  // elements of a 16-byte access

const uint4* as_vectors(const void* p) { return static_cast<const uint4*>(p); }
uint4* as_vectors(void* p) { return static_cast<uint4*>(p); }

__global__ void embed_kernel(const int32_t* tokens, const int32_t* token_from, const int32_t* positions, const SampledToken* sampled,
                             const uint4* table, uint4* out, int vectors) {
  // Not earlier: later kernels read the step's inputs and older KV blocks before they wait, and rely on this.
  ptx::wait_for_previous_kernel();
  ptx::let_next_kernel_start();
  const int row = blockIdx.x;
  const bool padding = ptx::load_i32(positions + row) < 0;
  const int from = token_from == nullptr ? -1 : ptx::load_i32(token_from + row);
  int token = from < 0 ? ptx::load_i32(tokens + row) : ptx::load_i32(&sampled[from].token);
  token = max(token, 0);  // nothing was allowed: the sequence has ended and this row is dropped
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
    const uint4 v = padding ? make_uint4(0, 0, 0, 0) : ptx::load_16(table + static_cast<int64_t>(token) * vectors + i);
    ptx::store_16(out + static_cast<int64_t>(row) * vectors + i, v);
  }
}

constexpr int kNormVectors = 4;  // a thread keeps so many vectors of its row in registers; longer rows are read twice

/// x (+= delta) → sum of squares → out. One row per block.
template <class T, bool with_delta>
__global__ void __launch_bounds__(1024) rms_norm_kernel(uint4* x, const uint4* delta, const float* weight, uint4* out, int vectors, float eps) {
  PM_SHARED(scratch, float[kWarp]);
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * vectors;
  float kept[kNormVectors][kVector];
  float squares = 0;
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j) {
    const int i = threadIdx.x + j * blockDim.x;
    if (i < vectors) {
      unpack_8<T>(ptx::load_16(x + row + i), kept[j]);
      if constexpr (with_delta) {
        float more[kVector];
        unpack_8<T>(ptx::load_16(delta + row + i), more);
#pragma unroll
        for (int e = 0; e < kVector; ++e) kept[j][e] += more[e];
        const uint4 rounded = pack_8<T>(kept[j]);  // what the next layer reads is also what is normed
        ptx::store_16(x + row + i, rounded);
        unpack_8<T>(rounded, kept[j]);
      }
#pragma unroll
      for (int e = 0; e < kVector; ++e) squares += kept[j][e] * kept[j][e];
    }
  }
  const float scale = rsqrtf(block_sum(squares, scratch) / static_cast<float>(vectors * kVector) + eps);
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j) {
    const int i = threadIdx.x + j * blockDim.x;
    if (i < vectors) {
      float y[kVector];
      const float4* w = reinterpret_cast<const float4*>(weight) + 2 * i;
      const float4 low = w[0], high = w[1];
      const float by[kVector] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int e = 0; e < kVector; ++e) y[e] = kept[j][e] * scale * by[e];
      ptx::store_16(out + row + i, pack_8<T>(y));
    }
  }
}

__global__ void gather_kernel(const uint4* x, int x_rows, const int32_t* rows, uint4* out, int vectors) {
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int from = ptx::load_i32(rows + blockIdx.x);
  const bool inside = from >= 0 && from < x_rows;
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
    const uint4 v = inside ? ptx::load_16(x + static_cast<int64_t>(from) * vectors + i) : make_uint4(0, 0, 0, 0);
    ptx::store_16(out + static_cast<int64_t>(blockIdx.x) * vectors + i, v);
  }
}

/// out[i] = f(a[i], b[i]) over vectors of 8.
struct Sum {
  __device__ static float of(float a, float b) { return a + b; }
};
struct SiluTimes {
  __device__ static float of(float a, float b) { return silu(a) * b; }
};
template <class T, class F>
__global__ void pairwise_kernel(const uint4* a, const uint4* b, uint4* out, int64_t vectors) {
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < vectors; i += step) {
    float u[kVector], v[kVector];
    unpack_8<T>(ptx::load_16(a + i), u);
    unpack_8<T>(ptx::load_16(b + i), v);
#pragma unroll
    for (int e = 0; e < kVector; ++e) u[e] = F::of(u[e], v[e]);
    ptx::store_16(out + i, pack_8<T>(u));
  }
}

template <class T>
__global__ void add_bias_kernel(uint4* x, const float* bias, int vectors) {
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
    uint4* at = x + static_cast<int64_t>(blockIdx.x) * vectors + i;
    float u[kVector];
    unpack_8<T>(ptx::load_16(at), u);
#pragma unroll
    for (int e = 0; e < kVector; ++e) u[e] += bias[i * kVector + e];
    ptx::store_16(at, pack_8<T>(u));
  }
}

template <class T>
__global__ void to_f32_kernel(const T* from, float* to, int64_t count) {
  ptx::wait_for_previous_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = to_float(from[i]);
}
template <class T>
__global__ void from_f32_kernel(const float* from, T* to, int64_t count) {
  ptx::wait_for_previous_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = from_float<T>(from[i]);
}

__global__ void rope_angles_kernel(const int32_t* positions, const float* inv_freq, float scale, float2* angles, int half) {
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int position = max(ptx::load_i32(positions + blockIdx.x), 0);
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    const float angle = __fmul_rn(static_cast<float>(position), inv_freq[i]);  // in f32, as HF computes it
    angles[static_cast<int64_t>(blockIdx.x) * half + i] = make_float2(cosf(angle) * scale, sinf(angle) * scale);
  }
}

int threads_for(int vectors, int most) { return min(most, max(kWarp, (vectors + kWarp - 1) / kWarp * kWarp)); }

template <class F>
cudaError_t pairwise(const KernelContext& c, ElementType type, const void* a, const void* b, void* out, int64_t count) {
  if (count == 0) return cudaSuccess;
  const int64_t vectors = count / kVector;
  const auto grid = static_cast<unsigned>(std::min<int64_t>(blocks_for(vectors, 256), int64_t{8} * c.multiprocessors));
  return with_element(type, [&](auto t) {
    return launch(pairwise_kernel<decltype(t), F>, {.grid = grid, .block = 256, .programmatic = c.programmatic}, c.stream,
                  as_vectors(a), as_vectors(b), as_vectors(out), vectors);
  });
}

}  // namespace

cudaError_t embed(const KernelContext& c, const EmbedArgs& a) {
  if (a.rows == 0) return cudaSuccess;
  const int vectors = a.hidden / kVector;
  return launch(embed_kernel, {.grid = static_cast<unsigned>(a.rows), .block = static_cast<unsigned>(threads_for(vectors, 256)), .programmatic = c.programmatic},
                c.stream, a.tokens, a.token_from, a.positions, a.sampled, as_vectors(a.table), as_vectors(a.out), vectors);
}

cudaError_t rms_norm(const KernelContext& c, const RmsNormArgs& a) {
  if (a.rows == 0) return cudaSuccess;
  const int vectors = a.hidden / kVector;
  if (vectors > kNormVectors * 1024) return cudaErrorInvalidValue;
  // Few rows: short chains per thread. Many rows: fewer threads a row, so that a multiprocessor holds several rows. That is another order
  // of the sum, so deterministic mode does not look at the number of rows.
  const int per_thread = !c.deterministic && a.rows > 2 * c.multiprocessors ? kNormVectors : 1;
  const auto threads = static_cast<unsigned>(threads_for((vectors + per_thread - 1) / per_thread, 1024));
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    const auto kernel = a.delta == nullptr ? rms_norm_kernel<T, false> : rms_norm_kernel<T, true>;
    return launch(kernel, {.grid = static_cast<unsigned>(a.rows), .block = threads, .programmatic = c.programmatic}, c.stream,
                  as_vectors(a.x), as_vectors(a.delta), a.weight, as_vectors(a.out), vectors, a.eps);
  });
}

cudaError_t gather_rows(const KernelContext& c, ElementType, const void* x, int x_rows, const int32_t* rows, int count, int cols, void* out) {
  if (count == 0) return cudaSuccess;
  const int vectors = cols / kVector;
  return launch(gather_kernel, {.grid = static_cast<unsigned>(count), .block = static_cast<unsigned>(threads_for(vectors, 256)), .programmatic = c.programmatic},
                c.stream, as_vectors(x), x_rows, rows, as_vectors(out), vectors);
}

cudaError_t add(const KernelContext& c, ElementType type, void* x, const void* delta, int64_t count) {
  return pairwise<Sum>(c, type, x, delta, x, count);
}

cudaError_t gated_silu(const KernelContext& c, ElementType type, const void* gate, const void* up, void* out, int64_t count) {
  return pairwise<SiluTimes>(c, type, gate, up, out, count);
}

cudaError_t add_bias(const KernelContext& c, ElementType type, void* x, const float* bias, int rows, int cols) {
  if (rows == 0) return cudaSuccess;
  return with_element(type, [&](auto t) {
    return launch(add_bias_kernel<decltype(t)>, {.grid = static_cast<unsigned>(rows), .block = 256, .programmatic = c.programmatic}, c.stream,
                  as_vectors(x), bias, cols / kVector);
  });
}

cudaError_t to_f32(const KernelContext& c, ElementType type, const void* from, float* to, int64_t count) {
  if (count == 0) return cudaSuccess;
  return with_element(type, [&](auto t) {
    using T = decltype(t);
    return launch(to_f32_kernel<T>, {.grid = static_cast<unsigned>(blocks_for(count, 256)), .block = 256}, c.stream, static_cast<const T*>(from), to, count);
  });
}

cudaError_t from_f32(const KernelContext& c, ElementType type, const float* from, void* to, int64_t count) {
  if (count == 0) return cudaSuccess;
  return with_element(type, [&](auto t) {
    using T = decltype(t);
    return launch(from_f32_kernel<T>, {.grid = static_cast<unsigned>(blocks_for(count, 256)), .block = 256}, c.stream, from, static_cast<T*>(to), count);
  });
}

cudaError_t rope_angles(const KernelContext& c, const RopeAngles& a) {
  if (a.rows == 0) return cudaSuccess;
  return launch(rope_angles_kernel, {.grid = static_cast<unsigned>(a.rows), .block = static_cast<unsigned>(threads_for(a.half, 128)), .programmatic = c.programmatic},
                c.stream, a.positions, a.inv_freq, a.scale, a.angles, a.half);
}

}  // namespace pagemill::cuda
