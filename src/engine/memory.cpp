#include "engine/memory.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/limits.h"

namespace pagemill {

namespace {

constexpr int64_t kBlock = limits::kBlockTokens;

/// Blocks of a group that one sequence of `tokens` holds at once.
int64_t blocks_of(const MemoryRequest& request, size_t group, int64_t tokens) {
  const int64_t all = (tokens + kBlock - 1) / kBlock;
  const int64_t window = request.windows[group];
  return window == 0 ? all : std::min(all, (window + request.max_num_batched_tokens) / kBlock + 2);
}

uint64_t sequence_bytes(const MemoryRequest& request, int64_t tokens) {
  uint64_t bytes = 0;
  for (size_t group = 0; group < request.block_bytes.size(); ++group) {
    bytes += request.block_bytes[group] * static_cast<uint64_t>(blocks_of(request, group, tokens));
  }
  return bytes;
}

/// The longest sequence that fits, in whole blocks; at most `longest`.
int32_t longest_that_fits(const MemoryRequest& request, uint64_t bytes, int32_t longest) {
  int64_t low = 0, high = longest;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (sequence_bytes(request, middle) <= bytes) low = middle; else high = middle - 1;
  }
  return static_cast<int32_t>(low == longest ? low : low / kBlock * kBlock);
}

tl::unexpected<Error> too_long(const MemoryRequest& request, uint64_t bytes, std::string_view of_what) {
  return fail(ErrorCode::out_of_memory,
              fmt::format("--max-model-len {} needs {} for one request's keys and values, and {} is {}. A length of {} would fit.",
                          request.max_model_len, format_bytes(sequence_bytes(request, request.max_model_len)), of_what,
                          format_bytes(bytes), longest_that_fits(request, bytes, request.max_model_len)),
              "--max-model-len");
}

/// How many bytes the pool gets.
Result<uint64_t> pool_bytes(const MemoryRequest& request, uint64_t left) {
  if (request.kv_bytes != 0) {
    if (request.kv_bytes > left) {
      return fail(ErrorCode::out_of_memory,
                  fmt::format("--kv-cache-memory-bytes asks for {}, and {} are left beside the weights and work space.",
                              format_bytes(request.kv_bytes), format_bytes(left)),
                  "--kv-cache-memory-bytes");
    }
    if (request.max_model_len > 0 && sequence_bytes(request, request.max_model_len) > request.kv_bytes) {
      return too_long(request, request.kv_bytes, "--kv-cache-memory-bytes");
    }
    return request.kv_bytes;
  }
  const int32_t tokens = std::min(request.kv_tokens_per_seq, request.model_context);
  uint64_t bytes = sequence_bytes(request, tokens) * static_cast<uint64_t>(request.max_num_seqs);
  bytes = std::min({bytes, static_cast<uint64_t>(request.kv_share_max * static_cast<double>(request.available)), left});
  if (request.max_model_len > 0) {  // an explicit length is worth more than the share
    const uint64_t needed = sequence_bytes(request, request.max_model_len);
    if (needed > left) return too_long(request, left, "what is left of the memory");
    bytes = std::max(bytes, needed);
  }
  return bytes;
}

/// Groups share the pool so that each runs out at the same number of typical sequences, and one longest always fits.
std::vector<KvGroupConfig> divide(const MemoryRequest& request, uint64_t bytes, int32_t context) {
  const int64_t typical = std::min(request.kv_tokens_per_seq, context);
  const double sequences = static_cast<double>(bytes) / static_cast<double>(std::max<uint64_t>(1, sequence_bytes(request, typical)));
  std::vector<KvGroupConfig> groups;
  uint64_t spent = 0;
  for (size_t group = 0; group < request.block_bytes.size(); ++group) {
    const auto share = static_cast<int64_t>(sequences * static_cast<double>(blocks_of(request, group, typical)));
    const int64_t blocks = std::max(share, blocks_of(request, group, context));
    groups.push_back({.blocks = static_cast<int32_t>(std::min<int64_t>(blocks, INT32_MAX / kBlock)), .window = request.windows[group]});
    spent += request.block_bytes[group] * static_cast<uint64_t>(groups.back().blocks);
  }
  // Only with several groups can the minimum of one push the sum over the limit; the first group keeps what is left.
  if (spent > bytes && groups.size() > 1) {
    const uint64_t over = spent - bytes;
    const auto cut = static_cast<int64_t>((over + request.block_bytes[0] - 1) / request.block_bytes[0]);
    groups[0].blocks = static_cast<int32_t>(std::max(groups[0].blocks - cut, blocks_of(request, 0, context)));
  }
  return groups;
}

}  // namespace

std::string format_bytes(uint64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.{}f} {}", value, value < 10 ? 2 : 1, units[unit]);
}

Result<MemoryPlan> plan_memory(const MemoryRequest& request) {
  if (request.max_model_len > request.model_context) {
    return fail(ErrorCode::invalid_argument,
                fmt::format("--max-model-len is {}, and the model was made for {} tokens. Stretch it with --hf-overrides (rope_parameters), "
                            "or ask for less.", request.max_model_len, request.model_context),
                "--max-model-len");
  }
  const uint64_t fixed = request.weights + request.activations + request.scratch;
  const uint64_t smallest = sequence_bytes(request, kBlock);
  if (fixed + smallest > request.available) {
    return fail(ErrorCode::out_of_memory,
                fmt::format("The model needs {} for weights, {} for activations and {} for scratch; {} are available. Take a smaller model, or "
                            "lower --max-num-batched-tokens and --max-num-seqs.", format_bytes(request.weights),
                            format_bytes(request.activations), format_bytes(request.scratch), format_bytes(request.available)));
  }
  const uint64_t left = request.available - fixed;
  PM_ASSIGN(const uint64_t bytes, pool_bytes(request, left));

  MemoryPlan plan;
  plan.context = request.max_model_len > 0 ? request.max_model_len : longest_that_fits(request, bytes, request.model_context);
  if (plan.context == 0) {
    return fail(ErrorCode::out_of_memory,
                fmt::format("A KV pool of {} does not hold one block of {} tokens ({}). Raise --kv-cache-memory-bytes.", format_bytes(bytes),
                            kBlock, format_bytes(smallest)), "--kv-cache-memory-bytes");
  }
  plan.groups = divide(request, bytes, plan.context);
  for (size_t group = 0; group < plan.groups.size(); ++group) {
    plan.kv_bytes += request.block_bytes[group] * static_cast<uint64_t>(plan.groups[group].blocks);
  }
  const int64_t tokens = plan.groups[0].blocks * kBlock;
  plan.table = {
      {"weights", request.weights, "a file with fewer bits per weight"},
      {"activations", request.activations, fmt::format("a step of {} rows, {} sequences: --max-num-batched-tokens, --max-num-seqs",
                                                       request.max_num_batched_tokens, request.max_num_seqs)},
      {"scratch", request.scratch, "what kernels and the process itself work in"},
      {"KV pool", plan.kv_bytes, fmt::format("{} tokens, {:.1f} requests of {} (--max-model-len): --kv-cache-memory-bytes, --kv-cache-dtype",
                                             tokens, static_cast<double>(tokens) / plan.context, plan.context)},
      {"free", request.available - std::min(request.available, fixed + plan.kv_bytes), ""},
  };
  return plan;
}

std::string format_memory_table(const MemoryPlan& plan) {
  std::string text;
  for (const MemoryLine& line : plan.table) {
    text += fmt::format("{:<12} {:>10}  {}", line.what, format_bytes(line.bytes), line.note);
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

Result<std::unique_ptr<MemoryBudget::Reservation>> MemoryBudget::reserve(const std::string& name, uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  if (held_.contains(name)) return fail(ErrorCode::invalid_argument, fmt::format("A model named {} is loaded already.", name), "model");
  uint64_t used = 0;
  std::string others;
  for (const auto& [holder, held] : held_) {
    used += held;
    others += fmt::format("{}{} ({})", others.empty() ? "" : ", ", holder, format_bytes(held));
  }
  if (bytes > total_ - used) {
    return fail(ErrorCode::out_of_memory,
                fmt::format("{} needs {} and {} are free.{}", name, format_bytes(bytes), format_bytes(total_ - used),
                            others.empty() ? "" : fmt::format(" Unload one of: {}.", others)));
  }
  held_[name] = bytes;
  return std::make_unique<Reservation>(*this, name);
}

uint64_t MemoryBudget::free_bytes() const {
  const std::scoped_lock lock(mutex_);
  uint64_t used = 0;
  for (const auto& [holder, held] : held_) used += held;
  return total_ - used;
}

std::map<std::string, uint64_t> MemoryBudget::holders() const {
  const std::scoped_lock lock(mutex_);
  return held_;
}

void MemoryBudget::release(const std::string& name) {
  const std::scoped_lock lock(mutex_);
  held_.erase(name);
}

}  // namespace pagemill
