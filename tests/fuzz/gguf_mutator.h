// Changes one field of a GGUF file at a time, so that fuzzing gets past the first check.
#pragma once

#include <functional>
#include <string>

#include "base/rng.h"
#include "fuzz/gguf_image.h"

namespace pagemill {

/// Changes bytes in place, as LLVMFuzzerMutate does.
using ByteMutator = std::function<void(std::string&)>;

/// One to four changes: values at the edges of their types, lies about lengths and counts, fields doubled, dropped or swapped,
/// bytes of values and data.
void mutate_image(GgufImage& image, SplitMix64& random, const ByteMutator& bytes);

}  // namespace pagemill
