// Stores that go past the caches: for results that are next read by other cores, when many others have been written after them. A line that is
// written through the cache is fetched first, from the core that read it last, and 16 bytes at a time nobody fetches ahead.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pagemill {

inline constexpr int64_t kStreamedFloats = 16;  // a line

/// Whether to[0 … count) are whole lines.
inline bool can_stream(const float* to, int64_t count) { return reinterpret_cast<uintptr_t>(to) % (kStreamedFloats * sizeof(float)) == 0 && count % kStreamedFloats == 0; }

/// Copies whole lines. Other threads see them once this one has called stream_fence() and told them so as usual.
inline void stream_floats(const float* from, int64_t count, float* to) {
#if defined(__SSE2__)
  for (int64_t i = 0; i < count; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
#else
  std::copy_n(from, count, to);
#endif
}

inline void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace pagemill
