#include "bench/peers.h"

#include <algorithm>

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

}  // namespace

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
    if (prompt > 0 && decode == 0) speeds.prefill.runs.push_back(speed);
    if (decode > 0 && prompt == 0) speeds.decode[1].runs.push_back(speed);
  }
  return {};
}

Result<void> read_llama_batched_bench(std::string_view output, bool one_stream, PeerSpeeds& speeds) {
  while (!output.empty()) {
    const size_t end = std::min(output.find('\n'), output.size());
    const std::string_view line = output.substr(0, end);
    output.remove_prefix(std::min(end + 1, output.size()));
    if (!line.starts_with('{')) continue;
    PM_ASSIGN(const json::value level, parse_json(line));
    if (!level.is_object()) continue;
    PM_ASSIGN(const double streams, number_at(level.as_object(), "pl"));
    PM_ASSIGN(const double speed, number_at(level.as_object(), "speed_tg"));
    if (streams > 1 || one_stream) speeds.decode[static_cast<int>(streams)].runs.push_back(speed);
  }
  return {};
}

Result<void> run_peers_once(const PeerOptions& options, PeerSpeeds& speeds) {
  const std::string threads = std::to_string(options.threads), depth = std::to_string(options.depth);
  if (!options.llama_bench.empty()) {
    std::vector<std::string> arguments{"-m", options.model.string(), "-p", std::to_string(options.prompt), "-n", std::to_string(options.decode),
                                       "-t", threads, "-fa", "1", "-ngl", "0", "-r", "1", "-o", "json"};
    if (options.depth > 0) arguments.insert(arguments.end(), {"-d", depth});
    PM_ASSIGN(const std::string output, run_and_read(options.llama_bench, arguments));
    if (auto read = read_llama_bench(output, speeds); !read)
      return tl::unexpected(std::move(read).error().within(options.llama_bench.string()));
  }
  if (!options.llama_batched_bench.empty()) {
    const int context = std::max(options.depth, 1);
    const int tokens = *std::max_element(options.streams.begin(), options.streams.end()) * (context + options.decode);
    PM_ASSIGN(const std::string output,
              run_and_read(options.llama_batched_bench,
                           {"-m", options.model.string(), "-c", std::to_string(tokens), "-npp", std::to_string(context), "-ntg", std::to_string(options.decode),
                            "-npl", joined(options.streams), "-t", threads, "-tb", threads, "-fa", "on", "-ngl", "0", "--output-format", "jsonl"}));
    if (auto read = read_llama_batched_bench(output, options.llama_bench.empty(), speeds); !read)
      return tl::unexpected(std::move(read).error().within(options.llama_batched_bench.string()));
  }
  return {};
}

}  // namespace pagemill
