// The inner loops that measure_machine() times: one table per instruction set.
//
// Each table lives in a file compiled for exactly the instructions that it needs, since a compiler uses whatever it may: clang
// makes a VNNI instruction of a multiply and an add. For the same reason this header and calibrate_loops.h hold nothing that could
// be emitted as a shared inline function. A table may be used only where its `needs` are met.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagemill::calibrate {

enum class Need : uint8_t { nothing, avx2, avx_vnni, avx512, avx512_vnni, avx512_bf16, amx };
enum class Kind : uint8_t { int8, float16, float32 };

/// Arithmetic on values in registers or in the first-level cache.
struct ComputeLoop {
  const char* name;
  Kind kind;
  double ops;                       // per iteration; a multiply-add counts as two
  void (*run)(uint64_t iterations);
};

/// Reads every byte of [data, data + bytes) once. `bytes` is a multiple of kReadGranule, `data` is aligned to 64.
struct ReadLoop {
  const char* name;
  void (*run)(const std::byte* data, size_t bytes);
};
inline constexpr size_t kReadGranule = 64 * 1024;

struct LoopTable {
  Need needs;
  const ComputeLoop* compute;
  int compute_count;
  const ReadLoop* read;  // null where another table of a vector as wide has them
  int read_count;
};

// Data, not functions: even a function that returns a table may use what its file is compiled for.
extern const LoopTable kSse2Loops;
extern const LoopTable kAvx2Loops;
extern const LoopTable kAvxVnniLoops;
extern const LoopTable kAvx512Loops;
extern const LoopTable kAvx512VnniLoops;
extern const LoopTable kAvx512Bf16Loops;
extern const LoopTable kAmxLoops;

}  // namespace pagemill::calibrate
