#include "api/fields.h"

#include <fmt/format.h>

namespace pagemill::api {
namespace {

std::string_view type_name(FieldType type) {
  switch (type) {
    case FieldType::boolean: return "a boolean";
    case FieldType::integer: return "an integer";
    case FieldType::number: return "a number";
    case FieldType::string: return "a string";
    case FieldType::array: return "an array";
    case FieldType::object: return "an object";
    case FieldType::text_or_array: return "a string or an array";
    case FieldType::text_or_object: return "a string or an object";
  }
  return "";
}

/// The value as it was sent, cut where it is long.
std::string shown(const json::value& value) {
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  if (value.is_string()) return "a string";
  return json::serialize(value);
}

bool has_type(FieldType type, const json::value& value) {
  switch (type) {
    case FieldType::boolean: return value.is_bool();
    case FieldType::integer: return value.is_int64() || value.is_uint64() || (value.is_double() && std::floor(value.get_double()) == value.get_double());
    case FieldType::number: return value.is_number();
    case FieldType::string: return value.is_string();
    case FieldType::array: return value.is_array();
    case FieldType::object: return value.is_object();
    case FieldType::text_or_array: return value.is_string() || value.is_array();
    case FieldType::text_or_object: return value.is_string() || value.is_object();
  }
  return false;
}

std::string range_text(const FieldInfo& info) {
  if (std::isinf(info.maximum)) return fmt::format("at least {}", info.minimum);
  if (std::isinf(info.minimum)) return fmt::format("at most {}", info.maximum);
  return fmt::format("between {} and {}", info.minimum, info.maximum);
}

}  // namespace

Error missing_field(std::string_view name) {
  return {ErrorCode::invalid_argument, fmt::format("the field '{}' is missing.", name), std::string(name)};
}

Result<void> check_field(const FieldInfo& info, const json::value& value) {
  if (!has_type(info.type, value))
    return fail(ErrorCode::invalid_argument, fmt::format("'{}' must be {}, got {}.", info.name, type_name(info.type), shown(value)), std::string(info.name));
  if (info.type != FieldType::integer && info.type != FieldType::number) return {};
  const double number = value.to_number<double>();
  if (number >= info.minimum && number <= info.maximum) return {};
  return fail(ErrorCode::invalid_argument, fmt::format("'{}' must be {}, got {}.", info.name, range_text(info), shown(value)), std::string(info.name));
}

json::object field_schema(const FieldInfo& info) {
  json::object schema;
  switch (info.type) {
    case FieldType::boolean: schema["type"] = {"boolean", "null"}; break;
    case FieldType::integer: schema["type"] = {"integer", "null"}; break;
    case FieldType::number: schema["type"] = {"number", "null"}; break;
    case FieldType::string: schema["type"] = {"string", "null"}; break;
    case FieldType::array: schema["type"] = {"array", "null"}; break;
    case FieldType::object: schema["type"] = {"object", "null"}; break;
    case FieldType::text_or_array: schema["type"] = {"string", "array", "null"}; break;
    case FieldType::text_or_object: schema["type"] = {"string", "object", "null"}; break;
  }
  if (info.required) schema["type"].as_array().pop_back();
  if (std::isfinite(info.minimum)) schema["minimum"] = info.minimum;
  if (std::isfinite(info.maximum)) schema["maximum"] = info.maximum;
  if (!info.description.empty()) schema["description"] = json::string_view(info.description.data(), info.description.size());
  return schema;
}

}  // namespace pagemill::api
