// The models on this machine: GGUF files in the user's cache, and how a MODEL argument becomes a file.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/inspect.h"

namespace pagemill {

/// The model that is used when none is named; script/setup fetches it.
inline constexpr std::string_view kDefaultModelFile = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// ${XDG_CACHE_HOME:-~/.cache}/pagemill/models; it need not exist.
std::filesystem::path models_folder();

struct CatalogueEntry {
  std::string name;            // the file's, without ".gguf" and without "-00001-of-00003"
  std::filesystem::path path;  // the (first) file
  int64_t bytes = 0;           // of all parts
  ModelSummary summary;        // empty if there is a problem
  std::string problem;         // why the file cannot be read; "" if it can
};

/// Every model in `folder`, by name. An unreadable folder is an error, one that does not exist is empty, a damaged file is an
/// entry with a problem.
Result<std::vector<CatalogueEntry>> list_models(const std::filesystem::path& folder = models_folder());

/// The file that a MODEL argument means: "" is the default model; else a file; else a name in the catalogue, or the only one
/// that begins so (upper and lower case are the same). The error says what there is instead.
Result<std::filesystem::path> resolve_model(std::string_view argument, const std::filesystem::path& folder = models_folder());

}  // namespace pagemill
