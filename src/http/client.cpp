#include "http/client.h"

#include <curl/curl.h>

#include <mutex>

#include <fmt/format.h>

namespace pagemill::http {
namespace {

void initialise_curl_once() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

/// What one transfer gathers; curl's callbacks point here.
struct Transfer {
  const ClientRequest* request = nullptr;
  Response response;
  bool too_large = false;
  bool stopped = false;
};

size_t on_body(char* data, size_t, size_t bytes, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  if (transfer.request->on_data) {
    transfer.stopped = !transfer.request->on_data(std::string_view(data, bytes));
    return transfer.stopped ? 0 : bytes;
  }
  if (transfer.response.body.size() + bytes > transfer.request->body_bytes_max) {
    transfer.too_large = true;
    return 0;
  }
  transfer.response.body.append(data, bytes);
  return bytes;
}

size_t on_header(char* data, size_t, size_t bytes, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, bytes);
  if (line.starts_with("HTTP/")) transfer.response.headers.clear();  // the head of the last answer counts
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return bytes;
  const std::string_view rest = line.substr(colon + 1);
  const size_t first = rest.find_first_not_of(" \t\r\n");
  const std::string_view value = first == std::string_view::npos ? "" : rest.substr(first, rest.find_last_not_of(" \t\r\n") - first + 1);
  transfer.response.headers.emplace_back(std::string(line.substr(0, colon)), std::string(value));
  return bytes;
}

ErrorCode error_code_of(CURLcode code) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return ErrorCode::deadline_exceeded;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return ErrorCode::invalid_argument;
    default: return ErrorCode::io;
  }
}

}  // namespace

struct Client::State {
  CURL* curl = nullptr;
  char error[CURL_ERROR_SIZE] = {};
};

Client::Client() : state_(std::make_unique<State>()) {
  initialise_curl_once();
  state_->curl = curl_easy_init();
}

Client::~Client() {
  if (state_->curl) curl_easy_cleanup(state_->curl);
}

Result<Response> Client::fetch(const ClientRequest& request) {
  CURL* const curl = state_->curl;
  if (!curl) return fail(ErrorCode::internal, "libcurl could not be initialised");
  curl_easy_reset(curl);  // options go, connections stay
  Transfer transfer;
  transfer.request = &request;
  state_->error[0] = '\0';

  curl_slist* fields = nullptr;
  for (const auto& [name, value] : request.headers) {
    if (name.find_first_of("\r\n:") != std::string::npos || value.find_first_of("\r\n") != std::string::npos) {
      curl_slist_free_all(fields);
      return fail(ErrorCode::invalid_argument, fmt::format("the header {} has a line break", name), "headers");
    }
    fields = curl_slist_append(fields, value.empty() ? (name + ";").c_str() : (name + ": " + value).c_str());
  }
  fields = curl_slist_append(fields, "Expect:");  // no round trip before a body

  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, request.url.starts_with("https:") ? "https" : "http");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, request.follow_redirects ? 1L : 0L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 8L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(request.connect_timeout_s));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(request.stall_timeout_s));
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, state_->error);
  if (request.method == "HEAD") curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT" || request.method == "PATCH") {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  }
  if (request.method != "HEAD") curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());

  const CURLcode code = curl_easy_perform(curl);
  curl_slist_free_all(fields);
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  transfer.response.status = static_cast<int>(status);
  if (transfer.stopped) return transfer.response;
  if (transfer.too_large)
    return fail(ErrorCode::resource_exhausted, fmt::format("{} answered with more than {} bytes", request.url, request.body_bytes_max));
  if (code != CURLE_OK)
    return fail(error_code_of(code), fmt::format("{} {}: {}", request.method, request.url, state_->error[0] ? state_->error : curl_easy_strerror(code)));
  return transfer.response;
}

}  // namespace pagemill::http
