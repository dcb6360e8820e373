#include "fuzz/gguf_fuzzing.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <sanitizer/allocator_interface.h>

#include "fuzz/gguf_mutator.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t capacity);

namespace pagemill {
namespace {

thread_local uint64_t allocated = 0;

void on_malloc(const volatile void*, size_t size) { allocated += size; }
void on_free(const volatile void*) {}
[[maybe_unused]] const int installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);

// Lets a string grow by half, or to 64 bytes.
void mutate_bytes(std::string& bytes) {
  const size_t size = bytes.size();
  bytes.resize(std::max<size_t>(size + size / 2, 64));
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), size, bytes.size()));
}

}  // namespace

size_t mutate_gguf(uint8_t* data, size_t size, size_t capacity, unsigned seed, std::string_view seed_file) {
  SplitMix64 random(seed);
  std::optional<GgufImage> image = GgufImage::parse({reinterpret_cast<const char*>(data), size});
  if (random.below(16) == 0 || (!image && random.below(2) == 0)) return LLVMFuzzerMutate(data, size, capacity);
  if (!image) image = GgufImage::parse(seed_file);
  require(image.has_value(), "the seed is a GGUF file");
  mutate_image(*image, random, mutate_bytes);
  const std::string out = image->serialize();
  if (out.size() > capacity) return LLVMFuzzerMutate(data, size, capacity);
  std::memcpy(data, out.data(), out.size());
  return out.size();
}

uint64_t sanitizer_allocated_bytes() { return allocated; }

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

}  // namespace pagemill
