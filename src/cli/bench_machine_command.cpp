// pagemill bench machine: this machine's limits.
#include <cmath>
#include <cstdio>

#include "backend/calibrate.h"
#include "backend/cuda/cuda.h"
#include "cli/command_line.h"
#include "cli/gpu.h"
#include "cli/output.h"

namespace pagemill {
namespace {

struct Options {
  double seconds = 3;
  std::string device = "cpu";
  bool json = false;
};

json::object to_json(const LimitRate& rate) {
  return {{"best", std::llround(rate.best)}, {"median", std::llround(rate.median)}, {"worst", std::llround(rate.worst)}, {"variant", rate.variant}};
}

json::object to_json(const MachineLimits& limits) {
  json::array variants;
  for (const LimitRate& rate : limits.variants) variants.push_back(to_json(rate));
  return {{"cpu", limits.cpu_model},
          {"isa", limits.isa_best},
          {"threads", limits.threads},
          {"read_one_thread_bytes_per_s", to_json(limits.read_one_thread)},
          {"read_all_threads_bytes_per_s", to_json(limits.read_all_threads)},
          {"int8_ops_per_s", to_json(limits.int8_ops)},
          {"float16_ops_per_s", to_json(limits.float16_ops)},
          {"float16_held_ops_per_s", to_json(limits.float16_held)},
          {"float32_ops_per_s", to_json(limits.float32_ops)},
          {"variants", std::move(variants)}};
}

std::vector<std::string> row(const std::string& name, const LimitRate& rate, std::string_view unit, bool with_variant) {
  std::vector<std::string> cells{name, with_prefix(rate.best, unit), with_prefix(rate.median, unit), with_prefix(rate.worst, unit)};
  if (with_variant) cells.push_back(rate.variant);
  return cells;
}

void print(const MachineLimits& limits) {
  std::printf("%s · %s · %d threads\n\n", limits.cpu_model.c_str(), limits.isa_best.c_str(), limits.threads);
  std::vector<std::vector<std::string>> rows{{"limit", "best", "median", "worst", "best variant"}};
  const auto add = [&](const char* name, const LimitRate& rate, const char* unit) {
    if (rate.best > 0) rows.push_back(row(name, rate, unit, true));  // else it was not measured on this device
  };
  add("memory read, one thread", limits.read_one_thread, "B/s");
  add("memory read, all threads", limits.read_all_threads, "B/s");
  add("int8", limits.int8_ops, "op/s");
  add("16-bit float", limits.float16_ops, "op/s");
  add("16-bit float, for a second", limits.float16_held, "op/s");
  add("32-bit float", limits.float32_ops, "op/s");
  std::fputs(render_table(rows, true).c_str(), stdout);
  std::printf("\nEvery variant tried:\n");
  rows = {{"variant", "best", "median", "worst"}};
  for (const LimitRate& rate : limits.variants)
    rows.push_back(row(rate.variant, rate, rate.variant.find("loads") == std::string::npos ? "op/s" : "B/s", false));
  std::fputs(render_table(rows).c_str(), stdout);
  std::printf("\nThe limits are the best runs: the least disturbed ones. A multiply-add counts as two operations.\n");
}

}  // namespace

void add_bench_machine_command(CommandLine& line) {
  CLI::App& command = line.add("bench", "machine", "Measure what this machine can do at best: memory bandwidth and arithmetic",
                               "pagemill bench machine\n"
                               "pagemill bench machine --json | jq .int8_ops_per_s.best");
  const auto options = std::make_shared<Options>();
  command.add_option("--seconds", options->seconds, "How long to measure")->type_name("S")->check(CLI::Range(0.1, 600.0))->capture_default_str();
  command.add_option("--device", options->device, "cpu, cuda or cuda:N")->capture_default_str();
  command.add_flag("--json", options->json, "Print JSON");
  line.on_run(command, [options]() -> Result<ExitCode> {
    MachineLimits limits;
    if (options->device == "cpu") {
      limits = measure_machine(options->seconds);
    } else {
      PM_ASSIGN(const int index, gpu_index(options->device));
      PM_ASSIGN(limits, measure_cuda(index));
    }
    if (options->json)
      std::fputs(pretty_json(to_json(limits)).c_str(), stdout);
    else
      print(limits);
    return ExitCode::done;
  });
}

}  // namespace pagemill
