#include "bench/perplexity.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <condition_variable>
#include <mutex>

#include <fmt/format.h>

#include "bench/child.h"

namespace pagemill {
namespace {

constexpr double kStuckSeconds = 600;
constexpr int kPiecesAtOnce = 4;

/// The sums that a perplexity is made of.
struct Score {
  double sum = 0, squares = 0;
  int64_t count = 0;
  std::vector<double> of_pieces;  // sums

  void add(size_t piece, double log_probability) {
    of_pieces[piece] -= log_probability;
    sum -= log_probability;
    squares += log_probability * log_probability;
    ++count;
  }
};

/// Submits pieces, a few at a time, and adds up what comes back.
class Scorer {
 public:
  Scorer(EngineHandle& engine, std::span<const int32_t> tokens, const PerplexityOptions& options)
      : engine_(engine), tokens_(tokens), options_(options) {}

  Result<Score> run(int pieces, const std::function<void(double)>& progress) {
    int submitted = 0, ended = 0;
    std::vector<EngineEvent> events;
    score_.of_pieces.assign(static_cast<size_t>(pieces), 0);
    while (ended < pieces) {
      for (; submitted < pieces && submitted < ended + kPiecesAtOnce; ++submitted) PM_TRY(submit(submitted));
      PM_TRY(wait());
      events.clear();
      queue_->drain(events);
      for (EngineEvent& event : events) {
        if (const auto* scores = std::get_if<PromptLogprobsEvent>(&event.body)) take(static_cast<size_t>(event.user_data), *scores);
        const auto* end = std::get_if<EndEvent>(&event.body);
        if (!end) continue;
        if (end->reason == FinishReason::error) return tl::unexpected(end->error);
        progress(static_cast<double>(++ended) / pieces);
      }
    }
    return score_;
  }

 private:
  Result<void> submit(int piece) {
    EngineRequest request;
    const auto own = tokens_.subspan(static_cast<size_t>(piece) * static_cast<size_t>(options_.context), static_cast<size_t>(options_.context));
    request.prompt.assign(own.begin(), own.end());
    if (options_.begin_token >= 0) request.prompt.front() = options_.begin_token;
    request.sampling.max_tokens = 0;
    request.sampling.prompt_logprobs = 0;
    request.events = queue_;
    request.user_data = static_cast<uint64_t>(piece);
    PM_TRY(engine_.submit(std::move(request)));
    return {};
  }

  void take(size_t piece, const PromptLogprobsEvent& scores) {
    for (size_t i = 0; i < scores.logprobs.size(); ++i) {
      const int position = scores.first + static_cast<int>(i);
      if (position > options_.context / 2) score_.add(piece, static_cast<double>(scores.logprobs[i].logprob));
    }
  }

  Result<void> wait() {
    std::unique_lock lock(waker_->mutex);
    if (!waker_->woken.wait_for(lock, std::chrono::duration<double>(kStuckSeconds), [&] { return waker_->news; }))
      return fail(ErrorCode::deadline_exceeded, fmt::format("The engine scored nothing for {} s.", kStuckSeconds));
    waker_->news = false;
    return {};
  }

  EngineHandle& engine_;
  const std::span<const int32_t> tokens_;
  const PerplexityOptions options_;
  Score score_;
  struct Waker {                   // the engine may still be about to wake us when the last event has been read
    std::mutex mutex;
    std::condition_variable woken;
    bool news = false;
  };
  std::shared_ptr<Waker> waker_ = std::make_shared<Waker>();
  std::shared_ptr<EventQueue> queue_ = std::make_shared<EventQueue>([waker = waker_] {
    { const std::scoped_lock lock(waker->mutex); waker->news = true; }
    waker->woken.notify_one();
  });
};

/// "[1]15.1,[2]13.7,": each is the perplexity of all pieces so far.
std::vector<double> read_pieces(std::string_view output) {
  std::vector<double> pieces;
  double before = 0;
  for (size_t at = 0; (at = output.find(fmt::format("[{}]", pieces.size() + 1), at)) != std::string_view::npos;) {
    at = output.find(']', at) + 1;
    double value = 0;
    if (std::from_chars(output.data() + at, output.data() + output.size(), value).ec != std::errc{} || !(value > 0)) return {};
    const double total = static_cast<double>(pieces.size() + 1) * std::log(value);
    pieces.push_back(total - before);
    before = total;
  }
  return pieces;
}

}  // namespace

Result<Perplexity> measure_perplexity(EngineHandle& engine, std::span<const int32_t> tokens, const PerplexityOptions& options,
                                      const std::function<void(double)>& progress) {
  auto pieces = static_cast<int>(tokens.size() / static_cast<size_t>(options.context));
  if (pieces < 2) {
    return fail(ErrorCode::invalid_argument, fmt::format("The text has {} tokens; it takes {} to measure with a context of {}.", tokens.size(),
                                                         2 * options.context, options.context), "--text");
  }
  if (options.pieces_max > 0) pieces = std::min(pieces, options.pieces_max);
  Scorer scorer(engine, tokens, options);
  PM_ASSIGN(Score score, scorer.run(pieces, progress));
  const auto count = static_cast<double>(score.count);
  const double mean = score.sum / count, variance = std::max(0.0, score.squares / count - mean * mean);
  const double value = std::exp(mean);
  for (double& sum : score.of_pieces) sum *= pieces / count;
  return Perplexity{.value = value, .error = value * std::sqrt(variance / std::max(1.0, count - 1)), .pieces = pieces, .tokens = score.count, .of_pieces = std::move(score.of_pieces)};
}

std::optional<double> error_of_ratio(const Perplexity& ours, const PeerPerplexity& theirs) {
  const size_t count = ours.of_pieces.size();
  if (count < 2 || theirs.of_pieces.size() != count) return std::nullopt;
  double sum = 0, squares = 0;
  for (size_t i = 0; i < count; ++i) {
    const double difference = ours.of_pieces[i] - theirs.of_pieces[i];
    sum += difference;
    squares += difference * difference;
  }
  const auto n = static_cast<double>(count);
  const double variance = std::max(0.0, squares / n - sum / n * (sum / n));
  return ours.value / theirs.value * std::sqrt(variance / (n - 1));
}

Result<PeerPerplexity> read_llama_perplexity(std::string_view output) {
  const auto wrong = [] { return fail(ErrorCode::invalid_argument, "it printed no final estimate"); };
  const size_t begin = output.find("Final estimate: PPL");
  if (begin == std::string_view::npos) return wrong();
  const std::string_view line = output.substr(begin, output.find('\n', begin) - begin);
  const size_t equals = line.rfind("= ", line.find(" +/-"));
  double value = 0;
  if (equals == std::string_view::npos || std::from_chars(line.data() + equals + 2, line.data() + line.size(), value).ec != std::errc{}) return wrong();
  return PeerPerplexity{.value = value, .of_pieces = read_pieces(output.substr(0, begin))};
}

Result<PeerPerplexity> run_peer_perplexity(const Peer& peer, const std::filesystem::path& model, const std::filesystem::path& text, int threads,
                                   const PerplexityOptions& options) {
  if (peer.llama_perplexity.empty()) return fail(ErrorCode::not_found, fmt::format("--peer {}: llama-perplexity is not there.", peer.name), "--peer");
  std::vector<std::string> arguments{"-m", model.string(), "-f", text.string(), "-c", std::to_string(options.context), "-b", std::to_string(options.context),
                                     "-t", std::to_string(threads), "-fa", "on", "-ngl", "0"};
  if (options.pieces_max > 0) arguments.insert(arguments.end(), {"--chunks", std::to_string(options.pieces_max)});
  if (peer.repack) arguments.push_back("-rtr");
  PM_ASSIGN(const ChildOutput output, run_and_read(peer.llama_perplexity, arguments));
  auto value = read_llama_perplexity(output.out + "\n" + output.errors);
  if (!value) return tl::unexpected(std::move(value).error().within(peer.llama_perplexity.string()));
  return value;
}

}  // namespace pagemill
