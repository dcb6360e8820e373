// Any file through open_gguf: an error that names file and field, or a source whose every part can be used. Never a crash, never
// more memory than the file's size and the slack of limits.h.
#include <cstring>

#include "base/dequantize.h"
#include "base/limits.h"
#include "format/gguf.h"
#include "format/inspect.h"
#include "fuzz/gguf_fuzzing.h"
#include "fuzz/gguf_image.h"

namespace pagemill {
namespace {

void read_values(const TensorView& tensor) {
  const int64_t elems = tensor.shape.back();
  const auto bytes = static_cast<size_t>(row_bytes(tensor.dtype, elems));
  require(bytes <= tensor.bytes.size() && tensor.bytes.size() % bytes == 0, "a tensor has whole rows");
  std::vector<float> row(static_cast<size_t>(elems));
  dequantize_row(tensor.dtype, tensor.bytes.first(bytes), row);
  dequantize_row(tensor.dtype, tensor.bytes.last(bytes), row);
}

void use(const WeightSource& source) {
  for (const MetadataEntry& entry : source.metadata()) {
    require(source.find_metadata(entry.key) == &entry.value, "a key is found");
    (void)source.integer(entry.key, -5, 5);
    (void)source.number(entry.key);
    (void)source.boolean(entry.key);
    (void)source.string(entry.key);
    (void)source.integers(entry.key, INT64_MIN, INT64_MAX);
    (void)source.numbers(entry.key);
    if (const auto strings = source.strings(entry.key); strings && *strings)
      for (size_t i = 0; i < (*strings)->size(); ++i) (void)(**strings)[i];
  }
  for (const TensorView& tensor : source.tensors()) {
    require(source.find_tensor(tensor.name) == &tensor, "a tensor is found");
    read_values(tensor);
  }
  require(source.check_intact().has_value(), "an image is intact");
  const ModelSummary summary = summarize_model(source);
  (void)kv_bytes_per_token(summary, DType::q8_0);
  (void)describe_types(summary);
}

}  // namespace
}  // namespace pagemill

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t capacity, unsigned seed) {
  static const std::string sample = pagemill::sample_image().serialize();
  return pagemill::mutate_gguf(data, size, capacity, seed, sample);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagemill;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  const uint64_t before = sanitizer_allocated_bytes();
  const auto source = open_gguf_image("file", std::move(bytes));
  require(sanitizer_allocated_bytes() - before <= size + limits::kLoadSlackBytes, "opening allocates within the bound");
  if (source) {
    use(**source);
  } else {
    require(source.error().message.starts_with("file: ") && !source.error().field.empty(), "an error names file and field");
  }
  return 0;
}
