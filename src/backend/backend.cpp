#include "backend/backend.h"

namespace pagemill {

void Backend::add_rms_norm(Matrix x, Matrix delta, const Weight& weight, float eps, Matrix out) {
  add(x, delta);
  rms_norm(x, weight, eps, out);
}

void Backend::linear_qkv(const StepInputs& step, Matrix x, const QkvWeights& weights, Matrix q, Matrix k, Matrix v) {
  linear(step, x, *weights.q, weights.q_bias, q);
  linear(step, x, *weights.k, weights.k_bias, k);
  linear(step, x, *weights.v, weights.v_bias, v);
}

void Backend::linear_gated(const StepInputs& step, Matrix x, const Weight& gate, const Weight& up, Activation activation,
                           Matrix out, Matrix scratch) {
  linear(step, x, gate, nullptr, out);
  linear(step, x, up, nullptr, scratch);
  gated_activation(activation, out, scratch, out);
}

}  // namespace pagemill
