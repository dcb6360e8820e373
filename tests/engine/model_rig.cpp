#include "engine/model_rig.h"

#include "base/check.h"

namespace pagemill {

ModelRig::ModelRig(const WeightSource& source, Backend& backend, const RigOptions& options, const json::object& overrides) : recorder_(backend) {
  Backend& used = options.record_logits ? static_cast<Backend&>(recorder_) : backend;
  const StepShape largest{.rows = options.max_num_batched_tokens, .seqs = options.max_num_seqs, .logit_rows = options.max_num_seqs,
                          .query_rows_max = options.max_num_batched_tokens, .context_max = options.context_max};
  auto model = Model::load(source, used, {.largest_step = largest, .overrides = overrides, .progress = nullptr});
  PM_CHECK(model, "{}", model.error().message);
  const ModelConfig& config = (*model)->config();
  auto kv = used.allocate_kv({.layers = config.layers, .kv_heads = config.kv_heads, .head_dim = config.head_dim, .dtype = options.kv_dtype,
                              .group_of_layer = std::vector<int32_t>(static_cast<size_t>(config.layers), 0), .blocks = {options.blocks}});
  PM_CHECK(kv, "{}", kv.error().message);
  const EngineModelInfo info{.name = "rig", .context_max = options.context_max, .vocab = config.vocab, .stop_tokens = {}};
  const CoreConfig core{.scheduler = {.max_num_seqs = options.max_num_seqs, .max_num_batched_tokens = options.max_num_batched_tokens},
                        .blocks = {.groups = {{.blocks = options.blocks}}, .prefix_cache = options.prefix_cache},
                        .hidden = config.hidden};
  runner_ = std::make_unique<ModelRunner>(std::move(*model), std::move(*kv), used, source, largest, clock_);
  admission_ = std::make_unique<Admission>(AdmissionConfig{.model = info, .max_num_seqs = options.max_num_seqs});
  core_ = std::make_unique<EngineCore>(core, *admission_, *runner_, clock_);
}

RigRun ModelRig::run(const std::vector<EngineRequest>& requests) {
  auto queue = std::make_shared<EventQueue>(nullptr);
  std::map<RequestId, uint64_t> seeds;
  for (EngineRequest request : requests) {
    request.events = queue;
    const auto id = admission_->accept(request);
    PM_CHECK(id, "{}", id.error().message);
    seeds[*id] = *request.sampling.seed;
    core_->submit(*id, std::move(request), clock_.now_ns());
  }
  RigRun run;
  std::vector<EngineEvent> events;
  for (bool more = true; more;) {
    more = core_->step();
    events.clear();
    queue->drain(events);
    for (const EngineEvent& event : events) {
      if (const auto* t = std::get_if<TokenEvent>(&event.body)) {
        auto& tokens = run.tokens[seeds[event.request] + static_cast<uint64_t>(t->choice)];
        tokens.insert(tokens.end(), t->tokens.begin(), t->tokens.end());
      }
      if (const auto* e = std::get_if<EmbeddingEvent>(&event.body)) run.embeddings[seeds[event.request]] = e->values;
      if (const auto* s = std::get_if<PromptLogprobsEvent>(&event.body)) {
        auto& scores = run.scores[seeds[event.request]];
        scores.insert(scores.end(), s->logprobs.begin(), s->logprobs.end());
      }
      if (const auto* end = std::get_if<EndEvent>(&event.body)) {
        PM_CHECK(end->reason == FinishReason::length || end->reason == FinishReason::stop, "{}", end->error.message);
        run.cached_tokens += end->usage.cached_tokens;
        run.preemptions += static_cast<uint64_t>(end->usage.preemptions);
      }
    }
  }
  run.logits = recorder_.take();
  return run;
}

}  // namespace pagemill
