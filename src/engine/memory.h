// Memory, never by surprise: how much of a device a model may take, what for, and which flag buys what.
//
// plan_memory() decides context and KV pool from the model's sizes and the device's free memory before anything is
// allocated. MemoryBudget is what loads reserve from: two models on one device cannot promise the same bytes.
//
// Invariants:
//   1. weights + activations + scratch + kv pool ≤ free memory at the time of planning.
//   2. One sequence of `context` tokens always fits the pool alone, whatever else is cached: a request that was admitted
//      can always finish.
//   3. The sum of a budget's reservations never exceeds its total.
// MemoryBudget is safe from any thread; the rest are plain functions.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "kv/block_manager.h"

namespace pagemill {

/// What a load needs, and what the user asked for. Bytes unless the name says otherwise.
struct MemoryRequest {
  uint64_t available = 0;              // on the device, for everything below
  uint64_t weights = 0;
  uint64_t activations = 0;            // grows with --max-num-batched-tokens and --max-num-seqs
  uint64_t scratch = 0;
  std::vector<uint64_t> block_bytes;   // of one block, per KV group
  std::vector<int32_t> windows;        // of each group, 0 = all positions
  int32_t model_context = 0;           // tokens the model was made for
  int32_t max_model_len = 0;           // asked for; 0 = auto
  uint64_t kv_bytes = 0;               // asked for; 0 = auto
  int32_t max_num_seqs = 1;
  int32_t max_num_batched_tokens = 1;
  /// Auto-fit takes this share of `available` for the pool at most: the CPU's memory is shared with everything else.
  double kv_share_max = 0.25;
  int32_t kv_tokens_per_seq = 4096;    // … and no more than this for each of max_num_seqs
};

struct MemoryLine {
  std::string what;                    // "weights", "KV pool", …
  uint64_t bytes = 0;
  std::string note;                    // what it holds, and the flag that changes it
};

struct MemoryPlan {
  int32_t context = 0;                 // tokens of a request, prompt and answer
  std::vector<KvGroupConfig> groups;
  uint64_t kv_bytes = 0;
  std::vector<MemoryLine> table;       // in the order of the head's first invariant, then "free"
};

/// Fails with out_of_memory where the weights alone do not fit, or where an explicit --max-model-len or
/// --kv-cache-memory-bytes does not; the message names the length or size that would.
Result<MemoryPlan> plan_memory(const MemoryRequest& request);

/// The table as aligned lines of text, for the log.
std::string format_memory_table(const MemoryPlan& plan);
/// "1.5 GiB".
std::string format_bytes(uint64_t bytes);

/// A device's memory and who holds which part of it: the registry of loaded models.
class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t total_bytes) : total_(total_bytes) {}

  /// Bytes given back on destruction.
  class Reservation {
   public:
    Reservation(MemoryBudget& budget, std::string name) : budget_(budget), name_(std::move(name)) {}
    ~Reservation() { budget_.release(name_); }
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;

   private:
    MemoryBudget& budget_;
    std::string name_;
  };

  /// out_of_memory, saying which loaded models would have to go; invalid_argument where the name is taken.
  Result<std::unique_ptr<Reservation>> reserve(const std::string& name, uint64_t bytes);
  uint64_t total_bytes() const { return total_; }
  uint64_t free_bytes() const;
  /// Loaded models and their bytes.
  std::map<std::string, uint64_t> holders() const;

 private:
  void release(const std::string& name);

  const uint64_t total_;
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t> held_;
};

}  // namespace pagemill
