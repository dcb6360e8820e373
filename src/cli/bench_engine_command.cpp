// pagemill bench engine: prefill and decode against this machine's limits, and beside other engines where they are there.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "backend/cuda/cuda.h"
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
  std::optional<double> max_step_ms;
  std::optional<int32_t> max_num_batched_tokens;
  std::vector<std::string> peers;
  std::string csv;
  bool json = false;
};

struct PeerReport {
  Peer peer;
  PeerSpeeds speeds;

  const Sample* find(const BenchTest& test) const {
    const auto found = speeds.find(test);
    return found == speeds.end() || found->second.median() <= 0 ? nullptr : &found->second;
  }
};

struct Report {
  std::string model;
  int threads = 0;
  std::string isa;             // that computed
  MachineLimits machine;
  LimitRate reread;            // something of the weights' size, over and over
  ModelSize size;
  std::vector<EngineBenchRow> rows;
  std::vector<PeerReport> peers;
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
  peers.model = model.path;
  peers.threads = model.threads;
  peers.prompts = options.bench.prompts;
  peers.decode = options.bench.decode;
  peers.depth = options.bench.depth;
  peers.streams = options.bench.streams;
  return peers;
}

const char* name_of(BenchTest::Kind kind) { return kind == BenchTest::prefill ? "prefill" : "decode"; }

json::object to_json(const EngineBenchRow& row, const Report& report) {
  json::object out{{"test", name_of(row.test.kind)}, {row.test.kind == BenchTest::prefill ? "prompt" : "streams", row.test.size}};
  const Speed& speed = row.speed;
  out["tokens_per_s"] = speed.tokens_per_s.median();
  out["share_of_limit"] = speed.share();
  out["limit_tokens_per_s"] = speed.limit;
  if (speed.limit_held > 0) {
    out["share_of_held_limit"] = speed.share_held();
    out["held_limit_tokens_per_s"] = speed.limit_held;
  }
  out["runs"] = json::value_from(speed.tokens_per_s.runs);
  out["spread"] = speed.tokens_per_s.spread();
  out["invalid"] = speed.invalid.empty() ? json::value(nullptr) : json::value(speed.invalid);
  json::object peers;
  for (const PeerReport& peer : report.peers) {
    if (const Sample* sample = peer.find(row.test)) peers[peer.peer.name] = json::object{{"tokens_per_s", sample->median()}, {"runs", json::value_from(sample->runs)}};
  }
  out["peers"] = std::move(peers);
  return out;
}

json::object to_json(const Report& report, const Options& options) {
  json::object out{{"model", report.model}, {"threads", report.threads}, {"isa", report.isa}, {"decode", options.bench.decode}, {"depth", options.bench.depth},
                   {"repeat", options.bench.repeat}};
  json::array rows;
  for (const EngineBenchRow& row : report.rows) rows.push_back(to_json(row, report));
  out["rows"] = std::move(rows);
  out["machine"] = json::object{{"cpu", report.machine.cpu_model}, {"isa", report.machine.isa_best},
                                {"read_bytes_per_s", report.machine.read_all_threads.best}, {"reread_weights_bytes_per_s", report.reread.best},
                                {"int8_ops_per_s", report.machine.int8_ops.best}, {"float16_ops_per_s", report.machine.float16_ops.best},
                                {"float16_held_ops_per_s", report.machine.float16_held.median}, {"float32_ops_per_s", report.machine.float32_ops.best}, {"weight_bytes_per_step", report.size.step_bytes}};
  return out;
}

std::string rate_text(double rate) { return fmt::format("{:.{}f}", rate, rate < 100 ? 1 : 0); }

std::vector<std::string> cells(const EngineBenchRow& row, const Report& report) {
  const Speed& speed = row.speed;
  std::vector<std::string> out{fmt::format("{} {}", name_of(row.test.kind), row.test.size), rate_text(speed.tokens_per_s.median()),
                               fmt::format("{:.0f} %", speed.tokens_per_s.spread() * 100), rate_text(speed.limit), fmt::format("{:.1f} %", speed.share() * 100)};
  if (report.machine.float16_held.best > 0) out.push_back(fmt::format("{:.1f} %", speed.share_held() * 100));
  double best = 0;
  for (const PeerReport& peer : report.peers) {
    const Sample* sample = peer.find(row.test);
    best = std::max(best, sample ? sample->median() : 0);
    out.push_back(sample ? rate_text(sample->median()) : "–");
  }
  if (!report.peers.empty()) out.push_back(best > 0 ? fmt::format("{:.2f} ×", speed.tokens_per_s.median() / best) : "–");
  out.push_back(speed.invalid.empty() ? "" : "INVALID: " + speed.invalid);
  return out;
}

void print(const Report& report, const Options& options) {
  const EngineBenchOptions& bench = options.bench;
  std::printf("%s · %s · %s · %d threads\n", terminal_safe(report.model).c_str(), report.machine.cpu_model.c_str(), report.isa.c_str(), report.threads);
  std::printf("prefill: tokens of one prompt; decode: streams of %d tokens each; after %d tokens of context; medians of %d\n\n", bench.decode, bench.depth, bench.repeat);
  std::vector<std::string> head{"", "tokens/s", "spread", "limit", "of limit"};
  if (report.machine.float16_held.best > 0) head.push_back("of what it holds");
  for (const PeerReport& peer : report.peers) head.push_back(terminal_safe(peer.peer.name));
  if (!report.peers.empty()) head.push_back("to the best");
  head.push_back("");
  std::vector<std::vector<std::string>> rows{std::move(head)};
  for (const EngineBenchRow& row : report.rows) rows.push_back(cells(row, report));
  std::fputs(render_table(rows, true).c_str(), stdout);
  std::printf("\nlimits: memory read %s, int8 %s, 16-bit %s, f32 %s; a decode step reads %s of weights\n",
              with_prefix(report.machine.read_all_threads.best, "B/s").c_str(), with_prefix(report.machine.int8_ops.best, "op/s").c_str(),
              with_prefix(report.machine.float16_ops.best, "op/s").c_str(), with_prefix(report.machine.float32_ops.best, "op/s").c_str(),
              bytes_text(static_cast<double>(report.size.step_bytes)).c_str());
  if (report.machine.float16_held.best > 0)
    std::printf("16-bit products run at %s for a second on end: what it holds.\n", with_prefix(report.machine.float16_held.median, "op/s").c_str());
  if (report.reread.best > 1.1 * report.machine.read_all_threads.best)
    std::printf("The caches hold the weights in part: read over and over they come at %s, faster than memory.\n", with_prefix(report.reread.best, "B/s").c_str());
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

/// A file to which a bench adds a line for every run of everybody, all at once at its end: others may add to it meanwhile. Until then the runs that ended
/// lie in FILE.PID.part, with the limits as known by then, so that a bench that is stopped leaves them.
class CsvFile {
 public:
  static Result<CsvFile> open(const std::string& path) {
    CsvFile out(path);
    if (!std::ofstream(path, std::ios::app)) return out.failed();
    if (std::filesystem::is_regular_file(path)) out.part_ = fmt::format("{}.{}.part", path, getpid());
    return out;
  }

  /// Run `run` (from 0) has ended.
  Result<void> add_run(const Report& report, const EngineBenchOptions& bench, size_t run) const {
    return part_.empty() ? Result<void>{} : append(part_, lines(report, bench, run));
  }

  Result<void> finish(const Report& report, const EngineBenchOptions& bench) const {
    PM_TRY(append(path_, lines(report, bench, 0)));
    std::error_code ignored;
    if (!part_.empty()) std::filesystem::remove(part_, ignored);
    return {};
  }

 private:
  explicit CsvFile(std::string path) : path_(std::move(path)) {}
  tl::unexpected<Error> failed() const { return fail(ErrorCode::io, fmt::format("--csv {}: it cannot be written", path_), "--csv"); }

  /// Of the runs from `first` on.
  static std::string lines(const Report& report, const EngineBenchOptions& bench, size_t first) {
    std::string text;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    for (const EngineBenchRow& row : report.rows) {
      const auto add = [&](const std::string& engine, const Sample& sample) {
        for (size_t run = first; run < sample.runs.size(); ++run) {
          text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{:.3f},{:.3f},{:.3f}\n", seconds, csv_cell(report.model), csv_cell(report.machine.cpu_model),
                              csv_cell(report.isa), report.threads, name_of(row.test.kind), row.test.size, bench.decode, bench.depth, csv_cell(engine), run + 1,
                              sample.runs[run], row.speed.limit, row.speed.limit_held);
        }
      };
      add("pagemill", row.speed.tokens_per_s);
      for (const PeerReport& peer : report.peers) {
        if (const Sample* sample = peer.find(row.test)) add(peer.peer.name, *sample);
      }
    }
    return text;
  }

  Result<void> append(const std::string& path, const std::string& text) const {
    std::error_code ignored;
    const bool fresh = std::filesystem::file_size(path, ignored) == 0 || ignored;
    std::ofstream file(path, std::ios::app);
    if (fresh) file << "seconds,model,cpu,isa,threads,test,size,decode,depth,engine,run,tokens_per_s,limit_tokens_per_s,held_limit_tokens_per_s\n";
    file << text << std::flush;
    if (!file) return failed();
    return {};
  }

  std::string path_, part_;
};

/// A GPU holds every matrix in 16 bits, whatever the file's type.
void as_on_gpu(ModelSize& size) {
  size.layer_float16 += size.layer_quantized + size.layer_float32;
  size.layer_quantized = size.layer_float32 = 0;
  size.step_bytes = 2 * (size.layer_float16 + size.head);
}

Result<ExitCode> bench(const Options& options) {
  const EngineBenchOptions& wanted = options.bench;
  configure_log(LogLevel::warning);
  std::optional<CsvFile> csv;
  if (!options.csv.empty()) {
    PM_ASSIGN(csv, CsvFile::open(options.csv));
  }
  Report report;
  for (const std::string& text : options.peers) {
    PM_ASSIGN(Peer peer, parse_peer(text));
    report.peers.push_back({std::move(peer), {}});
  }
  EngineOptions engine_options;
  engine_options.max_step_ms = options.max_step_ms;
  const int longest = wanted.depth + std::max(*std::max_element(wanted.prompts.begin(), wanted.prompts.end()), wanted.decode) + 1;
  const int context_parts = longest / kPoolTokensPerSequence + 1;
  engine_options.max_num_seqs = *std::max_element(wanted.streams.begin(), wanted.streams.end()) * context_parts;
  if (options.max_num_batched_tokens) engine_options.max_num_batched_tokens = std::max(*options.max_num_batched_tokens, engine_options.max_num_seqs);
  PM_ASSIGN(const LoadedModel model, load_model(options.model, std::move(engine_options)));
  PM_ASSIGN(const ModelConfig config, read_model_config(*model.source, model.overrides));
  report.model = model.info.name;
  report.threads = model.threads;
  report.isa = model.device.isa;
  report.size = model_size(*model.source, config);

  ProgressLine progress;
  EngineBench bench(*model.engine, *model.text, model.info, wanted);
  progress.show("this machine's limits", 0);
  const bool on_gpu = model.device.kind == DeviceKind::cuda;
  const auto measure = [&]() -> Result<MachineLimits> { return on_gpu ? measure_cuda(model.device.index) : Result<MachineLimits>(measure_machine()); };
  PM_ASSIGN(report.machine, measure());
  if (on_gpu) {
    as_on_gpu(report.size);
    report.reread = report.machine.read_all_threads;  // its cache holds no model
  } else {
    report.reread = measure_reread(static_cast<size_t>(report.size.step_bytes));
  }
  ModelWork work = work_of(report.size, config, model.kv_dtype);
  if (on_gpu) work.attention_flops = 4.0 * config.heads * config.head_dim * config.layers;
  const auto judge = [&] {
    bench.judge(report.machine, work, report.reread.best);
    report.rows = bench.rows();
  };
  PM_TRY(bench.warm_up());
  for (int run = 0; run < wanted.repeat; ++run) {
    progress.show(fmt::format("run {} of {}", run + 1, wanted.repeat), (run + 0.5) / wanted.repeat);
    PM_TRY(bench.run_once());
    for (PeerReport& peer : report.peers) PM_TRY(run_peer_once(peer.peer, peer_options(options, model), peer.speeds));
    judge();
    if (csv) PM_TRY(csv->add_run(report, wanted, static_cast<size_t>(run)));
  }
  // Again at the end: what slowed the machine down at the start must not make the shares look better.
  PM_ASSIGN(const MachineLimits again, measure());
  report.machine = best_of(std::move(report.machine), again);
  progress.clear();
  judge();
  if (csv) PM_TRY(csv->finish(report, wanted));
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
                               "pagemill bench engine model.gguf --prompt 512,2048 --peer llama.cpp=~/llama.cpp --csv runs.csv");
  const auto options = std::make_shared<Options>();
  options->model.declare(command);
  EngineBenchOptions& bench_options = options->bench;
  const std::string group = "Load";
  command.add_option("--prompt", bench_options.prompts, "Tokens of the prompts that prefill is measured with")->type_name("N,…")->delimiter(',')->check(CLI::Range(1, 1'000'000))->default_str("512")->group(group);
  command.add_option("--decode", bench_options.decode, "Tokens of the answer that decode is measured with")->type_name("N")->check(CLI::Range(2, 1'000'000))->capture_default_str()->group(group);
  command.add_option("--depth", bench_options.depth, "Tokens of context that are there before either")->type_name("N")->check(CLI::Range(0, 1'000'000))->capture_default_str()->group(group);
  command.add_option("--streams", bench_options.streams, "Sequences at the same time; several levels as 1,4,16")->type_name("N,…")->delimiter(',')->check(CLI::Range(1, 4096))->default_str("1")->group(group);
  command.add_option("--repeat", bench_options.repeat, "Runs; fewer than 3 are INVALID")->type_name("N")->check(CLI::Range(1, 1000))->capture_default_str()->group(group);
  command.add_option("--temperature", bench_options.temperature, "Of the sampling, which is part of what is measured; 0 = greedy")->type_name("X")->check(CLI::Range(0.0, 2.0))->default_str("0")->group(group);
  command.add_option("--max-step-ms", options->max_step_ms, "Prompts are cut so that a step beside running answers takes no longer (5 times as long where there are none, up to 25 times where a model takes long to read); 0 = no limit (200; 60 on a GPU)")->type_name("MS")->check(CLI::Range(0.0, 86'400'000.0))->group(group);
  command.add_option("--max-num-batched-tokens", options->max_num_batched_tokens, "Tokens of one step (2048; 8192 where 40 GiB of a GPU may be used)")->type_name("N")->check(CLI::Range(1, 1'048'576))->group(group);
  command.add_option("--peer", options->peers, "Run llama-bench and llama-batched-bench of this folder in turn with ours; NAME=DIR,rtr repacks (ik_llama.cpp). May be repeated")->type_name("NAME=DIR")->group("Compare");
  command.add_option("--csv", options->csv, "Add a line for every run, ours and theirs, to a file; a bench that is stopped leaves those that ended in FILE.PID.part")->type_name("FILE")->group("Compare");
  command.add_flag("--json", options->json, "Print JSON");
  line.on_run(command, [options] { return bench(*options); });
}

}  // namespace pagemill
