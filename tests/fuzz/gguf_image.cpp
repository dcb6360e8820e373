#include "fuzz/gguf_image.h"

#include <cstring>

namespace pagemill {
namespace {

constexpr uint32_t kString = 8, kArray = 9;

void put(std::string& out, const ImageString& string) {
  out += raw<uint64_t>(string.length.value_or(string.text.size()));
  out += string.text;
}

// Bytes of a scalar of this type; 0 for strings and arrays, and for unknown types.
uint64_t size_of(uint32_t type) {
  switch (type) {
    case 0: case 1: case 7: return 1;
    case 2: case 3: return 2;
    case 4: case 5: case 6: return 4;
    case 10: case 11: case 12: return 8;
    default: return 0;
  }
}

/// Reads with bounds; anything amiss sets `failed`.
struct Reader {
  std::string_view bytes;
  bool failed = false;

  std::string_view take(uint64_t size) {
    if (failed || size > bytes.size()) {
      failed = true;
      return {};
    }
    const std::string_view taken = bytes.substr(0, size);
    bytes.remove_prefix(size);
    return taken;
  }
  template <class T>
  T number() {
    const std::string_view field = take(sizeof(T));
    T value{};
    if (!failed) std::memcpy(&value, field.data(), sizeof value);
    return value;
  }
  std::string string() { return std::string(take(number<uint64_t>())); }
};

std::string value_payload(Reader& reader, uint32_t type, uint64_t count) {
  if (size_of(type) != 0) {
    if (count > reader.bytes.size()) reader.failed = true;
    return std::string(reader.take(reader.failed ? 0 : count * size_of(type)));
  }
  if (type != kString) reader.failed = true;
  std::string payload;
  for (uint64_t i = 0; i < count && !reader.failed; ++i) payload += raw_string(reader.string());
  return payload;
}

ImageKey parse_key(Reader& reader) {
  ImageKey key;
  key.key.text = reader.string();
  key.type = reader.number<uint32_t>();
  if (key.type == kArray) {
    key.element_type = reader.number<uint32_t>();
    key.count = reader.number<uint64_t>();
    key.payload = value_payload(reader, key.element_type, key.count);
  } else {
    key.payload = value_payload(reader, key.type, 1);
  }
  return key;
}

ImageTensor parse_tensor(Reader& reader) {
  ImageTensor tensor;
  tensor.name.text = reader.string();
  const auto dimensions = reader.number<uint32_t>();
  if (dimensions > 8) reader.failed = true;
  for (uint32_t i = 0; i < dimensions && !reader.failed; ++i) tensor.extents.push_back(reader.number<uint64_t>());
  tensor.type = reader.number<uint32_t>();
  tensor.offset = reader.number<uint64_t>();
  return tensor;
}

}  // namespace

std::string GgufImage::serialize() const {
  std::string out = magic;
  out += raw(version);
  out += raw<uint64_t>(tensor_count.value_or(tensors.size()));
  out += raw<uint64_t>(key_count.value_or(keys.size()));
  for (const ImageKey& key : keys) {
    put(out, key.key);
    out += raw(key.type);
    if (key.type == kArray) out += raw(key.element_type) + raw(key.count);
    out += key.payload;
  }
  for (const ImageTensor& tensor : tensors) {
    put(out, tensor.name);
    out += raw<uint32_t>(tensor.dimensions.value_or(static_cast<uint32_t>(tensor.extents.size())));
    for (const uint64_t extent : tensor.extents) out += raw(extent);
    out += raw(tensor.type) + raw(tensor.offset);
  }
  if (padding_to != 0) out.resize((out.size() + padding_to - 1) / padding_to * padding_to, '\0');
  return out + data;
}

std::optional<GgufImage> GgufImage::parse(std::string_view bytes) {
  Reader reader{bytes};
  GgufImage image;
  image.magic = std::string(reader.take(4));
  image.version = reader.number<uint32_t>();
  const auto tensors = reader.number<uint64_t>(), keys = reader.number<uint64_t>();
  for (uint64_t i = 0; i < keys && !reader.failed; ++i) image.keys.push_back(parse_key(reader));
  for (uint64_t i = 0; i < tensors && !reader.failed; ++i) image.tensors.push_back(parse_tensor(reader));
  if (reader.failed) return std::nullopt;
  const uint64_t position = bytes.size() - reader.bytes.size();
  reader.take(std::min<uint64_t>(reader.bytes.size(), (image.padding_to - position % image.padding_to) % image.padding_to));
  image.data = std::string(reader.bytes);
  return image;
}

ImageKey* GgufImage::find_key(std::string_view name) {
  for (ImageKey& key : keys)
    if (key.key.text == name) return &key;
  return nullptr;
}

ImageTensor* GgufImage::find_tensor(std::string_view name) {
  for (ImageTensor& tensor : tensors)
    if (tensor.name.text == name) return &tensor;
  return nullptr;
}

std::string raw_string(std::string_view text) { return raw<uint64_t>(text.size()) + std::string(text); }

ImageKey scalar_key(std::string key, uint32_t type, std::string payload) {
  return {.key = {std::move(key), {}}, .type = type, .payload = std::move(payload)};
}

ImageKey array_key(std::string key, uint32_t element_type, uint64_t count, std::string payload) {
  return {.key = {std::move(key), {}}, .type = kArray, .element_type = element_type, .count = count, .payload = std::move(payload)};
}

GgufImage sample_image() {
  GgufImage image;
  image.keys = {
      scalar_key("general.architecture", kString, raw_string("llama")),
      scalar_key("general.alignment", 4, raw<uint32_t>(32)),
      scalar_key("t.u8", 0, raw<uint8_t>(1)),
      scalar_key("t.i8", 1, raw<int8_t>(-1)),
      scalar_key("t.u16", 2, raw<uint16_t>(2)),
      scalar_key("t.i16", 3, raw<int16_t>(-2)),
      scalar_key("t.i32", 5, raw<int32_t>(-3)),
      scalar_key("t.f32", 6, raw<float>(0.5f)),
      scalar_key("t.bool", 7, raw<uint8_t>(1)),
      scalar_key("t.u64", 10, raw<uint64_t>(4)),
      scalar_key("t.i64", 11, raw<int64_t>(-4)),
      scalar_key("t.f64", 12, raw<double>(0.25)),
      array_key("tokenizer.ggml.tokens", kString, 3, raw_string("a") + raw_string("") + raw_string("ccc")),
      array_key("tokenizer.ggml.scores", 6, 3, raw(1.0f) + raw(2.0f) + raw(3.0f)),
      array_key("t.bools", 7, 2, raw<uint8_t>(0) + raw<uint8_t>(1)),
      array_key("t.empty", 4, 0, ""),
  };
  image.tensors = {
      {.name = {"token_embd.weight", {}}, .extents = {32, 2}, .type = 8, .offset = 0},   // q8_0: 68 bytes
      {.name = {"blk.0.attn_q.weight", {}}, .extents = {256, 1}, .type = 12, .offset = 96},  // q4_k: 144 bytes
      {.name = {"output_norm.weight", {}}, .extents = {4}, .type = 0, .offset = 256},    // f32: 16 bytes
      {.name = {"cube", {}}, .extents = {2, 3, 2}, .type = 1, .offset = 288},            // f16: 24 bytes
  };
  image.data.resize(320);
  for (size_t i = 0; i < image.data.size(); ++i) image.data[i] = static_cast<char>(i * 11);
  return image;
}

}  // namespace pagemill
