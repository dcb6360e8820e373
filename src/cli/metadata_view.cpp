#include "cli/metadata_view.h"

#include <map>

#include <fmt/format.h>

#include "terminal/terminal.h"

namespace pagemill {
namespace {

constexpr size_t kFirstElements = 8;
constexpr size_t kTextCharacters = 70;

/// At most `characters` of it, in one line.
std::string shortened(std::string_view text, size_t characters) {
  std::string line = terminal_safe(text);
  for (size_t at; (at = line.find_first_of("\n\t")) != std::string::npos;) line.replace(at, 1, line[at] == '\n' ? "\\n" : "\\t");
  size_t kept = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if ((line[i] & 0xc0) == 0x80) continue;
    if (++kept > characters) return line.substr(0, i) + "…";
  }
  return line;
}

json::value scalar_json(bool value) { return value; }
json::value scalar_json(int64_t value) { return value; }
json::value scalar_json(uint64_t value) { return value; }
json::value scalar_json(double value) { return value; }
json::value scalar_json(std::string_view value) { return json::string(utf8_or_replaced(value)); }

const char* type_name(const std::vector<bool>&) { return "bool"; }
const char* type_name(const std::vector<int64_t>&) { return "integer"; }
const char* type_name(const std::vector<uint64_t>&) { return "integer"; }
const char* type_name(const std::vector<double>&) { return "float"; }
const char* type_name(const StringArray&) { return "string"; }

json::object array_json(const MetadataArray& array) {
  return std::visit([](const auto& elements) -> json::object {
    json::array first;
    for (size_t i = 0; i < std::min(elements.size(), kFirstElements); ++i) first.push_back(scalar_json(elements[i]));
    return {{"type", type_name(elements)}, {"count", elements.size()}, {"first", std::move(first)}};
  }, array);
}

std::string scalar_text(const json::value& value) {
  if (const json::string* text = value.if_string()) return shortened({text->data(), text->size()}, kTextCharacters);
  if (const double* number = value.if_double()) return fmt::format("{:.7g}", *number);
  return json::serialize(value);
}

/// "blk.12.attn_q.weight" → "blk.*.attn_q.weight"; the name itself where no part is a number.
std::string layer_pattern(const std::string& name) {
  size_t start = 0;
  while (start < name.size()) {
    const size_t end = std::min(name.find('.', start), name.size());
    const std::string_view part(name.data() + start, end - start);
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos) return name.substr(0, start) + "*" + name.substr(end);
    start = end + 1;
  }
  return name;
}

}  // namespace

std::string utf8_or_replaced(std::string_view text) { return valid_utf8(text) ? std::string(text) : terminal_safe(text); }

json::value metadata_json(const MetadataValue& value) {
  if (const auto* array = std::get_if<MetadataArray>(&value.value)) return array_json(*array);
  return std::visit([](const auto& scalar) { return scalar_json(scalar); }, std::get<MetadataScalar>(value.value));
}

std::string metadata_text(const MetadataValue& value) {
  const json::value shown = metadata_json(value);
  if (!shown.is_object()) return scalar_text(shown);
  const json::array& first = shown.at("first").as_array();
  const int64_t count = shown.at("count").to_number<int64_t>();
  std::string elements;
  for (const json::value& element : first) {
    const std::string text = scalar_text(element);
    if (elements.size() + text.size() > kTextCharacters / 2) break;
    elements += elements.empty() ? text : ", " + text;
  }
  const bool all = count <= static_cast<int64_t>(first.size());
  return fmt::format("{} × {}: {}{}", count, std::string_view(shown.at("type").as_string()), elements, all ? "" : ", …");
}

std::vector<TensorGroup> group_tensors(std::span<const TensorView> tensors) {
  std::vector<TensorGroup> groups;
  std::map<std::string, size_t> index;
  for (const TensorView& tensor : tensors) {
    std::string pattern = layer_pattern(tensor.name);
    const auto [at, fresh] = index.try_emplace(fmt::format("{} {} {}", pattern, to_string(tensor.dtype), shape_text(tensor)), groups.size());
    if (fresh) groups.push_back({std::move(pattern), &tensor, 0, 0});
    groups[at->second].count += 1;
    groups[at->second].bytes += static_cast<int64_t>(tensor.bytes.size());
  }
  for (TensorGroup& group : groups)
    if (group.count == 1) group.name = group.first->name;
  return groups;
}

std::string shape_text(const TensorView& tensor) { return fmt::format("{}", fmt::join(tensor.shape, " × ")); }

}  // namespace pagemill
