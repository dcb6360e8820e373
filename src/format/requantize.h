// The same model in other element types.
#pragma once

#include <filesystem>
#include <functional>

#include "base/result.h"
#include "format/type_mix.h"
#include "format/weight_source.h"

namespace pagemill {

/// Writes `source` with its tensors in `types` (tensor_dtype says which gets what); metadata goes over unchanged but for the file
/// type. A tensor that has its type already is copied; others go through f32 a row at a time. An error if the source was
/// truncated meanwhile. `progress` gets the share done, 0 … 1.
Result<void> requantize(const WeightSource& source, const TypeMix& types, const std::filesystem::path& path,
                        const std::function<void(double)>& progress = {});

}  // namespace pagemill
