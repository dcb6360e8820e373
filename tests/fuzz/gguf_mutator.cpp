#include "fuzz/gguf_mutator.h"

#include <cstring>
#include <utility>

namespace pagemill {
namespace {

// Where sums and products wrap, signs flip, types and limits end.
constexpr uint64_t kEdges[] = {
    0, 1, 2, 3, 4, 7, 8, 31, 32, 33, 63, 64, 255, 256, 257, 1'024, 65'535, 65'536, 65'537, 1u << 20, (1u << 20) + 1,
    (uint64_t{1} << 31) - 1, uint64_t{1} << 31, uint64_t{1} << 32, (uint64_t{1} << 40) - 1, uint64_t{1} << 40,
    (uint64_t{1} << 62) + 1, (uint64_t{1} << 63) - 1, uint64_t{1} << 63, UINT64_MAX - 31, UINT64_MAX - 1, UINT64_MAX};
constexpr uint32_t kScalarTypes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12};

class Mutation {
 public:
  Mutation(GgufImage& image, SplitMix64& random, const ByteMutator& bytes) : image_(image), random_(random), bytes_(bytes) {}

  void one() {
    switch (random_.below(12)) {
      case 0: return header();
      case 1: return image_.keys.empty() ? header() : key_shape();
      case 2:
      case 3:
      case 4: return image_.keys.empty() ? header() : key_value(pick(image_.keys));
      case 5: return image_.keys.empty() ? header() : rearrange(image_.keys);
      case 6:
      case 7:
      case 8: return image_.tensors.empty() ? header() : tensor(pick(image_.tensors));
      case 9: return image_.tensors.empty() ? header() : rearrange(image_.tensors);
      case 10: return resize_data();
      default: return bytes_(image_.data);
    }
  }

 private:
  template <class T>
  T& pick(std::vector<T>& values) {
    return values[random_.below(values.size())];
  }

  uint64_t number() {
    const uint64_t edge = kEdges[random_.below(std::size(kEdges))];
    switch (random_.below(4)) {
      case 0: return random_();
      case 1: return edge + random_.below(5) - 2;
      default: return edge;
    }
  }

  void header() {
    switch (random_.below(4)) {
      case 0: image_.version = static_cast<uint32_t>(number()); return;
      case 1: image_.tensor_count = number(); return;
      case 2: image_.key_count = number(); return;
      default: image_.padding_to = uint64_t{1} << random_.below(8); return;
    }
  }

  void name(ImageString& string) {
    if (random_.below(2) == 0) {
      string.length = number();
    } else {
      bytes_(string.text);
    }
  }

  void key_shape() {
    ImageKey& key = pick(image_.keys);
    switch (random_.below(4)) {
      case 0: return name(key.key);
      case 1: key.type = static_cast<uint32_t>(random_.below(15)); return;
      case 2: key.element_type = static_cast<uint32_t>(random_.below(15)); return;
      default: key.count = number(); return;
    }
  }

  // A value that stays well-formed, of this or another type, or bytes that need not be.
  void key_value(ImageKey& key) {
    switch (random_.below(4)) {
      case 0: return bytes_(key.payload);
      case 1: {
        const uint32_t type = kScalarTypes[random_.below(std::size(kScalarTypes))];
        key = scalar_key(key.key.text, type, scalar_payload(type));
        return;
      }
      case 2: return array_value(key);
      default:
        if (key.type != 9) key.payload = scalar_payload(key.type);
        return;
    }
  }

  void array_value(ImageKey& key) {
    const uint32_t type = kScalarTypes[random_.below(std::size(kScalarTypes))];
    const uint64_t count = random_.below(40);
    std::string payload;
    for (uint64_t i = 0; i < count; ++i) payload += scalar_payload(type);
    key = array_key(key.key.text, type, count, payload);
  }

  std::string scalar_payload(uint32_t type) {
    switch (type) {
      case 0:
      case 1: return raw(static_cast<uint8_t>(number()));
      case 2:
      case 3: return raw(static_cast<uint16_t>(number()));
      case 4:
      case 5:
      case 6: return raw(static_cast<uint32_t>(number()));
      case 7: return raw(static_cast<uint8_t>(random_.below(2)));
      case 8: return raw_string(std::string(random_.below(40), static_cast<char>('a' + random_.below(26))));
      default: return raw(number());
    }
  }

  void tensor(ImageTensor& tensor) {
    switch (random_.below(6)) {
      case 0: return name(tensor.name);
      case 1: tensor.dimensions = static_cast<uint32_t>(number()); return;
      case 2:
        if (tensor.extents.empty()) tensor.extents.push_back(1);
        pick(tensor.extents) = number();
        return;
      case 3: tensor.type = static_cast<uint32_t>(random_.below(42)); return;
      case 4: tensor.offset = number(); return;
      default: tensor.extents.push_back(number()); return;
    }
  }

  template <class T>
  void rearrange(std::vector<T>& values) {
    const size_t at = random_.below(values.size());
    switch (random_.below(3)) {
      case 0: values.erase(values.begin() + static_cast<ptrdiff_t>(at)); return;
      case 1:
        if (values.size() < 200) values.push_back(T(values[at]));
        return;
      default: std::swap(values[at], pick(values)); return;
    }
  }

  void resize_data() {
    const uint64_t size = image_.data.size();
    image_.data.resize(random_.below(2) == 0 ? random_.below(size + 1) : std::min<uint64_t>(size + random_.below(64), 1u << 16));
  }

  GgufImage& image_;
  SplitMix64& random_;
  const ByteMutator& bytes_;
};

}  // namespace

void mutate_image(GgufImage& image, SplitMix64& random, const ByteMutator& bytes) {
  Mutation mutation(image, random, bytes);
  for (uint64_t left = 1 + random.below(4); left > 0; --left) mutation.one();
}

}  // namespace pagemill
