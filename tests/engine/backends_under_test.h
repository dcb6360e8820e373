// The backends that a real model runs on in the engine's tests. Whoever adds a backend, an instruction set or a type of KV cache
// adds a line to backends_under_test.cpp, and every test here that promises bitwise equality covers it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace pagemill {

struct BackendUnderTest {
  std::string name;                      // letters, digits and _: part of the tests' names
  std::function<std::unique_ptr<Backend>(int threads)> make;
  DType kv_dtype = DType::f32;
};

/// Those that this machine can run.
std::vector<BackendUnderTest> backends_under_test();
/// With a KV cache that asks for heads of a multiple of 32 elements too: for quantised models of random weights.
std::vector<BackendUnderTest> backends_with_wide_heads();
/// What users get: for tests with a real model, which the others would take minutes for.
std::vector<BackendUnderTest> shipped_backends();

}  // namespace pagemill
