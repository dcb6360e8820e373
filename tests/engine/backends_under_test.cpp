#include "engine/backends_under_test.h"

#include "support/cpu_backends.h"

namespace pagemill {
namespace {

BackendUnderTest on(const std::string& isa, DType kv_dtype) {
  return {.name = isa + "_" + std::string(to_string(kv_dtype)), .make = [isa](int threads) { return open_cpu_backend(isa, threads); }, .kv_dtype = kv_dtype};
}

}  // namespace

std::vector<BackendUnderTest> backends_under_test() {
  std::vector<BackendUnderTest> all{{.name = "reference", .make = make_reference_backend}};
  for (const std::string& isa : fast_backend_names()) {
    all.push_back(on(isa, DType::f16));
    if (isa == "plain") continue;  // slow, and bit for bit what a wider one computes (cpu_backend_test)
    all.push_back(on(isa, DType::f32));
    all.push_back(on(isa, DType::bf16));
  }
  return all;
}

std::vector<BackendUnderTest> backends_with_wide_heads() {
  std::vector<BackendUnderTest> all;
  for (const std::string& isa : fast_backend_names())
    for (const DType kv_dtype : {DType::f16, DType::q8_0}) all.push_back(on(isa, kv_dtype));
  return all;
}

std::vector<BackendUnderTest> shipped_backends() { return {on("auto", DType::f16), on("auto", DType::q8_0)}; }

}  // namespace pagemill
