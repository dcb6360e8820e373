#include "model/size.h"

namespace pagemill {
namespace {

int64_t elements_of(const TensorView& tensor) {
  int64_t elements = 1;
  for (const int64_t extent : tensor.shape) elements *= extent;
  return elements;
}

/// Where a matrix of the layers is counted.
int64_t& layer_count(ModelSize& size, DType dtype) {
  if (traits(dtype).quantized) return size.layer_quantized;
  return dtype == DType::f32 ? size.layer_float32 : size.layer_float16;
}

}  // namespace

ModelSize model_size(const WeightSource& source, const ModelConfig& config) {
  ModelSize size;
  for (const TensorView& tensor : source.tensors()) {
    const int64_t elements = elements_of(tensor), bytes = static_cast<int64_t>(tensor.bytes.size());
    const bool embedding = tensor.name == "token_embd.weight";
    const bool head = tensor.name == "output.weight" || (embedding && config.tied_embeddings);
    size.parameters += elements;
    size.weight_bytes += bytes;
    if (!embedding || head) size.step_bytes += bytes;
    if (head) size.head = elements;
    if (!embedding && !head && tensor.shape.size() > 1) layer_count(size, tensor.dtype) += elements;
  }
  return size;
}

}  // namespace pagemill
