#include "api/openapi.h"

#include "api/requests.h"

namespace pagemill::api {
namespace {

json::object reference(std::string_view name) { return {{"$ref", "#/components/schemas/" + std::string(name)}}; }

json::object json_content(json::object schema) { return {{"application/json", json::object{{"schema", std::move(schema)}}}}; }

json::object response(std::string_view description, json::object content) {
  return {{"description", std::string(description)}, {"content", std::move(content)}};
}

json::object error_schema() {
  return {{"type", "object"},
          {"required", {"error"}},
          {"properties",
           json::object{{"error", json::object{{"type", "object"},
                                               {"required", {"message", "type", "param", "code"}},
                                               {"properties", json::object{{"message", json::object{{"type", "string"}}},
                                                                           {"type", json::object{{"type", "string"}}},
                                                                           {"param", json::object{{"type", {"string", "null"}}}},
                                                                           {"code", json::object{{"type", "integer"}}}}}}}}}};
}

json::object object_with(std::initializer_list<std::pair<std::string_view, std::string_view>> fields) {
  json::object properties;
  json::array required;
  for (const auto& [name, type] : fields) {
    properties[json::string_view(name.data(), name.size())] = json::object{{"type", std::string(type)}};
    required.emplace_back(std::string(name));
  }
  return {{"type", "object"}, {"properties", std::move(properties)}, {"required", std::move(required)}};
}

json::object completion_schema() { return object_with({{"id", "string"}, {"object", "string"}, {"created", "integer"}, {"model", "string"}, {"choices", "array"}, {"usage", "object"}}); }

/// What a route answers with 200.
json::object answer_content(std::string_view path) {
  if (path == "/metrics") return {{"text/plain", json::object{{"schema", json::object{{"type", "string"}}}}}};
  if (path == "/health") return json_content(object_with({{"status", "string"}, {"phase", "string"}, {"progress", "number"}}));
  if (path == "/version") return json_content(object_with({{"version", "string"}}));
  if (path == "/v1/models") return json_content(object_with({{"object", "string"}, {"data", "array"}}));
  if (path == "/v1/models/{id}") return json_content(object_with({{"id", "string"}, {"object", "string"}, {"created", "integer"}, {"owned_by", "string"}}));
  if (path == "/v1/load") return json_content(object_with({{"server_load", "integer"}, {"state", "string"}, {"running", "integer"}, {"waiting", "integer"}}));
  if (path == "/v1/embeddings") return json_content(object_with({{"object", "string"}, {"model", "string"}, {"data", "array"}, {"usage", "object"}}));
  if (path == "/tokenize") return json_content(object_with({{"count", "integer"}, {"max_model_len", "integer"}, {"tokens", "array"}}));
  if (path == "/detokenize") return json_content(object_with({{"prompt", "string"}}));
  if (path == "/v1/chat/completions" || path == "/v1/completions") {
    json::object content = json_content(completion_schema());
    content["text/event-stream"] = json::object{{"schema", json::object{{"type", "string"}}}};
    return content;
  }
  return json_content({{"type", "object"}});
}

std::string_view body_schema_name(std::string_view path) {
  if (path == "/v1/chat/completions") return "ChatRequest";
  if (path == "/v1/completions") return "CompletionRequest";
  if (path == "/v1/embeddings") return "EmbeddingRequest";
  if (path == "/tokenize") return "TokenizeRequest";
  return "DetokenizeRequest";
}

json::object operation(const RouteInfo& route) {
  const json::object error = json_content(reference("Error"));
  json::object responses{{"200", response("The answer.", answer_content(route.path))}, {"421", response("A Host that is not served here.", error)}};
  responses["503"] = route.path == "/health" ? response("Not ready.", answer_content("/health")) : response("Loading, or shutting down.", error);
  json::object made{{"summary", std::string(route.summary)}};
  if (route.scope != Scope::none) {
    responses["401"] = response("No API key, or an unknown one.", json_content(object_with({{"error", "string"}})));
    responses["403"] = response("The API key lacks the scope " + std::string(to_string(route.scope)) + ".", error);
    responses["429"] = response("A limit is reached; see Retry-After.", error);
    made["security"] = {json::object{{"bearer", json::array{}}}, json::object{{"header", json::array{}}}};
  }
  if (route.method == "POST") {
    made["requestBody"] = json::object{{"required", true}, {"content", json_content(reference(body_schema_name(route.path)))}};
    for (const auto& [status, what] : {std::pair{"400", "A field is wrong; param names it."}, std::pair{"404", "Unknown model."}, std::pair{"408", "The body came too slowly."},
                                       std::pair{"413", "The body is too large."}, std::pair{"500", "A failure of the server."}, std::pair{"501", "Not possible in this version."}})
      responses[status] = response(what, error);
  }
  if (route.path.find('{') != std::string_view::npos) {
    responses["404"] = response("Unknown model.", error);
    responses["400"] = response("A malformed path.", error);
    made["parameters"] = {json::object{{"name", "id"}, {"in", "path"}, {"required", true}, {"schema", json::object{{"type", "string"}}}}};
  }
  made["responses"] = std::move(responses);
  return made;
}

}  // namespace

json::object openapi_document(std::span<const RouteInfo> routes, std::string_view version, std::string_view root_path) {
  json::object paths;
  for (const RouteInfo& route : routes) {
    json::value& path = paths[json::string_view(route.path.data(), route.path.size())];
    if (!path.is_object()) path = json::object();
    path.as_object()[route.method == "GET" ? "get" : "post"] = operation(route);
  }
  return {{"openapi", "3.1.0"},
          {"info", json::object{{"title", "Pagemill"}, {"version", std::string(version)}}},
          {"servers", {json::object{{"url", root_path.empty() ? "/" : std::string(root_path)}}}},
          {"paths", std::move(paths)},
          {"components",
           json::object{{"schemas", json::object{{"Error", error_schema()},
                                                 {"ChatRequest", chat_body_schema()},
                                                 {"CompletionRequest", completion_body_schema()},
                                                 {"EmbeddingRequest", embedding_body_schema()},
                                                 {"TokenizeRequest", tokenize_body_schema()},
                                                 {"DetokenizeRequest", detokenize_body_schema()}}},
                        {"securitySchemes", json::object{{"bearer", json::object{{"type", "http"}, {"scheme", "bearer"}}},
                                                         {"header", json::object{{"type", "apiKey"}, {"in", "header"}, {"name", "X-Api-Key"}}}}}}}};
}

}  // namespace pagemill::api
