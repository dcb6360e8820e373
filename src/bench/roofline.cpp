#include "bench/roofline.h"

#include <algorithm>

namespace pagemill {
namespace {

/// Seconds of arithmetic that one token costs in the layers.
double layer_seconds(const MachineLimits& machine, const ModelWork& work) {
  return 2 * (work.int8_weights / machine.int8_ops.best + work.float16_weights / machine.float16_ops.best +
              work.float32_weights / machine.float32_ops.best);
}

double head_seconds(const MachineLimits& machine, const ModelWork& work) {
  const double peak = work.int8_weights > 0 ? machine.int8_ops.best : work.float16_weights > 0 ? machine.float16_ops.best : machine.float32_ops.best;
  return 2 * work.head_weights / peak;
}

}  // namespace

double decode_limit(const MachineLimits& machine, const ModelWork& work, int streams, double context) {
  const double read_s = (work.weight_bytes + streams * context * work.kv_bytes_per_token) / machine.read_all_threads.best;
  const double compute_s = streams * (layer_seconds(machine, work) + head_seconds(machine, work));
  return streams / std::max(read_s, compute_s);
}

double prefill_limit(const MachineLimits& machine, const ModelWork& work) { return 1 / layer_seconds(machine, work); }

}  // namespace pagemill
