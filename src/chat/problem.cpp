#include "chat/problem.h"

namespace pagemill::chat {
namespace {

struct Mapping {
  ErrorCode code;
  int status;
  std::string_view reason;
};

constexpr Mapping kMappings[] = {
    {ErrorCode::invalid_argument, 400, "invalid_argument"},  {ErrorCode::invalid_file, 400, "damaged"},
    {ErrorCode::not_found, 404, "not_found"},                {ErrorCode::unauthenticated, 401, "signed_out"},
    {ErrorCode::permission_denied, 403, "not_allowed"},      {ErrorCode::context_too_long, 409, "context_too_long"},
    {ErrorCode::resource_exhausted, 429, "queue_full"},      {ErrorCode::out_of_memory, 503, "loading"},
    {ErrorCode::unavailable, 503, "loading"},                {ErrorCode::cancelled, 503, "shutting_down"},
    {ErrorCode::deadline_exceeded, 503, "queue_full"},       {ErrorCode::unsupported, 400, "invalid_argument"},
    {ErrorCode::io, 500, "storage"},                         {ErrorCode::internal, 500, "internal"},
};

}  // namespace

Problem::Problem(const Error& error) : message(error.message), field(error.field) {
  for (const Mapping& mapping : kMappings) {
    if (mapping.code != error.code) continue;
    status = mapping.status;
    reason = mapping.reason;
  }
}

std::string problem_json(const Problem& problem) {
  json::object error{{"status", problem.status}, {"reason", problem.reason}, {"message", problem.message}, {"field", nullptr}};
  if (!problem.field.empty()) error["field"] = problem.field;
  if (!problem.detail.empty()) error["detail"] = problem.detail;
  return json::serialize(json::object{{"error", std::move(error)}});
}

}  // namespace pagemill::chat
