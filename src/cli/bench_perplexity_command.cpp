// pagemill bench perplexity: how well a model foretells a text, and whether another engine finds the same of the same file.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "base/log.h"
#include "bench/perplexity.h"
#include "cli/command_line.h"
#include "cli/load_model.h"
#include "cli/output.h"
#include "terminal/terminal.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

struct Options {
  ModelFlags model;
  std::string text;
  PerplexityOptions bench;
  std::vector<std::string> peers;
  bool json = false;
};

struct PeerValue {
  std::string name;
  PeerPerplexity found;
};

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return fail(ErrorCode::io, fmt::format("--text {}: the file cannot be read.", path), "--text");
  return text.str();
}

void print(const std::string& model, const Options& options, const Perplexity& ours, const std::vector<PeerValue>& peers) {
  if (options.json) {
    json::object out{{"model", model}, {"context", options.bench.context}, {"pieces", ours.pieces}, {"tokens", ours.tokens}, {"perplexity", ours.value}, {"error", ours.error}};
    json::object others, differences;
    for (const auto& [name, found] : peers) {
      others[name] = found.value;
      json::object& difference = differences[name].emplace_object();
      difference["ratio"] = ours.value / found.value - 1;
      if (const auto error = error_of_ratio(ours, found)) difference["error"] = *error;
    }
    out["peers"] = std::move(others);
    out["ours_differs"] = std::move(differences);
    std::fputs(pretty_json(out).c_str(), stdout);
    return;
  }
  std::printf("%s, %lld tokens scored in %d pieces of %d\n\n", terminal_safe(model).c_str(), static_cast<long long>(ours.tokens), ours.pieces, options.bench.context);
  std::vector<std::vector<std::string>> rows{{"", "perplexity", "ours differs"}, {"pagemill", fmt::format("{:.4f} ± {:.4f}", ours.value, ours.error), ""}};
  for (const auto& [name, found] : peers) {
    const auto error = error_of_ratio(ours, found);
    rows.push_back({terminal_safe(name), fmt::format("{:.4f}", found.value),
                    fmt::format("{:+.3f} %{}", (ours.value / found.value - 1) * 100, error ? fmt::format(" ± {:.3f}", *error * 100) : "")});
  }
  std::fputs(render_table(rows, true).c_str(), stdout);
}

Result<ExitCode> bench(Options options) {
  configure_log(LogLevel::warning);
  if (options.bench.context % 2 != 0) return fail(ErrorCode::invalid_argument, "--context must be even: its second half is scored.", "--context");
  std::vector<Peer> peers;
  for (const std::string& text : options.peers) {
    PM_ASSIGN(Peer peer, parse_peer(text));
    peers.push_back(std::move(peer));
  }
  PM_ASSIGN(const std::string text, read_text(options.text));
  PM_ASSIGN(const LoadedModel model, load_model(options.model, EngineOptions{.max_num_seqs = 4}));
  const Tokenizer& tokenizer = model.text->tokenizer();
  PM_ASSIGN(const std::vector<int32_t> tokens, tokenizer.encode_prompt(text));
  if (tokenizer.special().add_bos) options.bench.begin_token = tokenizer.special().bos.value_or(-1);
  ProgressLine progress;
  PM_ASSIGN(const Perplexity ours, measure_perplexity(*model.engine, tokens, options.bench, [&](double done) { progress.show("pagemill", done); }));
  std::vector<PeerValue> values;
  for (const Peer& peer : peers) {
    progress.show(peer.name, 0);
    PM_ASSIGN(PeerPerplexity found, run_peer_perplexity(peer, model.path, options.text, model.threads, options.bench));
    values.push_back({peer.name, std::move(found)});
  }
  progress.clear();
  print(model.info.name, options, ours, values);
  return ExitCode::done;
}

}  // namespace

void add_bench_perplexity_command(CommandLine& line) {
  CLI::App& command = line.add("bench", "perplexity", "Measure how well a model foretells a text, beside llama.cpp where it is there",
                               "pagemill bench perplexity --text book.txt\n"
                               "pagemill bench perplexity model.gguf --text book.txt --peer llama.cpp=~/llama.cpp/build/bin");
  const auto options = std::make_shared<Options>();
  options->model.declare(command);
  command.add_option("--text", options->text, "The text, UTF-8")->type_name("FILE")->required()->check(CLI::ExistingFile)->group("Load");
  command.add_option("--context", options->bench.context, "Tokens of a piece; the second half of each is scored")->type_name("N")->check(CLI::Range(16, 1'000'000))->capture_default_str()->group("Load");
  command.add_option("--pieces", options->bench.pieces_max, "Pieces at most; 0 = all")->type_name("N")->check(CLI::Range(0, 1'000'000))->capture_default_str()->group("Load");
  command.add_option("--peer", options->peers, "Run llama-perplexity of this folder on the same file; NAME=DIR,rtr repacks (ik_llama.cpp). May be repeated")->type_name("NAME=DIR")->group("Compare");
  command.add_flag("--json", options->json, "Print JSON");
  line.on_run(command, [options] { return bench(*options); });
}

}  // namespace pagemill
