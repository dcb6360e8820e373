// Handlers of /models, /machine and /events.
#include "chat/documents.h"
#include "chat/monitor.h"
#include "chat/prompt.h"
#include "chat/site.h"

namespace pagemill::chat {
namespace {

Outcome<Reply> get_models(Call& call) {
  Site& site = call.site;
  const EngineStats stats = site.engine.stats();
  const std::vector<EngineModelInfo> loaded = site.engine.models();
  const bool ready = stats.state == EngineState::ready && site.text() && !loaded.empty();
  const std::string_view state = stats.state == EngineState::ready && !ready ? "loading" : to_string(stats.state);
  json::array models;
  for (const std::string& name : site.options.model_names)
    models.push_back(json::object{{"id", name}, {"name", name}, {"context", loaded.empty() ? json::value(nullptr) : json::value(loaded.front().context_max)}, {"state", state}, {"progress", ready ? 1.0 : stats.load_progress}, {"phase", stats.load_phase},
                                  {"message", stats.state == EngineState::failed && call.is_admin() ? json::value(stats.failure.message) : json::value(nullptr)}});
  return reply(json::object{{"models", std::move(models)}, {"defaults", sampling_json(site.options.sampling)}, {"documents", site.documents->abilities()}});
}

Outcome<Reply> get_machine(Call& call) { return reply(call.site.monitor->machine_json()); }

Outcome<Reply> get_events(Call& call) {
  const std::string_view last = call.request.header("Last-Event-ID");
  const std::string after = last.empty() ? call.query("after") : std::string(last);
  const bool live = call.query("live") == "1" && call.is_admin();
  if (call.request.method == "HEAD") return Reply{200, nullptr, {{"Content-Type", "text/event-stream"}}, ""};
  const std::string session = call.identity->session_id;
  if (!call.site.hub.attach(call.user_id(), session, call.responder, after, live)) return refuse(429, "quota", "There are too many tabs open.");
  call.responder.reset();  // the hub's
  // The session may have ended between the look at it and the hub's knowing of the stream.
  if (call.site.options.auth == AuthMode::accounts && !call.site.accounts->session_alive(session)) call.site.hub.end_sessions({session});
  return no_content();
}

}  // namespace

std::vector<Route> machine_routes() {
  return {
      {"GET", "/models", Access::user, BodyKind::none, get_models},
      {"GET", "/machine", Access::admin, BodyKind::none, get_machine},
      {"GET", "/events", Access::signed_in, BodyKind::none, get_events},
  };
}

}  // namespace pagemill::chat
