// Running a server: from checked options to its end by a signal.
#pragma once

#include <string>
#include <vector>

#include "api/serving.h"
#include "api/static_keys.h"
#include "base/result.h"
#include "chat/site.h"
#include "cli/command_line.h"
#include "cli/device.h"
#include "engine/engine.h"
#include "http/server.h"

namespace pagemill {

struct ServeOptions {
  http::ServerOptions http;
  api::ApiOptions api;                     // model_names may be empty: the file's name then
  EngineOptions engine;                    // without its model
  std::vector<StaticKey> keys;
  bool insecure = false;                   // beyond loopback without any key
  bool chat_page = true;
  bool data_dir_given = false;             // else a folder that another server uses leaves this one without the page
  chat::SiteOptions chat;
  std::string model;                       // a file, a name, or "" for the default model
  std::string chat_template;               // replaces the model's own; empty = that
  DeviceFlags device;
  int shutdown_timeout_s = 30;             // for answers under way after SIGTERM
};

/// Listens at once, loads the model behind, serves until SIGINT or SIGTERM, then drains; a second signal ends it at once. Prints
/// URL, a curl line, and where the time went. Errors: address in use, no such model, a model that cannot be loaded.
Result<ExitCode> serve(ServeOptions options);

bool is_loopback(const std::string& host);

/// "http://127.0.0.1:8080", with brackets around an IPv6 address and the machine's own name for "every address".
std::string server_url(const http::ServerOptions& http, uint16_t port);

}  // namespace pagemill
