#include "format/weight_source.h"

#include <cmath>

#include <fmt/format.h>

#include "base/check.h"

namespace pagemill {
namespace {

std::string_view kind_of(const MetadataValue& value) {
  static constexpr std::string_view kScalars[] = {"a boolean", "an integer", "an integer", "a number", "a string"};
  static constexpr std::string_view kArrays[] = {"an array of booleans", "an array of integers", "an array of integers",
                                                 "an array of numbers", "an array of strings"};
  if (const auto* scalar = std::get_if<MetadataScalar>(&value.value)) return kScalars[scalar->index()];
  return kArrays[std::get<MetadataArray>(value.value).index()];
}

tl::unexpected<Error> wrong_kind(const WeightSource& source, std::string_view key, std::string_view wanted,
                                 const MetadataValue& value) {
  return fail(ErrorCode::invalid_file,
              fmt::format("{}: metadata {} should be {} and is {}", source.name(), key, wanted, kind_of(value)), std::string(key));
}

tl::unexpected<Error> missing(const WeightSource& source, std::string_view key) {
  return fail(ErrorCode::invalid_file, fmt::format("{}: metadata {} is missing", source.name(), key), std::string(key));
}

template <class T>
const T* scalar_as(const MetadataValue& value) {
  const auto* scalar = std::get_if<MetadataScalar>(&value.value);
  return scalar ? std::get_if<T>(scalar) : nullptr;
}

template <class T>
const T* array_as(const MetadataValue& value) {
  const auto* array = std::get_if<MetadataArray>(&value.value);
  return array ? std::get_if<T>(array) : nullptr;
}

bool in_range(int64_t value, int64_t min, int64_t max) { return value >= min && value <= max; }
bool in_range(uint64_t value, int64_t min, int64_t max) {
  return value <= static_cast<uint64_t>(INT64_MAX) && in_range(static_cast<int64_t>(value), min, max);
}

template <class Int>
Result<int64_t> checked_integer(const WeightSource& source, std::string_view key, Int value, int64_t min, int64_t max) {
  if (in_range(value, min, max)) return static_cast<int64_t>(value);
  return fail(ErrorCode::invalid_file,
              fmt::format("{}: metadata {} is {}, outside {} … {}", source.name(), key, value, min, max), std::string(key));
}

template <class Int>
Result<std::optional<std::vector<int64_t>>> checked_integers(const WeightSource& source, std::string_view key,
                                                            const std::vector<Int>& values, int64_t min, int64_t max) {
  std::vector<int64_t> out;
  out.reserve(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!in_range(values[i], min, max)) {
      return checked_integer(source, fmt::format("{}[{}]", key, i), values[i], min, max)
          .map([](int64_t) { return std::optional<std::vector<int64_t>>(); });
    }
    out.push_back(static_cast<int64_t>(values[i]));
  }
  return std::optional(std::move(out));
}

}  // namespace

StringArray::StringArray(std::initializer_list<std::string_view> strings) {
  for (const std::string_view string : strings) push_back(string);
}

std::string_view StringArray::operator[](size_t i) const {
  PM_CHECK(i < ends_.size(), "string {} of {}", i, ends_.size());
  const size_t begin = i == 0 ? 0 : ends_[i - 1];
  return std::string_view(bytes_).substr(begin, ends_[i] - begin);
}

void StringArray::reserve(size_t strings, size_t bytes) {
  ends_.reserve(strings);
  bytes_.reserve(bytes);
}

void StringArray::push_back(std::string_view string) {
  PM_CHECK(bytes_.size() + string.size() <= UINT32_MAX, "more than 4 GiB of strings");
  bytes_.append(string);
  ends_.push_back(static_cast<uint32_t>(bytes_.size()));
}

Result<std::optional<int64_t>> WeightSource::integer(std::string_view key, int64_t min, int64_t max) const {
  const MetadataValue* value = find_metadata(key);
  if (!value) return std::nullopt;
  if (const auto* v = scalar_as<int64_t>(*value)) return checked_integer(*this, key, *v, min, max);
  if (const auto* v = scalar_as<uint64_t>(*value)) return checked_integer(*this, key, *v, min, max);
  return wrong_kind(*this, key, "an integer", *value);
}

Result<std::optional<double>> WeightSource::number(std::string_view key) const {
  const MetadataValue* value = find_metadata(key);
  if (!value) return std::nullopt;
  if (const auto* v = scalar_as<int64_t>(*value)) return static_cast<double>(*v);
  if (const auto* v = scalar_as<uint64_t>(*value)) return static_cast<double>(*v);
  const auto* v = scalar_as<double>(*value);
  if (!v) return wrong_kind(*this, key, "a number", *value);
  if (!std::isfinite(*v))
    return fail(ErrorCode::invalid_file, fmt::format("{}: metadata {} is {}, not a finite number", name(), key, *v), std::string(key));
  return *v;
}

Result<std::optional<bool>> WeightSource::boolean(std::string_view key) const {
  const MetadataValue* value = find_metadata(key);
  if (!value) return std::nullopt;
  if (const auto* v = scalar_as<bool>(*value)) return *v;
  return wrong_kind(*this, key, "a boolean", *value);
}

Result<std::optional<std::string>> WeightSource::string(std::string_view key) const {
  const MetadataValue* value = find_metadata(key);
  if (!value) return std::nullopt;
  if (const auto* v = scalar_as<std::string>(*value)) return *v;
  return wrong_kind(*this, key, "a string", *value);
}

Result<const StringArray*> WeightSource::strings(std::string_view key) const {
  const MetadataValue* value = find_metadata(key);
  if (!value) return nullptr;
  if (const auto* v = array_as<StringArray>(*value)) return v;
  return wrong_kind(*this, key, "an array of strings", *value);
}

Result<std::optional<std::vector<int64_t>>> WeightSource::integers(std::string_view key, int64_t min, int64_t max) const {
  const MetadataValue* value = find_metadata(key);
  if (!value) return std::nullopt;
  if (const auto* v = array_as<std::vector<int64_t>>(*value)) return checked_integers(*this, key, *v, min, max);
  if (const auto* v = array_as<std::vector<uint64_t>>(*value)) return checked_integers(*this, key, *v, min, max);
  return wrong_kind(*this, key, "an array of integers", *value);
}

Result<std::optional<std::vector<double>>> WeightSource::numbers(std::string_view key) const {
  const MetadataValue* value = find_metadata(key);
  if (!value) return std::nullopt;
  const auto* v = array_as<std::vector<double>>(*value);
  if (!v) return wrong_kind(*this, key, "an array of numbers", *value);
  for (size_t i = 0; i < v->size(); ++i) {
    if (std::isfinite((*v)[i])) continue;
    return fail(ErrorCode::invalid_file, fmt::format("{}: metadata {}[{}] is {}, not a finite number", name(), key, i, (*v)[i]),
                std::string(key));
  }
  return *v;
}

Result<int64_t> WeightSource::required_integer(std::string_view key, int64_t min, int64_t max) const {
  PM_ASSIGN(const std::optional<int64_t> value, integer(key, min, max));
  if (!value) return missing(*this, key);
  return *value;
}

Result<std::string> WeightSource::required_string(std::string_view key) const {
  PM_ASSIGN(std::optional<std::string> value, string(key));
  if (!value) return missing(*this, key);
  return std::move(*value);
}

}  // namespace pagemill
