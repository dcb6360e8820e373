#include "simulation/fake_device.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace pagemill::simulation {

namespace {

constexpr int32_t kBlock = limits::kBlockTokens;

uint64_t mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a ^ 0x9E3779B97F4A7C15) * (b ^ 0xD1342543DE82EF95 ^ (a << 17));
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64) ^ a;
}

uint64_t extend(uint64_t prefix, int32_t token, int32_t position) {
  return mix(prefix, static_cast<uint64_t>(token) << 32 | static_cast<uint32_t>(position));
}
uint64_t block_term(uint64_t end, int32_t block, size_t group) { return mix(end, static_cast<uint64_t>(block) << 8 | group); }

int32_t first_visible(int32_t window, int32_t position) { return window == 0 ? 0 : std::max(0, position - window + 1); }

/// The free choice, moved on to the next token that bias and mask allow.
int32_t allowed_token(int32_t token, const StepInputs& inputs, const SamplingRow& row, int32_t vocab) {
  const size_t words = static_cast<size_t>(vocab + 31) / 32;
  for (int32_t tries = 0; tries < vocab; ++tries, token = (token + 1) % vocab) {
    const auto bias = inputs.bias.subspan(static_cast<size_t>(row.bias_begin), static_cast<size_t>(row.bias_end - row.bias_begin));
    if (std::any_of(bias.begin(), bias.end(), [&](const BiasEntry& each) {
          return each.token == token && each.bias == -std::numeric_limits<float>::infinity();
        })) {
      continue;
    }
    if (row.mask >= 0) {
      const auto mask = inputs.masks.subspan(static_cast<size_t>(row.mask) * words, words);
      if (!(mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1)) continue;
    }
    return token;
  }
  return -1;
}

}  // namespace

FakeDevice::FakeDevice(FakeDeviceConfig config, ManualClock& clock) : config_(std::move(config)), clock_(clock) {
  for (const KvGroupConfig& group : config_.model.groups) slots_.emplace_back(static_cast<size_t>(group.blocks * kBlock), 0);
}

uint64_t& FakeDevice::slot(int32_t group, const StepInputs& inputs, int32_t seq, int32_t position) {
  const GroupTables& tables = inputs.group[group];
  const int32_t block = tables.block_table[static_cast<size_t>(seq * tables.stride + position / kBlock)];
  if (block < 0) return nowhere_ = 0xBAD;
  return slots_[static_cast<size_t>(group)][static_cast<size_t>(block * kBlock + position % kBlock)];
}

void FakeDevice::store_row(const StepInputs& inputs, int32_t row) {
  const auto r = static_cast<size_t>(row);
  const int32_t from = inputs.token_from[r];
  const int32_t token = from >= 0 ? last_tokens_[static_cast<size_t>(from)] : inputs.tokens[r];
  const int32_t position = inputs.positions[r], seq = inputs.seq_of_row[r];
  for (int32_t group = 0; group < inputs.groups; ++group) {
    const uint64_t before = position == 0 ? 0 : slot(group, inputs, seq, position - 1);
    const int32_t to = inputs.group[group].slots[r];
    PM_CHECK(to >= 0, "a row is stored nowhere");
    slots_[static_cast<size_t>(group)][static_cast<size_t>(to)] = extend(before, token, position);
  }
}

uint64_t FakeDevice::context(const StepInputs& inputs, int32_t row) {
  const int32_t position = inputs.positions[static_cast<size_t>(row)], seq = inputs.seq_of_row[static_cast<size_t>(row)];
  uint64_t sum = 0;
  for (int32_t group = 0; group < inputs.groups; ++group) {
    const int32_t window = config_.model.groups[static_cast<size_t>(group)].window;
    for (int32_t block = first_visible(window, position) / kBlock; block <= position / kBlock; ++block) {
      sum += block_term(slot(group, inputs, seq, std::min(block * kBlock + kBlock - 1, position)), block, static_cast<size_t>(group));
    }
  }
  return sum;
}

Result<Ticket> FakeDevice::begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) {
  if (broken_) return fail(ErrorCode::io, "the fake device is broken");
  PM_CHECK(begun_ - finished_ < static_cast<Ticket>(config_.tickets), "too many steps in flight");
  for (const KvCopy& copy : copies) {
    auto& slots = slots_[static_cast<size_t>(copy.group)];
    std::copy_n(slots.begin() + copy.from * kBlock, kBlock, slots.begin() + copy.to * kBlock);
  }
  if (config_.step_rows != nullptr) config_.step_rows->push_back(inputs.shape.rows);
  Flight& flight = flights_[++begun_ % 2];
  flight.tokens.clear();
  flight.logprobs.clear();
  flight.scores.clear();
  flight.pooled.clear();
  size_t logit = 0, score = 0;
  for (int32_t row = 0; row < inputs.shape.rows; ++row) {
    store_row(inputs, row);
    for (; logit < inputs.logit_rows.size() && inputs.logit_rows[logit] == row; ++logit) {
      const SamplingRow& sampling = inputs.sampling[logit];
      const uint64_t c = context(inputs, row);
      const int32_t free = Oracle::token(c, sampling.seed, sampling.position, config_.model.vocab);
      const int32_t token = allowed_token(free, inputs, sampling, config_.model.vocab);
      flight.tokens.push_back({token, Oracle::logprob(c, token), 1});
      flight.logprobs.push_back({Oracle::logprob(c, token), 1, {}});
    }
    for (; score < inputs.score_rows.size() && inputs.score_rows[score] == row; ++score) {
      flight.scores.push_back({Oracle::logprob(context(inputs, row), extras.score_targets[score]), 1, {}});
    }
    for (const StepExtras::Pool& pool : extras.pools) {
      if (pool.seq == inputs.seq_of_row[static_cast<size_t>(row)]) flight.pooled.push_back({pool.sum, context(inputs, row)});
    }
  }
  last_tokens_.clear();
  for (const SampledToken& token : flight.tokens) last_tokens_.push_back(token.token);
  flight.duration_ns = config_.step_ns + config_.row_ns * inputs.shape.rows;
  free_at_ns_ = flight.ends_ns = std::max(free_at_ns_, clock_.now_ns()) + flight.duration_ns;
  return begun_;
}

Result<StepResult> FakeDevice::finish(Ticket ticket) {
  PM_CHECK(ticket == ++finished_ && ticket <= begun_, "steps finish in order");
  if (broken_ || finish_broken_) return fail(ErrorCode::io, "the fake device is broken");
  const Flight& flight = flights_[ticket % 2];
  if (flight.ends_ns > clock_.now_ns()) clock_.advance_ns(flight.ends_ns - clock_.now_ns());
  for (const auto& [sum, row] : flight.pooled) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += Oracle::hidden(row, i);
  }
  return StepResult{flight.tokens, flight.logprobs, flight.scores, flight.duration_ns};
}

void Oracle::push(int32_t token) {
  prefix_ = extend(prefix_, token, position_);
  if (++position_ % kBlock == 0) {
    const auto block = static_cast<int32_t>(block_ends_.size());
    for (size_t group = 0; group < model_->groups.size(); ++group) {
      if (model_->groups[group].window == 0) full_sum_ += block_term(prefix_, block, group);
    }
    block_ends_.push_back(prefix_);
  }
}

uint64_t Oracle::context() const {
  const int32_t position = position_ - 1;
  uint64_t sum = full_sum_;
  for (size_t group = 0; group < model_->groups.size(); ++group) {
    const int32_t window = model_->groups[group].window;
    const bool partial = position_ % kBlock != 0;
    if (window != 0) {
      for (int32_t block = first_visible(window, position) / kBlock; block < static_cast<int32_t>(block_ends_.size()); ++block) {
        sum += block_term(block_ends_[static_cast<size_t>(block)], block, group);
      }
    }
    if (partial) sum += block_term(prefix_, position / kBlock, group);
  }
  return sum;
}

int32_t Oracle::token(uint64_t context, uint64_t seed, uint64_t position, int32_t vocab) {
  return static_cast<int32_t>(mix(mix(context, seed), position) >> 33) % vocab;
}
float Oracle::logprob(uint64_t context, int32_t token) {
  return -static_cast<float>(mix(context, static_cast<uint64_t>(token)) >> 40) * 0x1p-20f;
}
double Oracle::hidden(uint64_t context, size_t i) { return static_cast<double>(mix(context, i + 1) >> 44) * 0x1p-20 - 0.5; }

std::vector<float> Oracle::embedding(const FakeModel& model, std::span<const int32_t> prompt) {
  Oracle oracle(model);
  std::vector<double> sum(static_cast<size_t>(model.hidden));
  for (const int32_t token : prompt) {
    oracle.push(token);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += hidden(oracle.context(), i);
  }
  double squares = 0;
  for (const double value : sum) squares += value * value;
  std::vector<float> values;
  for (const double value : sum) values.push_back(static_cast<float>(value / std::sqrt(squares)));
  return values;
}

}  // namespace pagemill::simulation
