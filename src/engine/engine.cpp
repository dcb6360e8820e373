#include "engine/engine.h"

#include <chrono>
#include <string_view>
#include <thread>

#include <fmt/format.h>

#include "base/log.h"
#include "base/rng.h"
#include "engine/engine_thread.h"
#include "engine/model_runner.h"
#include "engine/step_limits.h"
#include "format/gguf.h"

namespace pagemill {

namespace {

constexpr double kMillisecondsMax = 24 * 3600 * 1000.0;  // of a flag that is a duration

/// What a loaded model's runner refers to; members go in the reverse order.
struct LoadedModel {
  std::unique_ptr<Backend> backend;
  std::shared_ptr<MemoryBudget> budget;
  std::unique_ptr<MemoryBudget::Reservation> reservation;
  std::unique_ptr<WeightSource> source;
};

/// A tokenizer that knows tokens for which the model has no logit belongs to another model.
Result<void> check_tokenizer(const WeightSource& source, int32_t vocab) {
  constexpr std::string_view kKey = "tokenizer.ggml.tokens";
  const MetadataValue* value = source.find_metadata(kKey);
  const auto* array = value ? std::get_if<MetadataArray>(&value->value) : nullptr;
  const auto* tokens = array ? std::get_if<StringArray>(array) : nullptr;
  if (!tokens || tokens->size() <= static_cast<size_t>(vocab)) return {};
  return fail(ErrorCode::invalid_file,
              fmt::format("{}: {} names {} tokens, but token_embd.weight has {} rows: the tokenizer and the weights do not belong together.",
                          source.name(), kKey, tokens->size(), vocab), std::string(kKey));
}

Result<void> check_stop_tokens(const EngineOptions& options, int32_t vocab) {
  for (const int32_t token : options.stop_tokens) {
    if (token < 0 || token >= vocab) {
      return fail(ErrorCode::invalid_argument, fmt::format("The stop token {} is not in the model's vocabulary (0 to {}).", token, vocab - 1), "stop_tokens");
    }
  }
  return {};
}

Result<void> check_options(const EngineOptions& options, const StepLimits& step) {
  const auto wrong = [](const char* flag, const char* what) {
    return fail(ErrorCode::invalid_argument, std::string(flag) + " must be " + what + ".", flag);
  };
  if (options.max_num_seqs < 1) return wrong("--max-num-seqs", "at least 1");
  if (step.rows < options.max_num_seqs) return wrong("--max-num-batched-tokens", "at least --max-num-seqs");
  if (options.max_model_len < 0) return wrong("--max-model-len", "a number of tokens, or auto");
  if (!(step.max_ms >= 0 && step.max_ms <= kMillisecondsMax)) return wrong("--max-step-ms", "0 (no limit) or more, up to 86400000 (a day)");
  if (!(options.stall_s > 0 && options.stall_s <= kMillisecondsMax / 1000)) return wrong("stall_s", "more than 0 and at most 86400 (a day)");
  if (options.max_queued_requests < 1) return wrong("--max-queued-requests", "at least 1");
  if (options.max_queued_tokens < 1) return wrong("--max-queued-tokens", "at least 1");
  return {};
}

KvPoolSpec kv_spec(const ModelConfig& config, const EngineOptions& options, const Backend& backend) {
  return {.layers = config.layers, .kv_heads = config.kv_heads, .head_dim = config.head_dim,
          .dtype = options.kv_dtype.value_or(backend.kv_dtype_default()),
          .group_of_layer = std::vector<int32_t>(static_cast<size_t>(config.layers), 0), .blocks = {1}};
}

Result<EngineParts> load(const EngineOptions& options, std::shared_ptr<LoadedModel> owner, const Clock& clock, LoadReport& report) {
  Backend& backend = *owner->backend;
  const StepLimits step = step_limits(options, backend.device());
  PM_TRY(check_options(options, step));
  report.phase("opening the model's file");
  PM_ASSIGN(owner->source, open_gguf(options.model));
  const WeightSource& source = *owner->source;

  PM_ASSIGN(const ModelConfig config, read_model_config(source, options.overrides));
  PM_TRY(check_tokenizer(source, config.vocab));
  PM_TRY(check_stop_tokens(options, config.vocab));
  const StepShape largest{.rows = step.rows, .seqs = options.max_num_seqs, .logit_rows = options.max_num_seqs,
                          .query_rows_max = step.rows, .context_max = config.context_max};
  const ModelLoadOptions load_options{.largest_step = largest, .overrides = options.overrides,
                                      .progress = [&](double done) { return report.progress(done); }};
  PM_ASSIGN(const ModelMemory needed, Model::estimate(source, backend, load_options));
  const uint64_t scratch = backend.scratch_bytes(largest, config.heads, config.head_dim, config.ffn, config.vocab);
  KvPoolSpec spec = kv_spec(config, options, backend);
  MemoryRequest request{.available = std::min<uint64_t>(backend.device().memory_free_bytes, owner->budget->free_bytes()),
                        .weights = needed.weights_bytes, .activations = needed.activations_bytes, .scratch = scratch,
                        .block_bytes = {backend.kv_block_bytes(spec, 0)}, .windows = {0},
                        .model_context = config.context_max, .max_model_len = options.max_model_len,
                        .kv_bytes = options.kv_cache_memory_bytes, .max_num_seqs = options.max_num_seqs,
                        .max_num_batched_tokens = step.rows};
  if (backend.device().kind == DeviceKind::cuda) {  // nobody else lives there: what is free is cache
    request.kv_share_max = 1;
    request.kv_tokens_per_seq = limits::kModelContext;
  }
  PM_ASSIGN(const MemoryPlan plan, plan_memory(request));
  const std::string name = options.served_model_name.empty() ? options.model.stem().string() : options.served_model_name;
  PM_ASSIGN(owner->reservation, owner->budget->reserve(name, needed.weights_bytes + needed.activations_bytes + scratch + plan.kv_bytes));
  log_info("memory of {}:\n{}", backend.device().name, format_memory_table(plan));

  report.phase("reading weights");
  PM_ASSIGN(auto model, Model::load(source, backend, load_options));
  report.phase("making the KV pool");
  spec.blocks.clear();
  for (const KvGroupConfig& group : plan.groups) spec.blocks.push_back(group.blocks);
  PM_ASSIGN(auto kv, backend.allocate_kv(spec));

  auto runner = std::make_unique<ModelRunner>(std::move(model), std::move(kv), backend, source, largest, clock);
  report.phase("warming up");
  PM_ASSIGN(std::vector<TimedStep> timed, runner->warm_up());

  EngineParts parts;
  parts.runner = std::move(runner);
  parts.owner = std::move(owner);
  parts.core = {.scheduler = {.max_num_seqs = options.max_num_seqs, .max_num_batched_tokens = step.rows, .row_multiple = backend.row_multiple(),
                              .max_step_ns = static_cast<TimeNs>(step.max_ms * static_cast<double>(kNsPerMs)), .timed = std::move(timed)},
                .blocks = {.groups = plan.groups, .prefix_cache = options.prefix_caching, .sequence_tokens_max = plan.context,
                           .hash_seed = SplitMix64(options.seed ^ static_cast<uint64_t>(clock.now_ns()))()},
                .hidden = config.hidden, .seed = options.seed};
  parts.admission = {.model = {.name = name, .context_max = plan.context, .vocab = config.vocab, .stop_tokens = options.stop_tokens},
                     .max_num_seqs = options.max_num_seqs, .queued_requests_max = options.max_queued_requests,
                     .queued_tokens_max = options.max_queued_tokens};
  return parts;
}

}  // namespace

std::unique_ptr<EngineHandle> make_engine(EngineOptions options, std::unique_ptr<Backend> backend,
                                          std::shared_ptr<MemoryBudget> budget, const Clock& clock) {
  if (!budget) budget = std::make_shared<MemoryBudget>(backend->device().memory_total_bytes);
  const double stall_s = options.stall_s > 0 && options.stall_s <= kMillisecondsMax / 1000 ? options.stall_s : 0;  // else check_options() refuses it
  const auto stall_ns = static_cast<TimeNs>(stall_s * static_cast<double>(kNsPerSecond));
  auto owner = std::make_shared<LoadedModel>();
  owner->backend = std::move(backend);
  owner->budget = std::move(budget);
  return std::make_unique<EngineThread>(
      [options = std::move(options), owner = std::move(owner), &clock](LoadReport& report) mutable {
        return load(options, std::exchange(owner, nullptr), clock, report);
      },
      stall_ns, clock);
}

Result<void> wait_until_loaded(const EngineHandle& engine, const std::function<void(const EngineStats&)>& progress) {
  for (;;) {
    const EngineStats stats = engine.stats();
    if (progress) progress(stats);
    if (stats.state == EngineState::failed) return tl::unexpected(stats.failure);
    if (stats.state != EngineState::loading) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace pagemill
