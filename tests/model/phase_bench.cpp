// Where the time of one step goes on this CPU: by phase, the time it takes, what of it the threads spend in its tasks, and what passes between phases.
//
//   phase_bench MODEL.gguf [--isa auto] [--threads N] [--rows 512] [--streams 1] [--context 0] [--kv f16] [--repeat 5]
//
// A step has `rows` tokens of each of `streams` sequences, after `context` ones, and says one token for each. The phases of all layers are added up;
// figures are medians of the repetitions.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "base/rng.h"
#include "bench/sample.h"
#include "format/gguf.h"
#include "support/cpu_backends.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

struct Options {
  std::string model, isa = "auto", kv = "f16";
  int threads = 0;
  int32_t rows = 512, streams = 1, context = 0, repeat = 5;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (!flag.starts_with("--")) {
      options.model = flag;
      continue;
    }
    if (++i == argc) return false;
    const std::string value = argv[i];
    if (flag == "--isa") options.isa = value;
    else if (flag == "--kv") options.kv = value;
    else if (flag == "--threads") options.threads = std::atoi(value.c_str());
    else if (flag == "--rows") options.rows = std::atoi(value.c_str());
    else if (flag == "--streams") options.streams = std::atoi(value.c_str());
    else if (flag == "--context") options.context = std::atoi(value.c_str());
    else if (flag == "--repeat") options.repeat = std::atoi(value.c_str());
    else return false;
  }
  return !options.model.empty() && options.rows > 0 && options.streams > 0 && options.context >= 0 && options.repeat > 0 && dtype_from_name(options.kv).has_value();
}

/// The phases of one name in one step, or in several.
struct Row {
  PhaseName name;
  int64_t phases = 0, tasks = 0;
  Sample ms, busy_ms;  // of each repetition
};

/// Adds a repetition's phases to the rows of their names, in the order in which a step begins with them.
void add(const std::vector<PhaseTime>& trace, std::vector<Row>& rows, size_t repetition) {
  for (const PhaseTime& phase : trace) {
    const auto same = [&](const Row& row) { return std::strcmp(row.name.op, phase.name.op) == 0 && row.name.in == phase.name.in && row.name.out == phase.name.out; };
    auto row = std::find_if(rows.begin(), rows.end(), same);
    if (row == rows.end()) row = rows.insert(rows.end(), Row{phase.name});
    row->ms.runs.resize(repetition + 1);
    row->busy_ms.runs.resize(repetition + 1);
    row->ms.runs[repetition] += static_cast<double>(phase.end_ns - phase.begin_ns) * 1e-6;
    row->busy_ms.runs[repetition] += static_cast<double>(phase.busy_ns) * 1e-6;
    if (repetition > 0) continue;
    ++row->phases;
    row->tasks += phase.tasks;
  }
}

std::vector<int32_t> random_tokens(int32_t count, int32_t vocab, SplitMix64& random) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab)));
  return tokens;
}

int run(const Options& options) {
  const auto source = open_gguf(options.model);
  if (!source) {
    std::fprintf(stderr, "%s\n", source.error().message.c_str());
    return 2;
  }
  const auto opened = make_cpu_backend(options.isa, options.threads);
  auto* backend = opened ? dynamic_cast<CpuBackend*>(opened->get()) : nullptr;
  if (backend == nullptr) {
    std::fprintf(stderr, "%s\n", opened ? "--isa reference has no phases of this kind" : opened.error().message.c_str());
    return 2;
  }
  constexpr int32_t kContextRows = 512;
  const int32_t each = options.context + options.rows, blocks_each = (each + limits::kBlockTokens - 1) / limits::kBlockTokens;
  const auto bench = ModelBench::make(**source, *backend, {.rows_max = std::max(options.rows * options.streams, kContextRows), .logit_rows_max = options.streams,
                                                           .kv_blocks = blocks_each * options.streams, .kv_dtype = *dtype_from_name(options.kv)});
  PM_CHECK(bench.has_value(), "{}", bench.error().message);

  SplitMix64 random(1);
  const int32_t vocab = (*bench)->config().vocab;
  std::vector<TestSequence> step;
  for (int32_t s = 0; s < options.streams; ++s) {
    const std::vector<int32_t> blocks = consecutive_blocks(s * blocks_each, each);
    for (int32_t begin = 0; begin < options.context; begin += kContextRows)
      (*bench)->step({{random_tokens(std::min(kContextRows, options.context - begin), vocab, random), begin, blocks}});
    step.push_back({random_tokens(options.rows, vocab, random), options.context, blocks});
  }
  (*bench)->step(step);
  std::vector<Row> rows;
  Sample step_ms, between_ms;
  for (int32_t repetition = 0; repetition < options.repeat; ++repetition) {
    std::vector<PhaseTime> trace;
    trace.reserve(4096);
    backend->trace(&trace);
    (*bench)->step(step);
    backend->trace(nullptr);
    add(trace, rows, static_cast<size_t>(repetition));
    step_ms.runs.push_back(static_cast<double>(trace.back().end_ns - trace.front().begin_ns) * 1e-6);
    double inside = 0;
    for (const PhaseTime& phase : trace) inside += static_cast<double>(phase.end_ns - phase.begin_ns) * 1e-6;
    between_ms.runs.push_back(step_ms.runs.back() - inside);
  }
  const DeviceInfo& device = backend->device();
  const int threads = backend->threads();
  const double all = step_ms.median();
  std::printf("%s, %s, %d threads: %d × %d rows after %d, median of %d: %.2f ms, %.0f tokens/s\n", device.name.c_str(), device.isa.c_str(), threads, options.streams, options.rows,
              options.context, options.repeat, all, 1e3 * options.streams * options.rows / all);
  std::puts("| phase | weights | phases | tasks of each | ms | of the step | threads busy | Top/s |");
  std::puts("| --- | --- | --- | --- | --- | --- | --- | --- |");
  for (const Row& row : rows) {
    const double ms = row.ms.median(), ops = 2.0 * static_cast<double>(row.name.in * row.name.out) * options.rows * options.streams * static_cast<double>(row.phases);
    const std::string shape = row.name.out == 0 ? "" : fmt::format("{} × {}", row.name.in, row.name.out);
    const bool every_row = row.name.out > 0 && row.name.out != vocab;  // the vocabulary's product has a row for each sequence
    std::printf("| %s | %s | %lld | %.1f | %.2f | %.1f %% | %.0f %% | %s |\n", row.name.op, shape.c_str(), static_cast<long long>(row.phases),
                static_cast<double>(row.tasks) / static_cast<double>(row.phases), ms, 100 * ms / all, 100 * row.busy_ms.median() / (ms * threads),
                every_row ? fmt::format("{:.2f}", ops / ms * 1e-9).c_str() : "");
  }
  std::printf("| between phases | | | | %.2f | %.1f %% | | |\n", between_ms.median(), 100 * between_ms.median() / all);
  return 0;
}

}  // namespace
}  // namespace pagemill

int main(int argc, char** argv) {
  pagemill::Options options;
  if (!pagemill::parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: phase_bench MODEL.gguf [--isa auto] [--threads N] [--rows 512] [--streams 1] [--context 0] [--kv f16] [--repeat 5]\n");
    return 2;
  }
  return pagemill::run(options);
}
