// The CPU backends that a test runs on: every instruction set of this CPU and the plain instance, and the oracle.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

namespace pagemill {

/// Values of --isa that this CPU runs, without the reference.
inline std::vector<std::string> fast_backend_names() {
  std::vector<std::string> names;
  for (const Isa isa : available_isas()) names.emplace_back(to_string(isa));
  return names;
}

inline std::vector<std::string> cpu_backend_names() {
  std::vector<std::string> names = fast_backend_names();
  names.emplace_back("reference");
  return names;
}

/// The backend with the plain instance of the kernels over tiles (Isa::amx), attention by vectors on bf16 (Isa::avx512_vnni): for tests of single ops and of short texts.
inline constexpr const char* kPlainTiles = "plain_tiles";

/// deterministic: as with --deterministic, which most tests need where a CPU has AMX: they compare bits.
inline std::unique_ptr<Backend> open_cpu_backend(const std::string& isa, int threads = 2, bool deterministic = true) {
  if (isa == kPlainTiles) return std::make_unique<CpuBackend>(threads, plain_bf16_op_kernels(), plain_tile_linear_kernels(deterministic), isa);
  auto backend = make_cpu_backend(isa, threads, deterministic);
  PM_CHECK(backend, "{}", backend.error().message);
  return std::move(*backend);
}

/// A name that GoogleTest takes.
inline std::string test_name(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '-' || c == '.'; }, '_');
  return text;
}

}  // namespace pagemill
