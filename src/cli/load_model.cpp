#include "cli/load_model.h"

#include <charconv>

#include <fmt/format.h>

#include "base/machine.h"
#include "format/catalogue.h"
#include "format/gguf.h"
#include "terminal/terminal.h"

namespace pagemill {
namespace {

/// "auto" is 0.
Result<int32_t> parse_max_model_len(const std::string& text) {
  if (text == "auto") return 0;
  int32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > limits::kModelContext)
    return fail(ErrorCode::invalid_argument, fmt::format("--max-model-len must be auto or a number of tokens from 1 to {}, not '{}'", limits::kModelContext, text), "--max-model-len");
  return value;
}

Result<json::object> parse_overrides(const std::string& text) {
  if (text.empty()) return json::object{};
  auto value = parse_json(text);
  if (!value) return tl::unexpected(std::move(value).error().within("--hf-overrides"));
  if (!value->is_object()) return fail(ErrorCode::invalid_argument, "--hf-overrides must be a JSON object, as in config.json", "--hf-overrides");
  return value->as_object();
}

}  // namespace

void ModelFlags::declare(CLI::App& command) {
  command.add_option("MODEL", model, "A GGUF file, or the name of a model that `pagemill list` shows (default: the default model)")->type_name("MODEL");
  command.add_option("--max-model-len", max_model_len, "Tokens of prompt and answer together; auto = the longest that fits")->type_name("N")->capture_default_str()->group("Model");
  command.add_option("--hf-overrides", hf_overrides, "Settings that replace the file's, as JSON in the form of config.json: rope_scaling, rope_theta, max_position_embeddings")
      ->type_name("JSON")->group("Model");
  device.declare(command, "Model");
}

Result<LoadedModel> load_model(const ModelFlags& flags, EngineOptions options) {
  LoadedModel model;
  PM_ASSIGN(options.max_model_len, parse_max_model_len(flags.max_model_len));
  PM_ASSIGN(model.overrides, parse_overrides(flags.hf_overrides));
  PM_ASSIGN(model.path, resolve_model(flags.model));
  PM_ASSIGN(model.source, open_gguf(model.path));
  PM_ASSIGN(model.text, TextModel::from_source(*model.source));
  model.threads = flags.device.threads > 0 ? flags.device.threads : usable_threads();

  options.model = model.path;
  options.overrides = model.overrides;
  options.stop_tokens = model.text->stop_tokens();
  PM_ASSIGN(options.kv_dtype, kv_dtype_of(flags.device));
  PM_ASSIGN(auto backend, make_backend(flags.device, model.path));
  model.device = backend->device();
  model.kv_dtype = options.kv_dtype.value_or(backend->kv_dtype_default());
  model.engine = make_engine(std::move(options), std::move(backend));
  ProgressLine progress;
  PM_TRY(wait_until_loaded(*model.engine, [&](const EngineStats& stats) { progress.show(stats.load_phase, stats.load_progress); }));
  model.info = model.engine->models().front();
  return model;
}

}  // namespace pagemill
