// The inner loops that measure_machine() times: one table per instruction set.
//
// Each table lives in a file compiled for its instruction set, so this header and calibrate_loops.h hold nothing that could be
// emitted as a shared inline function with instructions that a lesser CPU lacks. A loop may run only where its `needs` are met.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagemill::calibrate {

enum class Need : uint8_t { nothing, avx2, avx_vnni, avx512, avx512_vnni, avx512_bf16 };
enum class Kind : uint8_t { int8, float16, float32 };

/// Arithmetic on values in registers or in the first-level cache.
struct ComputeLoop {
  const char* name;
  Kind kind;
  Need needs;
  double ops;                       // per iteration; a multiply-add counts as two
  void (*run)(uint64_t iterations);
};

/// Reads every byte of [data, data + bytes) once. `bytes` is a multiple of kReadGranule, `data` is aligned to 64.
struct ReadLoop {
  const char* name;
  Need needs;
  void (*run)(const std::byte* data, size_t bytes);
};
inline constexpr size_t kReadGranule = 64 * 1024;

struct LoopTable {
  const ComputeLoop* compute;
  int compute_count;
  const ReadLoop* read;
  int read_count;
};

LoopTable sse2_loops();
LoopTable avx2_loops();
LoopTable avx512_loops();

}  // namespace pagemill::calibrate
