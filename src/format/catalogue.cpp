#include "format/catalogue.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>

#include <pwd.h>
#include <unistd.h>

#include <fmt/format.h>

#include "format/gguf.h"

namespace pagemill {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".gguf";

fs::path home_folder() {
  if (const char* home = std::getenv("HOME"); home && *home) return home;
  const passwd* user = getpwuid(getuid());
  return user && user->pw_dir ? user->pw_dir : "/";
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

struct SplitName {
  std::string stem;
  int part = 1;
  int parts = 1;
};

// "name-00002-of-00003" → {"name", 2, 3}; other names are whole models.
SplitName split_name(const std::string& stem) {
  constexpr size_t kSuffix = std::string_view("-00001-of-00003").size();
  if (stem.size() <= kSuffix) return {stem};
  const std::string suffix = stem.substr(stem.size() - kSuffix);
  const auto number = [&](size_t at) -> std::optional<int> {
    int value = 0;
    for (size_t i = at; i < at + 5; ++i) {
      if (!std::isdigit(static_cast<unsigned char>(suffix[i]))) return std::nullopt;
      value = 10 * value + (suffix[i] - '0');
    }
    return value;
  };
  const auto part = number(1), parts = number(10);
  if (suffix[0] != '-' || suffix.substr(6, 4) != "-of-" || !part || !parts) return {stem};
  return {stem.substr(0, stem.size() - kSuffix), *part, *parts};
}

int64_t size_of_parts(const fs::path& first, const SplitName& name) {
  int64_t bytes = 0;
  for (int part = 1; part <= name.parts; ++part) {
    const fs::path path = name.parts == 1 ? first : first.parent_path() / fmt::format("{}-{:05}-of-{:05}{}", name.stem, part, name.parts, kExtension);
    std::error_code error;
    const auto size = fs::file_size(path, error);
    if (!error) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

// The files that stand for a model, without looking into them.
Result<std::vector<CatalogueEntry>> find_files(const fs::path& folder) {
  std::vector<CatalogueEntry> entries;
  std::error_code error;
  fs::directory_iterator iterator(folder, error);
  if (error == std::errc::no_such_file_or_directory) return entries;
  for (; !error && iterator != fs::directory_iterator(); iterator.increment(error)) {
    const fs::path& path = iterator->path();
    const std::string file = path.filename().string();
    std::error_code ignored;
    if (lower(path.extension().string()) != kExtension || file.starts_with(".") || !iterator->is_regular_file(ignored)) continue;
    const SplitName name = split_name(path.stem().string());
    if (name.part != 1) continue;
    entries.push_back({.name = name.stem, .path = path, .bytes = size_of_parts(path, name)});
  }
  if (error) return fail(ErrorCode::io, fmt::format("{}: cannot list the models: {}", folder.string(), error.message()));
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return entries;
}

std::string names_of(const std::vector<CatalogueEntry>& entries) {
  std::string names;
  for (const CatalogueEntry& entry : entries) names += fmt::format("{}{}", names.empty() ? "" : ", ", entry.name);
  return names;
}

Result<fs::path> resolve_default(const fs::path& folder) {
  fs::path path = folder / kDefaultModelFile;
  std::error_code ignored;
  if (fs::exists(path, ignored)) return path;
  return fail(ErrorCode::not_found,
              fmt::format("the default model is not there ({}): run script/setup, which fetches it, or name a GGUF file", path.string()));
}

// "org/name", as models are called on Hugging Face's hub.
bool looks_like_hub_name(std::string_view argument) {
  const size_t slash = argument.find('/');
  return slash != std::string_view::npos && slash != 0 && slash + 1 < argument.size() && argument.find('/', slash + 1) == std::string_view::npos &&
         argument.front() != '.' && argument.front() != '~' && !lower(argument).ends_with(kExtension);
}

}  // namespace

fs::path models_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const bool usable = cache && *cache == '/';  // the specification has relative ones ignored
  return (usable ? fs::path(cache) : home_folder() / ".cache") / "pagemill" / "models";
}

Result<std::vector<CatalogueEntry>> list_models(const fs::path& folder) {
  PM_ASSIGN(std::vector<CatalogueEntry> entries, find_files(folder));
  for (CatalogueEntry& entry : entries) {
    const auto source = open_gguf(entry.path);
    if (source) {
      entry.summary = summarize_model(**source);
    } else {
      entry.problem = source.error().message;
    }
  }
  return entries;
}

Result<fs::path> resolve_model(std::string_view argument, const fs::path& folder) {
  if (argument.empty()) return resolve_default(folder);
  std::error_code ignored;
  if (fs::is_directory(argument, ignored))
    return fail(ErrorCode::unsupported, fmt::format("{}: is a folder; name a GGUF file (of a split model the first part)", argument));
  if (fs::exists(argument, ignored)) return fs::path(argument);

  PM_ASSIGN(const std::vector<CatalogueEntry> entries, find_files(folder));
  std::string wanted = lower(argument);
  if (wanted.ends_with(kExtension)) wanted.resize(wanted.size() - kExtension.size());
  std::vector<CatalogueEntry> matches;
  for (const CatalogueEntry& entry : entries) {
    if (lower(entry.name) == wanted) return entry.path;
    if (lower(entry.name).starts_with(wanted)) matches.push_back(entry);
  }
  if (matches.size() == 1) return matches.front().path;
  if (matches.size() > 1)
    return fail(ErrorCode::invalid_argument, fmt::format("{}: several models are called so: {}", argument, names_of(matches)));
  if (looks_like_hub_name(argument))
    return fail(ErrorCode::unsupported,
                fmt::format("{}: there is no such file, and this build does not download models from a hub. Download a GGUF file of it and "
                            "name that file, or put it into {}",
                            argument, folder.string()));
  return fail(ErrorCode::not_found,
              fmt::format("{}: there is no such file, and no model of that name in {} (there: {})", argument, folder.string(),
                          entries.empty() ? "none" : names_of(entries)));
}

}  // namespace pagemill
