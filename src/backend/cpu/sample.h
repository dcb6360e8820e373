// Sampling on the CPU: one row of logits → one token, and log-probabilities of a row. Free functions over one row: the
// backend calls them for the rows of a step in any order, on any threads, one SampleScratch per thread.
//
// What token comes out is defined in backend/sampling.h, bit for bit. Greedy reads the row once, plain temperature twice;
// top_k, top_p and min_p look closely only at the blocks of the row that can hold a kept token; nothing is ever fully sorted.
// Once the scratch has been reserved for the vocabulary, no function here allocates (but see logprob_row).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/step.h"

namespace pagemill {

/// Working memory of one thread; about 50 bytes per vocabulary entry, of which most rows touch a small part.
struct SampleScratch {
  /// A token that a filter may keep.
  struct Candidate {
    uint64_t rank;    // token_rank(): id in the low half
    uint64_t weight;
  };

  explicit SampleScratch(int32_t vocab = 0) { reserve(vocab); }
  void reserve(int32_t vocab);

  std::vector<float> logits;              // [vocab] the row after bias, penalties and mask, where it has any
  std::vector<float> block_max;           // [blocks]
  std::vector<float> block_order;         // [blocks]
  std::vector<uint64_t> block_weight;     // [blocks]
  std::vector<Candidate> candidates;      // [vocab] in id order
  std::vector<Candidate> narrowed;        // [vocab]
  std::vector<uint64_t> histogram;        // [2048]
};

/// Chooses the row's token: -1 where bias and mask leave nothing. `history` and `bias` are the row's own entries, ids inside
/// the row; each token occurs once in `history`. `mask` is empty or has ⌈logits.size() / 32⌉ words. Where
/// row.logprobs ≥ 0, `logprobs` must be given: it is filled by logprob_row() for the chosen token.
SampledToken sample_row(std::span<const float> logits, const SamplingRow& row, std::span<const HistoryEntry> history,
                        std::span<const BiasEntry> bias, std::span<const uint32_t> mask, SampleScratch& scratch,
                        LogprobRow* logprobs = nullptr);

/// Log-probabilities of the raw logits: of `target`, its rank (1 + the tokens before it in the order of token_rank, so it is
/// its place in a full `top`), and of the `top` best (fewer where fewer are possible). An impossible token's is -infinity.
/// Allocates only where `out.top` has less capacity than `top`.
void logprob_row(std::span<const float> logits, int32_t target, int32_t top, LogprobRow& out, SampleScratch& scratch);

}  // namespace pagemill
