// Finding the last token that a filter keeps: the smallest key K such that the measures (counts or weights) of all tokens with
// keys up to K reach a target. One block, integers only, so the answer does not depend on the order of the threads.
//
// A pass adds the measures up in 2,048 bins (bins ascend with the keys); a second one lists the tokens of the bin where the
// sum crosses; among them the answer is found by comparing all with all. Where a bin holds more than the list (many equal
// logits), eight passes over its keys' bytes find it instead.
#pragma once

#include "backend/cuda/device_math.h"
#include "backend/sampling.h"

namespace pagemill::cuda {

inline constexpr int kSampleThreads = 1024, kSampleWarps = kSampleThreads / kWarp;
inline constexpr int kBins = 2048, kListMax = 2048;

struct SelectShared {
  uint64_t histogram[kBins];
  uint64_t keys[kListMax], measures[kListMax];
  uint64_t warp[kSampleWarps];
  uint64_t answer, left, total;
  SamplingRow how;  // the row's parameters: in registers they would not last through the filters
  int count, bin;
};

/// A token as a filter sees it; one with measure 0 takes no part.
struct Entry {
  uint64_t key = 0, measure = 0;
  int bin = 0;
};

__device__ inline void add_shared(uint64_t* to, uint64_t value) { atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value)); }

__device__ inline uint64_t shuffle_xor_u64(uint64_t x, int distance) {
  return static_cast<uint64_t>(__shfl_xor_sync(kAllLanes, static_cast<unsigned long long>(x), distance));
}
__device__ inline uint64_t warp_sum_u64(uint64_t x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += shuffle_xor_u64(x, distance);
  return x;
}
/// Inclusive.
__device__ inline uint64_t warp_prefix_u64(uint64_t x) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const auto other = static_cast<uint64_t>(__shfl_up_sync(kAllLanes, static_cast<unsigned long long>(x), distance));
    if (lane >= distance) x += other;
  }
  return x;
}
__device__ inline uint64_t block_sum_u64(uint64_t x, SelectShared& shared) {
  x = warp_sum_u64(x);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared.warp[threadIdx.x / kWarp] = x;
  __syncthreads();
  return warp_sum_u64(shared.warp[threadIdx.x % kWarp]);
}
__device__ inline uint64_t block_min(uint64_t x, SelectShared& shared) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = min(x, shuffle_xor_u64(x, distance));
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared.warp[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = shared.warp[threadIdx.x % kWarp];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = min(x, shuffle_xor_u64(x, distance));
  return x;
}

/// A border that the n smallest (or all) of the threads' keys do not exceed: the n-th's upper half, the lower half full. By bisection.
__device__ inline uint64_t nth_smallest(uint64_t key, int n, SelectShared& shared) {
  uint64_t low = 0;  // the answer's leading bits so far
  for (int bit = 63; bit >= 32; --bit) {
    const uint64_t middle = low | uint64_t{1} << bit;
    const unsigned below = __ballot_sync(kAllLanes, key < middle);
    __syncthreads();
    if (threadIdx.x % kWarp == 0) shared.warp[threadIdx.x / kWarp] = static_cast<uint64_t>(__popc(below));
    __syncthreads();
    if (warp_sum_u64(shared.warp[threadIdx.x % kWarp]) < static_cast<uint64_t>(n)) low = middle;
  }
  return low | 0xFFFFFFFFu;
}

/// f(i, value of token i) for this thread's tokens, with kInFlight loads on their way: a pass is bound by L2's latency otherwise.
template <class F>
__device__ __forceinline__ void scan_row(const float* x, int vocab, F f) {
  constexpr int kInFlight = 8;
  for (int first = threadIdx.x; first < vocab; first += kInFlight * kSampleThreads) {
    float values[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const int i = first + j * kSampleThreads;
      values[j] = i < vocab ? ptx::load_f32(x + i) : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const int i = first + j * kSampleThreads;
      if (i < vocab) f(i, values[j]);
    }
  }
}

/// Clears `bins` bins.
__device__ inline void clear_histogram(SelectShared& shared, int bins) {
  __syncthreads();
  for (int i = threadIdx.x; i < bins; i += kSampleThreads) shared.histogram[i] = 0;
  __syncthreads();
}

/// shared.bin: the bin in which the sum of the histogram reaches the target; shared.left: what is left of the target there.
/// bin -1 where the sum of all is less. `target_of(total)`, so that the target can depend on the sum.
template <class TargetOf>
__device__ void find_bin(SelectShared& shared, TargetOf target_of) {
  static_assert(kBins == 2 * kSampleThreads);
  __syncthreads();
  const uint64_t first = shared.histogram[2 * threadIdx.x], second = shared.histogram[2 * threadIdx.x + 1];
  const uint64_t within = warp_prefix_u64(first + second);
  if (threadIdx.x % kWarp == kWarp - 1) shared.warp[threadIdx.x / kWarp] = within;
  if (threadIdx.x == 0) shared.bin = -1;
  __syncthreads();
  uint64_t before = within - first - second, total = 0;
#pragma unroll 8  // all at once would take all registers
  for (int w = 0; w < kSampleWarps; ++w) {
    if (w < static_cast<int>(threadIdx.x / kWarp)) before += shared.warp[w];
    total += shared.warp[w];
  }
  const uint64_t target = target_of(total);
  if (before < target && target <= before + first) {
    shared.bin = 2 * threadIdx.x;
    shared.left = target - before;
  } else if (before + first < target && target <= before + first + second) {
    shared.bin = 2 * threadIdx.x + 1;
    shared.left = target - before - first;
  }
  __syncthreads();
}

/// The answer among the tokens of one bin, by their keys' bytes.
template <class Describe>
__device__ uint64_t select_by_bytes(const float* x, int vocab, int bin, uint64_t left, SelectShared& shared, Describe describe) {
  uint64_t prefix = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    clear_histogram(shared, kBins);
    scan_row(x, vocab, [&](int i, float raw) {
      Entry entry;
      describe(i, raw, entry);
      const bool matches = shift == 56 || entry.key >> (shift + 8) == prefix;
      if (entry.measure != 0 && entry.bin == bin && matches) add_shared(&shared.histogram[entry.key >> shift & 255], entry.measure);
    });
    find_bin(shared, [left](uint64_t) { return left; });
    prefix = prefix << 8 | static_cast<uint32_t>(shared.bin);
    left = shared.left;
  }
  return prefix;
}

/// `describe(i, raw value, entry)` gives token i. All threads get the answer; ~0 where the measures do not reach the target.
template <class Describe, class TargetOf>
__device__ uint64_t select_last_of(const float* x, int vocab, SelectShared& shared, Describe describe, TargetOf target_of) {
  clear_histogram(shared, kBins);
  scan_row(x, vocab, [&](int i, float raw) {
    Entry entry;
    describe(i, raw, entry);
    if (entry.measure != 0) add_shared(&shared.histogram[entry.bin], entry.measure);
  });
  find_bin(shared, target_of);
  const int bin = shared.bin;
  const uint64_t left = shared.left;
  if (bin < 0) return ~uint64_t{0};
  __syncthreads();
  if (threadIdx.x == 0) shared.count = 0;
  __syncthreads();
  scan_row(x, vocab, [&](int i, float raw) {
    Entry entry;
    describe(i, raw, entry);
    if (entry.measure == 0 || entry.bin != bin) return;
    const int at = atomicAdd(&shared.count, 1);
    if (at >= kListMax) return;
    shared.keys[at] = entry.key;
    shared.measures[at] = entry.measure;
  });
  __syncthreads();
  const int found = shared.count;
  if (found > kListMax) return select_by_bytes(x, vocab, bin, left, shared, describe);
  for (int i = threadIdx.x; i < found; i += kSampleThreads) {
    uint64_t up_to = 0;
    for (int j = 0; j < found; ++j) up_to += shared.keys[j] <= shared.keys[i] ? shared.measures[j] : 0;
    if (up_to >= left && up_to - shared.measures[i] < left) shared.answer = shared.keys[i];
  }
  __syncthreads();
  return shared.answer;
}

template <class Describe>
__device__ uint64_t select_last(const float* x, int vocab, uint64_t target, SelectShared& shared, Describe describe) {
  return select_last_of(x, vocab, shared, describe, [target](uint64_t) { return target; });
}
/// The target is a share of the sum of all measures.
template <class Describe>
__device__ uint64_t select_last_share(const float* x, int vocab, float share, SelectShared& shared, Describe describe) {
  return select_last_of(x, vocab, shared, describe, [share](uint64_t total) { return mass_target(share, total); });
}

}  // namespace pagemill::cuda
