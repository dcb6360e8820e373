// pagemill-make-model: the default model in other types, and models with random weights in true shapes. See --help.
#include <cstdio>
#include <filesystem>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "format/catalogue.h"
#include "format/gguf.h"
#include "format/random_model.h"
#include "format/requantize.h"

namespace pagemill {
namespace {

struct Options {
  std::string from;
  std::string shape;
  std::string type = "f16";
  uint64_t seed = 1;
  std::string out;
};

/// One line that is rewritten in a terminal; silent elsewhere.
class Progress {
 public:
  void operator()(double share) {
    const int percent = static_cast<int>(100 * share);
    if (percent == shown_ || !isatty(STDERR_FILENO)) return;
    shown_ = percent;
    fmt::print(stderr, "\r{} %{}", percent, percent == 100 ? "\n" : "");
  }

 private:
  int shown_ = -1;
};

Result<void> make(const Options& options) {
  const auto types = type_mix_from_name(options.type);
  if (!types)
    return fail(ErrorCode::invalid_argument, fmt::format("--type {} is unknown; there are {}", options.type, type_mix_names()), "--type");
  Progress progress;
  if (!options.shape.empty()) {
    auto spec = random_model_spec(options.shape);
    if (!spec)
      return fail(ErrorCode::invalid_argument, fmt::format("--shape {} is unknown; there are {}", options.shape, random_model_shapes()), "--shape");
    spec->types = *types;
    spec->seed = options.seed;
    return write_random_model(*spec, options.out, std::ref(progress));
  }
  PM_ASSIGN(const std::filesystem::path path, resolve_model(options.from == "default" ? "" : options.from));
  PM_ASSIGN(const auto source, open_gguf(path));
  return requantize(*source, *types, options.out, std::ref(progress));
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Writes a GGUF model: an existing one in another type (--from), or random weights in a true shape (--shape; F16 then holds numbers of bf16, as files made of such checkpoints do).");
  app.name("script/make_model");
  auto* from = app.add_option("--from", options.from, "default, a GGUF file, or the name of a model in the cache");
  auto* shape = app.add_option("--shape", options.shape, random_model_shapes());
  from->excludes(shape);
  app.add_option("--type", options.type, type_mix_names())->capture_default_str();
  app.add_option("--seed", options.seed, "of the random weights")->needs(shape)->capture_default_str();
  app.add_option("OUT", options.out, "the file to write")->required();
  app.callback([&] {
    if (from->empty() && shape->empty()) throw CLI::ValidationError("one of --from and --shape is needed");
  });
  CLI11_PARSE(app, argc, argv);

  if (const auto result = make(options); !result) {
    fmt::print(stderr, "make_model: {}\n", result.error().message);
    return 1;
  }
  std::error_code ignored;
  fmt::print("{} ({:.1f} MB)\n", options.out, static_cast<double>(std::filesystem::file_size(options.out, ignored)) / 1e6);
  return 0;
}

}  // namespace
}  // namespace pagemill

int main(int argc, char** argv) { return pagemill::run(argc, argv); }
