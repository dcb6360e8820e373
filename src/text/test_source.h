// Metadata for tests that need no model file.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/weight_source.h"

namespace pagemill {

/// A model file's metadata without the file.
class MemorySource final : public WeightSource {
 public:
  void set(std::string key, MetadataScalar value) { entries_.push_back({std::move(key), {std::move(value)}}); }
  void set(std::string key, MetadataArray value) { entries_.push_back({std::move(key), {std::move(value)}}); }

  const std::string& name() const override { return name_; }
  std::span<const MetadataEntry> metadata() const override { return entries_; }
  const MetadataValue* find_metadata(std::string_view key) const override {
    for (const MetadataEntry& entry : entries_) if (entry.key == key) return &entry.value;
    return nullptr;
  }
  const TensorView* find_tensor(std::string_view) const override { return nullptr; }
  std::span<const TensorView> tensors() const override { return {}; }
  Result<void> check_intact() const override { return {}; }

 private:
  std::string name_ = "test model";
  std::vector<MetadataEntry> entries_;
};

}  // namespace pagemill
