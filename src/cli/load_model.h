// From MODEL and its flags to a running engine: what chat and bench share.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "cli/device.h"
#include "engine/engine.h"
#include "format/weight_source.h"
#include "text/text_model.h"

namespace pagemill {

/// The flags that say which model is loaded, and how.
struct ModelFlags {
  std::string model;                  // a file, a name, or "" for the default model
  std::string max_model_len = "auto";
  std::string hf_overrides;
  DeviceFlags device;

  /// Declares them. `command` keeps pointers: the flags must outlive it.
  void declare(CLI::App& command);
};

/// Members are destroyed in reverse: the engine first.
struct LoadedModel {
  std::filesystem::path path;
  std::unique_ptr<WeightSource> source;
  std::shared_ptr<const TextModel> text;
  json::object overrides;
  int threads = 0;
  DeviceInfo device;
  DType kv_dtype = DType::f32;
  std::unique_ptr<EngineHandle> engine;
  EngineModelInfo info;
};

/// Loads it, showing progress on stderr where that is a terminal. `options` brings what the caller wants of the engine; the
/// flags fill in the rest.
Result<LoadedModel> load_model(const ModelFlags& flags, EngineOptions options);

}  // namespace pagemill
