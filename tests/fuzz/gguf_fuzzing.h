// What the harnesses over GGUF files share: libFuzzer's custom mutator over fields, and a count of what opening a file allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pagemill {

/// The body of LLVMFuzzerCustomMutator: takes the input apart, changes fields and puts it together again; input that is no GGUF
/// file has its bytes changed, or is replaced by `seed_file`.
size_t mutate_gguf(uint8_t* data, size_t size, size_t capacity, unsigned seed, std::string_view seed_file);

/// Bytes that malloc has handed out to this thread so far, freed ones included. AddressSanitizer counts.
uint64_t sanitizer_allocated_bytes();

/// Stops the program, so that libFuzzer reports the input.
void require(bool condition, const char* what);

}  // namespace pagemill
