#include "bench/peers.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>

#include <fmt/format.h>

#include "base/json.h"
#include "bench/child.h"

namespace pagemill {
namespace {

Result<double> number_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_number()) return fail(ErrorCode::invalid_argument, fmt::format("there is no number '{}'", key), std::string(key));
  return value->to_number<double>();
}

std::string joined(const std::vector<int>& numbers) { return fmt::format("{}", fmt::join(numbers, ",")); }

std::filesystem::path program_in(const std::filesystem::path& folder, const char* name) {
  for (const char* below : {"", "bin", "build/bin"}) {
    const std::filesystem::path path = folder / below / name;
    std::error_code ignored;
    if (std::filesystem::is_regular_file(path, ignored)) return path;
  }
  return {};
}

/// The cells of a table's line as numbers; nothing for any other line.
std::optional<std::vector<double>> numbers_of(std::string_view line) {
  if (!line.starts_with('|')) return std::nullopt;
  std::vector<double> numbers;
  for (line.remove_prefix(1); !line.empty();) {
    const size_t bar = line.find('|');
    if (bar == std::string_view::npos) break;
    std::string_view cell = line.substr(0, bar);
    line.remove_prefix(bar + 1);
    cell.remove_prefix(std::min(cell.find_first_not_of(' '), cell.size()));
    double number = 0;
    if (std::from_chars(cell.data(), cell.data() + cell.size(), number).ec != std::errc{}) return std::nullopt;
    numbers.push_back(number);
  }
  return numbers;
}

Result<void> run_llama_bench(const Peer& peer, const PeerOptions& options, bool with_decode, PeerSpeeds& speeds) {
  std::vector<std::string> arguments{"-m", options.model.string(), "-p", joined(options.prompts), "-n", std::to_string(with_decode ? options.decode : 0),
                                     "-t", std::to_string(options.threads), "-fa", "1", "-ngl", "0", "-r", "1", "-o", "json"};
  if (options.depth > 0) arguments.insert(arguments.end(), {"-d", std::to_string(options.depth)});
  if (peer.repack) arguments.insert(arguments.end(), {"-rtr", "1"});
  PM_ASSIGN(const ChildOutput output, run_and_read(peer.llama_bench, arguments));
  if (auto read = read_llama_bench(output.out, speeds); !read) return tl::unexpected(std::move(read).error().within(peer.llama_bench.string()));
  return {};
}

Result<void> run_llama_batched_bench(const Peer& peer, const PeerOptions& options, const std::vector<int>& streams, PeerSpeeds& speeds) {
  const int context = std::max(options.depth, 1);
  const int tokens = *std::max_element(streams.begin(), streams.end()) * (context + options.decode);
  const std::string threads = std::to_string(options.threads);
  std::vector<std::string> arguments{"-m", options.model.string(), "-c", std::to_string(tokens), "-npp", std::to_string(context), "-ntg",
                                     std::to_string(options.decode), "-npl", joined(streams), "-t", threads, "-tb", threads, "-fa", "on", "-ngl", "0"};
  if (peer.repack) arguments.push_back("-rtr");
  PM_ASSIGN(const ChildOutput output, run_and_read(peer.llama_batched_bench, arguments));
  // One prints the table on its standard output, the other on its standard error.
  if (auto read = read_llama_batched_bench(output.out + "\n" + output.errors, speeds); !read)
    return tl::unexpected(std::move(read).error().within(peer.llama_batched_bench.string()));
  return {};
}

}  // namespace

Result<Peer> parse_peer(std::string_view text) {
  const auto wrong = [&](const std::string& what) { return fail(ErrorCode::invalid_argument, fmt::format("--peer {}: {}", text, what), "--peer"); };
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return wrong("give it as NAME=DIR, for example llama.cpp=/opt/llama.cpp/build/bin.");
  Peer peer{.name = std::string(text.substr(0, equals)), .llama_bench = {}, .llama_batched_bench = {}, .llama_perplexity = {}};
  std::string_view folder = text.substr(equals + 1);
  constexpr std::string_view kRepack = ",rtr";
  if (folder.ends_with(kRepack)) {
    peer.repack = true;
    folder.remove_suffix(kRepack.size());
  }
  std::filesystem::path path = folder;
  // A shell leaves the tilde behind a '=' alone.
  if (const char* home = std::getenv("HOME"); home && folder.starts_with("~/")) path = std::filesystem::path(home) / folder.substr(2);
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return wrong("there is no such folder.");
  peer.llama_bench = program_in(path, "llama-bench");
  peer.llama_batched_bench = program_in(path, "llama-batched-bench");
  peer.llama_perplexity = program_in(path, "llama-perplexity");
  if (peer.llama_bench.empty() && peer.llama_batched_bench.empty() && peer.llama_perplexity.empty()) {
    return wrong("llama-bench, llama-batched-bench and llama-perplexity are neither there nor in bin or build/bin.");
  }
  return peer;
}

Result<void> read_llama_bench(std::string_view output, PeerSpeeds& speeds) {
  PM_ASSIGN(const json::value document, parse_json(output));
  const json::array* tests = document.if_array();
  if (tests == nullptr) return fail(ErrorCode::invalid_argument, "it did not print a JSON array");
  for (const json::value& test : *tests) {
    if (!test.is_object()) return fail(ErrorCode::invalid_argument, "an element of its array is no object");
    const json::object& object = test.as_object();
    PM_ASSIGN(const double prompt, number_at(object, "n_prompt"));
    PM_ASSIGN(const double decode, number_at(object, "n_gen"));
    PM_ASSIGN(const double speed, number_at(object, "avg_ts"));
    if (prompt > 0 && decode == 0) speeds[{BenchTest::prefill, static_cast<int>(prompt)}].runs.push_back(speed);
    if (decode > 0 && prompt == 0) speeds[{BenchTest::decode, 1}].runs.push_back(speed);
  }
  return {};
}

Result<void> read_llama_batched_bench(std::string_view output, PeerSpeeds& speeds) {
  constexpr size_t kStreams = 2, kDecodeSpeed = 7, kColumns = 10;
  bool any = false;
  while (!output.empty()) {
    const size_t end = std::min(output.find('\n'), output.size());
    const auto cells = numbers_of(output.substr(0, end));
    output.remove_prefix(std::min(end + 1, output.size()));
    if (!cells || cells->size() != kColumns) continue;
    any = true;
    speeds[{BenchTest::decode, static_cast<int>((*cells)[kStreams])}].runs.push_back((*cells)[kDecodeSpeed]);
  }
  if (!any) return fail(ErrorCode::invalid_argument, "it did not print a line of its table");
  return {};
}

Result<void> run_peer_once(const Peer& peer, const PeerOptions& options, PeerSpeeds& speeds) {
  bool one_stream_missing = true;
  if (!peer.llama_bench.empty()) {
    bool knows_depth = true;
    if (options.depth > 0) {
      PM_ASSIGN(const ChildOutput help, run_and_read(peer.llama_bench, {"--help"}));
      knows_depth = (help.out + help.errors).find("--n-depth") != std::string::npos;
    }
    one_stream_missing = !knows_depth || std::find(options.streams.begin(), options.streams.end(), 1) == options.streams.end();
    if (knows_depth) PM_TRY(run_llama_bench(peer, options, !one_stream_missing, speeds));
  }
  std::vector<int> streams = options.streams;
  if (!one_stream_missing) std::erase(streams, 1);
  if (!peer.llama_batched_bench.empty() && !streams.empty()) PM_TRY(run_llama_batched_bench(peer, options, streams, speeds));
  return {};
}

}  // namespace pagemill
