// pagemill serve: its flags, by vLLM's names where they mean the same.
#include <charconv>
#include <cmath>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/flat_config.h"
#include "cli/serve.h"
#include "cli/vllm_flags.h"

namespace pagemill {
namespace {

/// What the flags hold before they are understood.
struct ServeFlags {
  std::string model_argument, model;
  std::string host = "127.0.0.1";
  int port = 8080;
  std::vector<std::string> served_model_names;
  std::string max_model_len = "auto", kv_cache_memory_bytes = "auto";
  DeviceFlags device;
  int32_t max_num_seqs = 128, max_queued_requests = limits::kQueuedRequests;
  int64_t max_queued_tokens = limits::kQueuedPromptTokens;
  std::optional<int32_t> max_num_batched_tokens;
  std::optional<double> max_step_ms;
  int tensor_parallel_size = 1, shutdown_timeout_s = 30;
  uint64_t seed = 0;
  std::string chat_template, generation_config = "auto", hf_overrides, config;
  bool prefix_caching = true, insecure = false;
  std::vector<std::string> api_keys, api_key_files, allowed_hosts, allowed_origins, trusted_proxies;
  std::string auth = "accounts", data_dir, signup;
  bool chat_page = true;
  std::string certificate, key, root_path, log_format = "text", log_level = "info";
};

tl::unexpected<Error> wrong(const std::string& flag, const std::string& what) { return fail(ErrorCode::invalid_argument, fmt::format("{} {}", flag, what), flag); }

/// As in vLLM: "4k" is 4,000, "25.6k" 25,600, "4K" 4,096; so with m, g, t.
Result<uint64_t> parse_size(const std::string& flag, const std::string& text) {
  const auto refuse = [&] { return wrong(flag, fmt::format("must be auto or a number such as 4096, 4K (4,096) or 4k (4,000), not '{}'", text)); };
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (parsed.ec != std::errc() || parsed.ptr + 1 < end) return refuse();
  double unit = 1;
  if (parsed.ptr != end) {
    const size_t decimal = std::string_view("kmgt").find(*parsed.ptr), binary = std::string_view("KMGT").find(*parsed.ptr);
    if (decimal == std::string_view::npos && binary == std::string_view::npos) return refuse();
    unit = decimal != std::string_view::npos ? std::pow(1'000.0, decimal + 1) : std::pow(1'024.0, binary + 1);
  }
  const double size = value * unit;
  if (!(size >= 1 && size < 0x1p53) || std::floor(size) != size) return refuse();
  return static_cast<uint64_t>(size);
}

Result<std::string> read_file(const std::string& flag, const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return fail(ErrorCode::io, fmt::format("{}: the file {} cannot be read", flag, path), flag);
  return text.str();
}

/// vLLM takes a JSON list, others take words. CLI11 takes the list apart and leaves its spaces and quotes.
Result<std::vector<std::string>> parse_origins(const std::vector<std::string>& values) {
  std::vector<std::string> origins;
  for (std::string origin : values) {
    origin.erase(0, origin.find_first_not_of(' '));
    if (origin.size() >= 2 && origin.front() == '"' && origin.back() == '"') origin = origin.substr(1, origin.size() - 2);
    const size_t host = origin.find("://");
    const bool complete = host != std::string::npos && host > 0 && origin.size() > host + 3 && origin.find_first_of("/ \"[]", host + 3) == std::string::npos;
    if (!complete && origin != "*") return wrong("--allowed-origins", fmt::format("needs origins such as https://page.example, or *; not '{}'", origin));
    origins.push_back(std::move(origin));
  }
  return origins;
}

Result<SamplingDefaults> read_generation_config(const std::string& value) {
  if (value == "auto" || value == "vllm") return SamplingDefaults{};  // a GGUF file brings none
  const std::string path = std::filesystem::is_directory(value) ? value + "/generation_config.json" : value;
  PM_ASSIGN(const std::string text, read_file("--generation-config", path));
  auto parsed = parse_json(text);
  if (!parsed || !parsed->is_object()) return wrong("--generation-config", fmt::format("{} is not a JSON object", path));
  auto defaults = read_sampling_defaults(parsed->get_object());
  if (!defaults) return tl::unexpected(std::move(defaults).error().within(path));
  return defaults;
}

Result<void> check_ranks(const ServeFlags& flags) {
  if (flags.tensor_parallel_size != 1) return fail(ErrorCode::unsupported, "--tensor-parallel-size: this version runs a model on one device; only 1 is possible", "--tensor-parallel-size");
  return {};
}

Result<void> fill_security(const ServeFlags& flags, ServeOptions& options) {
  for (const std::string& key : flags.api_keys) {
    auto made = make_static_key(key);
    if (!made) return tl::unexpected(std::move(made).error().within("--api-key"));
    options.keys.push_back(std::move(*made));
  }
  for (const std::string& file : flags.api_key_files) {
    PM_ASSIGN(std::vector<StaticKey> keys, read_key_file(file));
    options.keys.insert(options.keys.end(), keys.begin(), keys.end());
  }
  // With accounts the API is open to users' own keys alone.
  if (!is_loopback(flags.host) && options.keys.empty() && !flags.insecure && !flags.chat_page)
    return wrong("--host", fmt::format("{} is open to the network and there is no API key: give --api-key-file (or --api-key), or --insecure if everyone may use it", flags.host));
  if (!is_loopback(flags.host) && flags.auth == "none" && !flags.insecure)
    return wrong("--auth", fmt::format("none is for one person on this machine, and {} is open to the network: leave it out, or give --insecure if everyone may see everything", flags.host));
  options.insecure = flags.insecure;
  options.api.allowed_hosts = flags.allowed_hosts;
  options.api.trusted_proxies = flags.trusted_proxies;
  PM_ASSIGN(options.api.allowed_origins, parse_origins(flags.allowed_origins));
  options.http.tls_certificate_file = flags.certificate;
  options.http.tls_key_file = flags.key;
  return {};
}

Result<void> fill_chat(const ServeFlags& flags, ServeOptions& options) {
  options.chat_page = flags.chat_page;
  options.chat.auth = flags.auth == "none" ? chat::AuthMode::none : chat::AuthMode::accounts;
  options.chat.data_dir = flags.data_dir;
  options.data_dir_given = !flags.data_dir.empty();
  if (!flags.signup.empty()) options.chat.signup = chat::parse_signup(flags.signup);
  return {};
}

Result<void> fill_engine(const ServeFlags& flags, ServeOptions& options) {
  EngineOptions& engine = options.engine;
  if (flags.max_model_len != "auto" && flags.max_model_len != "-1") {
    PM_ASSIGN(const uint64_t length, parse_size("--max-model-len", flags.max_model_len));
    if (length > limits::kModelContext) return wrong("--max-model-len", fmt::format("is {}; {} at most", length, limits::kModelContext));
    engine.max_model_len = static_cast<int32_t>(length);
  }
  if (flags.kv_cache_memory_bytes != "auto") {
    PM_ASSIGN(engine.kv_cache_memory_bytes, parse_size("--kv-cache-memory-bytes", flags.kv_cache_memory_bytes));
  }
  PM_ASSIGN(engine.kv_dtype, kv_dtype_of(flags.device));
  engine.max_num_seqs = flags.max_num_seqs;
  if (flags.max_num_batched_tokens) engine.max_num_batched_tokens = std::max(*flags.max_num_batched_tokens, flags.max_num_seqs);
  engine.max_queued_requests = flags.max_queued_requests;
  engine.max_queued_tokens = flags.max_queued_tokens;
  engine.max_step_ms = flags.max_step_ms;
  engine.prefix_caching = flags.prefix_caching;
  engine.seed = flags.seed;
  if (!flags.hf_overrides.empty()) {
    const auto parsed = parse_json(flags.hf_overrides);
    if (!parsed || !parsed->is_object()) return wrong("--hf-overrides", "must be a JSON object");
    engine.overrides = parsed->get_object();
  }
  return {};
}

Result<ServeOptions> understand(const ServeFlags& flags) {
  ServeOptions options;
  PM_TRY(check_ranks(flags));
  PM_TRY(fill_security(flags, options));
  PM_TRY(fill_engine(flags, options));
  PM_TRY(fill_chat(flags, options));
  if (!flags.model.empty() && !flags.model_argument.empty() && flags.model != flags.model_argument) return wrong("--model", "names another model than the argument MODEL");
  options.model = flags.model.empty() ? flags.model_argument : flags.model;
  options.api.model_names = flags.served_model_names;
  PM_ASSIGN(options.api.sampling, read_generation_config(flags.generation_config));
  // As in vLLM: a file's name, or the template itself.
  options.chat_template = flags.chat_template;
  const bool is_template = flags.chat_template.find("{%") != std::string::npos || flags.chat_template.find("{{") != std::string::npos;
  if (!flags.chat_template.empty() && !is_template) {
    PM_ASSIGN(options.chat_template, read_file("--chat-template", flags.chat_template));
  }
  if (!flags.root_path.empty() && (!flags.root_path.starts_with('/') || flags.root_path.ends_with('/'))) return wrong("--root-path", "must begin with / and not end with it");
  options.api.root_path = flags.root_path;
  options.api.version = PAGEMILL_VERSION;
  options.http.host = flags.host;
  options.http.port = static_cast<uint16_t>(flags.port);
  options.device = flags.device;
  options.shutdown_timeout_s = flags.shutdown_timeout_s;
  const LogLevel level = flags.log_level == "debug" ? LogLevel::debug : flags.log_level == "info" ? LogLevel::info : flags.log_level == "warning" ? LogLevel::warning : LogLevel::error;
  configure_log(level, flags.log_format == "json");
  return options;
}

/// Why a word that no flag took is refused.
std::string refusal_of(const CLI::App& command, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  for (const auto& [letters, flag] : {std::pair{"-tp", "tensor-parallel-size"}, {"-pp", "pipeline-parallel-size"}, {"-dp", "data-parallel-size"}, {"-q", "quantization"},
                                      {"-cc", "compilation-config"}, {"-sc", "speculative-config"}, {"-asc", "api-server-count"}}) {
    if (name != letters) continue;
    if (command.get_option_no_throw(std::string("--") + flag)) return fmt::format("{} is written out here: --{}", name, flag);
    return refusal_of(command, std::string("--") + flag);
  }
  for (const RefusedFlag& refused : refused_vllm_flags())
    if (name == "--" + std::string(refused.name)) return fmt::format("{}, a flag of vLLM, is not known here. {}", name, refused.advice);
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& one : option->get_lnames()) known.push_back("--" + one);
  const std::string near = name.starts_with("-") ? nearest(name, known) : "";
  return fmt::format("{} '{}'{}", name.starts_with("-") ? "unknown option" : "unexpected argument", name, near.empty() ? "" : fmt::format(": did you mean '{}'?", near));
}

/// Applies a configuration file to the flags that the command line leaves out.
Result<void> apply_config(CLI::App& command, const std::string& path) {
  PM_ASSIGN(const std::string text, read_file("--config", path));
  auto settings = parse_flat_config(text);
  if (!settings) return tl::unexpected(std::move(settings).error().within(path));
  for (const auto& [key, values] : *settings) {
    CLI::Option* const option = command.get_option_no_throw("--" + key);
    if (!option || key == "config" || key == "help") return fail(ErrorCode::invalid_file, fmt::format("{}: {}", path, refusal_of(command, "--" + key)), key);
    if (option->count() > 0 || values.empty()) continue;
    try {
      option->add_result(values);
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      return fail(ErrorCode::invalid_file, fmt::format("{}: {}", path, error.what()), key);
    }
  }
  return {};
}

void declare_model(CLI::App& command, ServeFlags& flags) {
  command.add_option("model_tag", flags.model_argument, "A GGUF file, or the name of a model that `pagemill list` shows (default: the default model)")->type_name("MODEL");
  command.add_option("--model", flags.model, "The same as MODEL")->type_name("MODEL")->group("Model");
  command.add_option("--served-model-name", flags.served_model_names, "What requests may call it; the first is reported")->type_name("NAME")->group("Model");
  command.add_option("--max-model-len", flags.max_model_len, "Tokens of prompt and answer together (4096, 4K); auto = the longest that fits")->type_name("N")->capture_default_str()->group("Model");
  command.add_option("--hf-overrides", flags.hf_overrides, "Settings that replace the file's, as JSON in the form of config.json")->type_name("JSON")->group("Model");
  command.add_option("--chat-template", flags.chat_template, "A file, or the template itself, instead of the model's")->type_name("FILE")->group("Model");
  command.add_option("--generation-config", flags.generation_config, "Defaults of requests: auto, vllm, or a generation_config.json")->capture_default_str()->group("Model");
  command.add_option("--seed", flags.seed, "Of requests that bring none; 0 = a fresh one each")->capture_default_str()->group("Model");
}

void declare_engine(CLI::App& command, ServeFlags& flags) {
  flags.device.declare(command, "Engine");
  command.add_option("--tensor-parallel-size,--tp", flags.tensor_parallel_size, "Only 1 in this version")->capture_default_str()->group("Engine");
  command.add_option("--max-num-seqs", flags.max_num_seqs, "Requests computed at the same time")->check(CLI::Range(1, 65'536))->capture_default_str()->group("Engine");
  command.add_option("--max-num-batched-tokens", flags.max_num_batched_tokens, "Tokens of one step (2048; 8192 where 40 GiB of a GPU may be used)")->check(CLI::Range(1, 1'048'576))->group("Engine");
  command.add_option("--max-step-ms", flags.max_step_ms, "Prompts are cut so that a step beside running answers takes no longer (5 times as long where there are none, up to 25 times where a model takes long to read); 0 = no limit (200; 60 on a GPU)")->check(CLI::Range(0.0, 1e6))->group("Engine");
  command.add_option("--max-queued-requests", flags.max_queued_requests, "Requests that may wait; 429 beyond")->check(CLI::Range(1, 1'000'000))->capture_default_str()->group("Engine");
  command.add_option("--max-queued-tokens", flags.max_queued_tokens, "Prompt tokens that may wait; 429 beyond")->check(CLI::PositiveNumber)->capture_default_str()->group("Engine");
  command.add_option("--kv-cache-memory-bytes", flags.kv_cache_memory_bytes, "Memory of the KV cache (2G); auto = what fits")->type_name("BYTES")->capture_default_str()->group("Engine");
  command.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", flags.prefix_caching, "Keep the KV cache of finished prompts (the default)")->group("Engine");
}

void declare_server(CLI::App& command, ServeFlags& flags) {
  command.add_option("--host", flags.host, "Address to listen on; beyond this machine only with a key")->capture_default_str()->group("Server");
  command.add_option("--port", flags.port, "0 = any free one")->check(CLI::Range(0, 65'535))->capture_default_str()->group("Server");
  command.add_option("--api-key", flags.api_keys, "A key that requests must bring; may be given several times. Other users of this machine can read it: prefer --api-key-file")->type_name("KEY")->group("Server");
  command.add_option("--api-key-file", flags.api_key_files, "Keys, one a line: KEY [scopes] [max=N]")->type_name("FILE")->group("Server");
  command.add_flag("--insecure", flags.insecure, "Allow a --host beyond this machine without a key")->group("Server");
  command.add_option("--auth", flags.auth, "Of the chat page: accounts, or none for one person on this machine")->check(CLI::IsMember({"accounts", "none"}))->capture_default_str()->group("Chat page");
  command.add_option("--signup", flags.signup, "Who may make an account: closed = nobody, pending = everybody, an admin admits them, open = everybody (default: what an admin has set; at first closed)")
      ->check(CLI::IsMember({"closed", "pending", "open"}))->group("Chat page");
  command.add_option("--data-dir", flags.data_dir, "Folder of accounts, conversations and documents (default: ~/.local/share/pagemill)")->type_name("DIR")->group("Chat page");
  command.add_flag("--chat-page,!--no-chat-page", flags.chat_page, "Serve the chat page (the default)")->group("Chat page");
  command.add_option("--ssl-certfile", flags.certificate, "TLS certificate chain, PEM")->type_name("FILE")->group("Server");
  command.add_option("--ssl-keyfile", flags.key, "Its key, PEM")->type_name("FILE")->group("Server");
  command.add_option("--allowed-host", flags.allowed_hosts, "A name that this server is reached by, beside localhost and addresses; * = any")->type_name("NAME")->group("Server");
  command.add_option("--allowed-origins", flags.allowed_origins, "Origins whose pages may call the API (CORS); none by default")->type_name("ORIGIN")->group("Server");
  command.add_option("--trusted-proxy", flags.trusted_proxies, "Address of a proxy whose X-Forwarded-For is believed")->type_name("ADDRESS")->group("Server");
  command.add_option("--root-path", flags.root_path, "Path below which a proxy serves this")->type_name("PATH")->group("Server");
  command.add_option("--shutdown-timeout", flags.shutdown_timeout_s, "Seconds for answers under way after SIGTERM")->type_name("S")->check(CLI::Range(0, 86'400))->capture_default_str()->group("Server");
  command.add_option("--log-format", flags.log_format, "text or json")->check(CLI::IsMember({"text", "json"}))->capture_default_str()->group("Server");
  command.add_option("--log-level", flags.log_level, "debug, info, warning or error")->check(CLI::IsMember({"debug", "info", "warning", "error"}))->capture_default_str()->group("Server");
  command.add_option("--config", flags.config, "YAML or TOML whose keys are these flags; the command line wins")->type_name("FILE")->group("Server");
}

}  // namespace

void add_serve_command(CommandLine& line) {
  CLI::App& command = line.add("", "serve", "Serve a model over the OpenAI API and with a chat page",
                               "pagemill serve                                   the default model on http://127.0.0.1:8080\n"
                               "pagemill serve model.gguf --port 8000 --api-key-file keys.txt\n"
                               "pagemill serve --host 0.0.0.0 --api-key-file keys.txt --allowed-host llm.example");
  const auto flags = std::make_shared<ServeFlags>();
  declare_model(command, *flags);
  declare_engine(command, *flags);
  declare_server(command, *flags);
  command.allow_extras();  // what is left is refused by name below
  line.on_run(command, [flags, &command]() -> Result<ExitCode> {
    if (const std::vector<std::string> left = command.remaining(); !left.empty()) {
      std::fprintf(stderr, "pagemill: %s\nTry `pagemill serve --help`.\n", refusal_of(command, left.front()).c_str());
      return ExitCode::usage;
    }
    if (!flags->config.empty()) PM_TRY(apply_config(command, flags->config));
    PM_ASSIGN(ServeOptions options, understand(*flags));
    if (!is_loopback(flags->host) && options.keys.empty() && flags->insecure) log_warning("serving {} without a key (--insecure): whoever reaches it may use it", flags->host);
    return serve(std::move(options));
  });
}

}  // namespace pagemill
