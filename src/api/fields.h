// Fields of a JSON body as tables: name, type, range and what to do with the value. One table checks requests, names the
// field at fault and becomes the schema in /openapi.json.
#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace pagemill::api {

enum class FieldType { boolean, integer, number, string, array, object, text_or_array, text_or_object };

struct FieldInfo {
  std::string_view name;
  FieldType type;
  std::string_view description;
  double minimum = -std::numeric_limits<double>::infinity();  // of a number
  double maximum = std::numeric_limits<double>::infinity();
  bool required = false;
};

/// null counts as absent. Integers may be written as 2.0. Errors: invalid_argument with the field's name.
Result<void> check_field(const FieldInfo& info, const json::value& value);
/// {"type":…,"minimum":…,…}
json::object field_schema(const FieldInfo& info);

template <class T>
struct Field {
  FieldInfo info;
  /// Given a value of the right type and within the range.
  Result<void> (*set)(T&, const json::value&);
};

/// An integer that check_field() has let pass; one beyond int64 becomes the nearest (logit_bias and the like are clamped later).
inline int64_t integer_of(const json::value& value) {
  if (value.is_double()) {
    const double number = value.get_double();
    if (!(number > -0x1p63)) return INT64_MIN;
    return number >= 0x1p63 ? INT64_MAX : static_cast<int64_t>(number);
  }
  return value.is_uint64() ? static_cast<int64_t>(std::min<uint64_t>(value.get_uint64(), INT64_MAX)) : value.get_int64();
}
inline double number_of(const json::value& value) { return value.to_number<double>(); }
inline std::string text_of(const json::value& value) { return std::string(value.get_string()); }

Error missing_field(std::string_view name);

/// Reads `object` by several tables. Fields of no table are ignored, as in vLLM, and their names put into `unknown`.
template <class T>
Result<void> read_fields(const json::object& object, std::initializer_list<std::span<const Field<T>>> tables, T& target,
                         std::vector<std::string>& unknown) {
  for (const auto& [key, value] : object) {
    const Field<T>* field = nullptr;
    for (const auto& table : tables)
      for (const Field<T>& candidate : table)
        if (candidate.info.name == std::string_view(key.data(), key.size())) field = &candidate;
    if (!field) unknown.emplace_back(key);
    if (!field || value.is_null()) continue;
    PM_TRY(check_field(field->info, value));
    PM_TRY(field->set(target, value));
  }
  for (const auto& table : tables)
    for (const Field<T>& field : table)
      if (const json::value* value = object.if_contains(json::string_view(field.info.name.data(), field.info.name.size())); field.info.required && (!value || value->is_null()))
        return tl::unexpected(missing_field(field.info.name));
  return {};
}

/// {"type":"object","properties":{…},"required":[…]} of several tables.
template <class T>
json::object object_schema(std::initializer_list<std::span<const Field<T>>> tables) {
  json::object properties;
  json::array required;
  for (const auto& table : tables)
    for (const Field<T>& field : table) {
      properties[json::string_view(field.info.name.data(), field.info.name.size())] = field_schema(field.info);
      if (field.info.required) required.emplace_back(json::string_view(field.info.name.data(), field.info.name.size()));
    }
  json::object schema{{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

}  // namespace pagemill::api
