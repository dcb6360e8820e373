// A tiny model's file with fields changed, through open_gguf and Model::load and, where that succeeds, a prefill and a decode step
// on the reference backend: an error or logits, never a crash, never more memory than the file's size and the slack of limits.h.
#include <cstring>

#include "backend/cpu/reference_backend.h"
#include "base/limits.h"
#include "format/gguf.h"
#include "format/random_model.h"
#include "fuzz/gguf_fuzzing.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

std::string small_model(const char* shape, const char* types) {
  RandomModelSpec spec = *random_model_spec(shape);
  spec.layers = 1;
  spec.hidden = 32;
  spec.ffn = 64;
  spec.heads = 2;
  spec.kv_heads = 1;
  spec.head_dim = 16;
  spec.vocab = kRandomVocabMin;
  spec.types = *type_mix_from_name(types);
  return random_model_bytes(spec);
}

/// True if the file was loaded and gave logits.
bool run(const std::string& bytes) {
  const uint64_t before = sanitizer_allocated_bytes();
  const size_t size = bytes.size();
  const auto source = open_gguf_image("file", bytes);
  if (!source) return false;
  ReferenceBackend backend(1);
  const auto bench = ModelBench::make(**source, backend, {.rows_max = 4, .logit_rows_max = 4, .kv_blocks = 2});
  require(sanitizer_allocated_bytes() - before <= 2 * size + limits::kLoadSlackBytes, "loading allocates within the bound");
  if (!bench) {
    require(!bench.error().message.empty() && bench.error().code != ErrorCode::internal, "an error says what is wrong");
    return false;
  }
  const auto vocab = static_cast<size_t>((*bench)->config().vocab);
  const auto last = static_cast<int32_t>(vocab - 1);
  require((*bench)->logits({0, last, 0}, 3).size() == 3 * vocab, "a prefill gives logits");
  require((*bench)->step({{{last}, 3, {0}}}).size() == vocab, "a decode step gives logits");
  return true;
}

const std::string& seed_file(unsigned which) {
  static const std::string seeds[] = {small_model("tiny-llama", "q8_0"), small_model("tiny-qwen2", "q4_1")};
  return seeds[which % 2];
}

}  // namespace
}  // namespace pagemill

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  using namespace pagemill;
  require(run(seed_file(0)) && run(seed_file(1)), "the seeds reach the end");
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t capacity, unsigned seed) {
  return pagemill::mutate_gguf(data, size, capacity, seed, pagemill::seed_file(seed / 2));
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pagemill::run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
