// Loading a model, and what it will take, before anything is allocated.
#include <fmt/format.h>

#include "model/rope.h"
#include "model/state.h"

namespace pagemill {
namespace {

constexpr size_t kMatrixAlign = 256;  // bytes; what vector units and DMA engines like

size_t weights_bytes(const Backend& backend, const std::vector<WeightSpec>& manifest, const std::vector<const TensorView*>& tensors) {
  size_t bytes = 0;
  for (size_t i = 0; i < manifest.size(); ++i) bytes += backend.weight_bytes(tensors[i]->dtype, manifest[i].out, manifest[i].in);
  return bytes;
}

Result<void> check_memory(const WeightSource& source, const Backend& backend, const ModelMemory& needed) {
  const size_t total = needed.weights_bytes + needed.activations_bytes, free = backend.device().memory_free_bytes;
  if (total <= free) return {};
  constexpr double kGib = 1u << 30;
  return fail(ErrorCode::out_of_memory,
              fmt::format("{} needs {:.2f} GiB of memory ({:.2f} for its weights) and {} has {:.2f} GiB free: "
                          "take a smaller model or one with fewer bits per weight, or unload another",
                          source.name(), static_cast<double>(total) / kGib, static_cast<double>(needed.weights_bytes) / kGib,
                          backend.device().name, static_cast<double>(free) / kGib));
}

}  // namespace

size_t Activations::lay_out(const ModelConfig& config, const StepShape& largest, DType dtype, std::byte* base) {
  size_t used = 0;
  const auto place = [&](Matrix& matrix, int64_t rows, int64_t cols, DType type) {
    matrix = {base == nullptr ? nullptr : base + used, type, rows, cols};
    const size_t bytes = static_cast<size_t>(row_bytes(type, cols)) * static_cast<size_t>(rows);
    used += (bytes + kMatrixAlign - 1) / kMatrixAlign * kMatrixAlign;
  };
  const int64_t rows = largest.rows, logit_rows = largest.logit_rows;
  const int64_t q_cols = int64_t{config.heads} * config.head_dim, kv_cols = int64_t{config.kv_heads} * config.head_dim;
  for (Matrix* matrix : {&residual, &normed, &delta}) place(*matrix, rows, config.hidden, dtype);
  for (Matrix* matrix : {&q, &attention}) place(*matrix, rows, q_cols, dtype);
  for (Matrix* matrix : {&k, &v}) place(*matrix, rows, kv_cols, dtype);
  for (Matrix* matrix : {&gate, &up}) place(*matrix, rows, config.ffn, dtype);
  place(selected, logit_rows, config.hidden, dtype);
  place(logits, logit_rows, config.vocab, DType::f32);
  return used;
}

Result<ModelMemory> Model::estimate(const WeightSource& source, const Backend& backend, const ModelLoadOptions& options) {
  PM_ASSIGN(const ModelConfig config, read_model_config(source, options.overrides));
  const std::vector<WeightSpec> manifest = weight_manifest(config);
  PM_ASSIGN(const auto tensors, find_weights(source, manifest));
  ModelMemory memory;
  memory.weights_bytes = weights_bytes(backend, manifest, tensors);
  memory.activations_bytes = Activations{}.lay_out(config, options.largest_step, backend.activation_dtype(), nullptr);
  return memory;
}

Result<std::unique_ptr<Model>> Model::load(const WeightSource& source, Backend& backend, const ModelLoadOptions& options) {
  auto state = std::make_unique<State>();
  PM_ASSIGN(state->memory, estimate(source, backend, options));
  PM_TRY(check_memory(source, backend, state->memory));
  PM_ASSIGN(state->config, read_model_config(source, options.overrides));
  const ModelConfig& config = state->config;
  state->largest = options.largest_step;
  state->rope = make_rope_table(config.rope);
  PM_TRY(backend.prepare_rope(state->rope));
  PM_TRY(backend.reserve_scratch(options.largest_step, config.heads, config.head_dim, config.ffn, config.vocab));
  PM_ASSIGN(state->buffer, backend.allocate(state->memory.activations_bytes, "activations"));
  state->activations.lay_out(config, options.largest_step, backend.activation_dtype(), state->buffer->data());

  const std::vector<WeightSpec> manifest = weight_manifest(config);
  PM_ASSIGN(const auto tensors, find_weights(source, manifest));
  state->weights.layers.resize(static_cast<size_t>(config.layers));
  size_t done_bytes = 0;
  PM_TRY(backend.reserve_weights(state->memory.weights_bytes));
  for (size_t i = 0; i < manifest.size(); ++i) {
    const WeightSpec& spec = manifest[i];
    const WeightBytes bytes{spec.name, tensors[i]->dtype, spec.out, spec.in, tensors[i]->bytes, spec.unpermute_head_dim,
                            [&source](const std::byte* from, std::span<std::byte> to) { return source.read(from, to); }};
    auto weight = backend.prepare_weight(bytes);
    if (!weight) return tl::unexpected(std::move(weight).error().within(fmt::format("{}: tensor {}", source.name(), spec.name)));
    spec.place(state->weights) = weight->get();
    state->owned.push_back(std::move(*weight));
    done_bytes += backend.weight_bytes(bytes.dtype, bytes.out, bytes.in);
    if (options.progress && !options.progress(static_cast<double>(done_bytes) / static_cast<double>(state->memory.weights_bytes)))
      return fail(ErrorCode::cancelled, fmt::format("loading {} was cancelled", source.name()));
  }
  if (config.tied_embeddings) state->weights.output = state->weights.token_embd;
  PM_TRY(source.check_intact());
  return std::unique_ptr<Model>(new Model(std::move(state)));
}

}  // namespace pagemill
