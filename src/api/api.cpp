#include "api/api.h"

#include <algorithm>
#include <ctime>
#include <unordered_map>

#include <fmt/format.h>

#include "api/admission.h"
#include "api/error_body.h"
#include "api/openapi.h"
#include "base/log.h"

namespace pagemill::api {
namespace {

using ServingPtr = std::shared_ptr<Serving>;
using ExchangePtr = std::shared_ptr<Exchange>;
using RouteHandler = void (*)(const ServingPtr&, ExchangePtr);

void serve_health(const ServingPtr& serving, ExchangePtr exchange) {
  const EngineStats stats = serving->engine.stats();
  const bool ready = stats.state == EngineState::ready && serving->text();
  const std::string body = fmt::format(R"({{"status":"{}","phase":{},"progress":{:.3f}}})", stats.state == EngineState::ready && !ready ? "loading" : to_string(stats.state),
                                       json_quote(stats.load_phase), stats.load_progress);
  http::Response response{ready ? 200 : 503, {{"Content-Type", "application/json"}}, body};
  if (!ready) response.headers.emplace_back("Retry-After", "1");
  exchange->send(std::move(response));
}

void serve_version(const ServingPtr& serving, ExchangePtr exchange) { exchange->send_json(fmt::format(R"({{"version":{}}})", json_quote(serving->options.version))); }

void serve_metrics(const ServingPtr& serving, ExchangePtr exchange) {
  exchange->send({200, {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}}, serving->registry.exposition()});
}

std::string model_json(const Serving& serving, const std::string& name) {
  static const std::time_t created_s = std::time(nullptr);
  const std::vector<EngineModelInfo> models = serving.engine.models();
  return fmt::format(R"({{"id":{},"object":"model","created":{},"owned_by":"pagemill","root":{},"parent":null,"max_model_len":{}}})", json_quote(name), created_s, json_quote(name),
                     models.empty() ? "null" : std::to_string(models.front().context_max));
}

void serve_models(const ServingPtr& serving, ExchangePtr exchange) {
  std::string data;
  for (const std::string& name : serving->options.model_names) data.append(data.empty() ? "" : ",").append(model_json(*serving, name));
  exchange->send_json(R"({"object":"list","data":[)" + data + "]}");
}

void serve_model(const ServingPtr& serving, ExchangePtr exchange) {
  const std::string name = exchange->admission().path.substr(std::string_view("/v1/models/").size());
  if (const auto known = serving->check_model(name); !known || name.empty())
    return exchange->fail(known ? Error{ErrorCode::not_found, "name a model: /v1/models/MODEL", "model"} : known.error());
  exchange->send_json(model_json(*serving, name));
}

void serve_load(const ServingPtr& serving, ExchangePtr exchange) {
  const EngineStats stats = serving->engine.stats();
  exchange->send_json(fmt::format(
      R"({{"server_load":{},"state":"{}","running":{},"waiting":{},"waiting_prompt_tokens":{},"kv_usage":{},"kv_blocks_total":{},"kv_blocks_live":{},"kv_blocks_cached":{},"steps":{},"preemptions":{},"rejected":{}}})",
      stats.running + stats.waiting, to_string(stats.state), stats.running, stats.waiting, stats.waiting_prompt_tokens, stats.kv_usage, stats.kv_blocks_total, stats.kv_blocks_live,
      stats.kv_blocks_cached, stats.steps, stats.preemptions, stats.rejected));
}

void serve_openapi(const ServingPtr& serving, ExchangePtr exchange) {
  exchange->send_json(json::serialize(openapi_document(routes(), serving->options.version, serving->options.root_path)));
}

constexpr RouteInfo kRoutes[] = {
    {"GET", "/health", Scope::none, "200 once the model is loaded and steps are made; else 503 with the phase."},
    {"GET", "/version", Scope::inference, "The server's version."},
    {"GET", "/metrics", Scope::metrics, "Prometheus metrics under vLLM's names."},
    {"GET", "/openapi.json", Scope::inference, "This document."},
    {"GET", "/v1/models", Scope::inference, "The models that are served."},
    {"GET", "/v1/models/{id}", Scope::inference, "One model."},
    {"GET", "/v1/load", Scope::metrics, "Requests, queue and KV pool at this moment."},
    {"POST", "/v1/chat/completions", Scope::inference, "The next message of a conversation."},
    {"POST", "/v1/completions", Scope::inference, "The continuation of a text."},
    {"POST", "/v1/embeddings", Scope::inference, "Vectors of texts: the mean of the model's last hidden states."},
    {"POST", "/tokenize", Scope::inference, "The token ids of a text or conversation."},
    {"POST", "/detokenize", Scope::inference, "The text of token ids."},
};

/// In the order of kRoutes.
constexpr RouteHandler kHandlers[] = {serve_health, serve_version, serve_metrics, serve_openapi, serve_models, serve_model,
                                      serve_load, serve_chat, serve_completion, serve_embeddings, serve_tokenize, serve_detokenize};
static_assert(std::size(kRoutes) == std::size(kHandlers));

bool path_matches(std::string_view pattern, std::string_view path) {
  const size_t brace = pattern.find('{');
  if (brace == std::string_view::npos) return pattern == path;
  return path.size() > brace && path.starts_with(pattern.substr(0, brace));
}

std::string_view method_of_route(std::string_view method) { return method == "HEAD" ? "GET" : method; }

/// The route for a request, or the methods that its path does have.
struct Match {
  std::optional<size_t> route;
  std::string allowed;
};

Match match_route(std::string_view method, std::string_view path) {
  Match match;
  for (size_t i = 0; i < std::size(kRoutes); ++i) {
    if (!path_matches(kRoutes[i].path, path)) continue;
    if (kRoutes[i].method == method_of_route(method)) match.route = i;
    match.allowed.append(match.allowed.empty() ? "" : ", ").append(kRoutes[i].method == "GET" ? "GET, HEAD" : kRoutes[i].method);
  }
  return match;
}

}  // namespace

std::span<const RouteInfo> routes() { return kRoutes; }

struct Api::State {
  State(ApiOptions options, EngineHandle& engine, Authenticator& authenticator_of, MetricRegistry& registry, http::Server& server_of)
      : authenticator(authenticator_of), server(server_of), serving(std::make_shared<Serving>(std::move(options), engine, registry, server_of)) {}

  std::optional<http::Response> on_head(http::Request& request);
  std::optional<http::Response> admit(const http::Request& request, Admission& admission);
  http::Response preflight(const http::Request& request, const Admission& admission, const Match& match) const;
  void on_request(http::Request request, std::shared_ptr<http::Responder> responder);
  bool enter(const Principal& principal);
  void leave(const Principal& principal);

  bool is_others(const http::Request& request, Admission& admission) const;
  std::optional<http::Response> refusal_of_others(http::Request& request, Admission& admission);

  Authenticator& authenticator;
  http::Server& server;
  OtherPaths others;                                    // set by start()
  const ServingPtr serving;
  std::atomic<int> under_way{0};
  std::mutex mutex;
  std::unordered_map<std::string, int> running_of_key;  // of keys with a limit
};

/// On an io thread, before the body is read.
std::optional<http::Response> Api::State::on_head(http::Request& request) {
  Admission admission;
  admission.request_id = request_id_of(request);
  admission.method = request.method;
  admission.path = request.path;
  admission.peer = client_address(request, serving->options.trusted_proxies);
  admission.started_ns = SteadyClock::instance().now_ns();
  admission.allowed_origin = cors_origin(request.header("Origin"), serving->options.allowed_origins);
  admission.route = "other";
  admission.principal.id = "-";
  const bool delegated = is_others(request, admission);
  std::optional<http::Response> refusal = delegated ? refusal_of_others(request, admission) : admit(request, admission);
  if (!refusal) {
    if (delegated) request.admission = DelegatedRequest{std::move(admission), std::move(request.admission)};
    else request.admission = std::move(admission);
    return {};
  }
  add_common_headers(admission, refusal->headers);
  const TimeNs now = SteadyClock::instance().now_ns();
  log_access(admission, refusal->status, refusal->body.size(), now);
  serving->metrics.count_http(admission.route, admission.route == "other" ? "other" : admission.method, refusal->status, static_cast<double>(now - admission.started_ns) / kNsPerSecond);
  return refusal;
}

/// The request is for OtherPaths: its Host is allowed and the API has nothing at its path.
bool Api::State::is_others(const http::Request& request, Admission& admission) const {
  constexpr std::string_view kMethods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
  if (std::find(std::begin(kMethods), std::end(kMethods), request.method) == std::end(kMethods)) return false;
  if (!others.head || !host_allowed(request.header("Host"), serving->options.allowed_hosts)) return false;
  std::string path = admission.path;
  const std::string& root = serving->options.root_path;
  if (!root.empty() && (path == root || path.starts_with(root + "/"))) path.erase(0, root.size());
  if (path.empty()) path = "/";
  if (const Match match = match_route(request.method, path); match.route || !match.allowed.empty() || path.starts_with("/v1/")) return false;
  admission.path = path;
  admission.route = "chat";
  return true;
}

std::optional<http::Response> Api::State::refusal_of_others(http::Request& request, Admission& admission) {
  request.path = admission.path;
  request.peer_address = admission.peer;
  return others.head(request);
}

/// Fills in route and principal, or says why not.
std::optional<http::Response> Api::State::admit(const http::Request& request, Admission& admission) {
  const ApiOptions& options = serving->options;
  if (!host_allowed(request.header("Host"), options.allowed_hosts))
    return error_response(421, "this Host is not served here; the server's operator can allow it with --allowed-host");
  if (!options.root_path.empty() && admission.path.starts_with(options.root_path + "/")) admission.path.erase(0, options.root_path.size());
  const Match match = match_route(request.method, admission.path);
  if (request.method == "OPTIONS" && !match.allowed.empty()) return preflight(request, admission, match);
  if (!match.route) {
    if (match.allowed.empty()) return error_response(404, "there is nothing at this path; GET /openapi.json lists what there is");
    http::Response response = error_response(405, "this path has other methods: " + match.allowed);
    response.headers.emplace_back("Allow", match.allowed);
    return response;
  }
  const RouteInfo& route = kRoutes[*match.route];
  admission.route = route.path;
  admission.route_index = *match.route;
  auto principal = authenticator.authenticate(request, route.scope);
  if (!principal) return error_response(principal.error());
  admission.principal = std::move(*principal);
  if (route.method == "POST" && !is_json_content_type(request.header("Content-Type")))
    return error_response(400, "Unsupported Media Type: Only 'application/json' is allowed", "content-type");
  return {};
}

http::Response Api::State::preflight(const http::Request& request, const Admission& admission, const Match& match) const {
  http::Response response{204, {{"Allow", match.allowed + ", OPTIONS"}}, ""};
  if (admission.allowed_origin.empty() || request.header("Access-Control-Request-Method").empty()) return response;
  response.headers.emplace_back("Access-Control-Allow-Methods", match.allowed);
  response.headers.emplace_back("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Id");
  response.headers.emplace_back("Access-Control-Max-Age", "600");
  return response;
}

bool Api::State::enter(const Principal& principal) {
  if (principal.limits.concurrent_requests_max == 0) return true;
  std::lock_guard lock(mutex);
  int& running = running_of_key[principal.id];
  if (running >= principal.limits.concurrent_requests_max) return false;
  ++running;
  return true;
}

void Api::State::leave(const Principal& principal) {
  if (principal.limits.concurrent_requests_max == 0) return;
  std::lock_guard lock(mutex);
  if (const auto found = running_of_key.find(principal.id); --found->second == 0) running_of_key.erase(found);
}

void Api::State::on_request(http::Request request, std::shared_ptr<http::Responder> responder) {
  if (auto* delegated = std::any_cast<DelegatedRequest>(&request.admission)) {
    auto logged = make_logged_responder(std::move(delegated->admission), std::move(responder), serving->metrics);
    request.admission = std::any(std::move(delegated->inner));
    return others.handler(std::move(request), std::move(logged));
  }
  Admission admission = std::any_cast<Admission&&>(std::move(request.admission));
  const Principal principal = admission.principal;
  const size_t route = admission.route_index;
  const bool entered = enter(principal);
  ++under_way;
  auto exchange = std::make_shared<Exchange>(std::move(admission), std::move(request), std::move(responder), serving->metrics, [this, principal, entered] {
    if (entered) leave(principal);
    --under_way;
  });
  if (!entered)
    return exchange->fail({ErrorCode::resource_exhausted, fmt::format("this API key has its {} requests under way; try again later.", principal.limits.concurrent_requests_max), ""});
  kHandlers[route](serving, std::move(exchange));
}

Api::Api(ApiOptions options, EngineHandle& engine, Authenticator& authenticator, MetricRegistry& registry, http::Server& server)
    : state_(std::make_shared<State>(std::move(options), engine, authenticator, registry, server)) {}

Api::~Api() { close(); }

void Api::start(OtherPaths others) {
  state_->others = std::move(others);
  state_->server.start([state = state_.get()](http::Request request, std::shared_ptr<http::Responder> responder) { state->on_request(std::move(request), std::move(responder)); },
                       [state = state_.get()](http::Request& request) { return state->on_head(request); });
}

void Api::set_text(std::shared_ptr<const TextModel> text) {
  std::lock_guard lock(state_->serving->text_mutex);
  state_->serving->text_model = std::move(text);
}

int Api::under_way() const { return state_->under_way; }

void Api::close() {
  state_->serving->pool.stop();
  state_->serving->pump.close();
}

http::Response http_refusal(int status, std::string_view message) { return error_response(status, message); }

}  // namespace pagemill::api
