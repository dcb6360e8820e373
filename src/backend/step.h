// One step of the engine as plain data: which rows are computed, where their keys and values go, what is sampled.
//
// A step holds ragged rows. A row is one token of one sequence at one position; a decoding sequence contributes one row,
// a prefill chunk many, a verification of speculated tokens a few: the ops do not tell them apart. Rows of a sequence
// are adjacent and their positions ascend by one.
//
// StepInputs is a view over one arena (StepArena, engine/), which a device backend copies in one transfer. An op may
// depend on the host only through StepShape; everything else it reads from the arrays, on the device.
#pragma once

#include <cstdint>
#include <span>

namespace pagemill {

/// All that a launch configuration or a CUDA graph may depend on.
struct StepShape {
  int32_t rows = 0;            // rows computed, padded
  int32_t seqs = 0;            // sequences, padded
  int32_t logit_rows = 0;      // rows that go through the lm_head, padded
  int32_t query_rows_max = 0;  // the most rows of one sequence; 1 = a pure decode step
  int32_t context_max = 0;     // the longest context of a sequence after this step, in tokens
  bool operator==(const StepShape&) const = default;
};

/// How one logit row becomes a token. Values are already validated and normalised (sample/params.h); a disabled
/// filter has its neutral value, so a backend needs no flags.
struct SamplingRow {
  float temperature = 0;         // 0 = greedy: the highest logit, lowest id on ties
  float top_p = 1;               // keep the smallest set of most likely tokens with mass ≥ top_p
  float min_p = 0;               // keep tokens with p ≥ min_p × the largest p
  float typical_p = 1;           // locally typical sampling (Meister et al. 2022)
  int32_t top_k = 0;             // 0 = all
  float repetition_penalty = 1;  // on tokens of prompt and output: logit > 0 is divided, ≤ 0 multiplied
  float presence_penalty = 0;    // subtracted once from tokens of the output
  float frequency_penalty = 0;   // subtracted per occurrence in the output
  uint64_t seed = 0;             // with position, the key of the draw (base/rng.h sampling_bits)
  uint64_t position = 0;         // index of the token to be sampled in its sequence
  int32_t history_begin = 0, history_end = 0;  // its entries in StepInputs::history
  int32_t bias_begin = 0, bias_end = 0;        // its entries in StepInputs::bias
  int32_t mask = -1;             // its row in StepInputs::masks, -1 = every token is allowed
  int32_t logprobs = -1;         // how many top log-probabilities to report beside the token's own; -1 = none at all
};

/// A token that a penalty applies to.
struct HistoryEntry {
  int32_t token = 0;
  int32_t output_count = 0;  // occurrences in the output; 0 = in the prompt only
};

/// Added to a token's logit before anything else; -infinity forbids it.
struct BiasEntry {
  int32_t token = 0;
  float bias = 0;
};

/// The block tables of one KV group (kv/block_manager.h), one row per sequence of the step.
struct GroupTables {
  std::span<const int32_t> block_table;  // [seqs, stride] physical block of each logical block; -1 past the end or behind a window
  int32_t stride = 0;                    // logical blocks per row
  std::span<const int32_t> slots;        // [rows] block · kBlockTokens + offset where the row's K and V are stored; -1 = padding
};

inline constexpr int kKvGroupsMax = 4;

struct StepInputs {
  StepShape shape;

  // Per row.
  std::span<const int32_t> tokens;       // [rows] token id; ignored where token_from ≥ 0
  std::span<const int32_t> token_from;   // [rows] row of the previous step's sampled tokens to take the id from, or -1
  std::span<const int32_t> positions;    // [rows] position in the sequence, from 0; -1 = padding
  std::span<const int32_t> seq_of_row;   // [rows] index of its sequence in this step

  // Per sequence.
  std::span<const int32_t> row_begin;    // [seqs + 1] rows of sequence s: row_begin[s] … row_begin[s+1]
  std::span<const int32_t> context_len;  // [seqs] tokens of the sequence after this step (cached + rows of the step)
  std::span<const int32_t> adapters;     // [seqs] adapter id, -1 = none

  // Per KV group.
  int32_t groups = 1;
  GroupTables group[kKvGroupsMax];

  // Sampling.
  std::span<const int32_t> logit_rows;   // [logit_rows] rows whose next token is wanted, ascending; a row that several choices start from is repeated
  std::span<const SamplingRow> sampling; // [logit_rows]
  std::span<const HistoryEntry> history;
  std::span<const BiasEntry> bias;
  std::span<const uint32_t> masks;       // [masks, ⌈vocab / 32⌉] bit set = allowed

  std::span<const int32_t> score_rows;   // rows whose logits are wanted beside logit_rows (prompt log-probabilities), ascending
};

/// What sampling one logit row gives. Log-probabilities are of the raw logits (before penalties, masks and temperature).
struct SampledToken {
  int32_t token = -1;         // -1 = the mask allows nothing
  float logprob = 0;
  int32_t rank = 0;           // 1 = the most likely; filled when log-probabilities were asked for
};
struct TopLogprob {
  int32_t token = -1;
  float logprob = 0;
};

}  // namespace pagemill
