// Linked into a test, replaces operator new by one that counts.
#pragma once

#include <cstdint>

namespace pagemill {

/// Bytes that operator new has handed out so far, in all threads, freed ones included.
uint64_t allocated_bytes_ever();

}  // namespace pagemill
