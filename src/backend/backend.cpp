#include "backend/backend.h"

namespace pagemill {

/// For kernels' scratch, the sampler and the process itself, whose sizes are not known before they run.
size_t Backend::scratch_bytes(const StepShape&, int32_t, int32_t, int32_t, int32_t) const { return size_t{64} << 20; }

Result<void> Backend::prepare_rope(const RopeTable&) { return {}; }

Result<void> Backend::reserve_weights(size_t) { return {}; }

std::vector<StepShape> Backend::warm_up_steps(const StepShape&) const { return {}; }

void Backend::replay(const StepInputs&, KvView, const std::function<void()>& body) { body(); }

void Backend::add_rms_norm(Matrix x, Matrix delta, const Weight& weight, float eps, Matrix out) {
  add(x, delta);
  rms_norm(x, weight, eps, out);
}

void Backend::linear_qkv(const StepInputs& step, Matrix x, const QkvWeights& weights, Matrix q, Matrix k, Matrix v) {
  linear(step, x, *weights.q, weights.q_bias, q);
  linear(step, x, *weights.k, weights.k_bias, k);
  linear(step, x, *weights.v, weights.v_bias, v);
}

void Backend::linear_qkv_rope_store(const StepInputs& step, Matrix x, const QkvWeights& weights, const AttentionShape& shape,
                                    const RopeTable& rope, Matrix q, Matrix k, Matrix v, KvView kv) {
  linear_qkv(step, x, weights, q, k, v);
  rope_store(step, shape, rope, q, k, v, kv);
}

void Backend::linear_gated(const StepInputs& step, Matrix x, const Weight& gate, const Weight& up, Activation activation,
                           Matrix out, Matrix scratch) {
  linear(step, x, gate, nullptr, out);
  linear(step, x, up, nullptr, scratch);
  gated_activation(activation, out, scratch, out);
}

void Backend::linear_mlp(const StepInputs& step, Matrix x, const MlpWeights& weights, Activation activation, Matrix gated, Matrix scratch, Matrix out) {
  linear_gated(step, x, *weights.gate, *weights.up, activation, gated, scratch);
  linear(step, gated, *weights.down, nullptr, out);
}

}  // namespace pagemill
