#include "format/gguf.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/limits.h"
#include "format/gguf_file.h"
#include "format/mapped_file.h"

namespace pagemill {
namespace {

/// Where the bytes of one file are: mapped, or in memory.
class Storage {
 public:
  explicit Storage(std::unique_ptr<MappedFile> mapping) : mapping_(std::move(mapping)), name_(mapping_->name()) {}
  Storage(std::string name, std::string image) : image_(std::make_unique<std::string>(std::move(image))), name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  std::span<const std::byte> bytes() const { return mapping_ ? mapping_->bytes() : std::as_bytes(std::span(*image_)); }
  bool read(const std::byte* from, std::span<std::byte> to) const {
    const std::span<const std::byte> all = bytes();
    return mapping_ && std::greater_equal<>()(from, all.data()) && std::less<>()(from, all.data() + all.size()) && mapping_->read(from, to);
  }
  Result<void> check_intact() const { return mapping_ ? mapping_->check_intact() : Result<void>(); }

 private:
  std::unique_ptr<MappedFile> mapping_;
  std::unique_ptr<const std::string> image_;  // stays where it is when the Storage moves
  std::string name_;
};

struct Part {
  Storage storage;
  GgufFile content;
};

class GgufSource final : public WeightSource {
 public:
  explicit GgufSource(std::vector<Part> parts) {
    size_t count = 0;
    for (const Part& part : parts) count += part.content.tensors.size();
    tensors_.reserve(count);
    metadata_ = std::move(parts.front().content.metadata);
    for (Part& part : parts) {
      std::move(part.content.tensors.begin(), part.content.tensors.end(), std::back_inserter(tensors_));
      storages_.push_back(std::move(part.storage));
    }
    index_.reserve(count);
    for (size_t i = 0; i < count; ++i) index_.emplace(tensors_[i].name, i);
  }

  const std::string& name() const override { return storages_.front().name(); }
  std::span<const MetadataEntry> metadata() const override { return metadata_.entries(); }
  const MetadataValue* find_metadata(std::string_view key) const override { return metadata_.find(key); }
  std::span<const TensorView> tensors() const override { return tensors_; }

  const TensorView* find_tensor(std::string_view name) const override {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
  }

  bool read(const std::byte* from, std::span<std::byte> to) const override {
    return std::any_of(storages_.begin(), storages_.end(), [&](const Storage& s) { return s.read(from, to); });
  }

  Result<void> check_intact() const override {
    for (const Storage& storage : storages_) PM_TRY(storage.check_intact());
    return {};
  }

  /// The first name that two parts both have.
  std::optional<std::string_view> duplicate() const {
    if (index_.size() == tensors_.size()) return std::nullopt;
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (index_.at(tensors_[i].name) != i) return tensors_[i].name;
    return std::nullopt;
  }

 private:
  std::vector<Storage> storages_;  // outlive the views below
  GgufMetadata metadata_;          // the first part's
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string_view, size_t> index_;  // views into tensors_
};

/// Where a file stands in a split model.
struct SplitPlace {
  uint64_t number = 0;  // from 0
  uint64_t count = 1;
  std::optional<uint64_t> tensors;  // of all parts
};

Result<std::optional<uint64_t>> split_value(const Part& part, std::string_view key) {
  const MetadataValue* value = part.content.metadata.find(key);
  if (!value) return std::nullopt;
  if (const auto* scalar = std::get_if<MetadataScalar>(&value->value)) {
    if (const auto* v = std::get_if<uint64_t>(scalar)) return *v;
    if (const auto* v = std::get_if<int64_t>(scalar); v && *v >= 0) return static_cast<uint64_t>(*v);
  }
  return fail(ErrorCode::invalid_file, fmt::format("{}: metadata {} is not a count", part.storage.name(), key), std::string(key));
}

Result<SplitPlace> read_split(const Part& part) {
  SplitPlace place;
  PM_ASSIGN(const std::optional<uint64_t> count, split_value(part, "split.count"));
  PM_ASSIGN(const std::optional<uint64_t> number, split_value(part, "split.no"));
  PM_ASSIGN(place.tensors, split_value(part, "split.tensors.count"));
  // 0 is what some writers leave in a file that was never split.
  place.count = count && *count != 0 ? *count : 1;
  place.number = number.value_or(0);
  const std::string& file = part.storage.name();
  if (place.count > limits::kGgufSplits)
    return fail(ErrorCode::invalid_file, fmt::format("{}: split.count is {}, {} at most", file, place.count, limits::kGgufSplits), "split.count");
  if (place.number >= place.count)
    return fail(ErrorCode::invalid_file, fmt::format("{}: split.no is {} of {} parts", file, place.number, place.count), "split.no");
  return place;
}

/// "dir/model-00001-of-00003.gguf" → "dir/model", if that is what a first part of `count` is called.
std::optional<std::string> split_prefix(const std::string& file, uint64_t count) {
  const std::string ending = fmt::format("-00001-of-{:05}.gguf", count);
  if (!file.ends_with(ending)) return std::nullopt;
  return file.substr(0, file.size() - ending.size());
}

Result<Part> read_part(Storage storage) {
  PM_ASSIGN(GgufFile content, read_gguf_file(storage.name(), storage.bytes()));
  PM_TRY(storage.check_intact());
  return Part{std::move(storage), std::move(content)};
}

Result<Part> open_part(const std::filesystem::path& path) {
  PM_ASSIGN(auto mapping, MappedFile::open(path));
  return read_part(Storage(std::move(mapping)));
}

Result<void> check_first(const Part& part, const SplitPlace& place) {
  const std::string& file = part.storage.name();
  if (place.number != 0)
    return fail(ErrorCode::invalid_file,
                fmt::format("{}: this is part {} of {} of a split model; give the first part", file, place.number + 1, place.count),
                "split.no");
  if (!split_prefix(file, place.count))
    return fail(ErrorCode::invalid_file,
                fmt::format("{}: the first of {} parts must be called NAME-00001-of-{:05}.gguf for the others to be found", file,
                            place.count, place.count),
                "split.count");
  return {};
}

/// Opens parts 2 … count and checks that each is the one it claims to be.
Result<void> open_others(const SplitPlace& first, std::vector<Part>& parts) {
  const std::string prefix = split_prefix(parts.front().storage.name(), first.count).value();
  size_t tensors = parts.front().content.tensors.size();
  for (uint64_t i = 1; i < first.count; ++i) {
    PM_ASSIGN(Part part, open_part(fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i + 1, first.count)));
    PM_ASSIGN(const SplitPlace place, read_split(part));
    if (place.number != i || place.count != first.count)
      return fail(ErrorCode::invalid_file,
                  fmt::format("{}: says it is part {} of {}, and should be part {} of {}", part.storage.name(), place.number + 1,
                              place.count, i + 1, first.count),
                  "split.no");
    tensors += part.content.tensors.size();
    if (tensors > limits::kGgufTensors)
      return fail(ErrorCode::invalid_file,
                  fmt::format("{}: brings the tensors of all parts above {}", part.storage.name(), limits::kGgufTensors), "tensor_count");
    part.content.metadata = {};
    parts.push_back(std::move(part));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<WeightSource>> open_gguf(const std::filesystem::path& path) {
  std::vector<Part> parts;
  PM_ASSIGN(Part first, open_part(path));
  PM_ASSIGN(const SplitPlace place, read_split(first));
  parts.push_back(std::move(first));
  if (place.count > 1) {
    PM_TRY(check_first(parts.front(), place));
    PM_TRY(open_others(place, parts));
  }
  auto source = std::make_unique<GgufSource>(std::move(parts));
  if (const auto name = source->duplicate())
    return fail(ErrorCode::invalid_file, fmt::format("{}: tensor {} is in two parts", source->name(), *name), std::string(*name));
  if (place.count > 1 && place.tensors && *place.tensors != source->tensors().size())
    return fail(ErrorCode::invalid_file,
                fmt::format("{}: split.tensors.count is {}, and the parts have {} tensors", source->name(), *place.tensors,
                            source->tensors().size()),
                "split.tensors.count");
  return source;
}

Result<std::unique_ptr<WeightSource>> open_gguf_image(std::string name, std::string bytes) {
  PM_ASSIGN(Part part, read_part(Storage(std::move(name), std::move(bytes))));
  PM_ASSIGN(const SplitPlace place, read_split(part));
  if (place.count > 1)
    return fail(ErrorCode::invalid_file, fmt::format("{}: is part of a split model", part.storage.name()), "split.count");
  std::vector<Part> parts;
  parts.push_back(std::move(part));
  return std::make_unique<GgufSource>(std::move(parts));
}

}  // namespace pagemill
