// /openapi.json, made from the route table and the tables of fields.
#pragma once

#include <span>
#include <string_view>

#include "api/api.h"
#include "base/json.h"

namespace pagemill::api {

json::object openapi_document(std::span<const RouteInfo> routes, std::string_view version, std::string_view root_path);

}  // namespace pagemill::api
