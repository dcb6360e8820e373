// Any bytes as blocks of any type: dequantising reads and writes exactly its buffers, depends on nothing else, and what it gives
// can be quantised again to every type.
#include <cmath>
#include <cstring>
#include <memory>

#include "base/dequantize.h"
#include "format/quantize.h"
#include "fuzz/gguf_fuzzing.h"

namespace pagemill {
namespace {

// Heap buffers of the exact size: AddressSanitizer sees a byte too many.
std::unique_ptr<float[]> dequantized(DType dtype, std::span<const std::byte> blocks, size_t elems) {
  auto out = std::make_unique<float[]>(elems);
  dequantize_row(dtype, blocks, {out.get(), elems});
  return out;
}

void round_trip(DType dtype, std::span<const float> values) {
  const auto bytes = static_cast<size_t>(row_bytes(dtype, static_cast<int64_t>(values.size())));
  const auto blocks = std::make_unique<std::byte[]>(bytes);
  quantize_row(dtype, values, {blocks.get(), bytes});
  const auto back = dequantized(dtype, {blocks.get(), bytes}, values.size());
  if (!traits(dtype).quantized) return;
  for (size_t i = 0; i < values.size(); ++i) require(std::isfinite(back[i]), "quantised values are finite");
}

}  // namespace
}  // namespace pagemill

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagemill;
  if (size < 2) return 0;
  const auto dtype = static_cast<DType>(data[0] % kDTypeCount);
  const auto target = static_cast<DType>(data[1] % kDTypeCount);
  const DTypeTraits& t = traits(dtype);
  const auto blocks = std::as_bytes(std::span(data, size)).subspan(2);
  const size_t count = blocks.size() / static_cast<size_t>(t.block_bytes);
  const auto used = blocks.first(count * static_cast<size_t>(t.block_bytes));
  const size_t elems = count * static_cast<size_t>(t.block_elems);
  const auto values = dequantized(dtype, used, elems);
  const auto again = dequantized(dtype, used, elems);
  require(elems == 0 || std::memcmp(values.get(), again.get(), elems * sizeof(float)) == 0, "the same bytes give the same values");

  // quantize_row takes finite values only.
  for (size_t i = 0; i < elems; ++i)
    if (!std::isfinite(values[i])) values[i] = 0;
  const size_t whole = elems / static_cast<size_t>(traits(target).block_elems) * static_cast<size_t>(traits(target).block_elems);
  round_trip(target, {values.get(), whole});
  return 0;
}
