#include "backend/cpu/sample.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "backend/sampling.h"
#include "base/check.h"
#include "base/rng.h"

namespace pagemill {
namespace {

using Candidate = SampleScratch::Candidate;

constexpr size_t kBlock = 256;          // tokens looked at, or skipped, together
constexpr int kHistogramBits = 11;
constexpr float kImpossible = -std::numeric_limits<float>::infinity();

size_t blocks_of(size_t tokens) { return (tokens + kBlock - 1) / kBlock; }

std::span<const float> block_of(std::span<const float> x, size_t block) {
  return x.subspan(block * kBlock, std::min(kBlock, x.size() - block * kBlock));
}

/// Step 1's largest x, with the largest of each block on the way.
float find_max(std::span<const float> x, std::span<float> block_max) {
  float max = kImpossible;
  for (size_t b = 0; b < block_max.size(); ++b) {
    const auto block = block_of(x, b);
    std::array<float, 16> lane;         // independent chains, so that the loop runs at the speed of the loads
    lane.fill(kImpossible);
    size_t i = 0;
    for (; i + lane.size() <= block.size(); i += lane.size()) {
      for (size_t j = 0; j < lane.size(); ++j) lane[j] = block[i + j] > lane[j] ? block[i + j] : lane[j];
    }
    for (; i < block.size(); ++i) lane[0] = block[i] > lane[0] ? block[i] : lane[0];
    block_max[b] = clean_logit(*std::max_element(lane.begin(), lane.end()));
    max = std::max(max, block_max[b]);
  }
  return max;
}

/// The first token whose x is `max`.
int32_t find_first(std::span<const float> x, std::span<const float> block_max, float max) {
  for (size_t b = 0; b < block_max.size(); ++b) {
    if (block_max[b] != max) continue;
    const auto block = block_of(x, b);
    for (size_t i = 0; i < block.size(); ++i) {
      if (clean_logit(block[i]) == max) return static_cast<int32_t>(b * kBlock + i);
    }
  }
  return -1;
}

/// A row with its largest logit and its temperature: what z and w are taken from.
struct Scaled {
  std::span<const float> x;
  std::span<const float> block_max;
  float max = 0;
  float inverse_temperature = 1;

  float z(float logit) const { return (clean_logit(logit) - max) * inverse_temperature; }
};

/// Up to kBlock tokens' exponentials. Apart from what is done with them, so that this loop, the costly one, is vectorised.
struct ExpBlock {
  std::array<int32_t, kBlock> mantissas, shifts;

  template <class ZOf>
  void fill(size_t count, ZOf z_of) {
    for (size_t i = 0; i < count; ++i) {
      const ExpParts parts = exp_parts(z_of(i));
      mantissas[i] = parts.mantissa;
      shifts[i] = parts.shift;
    }
  }
  uint64_t weight(size_t i) const { return weight_of({mantissas[i], shifts[i]}); }
};

uint64_t block_weight(const Scaled& row, size_t b) {
  const float* const x = row.x.data() + b * kBlock;
  const size_t count = block_of(row.x, b).size();
  ExpBlock exponentials;
  exponentials.fill(count, [x, max = row.max, scale = row.inverse_temperature](size_t i) { return (clean_logit(x[i]) - max) * scale; });
  uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += exponentials.weight(i);
  return sum;
}

/// Σ w over the row; each block's sum is kept.
uint64_t total_weight(const Scaled& row, std::span<uint64_t> block_sums) {
  uint64_t total = 0;
  for (size_t b = 0; b < block_sums.size(); ++b) {
    // e^-30 is below the unit: a block of such tokens weighs nothing.
    block_sums[b] = row.z(row.block_max[b]) > -30.0f ? block_weight(row, b) : 0;
    total += block_sums[b];
  }
  return total;
}

/// Step 10 over the whole row.
int32_t draw_from_row(const Scaled& row, std::span<uint64_t> block_sums, uint64_t bits) {
  uint64_t left = draw_point(bits, total_weight(row, block_sums));
  size_t b = 0;
  while (left >= block_sums[b]) left -= block_sums[b++];
  const auto block = block_of(row.x, b);
  for (size_t i = 0;; ++i) {
    const uint64_t weight = sampling_weight(row.z(block[i]));
    if (left < weight) return static_cast<int32_t>(b * kBlock + i);
    left -= weight;
  }
}

/// Step 10 over what the filters kept.
int32_t draw_from(std::span<const Candidate> kept, uint64_t bits) {
  uint64_t total = 0;
  for (const Candidate& candidate : kept) total += candidate.weight;
  uint64_t left = draw_point(bits, total);
  size_t i = 0;
  while (left >= kept[i].weight) left -= kept[i++].weight;
  return static_cast<int32_t>(static_cast<uint32_t>(kept[i].rank));
}

/// How many of a few tokens are possible and have z ≥ z_min. NaN compares false: it is never counted.
int count_reaching(const Scaled& row, std::span<const float> few, float z_min) {
  int count = 0;
  for (const float x : few) count += (x > kImpossible) & (row.z(x) >= z_min);
  return count;
}

/// The possible tokens with z ≥ z_min, in id order.
std::span<Candidate> collect(const Scaled& row, float z_min, SampleScratch& scratch) {
  constexpr size_t kFew = 32;           // looked at together once more within a block
  size_t count = 0;
  std::array<float, kBlock> z;
  ExpBlock exponentials;
  for (size_t b = 0; b < row.block_max.size(); ++b) {
    if (row.block_max[b] == kImpossible || row.z(row.block_max[b]) < z_min) continue;
    const auto block = block_of(row.x, b);
    size_t found = 0;
    for (size_t begin = 0; begin < block.size(); begin += kFew) {
      const auto few = block.subspan(begin, std::min(kFew, block.size() - begin));
      if (count_reaching(row, few, z_min) == 0) continue;
      for (size_t i = 0; i < few.size(); ++i) {
        const float x = clean_logit(few[i]);
        if (x == kImpossible || row.z(x) < z_min) continue;
        z[found] = row.z(x);
        scratch.candidates[count + found++].rank = token_rank(x, static_cast<int32_t>(b * kBlock + begin + i));
      }
    }
    exponentials.fill(found, [&z](size_t i) { return z[i]; });
    for (size_t i = 0; i < found; ++i) scratch.candidates[count + i].weight = exponentials.weight(i);
    count += found;
  }
  return std::span(scratch.candidates).first(count);
}

/// The rank of the last token of the shortest prefix, in rank order, whose measures add up to `target` (at most their sum).
/// Radix selection: a histogram of measures over the ranks' leading bits finds the bin where the sum crosses, and only its
/// tokens are looked at again.
template <class Measure>
uint64_t last_rank(std::span<const Candidate> candidates, uint64_t target, SampleScratch& scratch, Measure measure) {
  std::span<const Candidate> within = candidates;
  for (;;) {
    uint64_t low = within[0].rank, high = within[0].rank;
    for (const Candidate& candidate : within) {
      low = std::min(low, candidate.rank);
      high = std::max(high, candidate.rank);
    }
    if (low == high) return low;
    const int shift = std::max(0, static_cast<int>(std::bit_width(high - low)) - kHistogramBits);
    std::fill(scratch.histogram.begin(), scratch.histogram.end(), 0);
    for (const Candidate& candidate : within) scratch.histogram[(candidate.rank - low) >> shift] += measure(candidate);
    size_t bin = 0;
    while (target > scratch.histogram[bin]) target -= scratch.histogram[bin++];
    if (shift == 0) return low + bin;
    size_t count = 0;                   // in place where `within` already lies in narrowed: writes never overtake reads
    for (const Candidate& candidate : within) {
      if ((candidate.rank - low) >> shift == bin) scratch.narrowed[count++] = candidate;
    }
    within = std::span(scratch.narrowed).first(count);
  }
}

/// Drops what comes after `rank`; id order stays.
std::span<Candidate> keep_up_to(std::span<Candidate> candidates, uint64_t rank) {
  const auto end = std::remove_if(candidates.begin(), candidates.end(), [rank](const Candidate& c) { return c.rank > rank; });
  return candidates.first(static_cast<size_t>(end - candidates.begin()));
}

std::span<Candidate> keep_count(std::span<Candidate> candidates, size_t count, SampleScratch& scratch) {
  if (candidates.size() <= count) return candidates;
  return keep_up_to(candidates, last_rank(candidates, count, scratch, [](const Candidate&) { return uint64_t{1}; }));
}

std::span<Candidate> keep_share(std::span<Candidate> candidates, float share, uint64_t total, SampleScratch& scratch) {
  const uint64_t target = mass_target(share, total);
  return keep_up_to(candidates, last_rank(candidates, target, scratch, [](const Candidate& c) { return c.weight; }));
}

/// A z that the `count` most likely tokens reach: that many blocks have a token at least as high as this block maximum.
float bound_for_count(const Scaled& row, size_t count, SampleScratch& scratch) {
  if (count > row.block_max.size()) return -std::numeric_limits<float>::max();
  const auto order = std::span(scratch.block_order).first(row.block_max.size());
  std::copy(row.block_max.begin(), row.block_max.end(), order.begin());
  std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(count - 1), order.end(), std::greater<>());
  const float logit = order[count - 1];
  return logit == kImpossible ? -std::numeric_limits<float>::max() : row.z(logit);
}

/// A z that every token of the nucleus reaches: the tokens below it, however many, weigh less than the nucleus leaves out.
float bound_for_share(const Scaled& row, float share, uint64_t total) {
  const uint64_t left_out = total - mass_target(share, total);
  const double weight_max = static_cast<double>(left_out) / static_cast<double>(row.x.size());
  return static_cast<float>(std::log(weight_max / kWeightOne) - 0.01);  // the margin covers the weights' rounding
}

/// Steps 7 to 10.
int32_t sample_filtered(const Scaled& row, const SamplingRow& sampling, uint64_t bits, SampleScratch& scratch) {
  const auto top_k = static_cast<size_t>(std::max(sampling.top_k, 0));
  const bool limit_count = top_k > 0 && top_k < row.x.size();
  const bool limit_share = sampling.top_p < 1;
  float z_min = sampling.min_p > 0 ? min_p_threshold(sampling.min_p) : -std::numeric_limits<float>::max();
  if (limit_count) z_min = std::max(z_min, bound_for_count(row, top_k, scratch));
  if (limit_share && !limit_count && sampling.min_p <= 0) {
    const uint64_t total = total_weight(row, std::span(scratch.block_weight).first(row.block_max.size()));
    const auto candidates = collect(row, bound_for_share(row, sampling.top_p, total), scratch);
    return draw_from(keep_share(candidates, sampling.top_p, total, scratch), bits);
  }
  auto kept = collect(row, z_min, scratch);
  if (limit_count) kept = keep_count(kept, top_k, scratch);
  if (limit_share) {
    uint64_t total = 0;
    for (const Candidate& candidate : kept) total += candidate.weight;
    kept = keep_share(kept, sampling.top_p, total, scratch);
  }
  return draw_from(kept, bits);
}

/// Steps 2 and 3 on a copy of the row.
std::span<const float> edit_row(std::span<const float> logits, const SamplingRow& row, std::span<const HistoryEntry> history,
                                std::span<const BiasEntry> bias, std::span<const uint32_t> mask, SampleScratch& scratch) {
  const auto x = std::span(scratch.logits).first(logits.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = clean_logit(logits[i]);
  for (const BiasEntry& entry : bias) x[static_cast<size_t>(entry.token)] += entry.bias;
  for (const HistoryEntry& entry : history) {
    float& logit = x[static_cast<size_t>(entry.token)];
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    if (entry.output_count == 0) continue;
    logit -= row.frequency_penalty * static_cast<float>(entry.output_count);
    logit -= row.presence_penalty;
  }
  for (size_t word = 0; word < mask.size(); ++word) {
    if (mask[word] == ~uint32_t{0}) continue;
    const size_t begin = word * 32, end = std::min(begin + 32, x.size());
    for (size_t i = begin; i < end; ++i) x[i] = mask[word] >> (i - begin) & 1 ? x[i] : kImpossible;
  }
  return x;
}

/// Step 6: a copy of the row in which the tokens that are not typical are impossible.
std::span<const float> keep_typical(const Scaled& row, float share, SampleScratch& scratch) {
  auto candidates = collect(row, -std::numeric_limits<float>::max(), scratch);
  uint64_t total = 0;
  unsigned __int128 weighted = 0;
  for (const Candidate& c : candidates) {
    const auto id = static_cast<uint32_t>(c.rank);
    total += c.weight;
    weighted += static_cast<unsigned __int128>(c.weight) * surprise_units(row.z(row.x[id]));
  }
  const auto mean = static_cast<int64_t>(weighted / total);
  for (Candidate& c : candidates) {
    const auto id = static_cast<uint32_t>(c.rank);
    const int64_t deviation = std::abs(static_cast<int64_t>(surprise_units(row.z(row.x[id]))) - mean);
    c.rank = static_cast<uint64_t>(deviation) << 32 | id;
  }
  const uint64_t last = last_rank(candidates, mass_target(share, total), scratch, [](const Candidate& c) { return c.weight; });

  const auto x = std::span(scratch.logits).first(row.x.size());
  size_t next = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const bool possible = next < candidates.size() && static_cast<uint32_t>(candidates[next].rank) == i;
    x[i] = possible && candidates[next].rank <= last ? clean_logit(row.x[i]) : kImpossible;
    if (possible) ++next;
  }
  return x;
}

int32_t choose(std::span<const float> x, const SamplingRow& row, SampleScratch& scratch) {
  const auto block_max = std::span(scratch.block_max).first(blocks_of(x.size()));
  float max = find_max(x, block_max);
  if (max == kImpossible) return -1;
  if (!(row.temperature >= kGreedyTemperature)) return find_first(x, block_max, max);

  Scaled scaled{x, block_max, max, 1.0f / row.temperature};
  if (row.typical_p < 1) {
    scaled.x = keep_typical(scaled, row.typical_p, scratch);
    scaled.max = find_max(scaled.x, block_max);
  }
  const uint64_t bits = sampling_bits(row.seed, row.position);
  const bool filtered = row.min_p > 0 || row.top_p < 1 || (row.top_k > 0 && static_cast<size_t>(row.top_k) < x.size());
  if (filtered) return sample_filtered(scaled, row, bits, scratch);
  return draw_from_row(scaled, std::span(scratch.block_weight).first(block_max.size()), bits);
}

}  // namespace

void SampleScratch::reserve(int32_t vocab) {
  const auto tokens = static_cast<size_t>(std::max(vocab, 0));
  if (tokens <= logits.size()) return;
  logits.resize(tokens);
  candidates.resize(tokens);
  narrowed.resize(tokens);
  for (auto* blocks : {&block_max, &block_order}) blocks->resize(blocks_of(tokens));
  block_weight.resize(blocks_of(tokens));
  histogram.resize(size_t{1} << kHistogramBits);
}

SampledToken sample_row(std::span<const float> logits, const SamplingRow& row, std::span<const HistoryEntry> history,
                        std::span<const BiasEntry> bias, std::span<const uint32_t> mask, SampleScratch& scratch,
                        LogprobRow* logprobs) {
  PM_CHECK(mask.empty() || mask.size() == (logits.size() + 31) / 32, "{} mask words for {} logits", mask.size(), logits.size());
  scratch.reserve(static_cast<int32_t>(logits.size()));
  const bool edited = !history.empty() || !bias.empty() || !mask.empty();
  const auto x = edited ? edit_row(logits, row, history, bias, mask, scratch) : logits;
  SampledToken sampled;
  sampled.token = choose(x, row, scratch);
  if (row.logprobs >= 0 && sampled.token >= 0) {
    PM_CHECK(logprobs != nullptr, "log-probabilities were asked for");
    logprob_row(logits, sampled.token, row.logprobs, *logprobs, scratch);
    sampled.logprob = logprobs->chosen;
    sampled.rank = logprobs->rank;
  }
  return sampled;
}

void logprob_row(std::span<const float> logits, int32_t target, int32_t top, LogprobRow& out, SampleScratch& scratch) {
  PM_CHECK(target >= 0 && static_cast<size_t>(target) < logits.size(), "token {} of {} logits", target, logits.size());
  scratch.reserve(static_cast<int32_t>(logits.size()));
  const auto block_max = std::span(scratch.block_max).first(blocks_of(logits.size()));
  const Scaled row{logits, block_max, find_max(logits, block_max), 1.0f};
  out.top.clear();
  out.rank = 1;
  const float x = clean_logit(logits[static_cast<size_t>(target)]);
  const uint64_t rank = token_rank(x, target);
  for (size_t b = 0; b < block_max.size(); ++b) {
    if (block_max[b] < x) continue;
    const auto block = block_of(logits, b);
    for (size_t i = 0; i < block.size(); ++i) {
      out.rank += token_rank(clean_logit(block[i]), static_cast<int32_t>(b * kBlock + i)) < rank;
    }
  }
  out.chosen = kImpossible;
  if (row.max == kImpossible) return;

  const uint64_t total = total_weight(row, std::span(scratch.block_weight).first(block_max.size()));
  const double normaliser = std::log(static_cast<double>(total) / kWeightOne);
  const auto logprob = [&](float logit) {
    return static_cast<float>(static_cast<double>(clean_logit(logit)) - static_cast<double>(row.max) - normaliser);
  };
  if (x != kImpossible) out.chosen = logprob(x);
  if (top <= 0) return;
  auto best = collect(row, bound_for_count(row, static_cast<size_t>(top), scratch), scratch);
  best = keep_count(best, static_cast<size_t>(top), scratch);
  std::sort(best.begin(), best.end(), [](const Candidate& a, const Candidate& b) { return a.rank < b.rank; });
  for (const Candidate& candidate : best) {
    const auto token = static_cast<int32_t>(static_cast<uint32_t>(candidate.rank));
    out.top.push_back({token, logprob(logits[static_cast<size_t>(token)])});
  }
}

}  // namespace pagemill
