// pagemill list: the models on this machine.
#include <cstdio>

#include "cli/command_line.h"
#include "cli/metadata_view.h"
#include "cli/output.h"
#include "format/catalogue.h"
#include "terminal/terminal.h"

namespace pagemill {
namespace {

struct Options {
  bool json = false;
  bool names = false;
};

bool is_default(const CatalogueEntry& entry) { return entry.path.filename() == kDefaultModelFile; }

json::object to_json(const CatalogueEntry& entry) {
  json::object out{{"name", utf8_or_replaced(entry.name)}, {"path", utf8_or_replaced(entry.path.string())}, {"bytes", entry.bytes}, {"default", is_default(entry)}};
  if (!entry.problem.empty()) {
    out["problem"] = utf8_or_replaced(entry.problem);
    return out;
  }
  out["architecture"] = utf8_or_replaced(entry.summary.architecture);
  out["parameters"] = entry.summary.parameters;
  out["types"] = describe_types(entry.summary);
  out["context"] = entry.summary.context ? json::value(*entry.summary.context) : json::value(nullptr);
  return out;
}

void print(const std::vector<CatalogueEntry>& entries) {
  if (entries.empty()) {
    std::printf("No models in %s.\nscript/setup fetches the default model; any GGUF file put there is listed too.\n", models_folder().c_str());
    return;
  }
  std::vector<std::vector<std::string>> rows{{"name", "size", "parameters", "context", "types"}};
  for (const CatalogueEntry& entry : entries) {
    const std::string name = terminal_safe(entry.name) + (is_default(entry) ? " *" : ""), size = bytes_text(static_cast<double>(entry.bytes));
    if (entry.problem.empty())
      rows.push_back({name, size, with_prefix(static_cast<double>(entry.summary.parameters), ""),
                      entry.summary.context ? grouped_digits(*entry.summary.context) : "?", describe_types(entry.summary)});
    else
      rows.push_back({name, size, "", "", "damaged: " + terminal_safe(entry.problem)});
  }
  std::printf("%s\n%s\n* used where no model is named\n", render_table(rows, true).c_str(), models_folder().c_str());
}

Result<ExitCode> list(const Options& options) {
  PM_ASSIGN(const auto entries, list_models());
  if (options.names) {
    for (const CatalogueEntry& entry : entries) std::printf("%s\n", terminal_safe(entry.name).c_str());
  } else if (options.json) {
    json::array models;
    for (const CatalogueEntry& entry : entries) models.push_back(to_json(entry));
    std::fputs(pretty_json(json::object{{"folder", utf8_or_replaced(models_folder().string())}, {"models", std::move(models)}}).c_str(), stdout);
  } else {
    print(entries);
  }
  return ExitCode::done;
}

}  // namespace

void add_list_command(CommandLine& line) {
  CLI::App& command = line.add("", "list", "List the models on this machine",
                               "pagemill list\n"
                               "pagemill list --json | jq -r .models[].path");
  const auto options = std::make_shared<Options>();
  command.add_flag("--json", options->json, "Print JSON");
  command.add_flag("--names", options->names, "Print the names alone, one a line");
  line.on_run(command, [options] { return list(*options); });
}

}  // namespace pagemill
