#include "format/requantize.h"

#include <vector>

#include "base/dequantize.h"
#include "format/gguf_writer.h"
#include "format/inspect.h"
#include "format/quantize.h"

namespace pagemill {
namespace {

GgufHeader header_for(const WeightSource& source, const TypeMix& types) {
  GgufHeader header;
  for (const MetadataEntry& entry : source.metadata()) {
    // A split model becomes one file, and the writer has its own alignment.
    if (entry.key.starts_with("split.") || entry.key == "general.alignment") continue;
    std::visit([&](const auto& value) { header.set(entry.key, value); }, entry.value.value);
  }
  header.set("general.file_type", uint64_t{gguf_file_type(types)});
  header.set("general.quantization_version", uint64_t{2});
  const auto layers = static_cast<int32_t>(summarize_model(source).layers.value_or(1));
  const bool tied = !source.find_tensor("output.weight");
  for (const TensorView& tensor : source.tensors()) {
    const bool is_output = tensor.name == "output.weight" || (tied && tensor.name == "token_embd.weight");
    header.add_tensor(tensor.name, tensor_dtype(types, tensor.name, tensor.shape, layers, is_output), tensor.shape);
  }
  return header;
}

Result<void> write_rows(GgufWriter& writer, const TensorView& tensor, DType target) {
  if (tensor.dtype == target) return writer.append(tensor.bytes);
  const int64_t elems = tensor.shape.back();
  const auto source_bytes = static_cast<size_t>(row_bytes(tensor.dtype, elems));
  std::vector<float> values(static_cast<size_t>(elems));
  std::vector<std::byte> row(static_cast<size_t>(row_bytes(target, elems)));
  for (size_t at = 0; at < tensor.bytes.size(); at += source_bytes) {
    dequantize_row(tensor.dtype, tensor.bytes.subspan(at, source_bytes), values);
    quantize_row(target, values, row);
    PM_TRY(writer.append(row));
  }
  return {};
}

}  // namespace

Result<void> requantize(const WeightSource& source, const TypeMix& types, const std::filesystem::path& path,
                        const std::function<void(double)>& progress) {
  const GgufHeader header = header_for(source, types);
  PM_ASSIGN(GgufWriter writer, GgufWriter::create(path, header));
  for (size_t i = 0; i < header.tensors().size(); ++i) {
    if (auto written = write_rows(writer, source.tensors()[i], header.tensors()[i].dtype); !written) {
      PM_TRY(source.check_intact());  // pages that went missing cannot be written: the source is to blame, not the target
      return written;
    }
    if (progress) progress(static_cast<double>(i + 1) / static_cast<double>(header.tensors().size()));
  }
  PM_TRY(source.check_intact());
  return writer.finish();
}

}  // namespace pagemill
