#include "model/model.h"

#include <cmath>

#include "base/check.h"
#include "model/state.h"

namespace pagemill {
namespace {

Matrix first_rows(Matrix matrix, int64_t rows) {
  PM_CHECK(rows >= 0 && rows <= matrix.rows, "a step of {} rows where {} were reserved", rows, matrix.rows);
  matrix.rows = rows;
  return matrix;
}

}  // namespace

void Model::forward(const StepInputs& step, KvView kv, Backend& backend, Communicator& communicator) {
  State& state = *state_;
  const ModelConfig& config = state.config;
  const int64_t rows = state.last_rows = step.shape.rows;
  const Activations& a = state.activations;
  const Matrix x = first_rows(a.residual, rows), normed = first_rows(a.normed, rows), delta = first_rows(a.delta, rows);
  const Matrix q = first_rows(a.q, rows), k = first_rows(a.k, rows), v = first_rows(a.v, rows);
  const Matrix attention = first_rows(a.attention, rows), gate = first_rows(a.gate, rows), up = first_rows(a.up, rows);

  backend.embed(step, *state.weights.token_embd, x);
  backend.rms_norm(x, *state.weights.layers[0].attn_norm, config.rms_eps, normed);
  for (int32_t layer = 0; layer < config.layers; ++layer) {
    const LayerWeights& w = state.weights.layers[static_cast<size_t>(layer)];
    const AttentionShape shape{.layer = layer, .heads = config.heads, .kv_heads = config.kv_heads, .head_dim = config.head_dim,
                               .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim))};
    backend.linear_qkv_rope_store(step, normed, {w.q, w.k, w.v, w.q_bias, w.k_bias, w.v_bias}, shape, state.rope, q, k, v, kv);
    backend.attention(step, shape, q, kv, attention);
    backend.linear(step, attention, *w.attn_output, nullptr, delta);
    communicator.all_reduce_sum(delta);
    backend.add_rms_norm(x, delta, *w.ffn_norm, config.rms_eps, normed);

    backend.linear_mlp(step, normed, {w.gate, w.up, w.down}, Activation::silu, gate, up, delta);
    communicator.all_reduce_sum(delta);
    const bool last = layer + 1 == config.layers;
    const Weight& next_norm = last ? *state.weights.output_norm : *state.weights.layers[static_cast<size_t>(layer) + 1].attn_norm;
    backend.add_rms_norm(x, delta, next_norm, config.rms_eps, normed);
  }
}

Matrix Model::lm_head(const StepInputs& step, std::span<const int32_t> rows, Backend& backend, Communicator&) {
  State& state = *state_;
  const auto count = static_cast<int64_t>(rows.size());
  const Matrix selected = first_rows(state.activations.selected, count), logits = first_rows(state.activations.logits, count);
  backend.gather_rows(step, hidden_states(), rows, selected);
  backend.linear(step, selected, *state.weights.output, nullptr, logits);
  return logits;
}

Matrix Model::hidden_states() const { return first_rows(state_->activations.normed, state_->last_rows); }

const ModelConfig& Model::config() const { return state_->config; }
ModelMemory Model::memory() const { return state_->memory; }
Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;

}  // namespace pagemill
