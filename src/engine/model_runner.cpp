#include "engine/model_runner.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "engine/warm_up.h"

namespace pagemill {

ModelRunner::ModelRunner(std::unique_ptr<Model> model, std::unique_ptr<KvPool> kv, Backend& backend, const WeightSource& source,
                         const StepShape& largest, const Clock& clock)
    : model_(std::move(model)), kv_(std::move(kv)), backend_(backend), source_(source), largest_(largest), clock_(clock),
      flights_(static_cast<size_t>(backend.steps_in_flight())) {
  copies_.reserve(static_cast<size_t>(largest.logit_rows));
  for (Flight& flight : flights_) {
    flight.tokens.resize(static_cast<size_t>(largest.logit_rows));
    flight.logprobs.resize(static_cast<size_t>(largest.logit_rows));
  }
}

/// Whatever may still run reads the model's buffers.
ModelRunner::~ModelRunner() { (void)backend_.synchronize(); }

Result<std::vector<TimedStep>> ModelRunner::warm_up() {
  PM_CHECK(begun_ == 0);
  const std::vector<StepShape> shapes = backend_.warm_up_steps(largest_);
  std::vector<TimedStep> timed;
  const auto run = [&](const StepShape& shape, bool keep) -> Result<void> {
    const WarmUpStep step(shape, kv_->spec.blocks.front());
    PM_ASSIGN(const Ticket ticket, begin(step.inputs(), {}, {}));
    PM_ASSIGN(const StepResult result, finish(ticket));
    const int32_t rows = step.inputs().shape.rows;
    if (keep) timed.push_back({rows, Pacer::position_sum(rows, 0), result.duration_ns});
    return {};
  };
  for (const StepShape& shape : shapes) PM_TRY(run(shape, false));
  for (const StepShape& shape : shapes)
    if (shape.query_rows_max > 1 && std::has_single_bit(static_cast<uint32_t>(shape.rows))) PM_TRY(run(shape, true));
  return timed;
}

Result<Ticket> ModelRunner::begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) {
  PM_CHECK(begun_ - finished_ < flights_.size(), "{} steps are in flight already", begun_ - finished_);
  Flight& flight = flight_of(begun_ + 1);
  flight.begun_ns = clock_.now_ns();
  flight.sampled_rows = inputs.sampling.size();
  flight.wants_logprobs = std::any_of(inputs.sampling.begin(), inputs.sampling.end(), [](const SamplingRow& row) { return row.logprobs >= 0; });
  flight.pools = extras.pools;
  flight.row_begin = inputs.row_begin;

  PM_ASSIGN(const StepInputs* step, backend_.begin_step(inputs));
  const KvView kv{kv_.get()};
  copies_.clear();
  for (const KvCopy& copy : copies) copies_.push_back({copy.group, copy.from, copy.to});
  if (!copies_.empty()) backend_.copy_blocks(kv, copies_);

  const auto compute = [&] {
    model_->forward(*step, kv, backend_, communicator_);
    if (!step->sampling.empty()) sample(*step);
  };
  if (extras.pools.empty() && inputs.score_rows.empty()) {
    backend_.replay(*step, kv, std::cref(compute));
  } else {
    compute();  // what follows asks the model for more of this step
  }
  PM_TRY(score(*step, extras, flight));
  PM_TRY(read_pooled(flight));
  PM_TRY(backend_.end_step());
  return ++begun_;
}

void ModelRunner::sample(const StepInputs& step) {
  backend_.sample(step, model_->lm_head(step, step.logit_rows, backend_, communicator_));
}

/// Prompt log-probabilities, as many rows at a time as the logits' buffer holds.
Result<void> ModelRunner::score(const StepInputs& step, const StepExtras& extras, Flight& flight) {
  flight.scores.resize(step.score_rows.size());
  const auto chunk = static_cast<size_t>(largest_.logit_rows);
  for (size_t first = 0; first < flight.scores.size(); first += chunk) {
    const size_t count = std::min(chunk, flight.scores.size() - first);
    const Matrix logits = model_->lm_head(step, step.score_rows.subspan(first, count), backend_, communicator_);
    PM_TRY(backend_.logprobs(logits, extras.score_targets.subspan(first, count), extras.score_top, std::span(flight.scores).subspan(first, count)));
  }
  return {};
}

Result<void> ModelRunner::read_pooled(Flight& flight) {
  if (flight.pools.empty()) return {};
  const Matrix all = model_->hidden_states();
  const auto rows_of = [&](const StepExtras::Pool& pool) {
    const auto seq = static_cast<size_t>(pool.seq);
    return std::pair<int64_t, int64_t>{flight.row_begin[seq], flight.row_begin[seq + 1] - flight.row_begin[seq]};
  };
  int64_t total = 0;
  for (const StepExtras::Pool& pool : flight.pools) total += rows_of(pool).second;
  flight.hidden.resize(static_cast<size_t>(total * all.cols));
  size_t at = 0;
  for (const StepExtras::Pool& pool : flight.pools) {
    const auto [first, rows] = rows_of(pool);
    const Matrix own{all.data + first * row_bytes(all.dtype, all.cols), all.dtype, rows, all.cols};
    const auto count = static_cast<size_t>(rows * all.cols);
    PM_TRY(backend_.read(own, std::span(flight.hidden).subspan(at, count)));
    at += count;
  }
  return {};
}

/// In finish(): the engine clears the sums of a prompt that starts (over) between begin() and finish().
void ModelRunner::add_pooled(Flight& flight, int64_t hidden) {
  const float* row = flight.hidden.data();
  for (const StepExtras::Pool& pool : flight.pools) {
    const auto seq = static_cast<size_t>(pool.seq);
    for (int32_t i = flight.row_begin[seq]; i < flight.row_begin[seq + 1]; ++i, row += hidden) {
      for (size_t j = 0; j < pool.sum.size(); ++j) pool.sum[j] += row[j];
    }
  }
}

Result<StepResult> ModelRunner::finish(Ticket ticket) {
  PM_CHECK(ticket == finished_ + 1 && ticket <= begun_, "ticket {} is not the oldest in flight ({} to {})", ticket, finished_ + 1, begun_);
  Flight& flight = flight_of(ticket);
  ++finished_;
  PM_TRY(backend_.finish_step());
  PM_TRY(backend_.status());
  PM_TRY(source_.check_intact());
  const std::span tokens = std::span(flight.tokens).first(flight.sampled_rows);
  const std::span logprobs = flight.wants_logprobs ? std::span(flight.logprobs).first(flight.sampled_rows) : std::span<LogprobRow>{};
  if (!tokens.empty()) PM_TRY(backend_.finish_sample(tokens, logprobs));
  add_pooled(flight, model_->config().hidden);
  const TimeNs now = clock_.now_ns(), began = std::max(flight.begun_ns, finished_ns_);  // behind another step it waited first
  finished_ns_ = now;
  return StepResult{.tokens = tokens, .logprobs = logprobs, .scores = flight.scores, .duration_ns = now - began};
}

}  // namespace pagemill
