// Api: the OpenAI protocol over an engine, with vLLM's names, shapes and errors.
//
// Every route is in one table with the scope it needs; a request is admitted (Host, route, credential, content type) when its
// head has been read, before its body is.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "api/auth.h"
#include "api/other_paths.h"
#include "api/serving.h"
#include "base/metrics.h"
#include "http/server.h"

namespace pagemill::api {

struct RouteInfo {
  std::string_view method;               // GET (HEAD too) or POST
  std::string_view path;                 // "/v1/models/{id}": {id} is all the rest, slashes included
  Scope scope;
  std::string_view summary;
};

/// The whole table, in the order of matching.
std::span<const RouteInfo> routes();

class Api {
 public:
  /// `engine` may still be loading. All references must outlive it.
  Api(ApiOptions options, EngineHandle& engine, Authenticator& authenticator, MetricRegistry& registry, http::Server& server);
  /// Destroy the server first: no handler may run any more.
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  /// Serves requests from here on; those that need the model get 503 until it has loaded. Paths that the API does not have go to
  /// `others`, if there is one.
  void start(OtherPaths others = {});
  void set_text(std::shared_ptr<const TextModel> text);
  /// Requests whose answer is not complete.
  int under_way() const;
  /// Engine events are no longer delivered: call before the server is destroyed.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// The answer of the HTTP server to what it refuses itself, in the API's shape; for ServerOptions::refusal.
http::Response http_refusal(int status, std::string_view message);

}  // namespace pagemill::api
