#include "cli/vllm_flags.h"

namespace pagemill {
namespace {

constexpr std::string_view kAutomatic = "Leave it out: this is chosen automatically.";
constexpr std::string_view kFileSays = "Leave it out: the model's file says it.";
constexpr std::string_view kNoCode = "Leave it out: code from a model or a flag is never run.";
constexpr std::string_view kOneDevice = "Leave it out: this version runs a model on one device.";
constexpr std::string_view kNotHere = "This version does not have it.";
constexpr std::string_view kNoTools = "This version does not call tools yet.";
constexpr std::string_view kNoAdapters = "This version has no LoRA adapters yet.";
constexpr std::string_view kLogFormat = "Use --log-format.";
constexpr std::string_view kCors = "Only --allowed-origins is there; methods and headers follow from the routes.";
constexpr std::string_view kOverrides = "Use --hf-overrides, as in vLLM since it removed this flag.";

constexpr RefusedFlag kRefused[] = {
    {"all2all-backend", kOneDevice}, {"allow-credentials", kCors}, {"allowed-headers", kCors}, {"allowed-methods", kCors},
    {"api-server-count", "Leave it out: one process serves all cores."}, {"async-scheduling", kAutomatic}, {"attention-backend", kAutomatic},
    {"block-size", "Leave it out: blocks have 16 tokens."}, {"calculate-kv-scales", kNotHere},
    {"chat-template-content-format", "Leave it out: texts in parts are joined by line breaks."}, {"code-revision", kNoCode}, {"collect-detailed-traces", kNotHere},
    {"compilation-config", kAutomatic}, {"config-format", kFileSays}, {"cpu-offload-gb", "Use a smaller quantisation of the model instead."},
    {"cudagraph-capture-sizes", kAutomatic}, {"data-parallel-size", kOneDevice}, {"default-chat-template-kwargs", "Put the values into --chat-template."},
    {"disable-access-log-for-endpoints", kNotHere}, {"disable-fastapi-docs", "Leave it out: /openapi.json needs a key like the other routes."},
    {"disable-log-requests", "Leave it out: prompts are never logged."}, {"disable-log-stats", "Leave it out: statistics are at /metrics."},
    {"disable-uvicorn-access-log", "Use --log-level warning."}, {"distributed-executor-backend", kOneDevice}, {"download-dir", "Give the model's file."},
    {"enable-auto-tool-choice", kNoTools}, {"enable-chunked-prefill", "Leave it out: prompts are always cut into chunks."}, {"enable-expert-parallel", kOneDevice},
    {"enable-force-include-usage", "Clients ask with stream_options.include_usage."}, {"enable-log-outputs", "Leave it out: answers are never logged."},
    {"enable-log-requests", "Leave it out: prompts are never logged."}, {"enable-lora", kNoAdapters}, {"enable-prompt-tokens-details", "Leave it out: usage always has them."},
    {"enable-request-id-headers", "Leave it out: every answer has X-Request-Id."}, {"enable-server-load-tracking", "Leave it out: GET /v1/load is always there."},
    {"enable-sleep-mode", kNotHere}, {"enable-ssl-refresh", "Restart the server after a change of certificate."}, {"enable-tokenizer-info-endpoint", kNotHere},
    {"exclude-tools-when-tool-choice-none", "Leave it out: tools are left out then."}, {"fingerprint-mode", kNotHere}, {"grpc", kNotHere},
    {"guided-decoding-backend", kNotHere}, {"h11-max-header-count", "Leave it out: 100 header fields are accepted."}, {"h11-max-incomplete-event-size", "Leave it out: heads may have 16 KiB."},
    {"headless", kOneDevice}, {"hf-token", "Give the model's file: this version downloads nothing."}, {"kv-offloading-backend", kNotHere}, {"kv-offloading-size", kNotHere}, {"kv-transfer-config", kNotHere}, {"limit-mm-per-prompt", "Leave it out: models here read text."},
    {"load-format", kFileSays}, {"log-config-file", kLogFormat}, {"log-error-stack", kLogFormat}, {"logprobs-mode", "Leave it out: raw log-probabilities are given, vLLM's default."},
    {"lora-modules", kNoAdapters}, {"max-cpu-loras", kNoAdapters}, {"max-log-len", "Leave it out: prompts are never logged."},
    {"max-logprobs", "Leave it out: up to 20 are given."}, {"max-lora-rank", kNoAdapters}, {"max-loras", kNoAdapters},
    {"max-num-queued-reqs", "Use --max-queued-requests."}, {"middleware", kNoCode}, {"num-gpu-blocks-override", "Use --kv-cache-memory-bytes."},
    {"optimization-level", kAutomatic}, {"otlp-traces-endpoint", kNotHere}, {"override-generation-config", "Put the values into a file for --generation-config."},
    {"pipeline-parallel-size", kOneDevice}, {"prefix-caching-hash-algo", kAutomatic}, {"quantization", kFileSays}, {"reasoning-parser", kNotHere},
    {"response-role", "Leave it out: answers are the assistant's."}, {"return-tokens-as-token-ids", "Clients ask with return_tokens_as_token_ids."},
    {"revision", "Give the model's file."}, {"rope-scaling", kOverrides}, {"rope-theta", kOverrides}, {"scheduling-policy", "Leave it out: requests with a priority run by it, the others fairly between keys."},
    {"speculative-config", kNotHere}, {"ssl-ca-certs", "Client certificates are not asked for; use --api-key."}, {"ssl-cert-reqs", "Client certificates are not asked for; use --api-key."},
    {"ssl-ciphers", "Leave it out: OpenSSL's defaults from TLS 1.2 on are used."}, {"stream-interval", "Leave it out: a slow reader gets longer chunks by itself."},
    {"structured-outputs-config", kNotHere}, {"swap-space", "Leave it out: a preempted request is computed again."}, {"task", "Leave it out: chat, completions and embeddings are served together."},
    {"tokenizer", kFileSays}, {"tokenizer-mode", kFileSays}, {"tool-call-parser", kNoTools}, {"tool-parser-plugin", kNoCode}, {"tool-server", kNoTools},
    {"trust-remote-code", kNoCode}, {"trust-request-chat-template", "Leave it out: templates come from the server alone."}, {"uds", "Use --host and --port."},
    {"use-v2-block-manager", kAutomatic}, {"uvicorn-log-level", "Use --log-level."}, {"watermark", kAutomatic},
};

}  // namespace

std::span<const RefusedFlag> refused_vllm_flags() { return kRefused; }

}  // namespace pagemill
