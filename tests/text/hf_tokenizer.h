// The real vocabularies of the tests: tokenizer.json files fetched by script/setup --test, and the same written as GGUF.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "format/weight_source.h"

namespace pagemill {

/// ${XDG_CACHE_HOME:-~/.cache}/pagemill, where script/setup keeps what it fetches.
std::filesystem::path setup_cache();

/// The default model's file.
std::filesystem::path default_model_file();

/// A whole file; a failed test names it if it cannot be read.
std::string read_file(const std::filesystem::path& path);

/// The text of tokenizer.json. `name`: "llama2", "llama3" or "qwen3".
std::string tokenizer_json(std::string_view name);

/// The vocabulary of `name` (as above, or "smollm2": the default model's file) in a GGUF file that is opened again: the bytes
/// take the way of a real model's.
std::unique_ptr<WeightSource> gguf_vocabulary(std::string_view name);

/// Names of all four.
std::vector<std::string> vocabulary_names();

}  // namespace pagemill
