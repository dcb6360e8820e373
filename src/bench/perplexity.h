// Perplexity of a model on a text, as llama.cpp's llama-perplexity defines it, so that the two can be compared on one file:
// the text's tokens are cut into pieces of `context`, each begins afresh (its first token is the model's BOS where the model wants
// one), and the second half of each piece is scored: exp(mean of −log p). What does not fill a piece is left out.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"
#include "bench/peers.h"
#include "session/session.h"

namespace pagemill {

struct PerplexityOptions {
  int context = 512;               // tokens of a piece; even
  int pieces_max = 0;              // 0 = all
  int begin_token = -1;            // replaces each piece's first token; -1 = none
};

struct Perplexity {
  double value = 0;
  double error = 0;                // one standard error
  int pieces = 0;
  int64_t tokens = 0;              // scored
};

/// `progress` is called with the share done. At least two pieces are needed, as there.
Result<Perplexity> measure_perplexity(EngineHandle& engine, std::span<const int32_t> tokens, const PerplexityOptions& options,
                                      const std::function<void(double)>& progress);

/// llama-perplexity's own figure for the file `text`.
Result<double> run_peer_perplexity(const Peer& peer, const std::filesystem::path& model, const std::filesystem::path& text, int threads,
                                   const PerplexityOptions& options);
/// "Final estimate: PPL = 12.34 +/- 0.5", or with words between.
Result<double> read_llama_perplexity(std::string_view output);

}  // namespace pagemill
