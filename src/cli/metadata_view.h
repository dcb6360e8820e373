// A model file's metadata and tensors as JSON and as lines for people. Strings in a file are anybody's: what goes to a terminal
// is made safe, what goes to JSON is made UTF-8.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "format/weight_source.h"

namespace pagemill {

/// A scalar as itself; an array as {"type", "count", "first": its first elements}.
json::value metadata_json(const MetadataValue& value);
/// One line of at most about 70 characters.
std::string metadata_text(const MetadataValue& value);

/// Tensors that differ in their layer alone, as one row: "blk.*.attn_q.weight".
struct TensorGroup {
  std::string name;
  const TensorView* first = nullptr;
  int64_t count = 0;
  int64_t bytes = 0;
};
/// In the order of each group's first tensor; groups of one keep their own name.
std::vector<TensorGroup> group_tensors(std::span<const TensorView> tensors);

/// "576 × 1536".
std::string shape_text(const TensorView& tensor);
/// `text` itself if it is UTF-8, else with what is broken replaced.
std::string utf8_or_replaced(std::string_view text);

}  // namespace pagemill
