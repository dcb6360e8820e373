// pagemill inspect: what is in a model file, whether this program can run it, and what fits this machine.
#include <cstdio>

#include <fmt/format.h>

#include "base/machine.h"
#include "cli/command_line.h"
#include "cli/metadata_view.h"
#include "cli/output.h"
#include "format/catalogue.h"
#include "format/gguf.h"
#include "format/inspect.h"
#include "model/config.h"
#include "model/manifest.h"
#include "terminal/terminal.h"

namespace pagemill {
namespace {

constexpr DType kKvTypes[] = {DType::f32, DType::f16, DType::q8_0};

struct Options {
  std::string model;
  bool json = false;
  bool all_tensors = false;
};

/// What one type of KV cache costs, and how much of it fits beside the weights.
struct KvFit {
  DType type;
  int64_t bytes_per_token = 0;
  int64_t tokens = 0;    // in the memory that is free now
  int64_t contexts = 0;  // of the model's full length, in the same
};

struct Report {
  ModelSummary summary;
  uint64_t memory = 0;   // free now
  std::vector<KvFit> kv;
  std::string problem;   // why this program cannot run it; "" = it can
};

Report examine(const WeightSource& source) {
  Report report{summarize_model(source), available_memory_bytes(), {}, {}};
  const auto config = read_model_config(source);
  if (!config)
    report.problem = config.error().message;
  else if (const auto weights = find_weights(source, weight_manifest(*config)); !weights)
    report.problem = weights.error().message;
  else if (static_cast<uint64_t>(report.summary.tensor_bytes) > report.memory)
    report.problem = fmt::format("its weights take {} and {} of memory are free", bytes_text(static_cast<double>(report.summary.tensor_bytes)),
                                 bytes_text(static_cast<double>(report.memory)));
  const int64_t left = std::max<int64_t>(static_cast<int64_t>(report.memory) - report.summary.tensor_bytes, 0);
  for (const DType type : kKvTypes) {
    const auto bytes = kv_bytes_per_token(report.summary, type);
    if (!bytes || *bytes <= 0) continue;
    const int64_t tokens = left / *bytes, context = report.summary.context.value_or(0);
    report.kv.push_back({type, *bytes, tokens, context > 0 ? tokens / context : 0});
  }
  return report;
}

void put(json::object& object, std::string_view key, const std::optional<int64_t>& value) {
  object[key] = value ? json::value(*value) : json::value(nullptr);
}

json::object to_json(const WeightSource& source, const Report& report) {
  const ModelSummary& s = report.summary;
  json::object out{{"file", utf8_or_replaced(s.file)}, {"name", utf8_or_replaced(s.name)}, {"architecture", utf8_or_replaced(s.architecture)},
                   {"parameters", s.parameters}, {"tensor_bytes", s.tensor_bytes}};
  put(out, "layers", s.layers);
  put(out, "hidden", s.hidden);
  put(out, "ffn", s.ffn);
  put(out, "heads", s.heads);
  put(out, "kv_heads", s.kv_heads);
  put(out, "head_dim", s.head_dim);
  put(out, "vocab", s.vocab);
  put(out, "context", s.context);
  json::array types, kv, tensors;
  for (const TypeShare& share : s.types)
    types.push_back({{"type", to_string(share.dtype)}, {"tensors", share.tensors}, {"elements", share.elements}, {"bytes", share.bytes}});
  for (const KvFit& fit : report.kv)
    kv.push_back({{"type", to_string(fit.type)}, {"bytes_per_token", fit.bytes_per_token}, {"tokens_that_fit", fit.tokens}, {"full_contexts_that_fit", fit.contexts}});
  for (const TensorView& tensor : source.tensors())
    tensors.push_back({{"name", utf8_or_replaced(tensor.name)}, {"type", to_string(tensor.dtype)}, {"shape", json::value_from(tensor.shape)}, {"bytes", tensor.bytes.size()}});
  json::object metadata;
  for (const MetadataEntry& entry : source.metadata()) metadata[utf8_or_replaced(entry.key)] = metadata_json(entry.value);
  out["types"] = std::move(types);
  out["kv_cache"] = std::move(kv);
  out["memory_available_bytes"] = report.memory;
  out["runs_here"] = report.problem.empty();
  out["problem"] = report.problem.empty() ? json::value(nullptr) : json::value(report.problem);
  out["metadata"] = std::move(metadata);
  out["tensors"] = std::move(tensors);
  return out;
}

using Rows = std::vector<std::vector<std::string>>;

std::string dimension(const std::optional<int64_t>& value) { return value ? grouped_digits(*value) : "?"; }

void print_head(const Report& report, size_t tensors) {
  const ModelSummary& s = report.summary;
  std::printf("%s\n\n", terminal_safe_line(s.file).c_str());
  Rows rows{{"name", terminal_safe_line(s.name)}};
  rows.push_back({"architecture", terminal_safe_line(s.architecture.empty() ? "not named" : s.architecture)});
  rows.push_back({"shape", fmt::format("{} layers, hidden {}, ffn {}, {} heads of {} ({} for KV)", dimension(s.layers), dimension(s.hidden),
                                       dimension(s.ffn), dimension(s.heads), dimension(s.head_dim), dimension(s.kv_heads))});
  rows.push_back({"context", dimension(s.context) + " tokens"});
  rows.push_back({"vocabulary", dimension(s.vocab) + " tokens"});
  rows.push_back({"parameters", with_prefix(static_cast<double>(s.parameters), "")});
  rows.push_back({"weights", fmt::format("{} in {} tensors: {}", bytes_text(static_cast<double>(s.tensor_bytes)), tensors, describe_types(s))});
  rows.push_back({"runs here", report.problem.empty() ? "yes" : "no: " + terminal_safe_line(report.problem)});
  std::fputs(render_table(rows, true).c_str(), stdout);
}

void print_fits(const Report& report) {
  if (report.kv.empty()) return;
  std::printf("\nKV cache beside the weights, in the %s of memory that are free now:\n", bytes_text(static_cast<double>(report.memory)).c_str());
  Rows rows{{"type", "per token", "tokens that fit", "full contexts"}};
  for (const KvFit& fit : report.kv)
    rows.push_back({std::string(to_string(fit.type)), bytes_text(static_cast<double>(fit.bytes_per_token)), grouped_digits(fit.tokens), grouped_digits(fit.contexts)});
  std::fputs(render_table(rows).c_str(), stdout);
}

void print_types(const ModelSummary& summary) {
  std::printf("\nTypes:\n");
  Rows rows{{"type", "tensors", "parameters", "bytes", "share"}};
  for (const TypeShare& share : summary.types)
    rows.push_back({std::string(to_string(share.dtype)), grouped_digits(share.tensors), with_prefix(static_cast<double>(share.elements), ""),
                    bytes_text(static_cast<double>(share.bytes)), fmt::format("{:.1f} %", 100.0 * static_cast<double>(share.bytes) / static_cast<double>(std::max<int64_t>(summary.tensor_bytes, 1)))});
  std::fputs(render_table(rows).c_str(), stdout);
}

void print_metadata(const WeightSource& source) {
  std::printf("\nMetadata:\n");
  Rows rows;
  for (const MetadataEntry& entry : source.metadata()) rows.push_back({terminal_safe(entry.key), metadata_text(entry.value)});
  std::fputs(render_table(rows, true).c_str(), stdout);
}

void print_tensors(const WeightSource& source, bool all) {
  std::printf("\nTensors:%s\n", all ? "" : " (--tensors lists each)");
  Rows rows{{"name", "count", "type", "bytes", "shape"}};
  for (const TensorGroup& group : group_tensors(source.tensors()))
    if (!all) rows.push_back({terminal_safe(group.name), grouped_digits(group.count), std::string(to_string(group.first->dtype)), bytes_text(static_cast<double>(group.bytes)), shape_text(*group.first)});
  if (all) rows = {{"name", "type", "bytes", "shape"}};
  for (const TensorView& tensor : source.tensors())
    if (all) rows.push_back({terminal_safe(tensor.name), std::string(to_string(tensor.dtype)), bytes_text(static_cast<double>(tensor.bytes.size())), shape_text(tensor)});
  std::fputs(render_table(rows, true).c_str(), stdout);
}

Result<ExitCode> inspect(const Options& options) {
  PM_ASSIGN(const auto path, resolve_model(options.model));
  PM_ASSIGN(const auto source, open_gguf(path));
  const Report report = examine(*source);
  if (options.json) {
    std::fputs(pretty_json(to_json(*source, report)).c_str(), stdout);
    return ExitCode::done;
  }
  print_head(report, source->tensors().size());
  print_fits(report);
  print_types(report.summary);
  print_metadata(*source);
  print_tensors(*source, options.all_tensors);
  return ExitCode::done;
}

}  // namespace

void add_inspect_command(CommandLine& line) {
  CLI::App& command = line.add("", "inspect", "Show what is in a model file, and what of it fits this machine",
                               "pagemill inspect                       the default model\n"
                               "pagemill inspect model.gguf --tensors\n"
                               "pagemill inspect model.gguf --json | jq .kv_cache");
  const auto options = std::make_shared<Options>();
  command.add_option("MODEL", options->model, "A GGUF file, or the name of a model that `pagemill list` shows (default: the default model)")->type_name("MODEL");
  command.add_flag("--tensors", options->all_tensors, "List every tensor, not one line for all layers");
  command.add_flag("--json", options->json, "Print JSON, with every tensor");
  line.on_run(command, [options] { return inspect(*options); });
}

}  // namespace pagemill
