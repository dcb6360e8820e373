#include "bench/roofline.h"

#include <algorithm>

namespace pagemill {
namespace {

/// Seconds of a multiply-add for each; a device may have no rate for a kind that the model does not use.
double seconds_of(double weights, const LimitRate& rate) { return weights > 0 ? 2 * weights / rate.best : 0; }

/// Seconds of arithmetic that one token costs in the layers.
double layer_seconds(const MachineLimits& machine, const ModelWork& work) {
  return seconds_of(work.int8_weights, machine.int8_ops) + seconds_of(work.float16_weights, machine.float16_ops) + seconds_of(work.float32_weights, machine.float32_ops);
}

double head_seconds(const MachineLimits& machine, const ModelWork& work) {
  const double peak = work.int8_weights > 0 ? machine.int8_ops.best : work.float16_weights > 0 ? machine.float16_ops.best : machine.float32_ops.best;
  return 2 * work.head_weights / peak;
}

}  // namespace

double decode_limit(const MachineLimits& machine, const ModelWork& work, int streams, double context) {
  const double weights_s = work.weight_bytes / machine.read_all_threads.best;
  const double kv_s = streams * context * work.kv_bytes_per_token / machine.read_all_threads.best;
  const double compute_s = streams * (layer_seconds(machine, work) + head_seconds(machine, work));
  return streams / (work.attention_flops > 0 ? std::max(weights_s, compute_s) + kv_s : std::max(weights_s + kv_s, compute_s));
}

double prefill_limit(const MachineLimits& machine, const ModelWork& work, double prompt, double depth) {
  const double positions = depth + (prompt + 1) / 2;  // that a token attends to, on average
  const double attention_s = work.attention_flops > 0 ? work.attention_flops * positions / machine.float16_ops.best : 0;
  return 1 / (layer_seconds(machine, work) + attention_s);
}

}  // namespace pagemill
