// What a model's weights come to, known from its file alone: for memory tables and for the limits that speeds are shown against.
#pragma once

#include <cstdint>

#include "format/weight_source.h"
#include "model/config.h"

namespace pagemill {

struct ModelSize {
  int64_t parameters = 0;         // all tensors' elements
  int64_t weight_bytes = 0;       // all tensors, as they lie in the file
  int64_t step_bytes = 0;         // what one decode step reads: a separate embedding table is only looked up
  // Elements of the matrices in the layers, by how they are stored.
  int64_t layer_quantized = 0, layer_float16 = 0, layer_float32 = 0;
  int64_t head = 0;               // elements of the matrix that makes the logits
};

/// `source` should hold the tensors that `config` tells of (find_weights checks that); others count in parameters and bytes.
ModelSize model_size(const WeightSource& source, const ModelConfig& config);

}  // namespace pagemill
