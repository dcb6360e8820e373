// The whole server in one object, as `pagemill serve` puts it together, over an engine that says what a test scripts.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "api/api.h"
#include "api/error_body.h"
#include "api/static_keys.h"
#include "chat/site.h"
#include "session/scripted_engine.h"
#include "support/text_support.h"

namespace pagemill::test {

struct ChatServerOptions {
  ScriptedEngineConfig engine;
  chat::SiteOptions chat;
  http::ServerOptions http;
  bool credential_needed = false;
};

inline ChatServerOptions chat_server_options(std::filesystem::path data_dir) {
  ChatServerOptions options;
  options.engine.model = test_model_info(8'192);
  options.engine.script = repeat_user;
  options.chat.data_dir = std::move(data_dir);
  options.chat.model_names = {"test-model"};
  options.chat.version = "1.2.3";
  options.chat.extractor = PAGEMILL_EXTRACTOR;
  options.http.port = 0;
  options.http.io_threads = 1;
  options.http.refusal = api::http_refusal;
  return options;
}

class ChatServer {
 public:
  static Result<std::unique_ptr<ChatServer>> start(const ChatServerOptions& options) {
    auto made = std::make_unique<ChatServer>();
    made->engine = make_scripted_engine(options.engine);
    PM_ASSIGN(made->site, chat::Site::open(options.chat, *made->engine));
    PM_ASSIGN(made->http, http::Server::listen(options.http));
    made->authenticator = made->site->make_authenticator(make_static_authenticator({}), options.credential_needed);
    api::ApiOptions api_options;
    api_options.model_names = options.chat.model_names;
    api_options.version = options.chat.version;
    api_options.root_path = options.chat.root_path;
    made->the_api = std::make_unique<api::Api>(api_options, *made->engine, *made->authenticator, made->registry, *made->http);
    made->site->set_text(test_text_model());
    made->the_api->set_text(test_text_model());
    chat::Site* const site = made->site.get();
    made->the_api->start({[site](http::Request& request) { return site->on_head(request); },
                          [site](http::Request request, std::shared_ptr<http::Responder> responder) { site->on_request(std::move(request), std::move(responder)); }});
    return made;
  }
  ~ChatServer() {
    if (site) site->close();
    if (the_api) the_api->close();
    http.reset();
    the_api.reset();
    authenticator.reset();
    site.reset();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(http->port()); }

  MetricRegistry registry;
  std::unique_ptr<EngineHandle> engine;
  std::unique_ptr<chat::Site> site;
  std::unique_ptr<Authenticator> authenticator;
  std::unique_ptr<http::Server> http;
  std::unique_ptr<api::Api> the_api;
};

}  // namespace pagemill::test
