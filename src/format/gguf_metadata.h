// The key-value section of a GGUF file.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "format/gguf_cursor.h"
#include "format/weight_source.h"

namespace pagemill {

/// Keys in the file's order, and found by hash.
class GgufMetadata {
 public:
  GgufMetadata() = default;
  GgufMetadata(GgufMetadata&&) = default;
  GgufMetadata& operator=(GgufMetadata&&) = default;

  /// Reads `count` entries at the cursor. Refuses what formats of this kind cannot have: duplicate keys, nested arrays, unknown
  /// types, booleans other than 0 and 1, lengths that the rest of the file or limits.h does not allow.
  static Result<GgufMetadata> read(GgufCursor& cursor, uint64_t count);

  std::span<const MetadataEntry> entries() const { return entries_; }
  const MetadataValue* find(std::string_view key) const;

 private:
  std::vector<MetadataEntry> entries_;
  std::unordered_map<std::string_view, size_t> index_;  // views into entries_, which keeps its buffer when moved
};

/// A name from a file, fit for a message: printable ASCII, shortened.
std::string printable(std::string_view name);
/// True if `name` is one or more printable ASCII characters without spaces, as keys and tensor names are.
bool well_formed_name(std::string_view name);

}  // namespace pagemill
