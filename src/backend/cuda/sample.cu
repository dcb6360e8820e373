// Sampling on the device: backend/sampling.h, token for token, and log-probabilities. Only ids cross the bus.
//
// Shapes: logits [rows, vocab] f32. Grid: a block of 1,024 threads per row. Bytes: the row once per pass over it, from L2 for few rows
// (0.6 MB at 152,000 entries): greedy 1 pass, temperature 2, a filter 3 more. Expected: 6 µs a pass of a single row (one
// multiprocessor's share of L2), 60 % of the read bandwidth from 132 rows on. Nothing is sorted: the last token kept is found by a
// histogram of 2,048 bins and a look at the tokens of one bin, exactly, for all weights are integers.
// Compiled with --fmad=false: sampling.h defines each rounding.
#include "backend/cuda/device_math.h"
#include "backend/cuda/sample_select.h"
#include "backend/sampling.h"
#include "base/limits.h"

namespace pagemill::cuda {
namespace {

constexpr float kImpossible = -INFINITY;
constexpr float kSurelyWeighs = -27.0f;  // e^-27 is two units: above this no weight is 0

/// Philox4x32-10's first two words, as base/rng.h's sampling_bits.
__device__ uint64_t random_bits(uint64_t seed, uint64_t position) {
  uint32_t c0 = static_cast<uint32_t>(position), c1 = static_cast<uint32_t>(position >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c0, b = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return uint64_t{c1} << 32 | c0;
}

/// A row as the filters see it.
struct RowView {
  const float* x;
  const uint32_t* mask;  // or null
  int vocab;
  float max, inverse_temperature;
  // Typical: tokens whose order (deviation, id) comes after `typical_last` are impossible; with the maximum of before.
  bool typical;
  float typical_max;
  int64_t typical_mean;
  uint64_t typical_last;
  float z_min;           // min_p
  uint64_t rank_last;    // top_k and top_p

  __device__ float unfiltered(int i, float raw) const {
    if (mask != nullptr && (mask[i >> 5] >> (i & 31) & 1) == 0) return kImpossible;
    return clean_logit(raw);
  }
  __device__ uint64_t typical_key(float logit, int i) const {
    const int64_t deviation = static_cast<int64_t>(surprise_units((logit - typical_max) * inverse_temperature)) - typical_mean;
    return static_cast<uint64_t>(deviation < 0 ? -deviation : deviation) << 32 | static_cast<uint32_t>(i);
  }
  /// `raw` is x[i].
  __device__ float logit(int i, float raw) const {
    const float value = unfiltered(i, raw);
    return typical && value != kImpossible && typical_key(value, i) > typical_last ? kImpossible : value;
  }
  __device__ float z(float logit) const { return (logit - max) * inverse_temperature; }
  __device__ bool kept(float logit, int i) const { return logit != kImpossible && z(logit) >= z_min && token_rank(logit, i) <= rank_last; }
  __device__ float logit(int i) const { return logit(i, ptx::load_f32(x + i)); }
  /// 0 for what is not kept.
  __device__ uint64_t weight(int i, float raw) const {
    const float value = logit(i, raw);
    return kept(value, i) ? sampling_weight(z(value)) : 0;
  }
};

/// The most likely token's rank; all threads get it, and in `mine` that of their own tokens.
__device__ uint64_t best_rank(const RowView& row, SelectShared& shared, uint64_t& mine) {
  mine = ~uint64_t{0};
  scan_row(row.x, row.vocab, [&](int i, float raw) { mine = min(mine, token_rank(row.logit(i, raw), i)); });
  return block_min(mine, shared);
}

/// z ≤ 0, as low as it may be: what an int cannot hold is undefined.
__device__ int bin_of(float z) { return static_cast<int>(fminf(-z * (kBins / 30.0f), kBins - 1)); }

/// Takes the row's maximum anew; false where nothing is possible.
__device__ bool take_max(RowView& row, SelectShared& shared, uint64_t& best, uint64_t& mine) {
  best = best_rank(row, shared, mine);
  row.max = row.logit(static_cast<int>(static_cast<uint32_t>(best)));
  return row.max != kImpossible;
}

/// Step 6.
__device__ void keep_typical(RowView& row, float share, SelectShared& shared) {
  uint64_t total = 0;
  unsigned __int128 weighted = 0;
  scan_row(row.x, row.vocab, [&](int i, float raw) {
    const float logit = row.logit(i, raw);
    if (logit == kImpossible) return;
    const uint64_t weight = sampling_weight(row.z(logit));
    total += weight;
    weighted += static_cast<unsigned __int128>(weight) * surprise_units(row.z(logit));
  });
  // 128 bits as three sums that cannot overflow: 2^20 tokens of 40 bits each.
  constexpr uint64_t kLow = (uint64_t{1} << 40) - 1;
  const uint64_t low = block_sum_u64(static_cast<uint64_t>(weighted) & kLow, shared);
  const uint64_t middle = block_sum_u64(static_cast<uint64_t>(weighted >> 40) & kLow, shared);
  const uint64_t high = block_sum_u64(static_cast<uint64_t>(weighted >> 80), shared);
  total = block_sum_u64(total, shared);
  weighted = (static_cast<unsigned __int128>(high) << 80) + (static_cast<unsigned __int128>(middle) << 40) + low;
  row.typical_max = row.max;
  row.typical_mean = static_cast<int64_t>(weighted / total);
  const RowView view = row;
  row.typical_last = select_last(row.x, row.vocab, mass_target(share, total), shared, [&view](int i, float raw, Entry& entry) {
    const float logit = view.logit(i, raw);
    entry.measure = logit == kImpossible ? 0 : sampling_weight(view.z(logit));
    if (entry.measure == 0) return;
    entry.key = view.typical_key(logit, i);
    entry.bin = min(kBins - 1, static_cast<int>(entry.key >> 46));  // deviations are below 2^25
  });
  row.typical = true;
}

/// Step 8.
__device__ void keep_count(RowView& row, int count, SelectShared& shared) {
  const RowView view = row;
  row.rank_last = select_last(row.x, row.vocab, static_cast<uint64_t>(count), shared, [&view](int i, float raw, Entry& entry) {
    const float logit = view.logit(i, raw);
    entry.measure = 0;
    if (!view.kept(logit, i)) return;
    const float z = view.z(logit);
    // Tokens without weight come last and are never drawn: whether they count makes no difference.
    entry.measure = z > kSurelyWeighs || sampling_weight(z) > 0;
    entry.key = token_rank(logit, i);
    entry.bin = bin_of(z);
  });
}

/// Step 9.
__device__ void keep_share(RowView& row, float share, SelectShared& shared) {
  const RowView view = row;
  const auto describe = [&view](int i, float raw, Entry& entry) {
    const float logit = view.logit(i, raw);
    entry.measure = view.kept(logit, i) ? sampling_weight(view.z(logit)) : 0;
    if (entry.measure == 0) return;
    entry.key = token_rank(logit, i);
    entry.bin = bin_of(view.z(logit));
  };
  row.rank_last = select_last_share(row.x, row.vocab, share, shared, describe);
}

/// Sum of the weights in [begin, end) by one warp.
__device__ uint64_t warp_weight(const RowView& row, int begin, int end) {
  uint64_t sum = 0;
  constexpr int kInFlight = 8;
  for (int first = begin + static_cast<int>(threadIdx.x % kWarp); first < end; first += kInFlight * kWarp) {
    float values[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) values[j] = first + j * kWarp < end ? ptx::load_f32(row.x + first + j * kWarp) : 0.0f;
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) sum += first + j * kWarp < end ? row.weight(first + j * kWarp, values[j]) : 0;
  }
  return warp_sum_u64(sum);
}

/// Step 10: each warp adds up its part of the row; the part where the point falls is divided again, and scanned.
__device__ int draw(const RowView& row, SelectShared& shared) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  int begin = 0, size = row.vocab;
  uint64_t left = 0;
  for (int level = 0; level < 2; ++level) {
    const int part = (size + kSampleWarps - 1) / kSampleWarps, first = min(begin + warp * part, row.vocab);
    const uint64_t sum = warp_weight(row, first, min(min(first + part, begin + size), row.vocab));
    __syncthreads();
    if (lane == 0) shared.warp[warp] = sum;
    __syncthreads();
    if (level == 0) {
      uint64_t total = 0;
#pragma unroll 8  // all at once would take all registers
      for (int w = 0; w < kSampleWarps; ++w) total += shared.warp[w];
      left = draw_point(random_bits(shared.how.seed, shared.how.position), total);
    }
    int at = 0;
    while (at < kSampleWarps - 1 && left >= shared.warp[at]) left -= shared.warp[at++];
    begin += at * part;
    size = part;
  }
  int chosen = -1;
  for (int first = begin; first < min(begin + size, row.vocab) && chosen < 0; first += kWarp) {
    const int i = first + lane;
    const uint64_t weight = i < min(begin + size, row.vocab) ? row.weight(i, ptx::load_f32(row.x + i)) : 0, running = warp_prefix_u64(weight);
    const unsigned beyond = __ballot_sync(kAllLanes, running > left);
    if (beyond != 0) chosen = first + __ffs(static_cast<int>(beyond)) - 1;
    left -= __shfl_sync(kAllLanes, running, kWarp - 1);
  }
  return chosen;
}

/// Steps 8 to 10 on a list, for small top_k: the tokens that can be among the `count` most likely, those not below the count-th highest of
/// the threads' own maxima (at least `count` tokens are as high). -2 where they are too many for the list.
__device__ int choose_from_list(const RowView& row, const SamplingRow& how, uint64_t my_best, SelectShared& shared) {
  const uint64_t border = nth_smallest(my_best, how.top_k, shared);
  __syncthreads();
  if (threadIdx.x == 0) shared.count = 0;
  __syncthreads();
  scan_row(row.x, row.vocab, [&](int i, float raw) {
    const float logit = row.logit(i, raw);
    if (!row.kept(logit, i) || token_rank(logit, i) > border) return;
    const int at = atomicAdd(&shared.count, 1);
    if (at >= kListMax) return;
    shared.keys[at] = token_rank(logit, i);
    shared.measures[at] = sampling_weight(row.z(logit));
  });
  __syncthreads();
  const int found = shared.count;
  if (found > kListMax) return -2;
  // Each token of the list against all others; a dropped one loses its weight, so that later sums pass it by.
  const auto sum_of = [&](auto counts) {
    uint64_t sum = 0;
    for (int j = 0; j < found; ++j) sum += counts(j) ? shared.measures[j] : 0;
    return sum;
  };
  const auto drop = [&](auto keeps) {
    bool dropped[kListMax / kSampleThreads] = {};
#pragma unroll
    for (int n = 0; n < kListMax / kSampleThreads; ++n) {
      const int i = threadIdx.x + n * kSampleThreads;
      if (i < found) dropped[n] = !keeps(i);
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < kListMax / kSampleThreads; ++n) {
      const int i = threadIdx.x + n * kSampleThreads;
      if (dropped[n]) shared.measures[i] = 0;
    }
    __syncthreads();
  };
  drop([&](int i) {
    int before = 0;
    for (int j = 0; j < found; ++j) before += shared.keys[j] < shared.keys[i];
    return before < how.top_k;
  });
  if (how.top_p < 1) {
    const uint64_t target = mass_target(how.top_p, sum_of([](int) { return true; }));
    drop([&](int i) { return sum_of([&](int j) { return shared.keys[j] < shared.keys[i]; }) < target; });
  }
  const uint64_t point = draw_point(random_bits(how.seed, how.position), sum_of([](int) { return true; }));
  for (int i = threadIdx.x; i < found; i += kSampleThreads) {
    const auto id = static_cast<uint32_t>(shared.keys[i]);
    const uint64_t before = sum_of([&](int j) { return static_cast<uint32_t>(shared.keys[j]) < id; });
    if (before <= point && point < before + shared.measures[i]) shared.answer = id;
  }
  __syncthreads();
  return static_cast<int>(shared.answer);
}

/// Steps 4 to 10.
__device__ int choose(RowView& row, const SamplingRow& how, SelectShared& shared) {
  uint64_t best = 0, my_best = 0;
  if (!take_max(row, shared, best, my_best)) return -1;
  if (!(how.temperature >= kGreedyTemperature)) return static_cast<int>(static_cast<uint32_t>(best));
  row.inverse_temperature = __fdiv_rn(1.0f, how.temperature);
  if (how.typical_p < 1) {
    keep_typical(row, how.typical_p, shared);
    take_max(row, shared, best, my_best);
  }
  if (how.min_p > 0) row.z_min = min_p_threshold(how.min_p);
  if (how.top_k > 0 && how.top_k < row.vocab) {
    if (how.top_k <= kListMax / 4) {
      const int token = choose_from_list(row, how, my_best, shared);
      if (token != -2) return token;
    }
    keep_count(row, how.top_k, shared);
  }
  if (how.top_p < 1) keep_share(row, how.top_p, shared);
  return draw(row, shared);
}

__device__ RowView plain_row(const float* x, const uint32_t* mask, int vocab) {
  return {x, mask, vocab, 0, 1, false, 0, 0, ~uint64_t{0}, -FLT_MAX, ~uint64_t{0}};
}

/// Log-probabilities of a raw row: token and rank of `target`, and the `count` best.
__device__ void report(const float* x, int vocab, int target, int count, SelectShared& shared, SampledToken* token, TopLogprob* top) {
  RowView row = plain_row(x, nullptr, vocab);
  uint64_t best = 0, mine = 0;
  const bool any = take_max(row, shared, best, mine);
  const float chosen = row.logit(target);
  const uint64_t target_rank = token_rank(chosen, target);
  uint64_t total = 0, ahead = 0;
  scan_row(x, vocab, [&](int i, float raw) {
    const float logit = row.logit(i, raw);
    ahead += token_rank(logit, i) < target_rank;
    if (any && logit != kImpossible) total += sampling_weight(row.z(logit));
  });
  ahead = block_sum_u64(ahead, shared);
  total = block_sum_u64(total, shared);
  const double normaliser = log(static_cast<double>(total) / static_cast<double>(kWeightOne));
  const auto logprob = [&](float logit) {
    return logit == kImpossible ? kImpossible : static_cast<float>(static_cast<double>(logit) - static_cast<double>(row.max) - normaliser);
  };
  if (threadIdx.x == 0) *token = {target, any ? logprob(chosen) : kImpossible, static_cast<int32_t>(ahead) + 1};
  for (int i = threadIdx.x; i < limits::kTopLogprobs; i += kSampleThreads) top[i] = {-1, 0};
  if (!any || count <= 0) return;

  const RowView view = row;
  const auto describe = [&view](int i, float raw, Entry& entry) {
    const float logit = view.logit(i, raw);
    entry.measure = logit != kImpossible;
    if (entry.measure == 0) return;
    entry.key = token_rank(logit, i);
    entry.bin = bin_of(view.z(logit));
  };
  const uint64_t last = select_last(x, vocab, static_cast<uint64_t>(count), shared, describe);
  __syncthreads();
  if (threadIdx.x == 0) shared.count = 0;
  __syncthreads();
  scan_row(x, vocab, [&](int i, float raw) {
    const float logit = row.logit(i, raw);
    if (logit == kImpossible || token_rank(logit, i) > last) return;
    const int at = atomicAdd(&shared.count, 1);
    if (at < kListMax) shared.keys[at] = token_rank(logit, i);
  });
  __syncthreads();
  const int found = min(shared.count, count);
  for (int i = threadIdx.x; i < found; i += kSampleThreads) {
    int place = 0;
    for (int j = 0; j < found; ++j) place += shared.keys[j] < shared.keys[i];
    const int id = static_cast<int>(static_cast<uint32_t>(shared.keys[i]));
    top[place] = {id, logprob(row.logit(id))};
  }
  __syncthreads();
}

/// Steps 1 to 3 but for the mask, in place; `saved` keeps what was there, for restore().
__device__ void edit(float* x, const SamplingRow& how, const SampleArgs& a) {
  for (int i = how.history_begin + static_cast<int>(threadIdx.x); i < how.history_end; i += kSampleThreads) a.saved_history[i] = ptx::load_f32(x + a.history[i].token);
  for (int i = how.bias_begin + static_cast<int>(threadIdx.x); i < how.bias_end; i += kSampleThreads) a.saved_bias[i] = ptx::load_f32(x + a.bias[i].token);
  __syncthreads();
  for (int i = how.bias_begin + static_cast<int>(threadIdx.x); i < how.bias_end; i += kSampleThreads) x[a.bias[i].token] = clean_logit(a.saved_bias[i]);
  __syncthreads();
  // A token may stand here twice (asked for and forbidden): sums with -infinity do not depend on their order.
  for (int i = how.bias_begin + static_cast<int>(threadIdx.x); i < how.bias_end; i += kSampleThreads) atomicAdd(x + a.bias[i].token, a.bias[i].bias);
  __syncthreads();
  for (int i = how.history_begin + static_cast<int>(threadIdx.x); i < how.history_end; i += kSampleThreads) {
    const HistoryEntry entry = a.history[i];
    float logit = ptx::load_f32(x + entry.token);
    if (how.bias_begin == how.bias_end) logit = clean_logit(logit);
    logit = logit > 0 ? __fdiv_rn(logit, how.repetition_penalty) : __fmul_rn(logit, how.repetition_penalty);
    if (entry.output_count != 0) {
      logit = __fsub_rn(logit, __fmul_rn(how.frequency_penalty, static_cast<float>(entry.output_count)));
      logit = __fsub_rn(logit, how.presence_penalty);
    }
    x[entry.token] = logit;
  }
  __syncthreads();
}

__device__ void restore(float* x, const SamplingRow& how, const SampleArgs& a) {
  __syncthreads();
  for (int i = how.history_begin + static_cast<int>(threadIdx.x); i < how.history_end; i += kSampleThreads) x[a.history[i].token] = a.saved_history[i];
  for (int i = how.bias_begin + static_cast<int>(threadIdx.x); i < how.bias_end; i += kSampleThreads) x[a.bias[i].token] = a.saved_bias[i];
  __syncthreads();
}

__global__ void __launch_bounds__(kSampleThreads) sample_kernel(const SampleArgs a) {
  SelectShared& shared = *dynamic_shared<SelectShared>();
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int r = blockIdx.x;
  if (threadIdx.x == 0) shared.how = a.sampling[r];
  __syncthreads();
  const SamplingRow& how = shared.how;
  float* const x = a.logits + static_cast<int64_t>(r) * a.vocab;
  const uint32_t* mask = how.mask < 0 ? nullptr : a.masks + static_cast<int64_t>(how.mask) * ((a.vocab + 31) / 32);
  const bool edited = how.history_begin < how.history_end || how.bias_begin < how.bias_end;
  if (edited) edit(x, how, a);
  RowView row = plain_row(x, mask, a.vocab);
  const int token = choose(row, how, shared);
  if (edited) restore(x, how, a);
  TopLogprob* top = a.top + static_cast<int64_t>(r) * limits::kTopLogprobs;
  if (how.logprobs >= 0 && token >= 0) {
    report(x, a.vocab, token, how.logprobs, shared, a.tokens + r, top);
  } else if (threadIdx.x == 0) {
    a.tokens[r] = {token, 0, 0};
  }
}

__global__ void __launch_bounds__(kSampleThreads) logprobs_kernel(const LogprobArgs a) {
  SelectShared& shared = *dynamic_shared<SelectShared>();
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int r = blockIdx.x;
  report(a.logits + static_cast<int64_t>(r) * a.vocab, a.vocab, ptx::load_i32(a.targets + r), a.top_count, shared, a.tokens + r,
         a.top + static_cast<int64_t>(r) * limits::kTopLogprobs);
}

}  // namespace

cudaError_t sample(const KernelContext& c, const SampleArgs& a) {
  if (a.rows == 0) return cudaSuccess;
  return launch(sample_kernel, {.grid = static_cast<unsigned>(a.rows), .block = kSampleThreads, .dynamic_shared_bytes = sizeof(SelectShared), .programmatic = c.programmatic},
                c.stream, a);
}

cudaError_t logprobs(const KernelContext& c, const LogprobArgs& a) {
  if (a.rows == 0) return cudaSuccess;
  return launch(logprobs_kernel, {.grid = static_cast<unsigned>(a.rows), .block = kSampleThreads, .dynamic_shared_bytes = sizeof(SelectShared), .programmatic = c.programmatic},
                c.stream, a);
}

}  // namespace pagemill::cuda
