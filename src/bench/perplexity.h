// Perplexity of a model on a text, as llama.cpp's llama-perplexity defines it, so that the two can be compared on one file:
// the text's tokens are cut into pieces of `context`, each begins afresh (its first token is the model's BOS where the model wants
// one), and the second half of each piece is scored: exp(mean of −log p). What does not fill a piece is left out.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

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
  std::vector<double> of_pieces;   // mean of −log p of each
};

/// What llama-perplexity finds of the same pieces.
struct PeerPerplexity {
  double value = 0;
  std::vector<double> of_pieces;   // as above; empty where it does not print them
};

/// One standard error of ours ÷ theirs − 1, from the differences piece by piece: both read the same text, so that they differ by far less than either is
/// sure of. Nothing where the pieces are not the same.
std::optional<double> error_of_ratio(const Perplexity& ours, const PeerPerplexity& theirs);

/// `progress` is called with the share done. At least two pieces are needed, as there.
Result<Perplexity> measure_perplexity(EngineHandle& engine, std::span<const int32_t> tokens, const PerplexityOptions& options,
                                      const std::function<void(double)>& progress);

/// llama-perplexity's own figures for the file `text`.
Result<PeerPerplexity> run_peer_perplexity(const Peer& peer, const std::filesystem::path& model, const std::filesystem::path& text, int threads,
                                   const PerplexityOptions& options);
/// "[1]15.1,[2]13.7,…", each the perplexity up to there, and "Final estimate: PPL = 12.34 +/- 0.5", or with words between.
Result<PeerPerplexity> read_llama_perplexity(std::string_view output);

}  // namespace pagemill
