// pagemill bench engine: prefill and decode against this machine's limits, and beside llama.cpp where it is there.
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

#include "base/log.h"
#include "bench/engine_bench.h"
#include "bench/peers.h"
#include "cli/command_line.h"
#include "cli/load_model.h"
#include "cli/output.h"
#include "model/size.h"
#include "terminal/terminal.h"

namespace pagemill {
namespace {

/// The auto-fitted KV pool holds so many tokens for each of max_num_seqs.
constexpr int kPoolTokensPerSequence = 4096;

struct Options {
  ModelFlags model;
  EngineBenchOptions bench;
  std::string llama_bench, llama_batched_bench;
  bool json = false;
};

struct Report {
  std::string model;
  int threads = 0;
  MachineLimits machine;
  LimitRate reread;            // something of the weights' size, over and over
  ModelSize size;
  std::vector<EngineBenchLevel> levels;
  PeerSpeeds peers;
};

ModelWork work_of(const ModelSize& size, const ModelConfig& config, DType kv_dtype) {
  ModelWork work;
  work.weight_bytes = static_cast<double>(size.step_bytes);
  work.kv_bytes_per_token = static_cast<double>(kv_bytes_per_token(config, kv_dtype));
  work.int8_weights = static_cast<double>(size.layer_quantized);
  work.float16_weights = static_cast<double>(size.layer_float16);
  work.float32_weights = static_cast<double>(size.layer_float32);
  work.head_weights = static_cast<double>(size.head);
  return work;
}

PeerOptions peer_options(const Options& options, const LoadedModel& model) {
  PeerOptions peers;
  peers.llama_bench = options.llama_bench;
  peers.llama_batched_bench = options.llama_batched_bench;
  peers.model = model.path;
  peers.threads = model.threads;
  peers.prompt = options.bench.prompt;
  peers.decode = options.bench.decode;
  peers.depth = options.bench.depth;
  peers.streams = options.bench.streams;
  return peers;
}

void add_speed(json::object& out, const std::string& name, const Speed& speed) {
  out[name + "_tokens_per_s"] = speed.tokens_per_s.median();
  out[name + "_share_of_limit"] = speed.share();
  out[name + "_limit_tokens_per_s"] = speed.limit;
  out[name + "_runs"] = json::value_from(speed.tokens_per_s.runs);
  out[name + "_spread"] = speed.tokens_per_s.spread();
  out[name + "_invalid"] = speed.invalid.empty() ? json::value(nullptr) : json::value(speed.invalid);
}

json::object to_json(const Report& report, const Options& options) {
  json::object out{{"model", report.model}, {"threads", report.threads}, {"prompt", options.bench.prompt}, {"decode", options.bench.decode},
                   {"depth", options.bench.depth}, {"repeat", options.bench.repeat}};
  add_speed(out, "prefill", report.levels.front().prefill);  // of the first level, where one number is wanted
  add_speed(out, "decode", report.levels.front().decode);
  json::array levels, peers;
  for (const EngineBenchLevel& level : report.levels) {
    json::object entry{{"streams", level.streams}};
    add_speed(entry, "prefill", level.prefill);
    add_speed(entry, "decode", level.decode);
    levels.push_back(std::move(entry));
  }
  out["levels"] = std::move(levels);
  json::object limits{{"cpu", report.machine.cpu_model}, {"isa", report.machine.isa_best},
                      {"read_bytes_per_s", report.machine.read_all_threads.best}, {"reread_weights_bytes_per_s", report.reread.best},
                      {"int8_ops_per_s", report.machine.int8_ops.best}, {"float16_ops_per_s", report.machine.float16_ops.best},
                      {"float32_ops_per_s", report.machine.float32_ops.best}, {"weight_bytes_per_step", report.size.step_bytes}};
  out["machine"] = std::move(limits);
  json::object peer_decode;
  for (const auto& [streams, sample] : report.peers.decode)
    peer_decode[std::to_string(streams)] = json::object{{"tokens_per_s", sample.median()}, {"runs", json::value_from(sample.runs)}};
  if (!report.peers.prefill.runs.empty() || !report.peers.decode.empty())
    out["llama_cpp"] = json::object{{"prefill_tokens_per_s", report.peers.prefill.median()}, {"prefill_runs", json::value_from(report.peers.prefill.runs)},
                                    {"decode_by_streams", std::move(peer_decode)}};
  return out;
}

std::string rate_text(double rate) { return fmt::format("{:.{}f}", rate, rate < 100 ? 1 : 0); }

std::vector<std::string> row(const std::string& name, const EngineBenchLevel& level, const Speed& speed, const Sample& peer) {
  const bool known = !peer.runs.empty();
  return {name, std::to_string(level.streams), rate_text(speed.tokens_per_s.median()), fmt::format("{:.0f} %", speed.tokens_per_s.spread() * 100),
          rate_text(speed.limit), fmt::format("{:.1f} %", speed.share() * 100), known ? rate_text(peer.median()) : "–",
          known && peer.median() > 0 ? fmt::format("{:.2f} ×", speed.tokens_per_s.median() / peer.median()) : "–",
          speed.invalid.empty() ? "" : "INVALID: " + speed.invalid};
}

void print(const Report& report, const Options& options) {
  const EngineBenchOptions& bench = options.bench;
  std::printf("%s · %s · %s · %d threads\n", terminal_safe(report.model).c_str(), report.machine.cpu_model.c_str(), report.machine.isa_best.c_str(), report.threads);
  std::printf("prefill %d tokens, decode %d, after %d tokens of context; medians of %d\n\n", bench.prompt, bench.decode, bench.depth, bench.repeat);
  std::vector<std::vector<std::string>> rows{{"", "streams", "tokens/s", "spread", "limit", "of limit", "llama.cpp", "ratio", ""}};
  for (const EngineBenchLevel& level : report.levels)
    rows.push_back(row("prefill", level, level.prefill, level.streams == 1 ? report.peers.prefill : Sample{}));
  for (const EngineBenchLevel& level : report.levels) {
    const auto peer = report.peers.decode.find(level.streams);
    rows.push_back(row("decode", level, level.decode, peer == report.peers.decode.end() ? Sample{} : peer->second));
  }
  std::fputs(render_table(rows, true).c_str(), stdout);
  std::printf("\nlimits: memory read %s, int8 %s, 16-bit %s, f32 %s; a decode step reads %s of weights\n",
              with_prefix(report.machine.read_all_threads.best, "B/s").c_str(), with_prefix(report.machine.int8_ops.best, "op/s").c_str(),
              with_prefix(report.machine.float16_ops.best, "op/s").c_str(), with_prefix(report.machine.float32_ops.best, "op/s").c_str(),
              bytes_text(static_cast<double>(report.size.step_bytes)).c_str());
  if (report.reread.best > 1.1 * report.machine.read_all_threads.best)
    std::printf("The caches hold the weights in part: read over and over they come at %s, faster than memory.\n", with_prefix(report.reread.best, "B/s").c_str());
}

Result<ExitCode> bench(const Options& options) {
  const EngineBenchOptions& wanted = options.bench;
  configure_log(LogLevel::warning);
  EngineOptions engine_options;
  const int context_parts = (wanted.depth + wanted.prompt + wanted.decode) / kPoolTokensPerSequence + 1;
  engine_options.max_num_seqs = *std::max_element(wanted.streams.begin(), wanted.streams.end()) * context_parts;
  PM_ASSIGN(const LoadedModel model, load_model(options.model, std::move(engine_options)));
  PM_ASSIGN(const ModelConfig config, read_model_config(*model.source, model.overrides));
  Report report;
  report.model = model.info.name;
  report.threads = model.threads;
  report.size = model_size(*model.source, config);

  ProgressLine progress;
  EngineBench bench(*model.engine, *model.text, model.info, wanted);
  progress.show("this machine's limits", 0);
  report.machine = measure_machine();
  report.reread = measure_reread(static_cast<size_t>(report.size.step_bytes));
  PM_TRY(bench.warm_up());
  for (int run = 0; run < wanted.repeat; ++run) {
    progress.show(fmt::format("run {} of {}", run + 1, wanted.repeat), (run + 0.5) / wanted.repeat);
    PM_TRY(bench.run_once());
    PM_TRY(run_peers_once(peer_options(options, model), report.peers));
  }
  // Again at the end: what slowed the machine down at the start must not make the shares look better.
  report.machine = best_of(std::move(report.machine), measure_machine());
  progress.clear();
  bench.judge(report.machine, work_of(report.size, config, model.kv_dtype), report.reread.best);
  report.levels = bench.levels();
  if (options.json)
    std::fputs(pretty_json(to_json(report, options)).c_str(), stdout);
  else
    print(report, options);
  return ExitCode::done;
}

}  // namespace

void add_bench_engine_command(CommandLine& line) {
  CLI::App& command = line.add("bench", "engine", "Measure a model's prefill and decode against what the machine allows",
                               "pagemill bench engine\n"
                               "pagemill bench engine model.gguf --streams 1,4,16 --json\n"
                               "pagemill bench engine model.gguf --llama-bench ~/llama.cpp/build/bin/llama-bench");
  const auto options = std::make_shared<Options>();
  options->model.declare(command);
  EngineBenchOptions& bench_options = options->bench;
  const std::string group = "Load";
  command.add_option("--prompt", bench_options.prompt, "Tokens of the prompt that prefill is measured with")->type_name("N")->check(CLI::Range(1, 1'000'000))->capture_default_str()->group(group);
  command.add_option("--decode", bench_options.decode, "Tokens of the answer that decode is measured with")->type_name("N")->check(CLI::Range(2, 1'000'000))->capture_default_str()->group(group);
  command.add_option("--depth", bench_options.depth, "Tokens of context that are there before either")->type_name("N")->check(CLI::Range(0, 1'000'000))->capture_default_str()->group(group);
  command.add_option("--streams", bench_options.streams, "Sequences at the same time; several levels as 1,4,16")->type_name("N,…")->delimiter(',')->check(CLI::Range(1, 4096))->default_str("1")->group(group);
  command.add_option("--repeat", bench_options.repeat, "Runs; fewer than 3 are INVALID")->type_name("N")->check(CLI::Range(1, 1000))->capture_default_str()->group(group);
  command.add_option("--temperature", bench_options.temperature, "Of the sampling, which is part of what is measured; 0 = greedy")->type_name("X")->check(CLI::Range(0.0, 2.0))->default_str("0")->group(group);
  command.add_option("--llama-bench", options->llama_bench, "Run llama.cpp's llama-bench in turn with ours")->type_name("FILE")->check(CLI::ExistingFile)->group("Compare");
  command.add_option("--llama-batched-bench", options->llama_batched_bench, "Run llama.cpp's llama-batched-bench in turn with ours")->type_name("FILE")->check(CLI::ExistingFile)->group("Compare");
  command.add_flag("--json", options->json, "Print JSON");
  line.on_run(command, [options] { return bench(*options); });
}

}  // namespace pagemill
