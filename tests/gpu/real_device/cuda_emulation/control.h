// What the emulated device's tests ask of it, on a real one: engine_test.cpp is compiled with this header in the other one's place.
#pragma once

#include <cstdint>

namespace emulated {

struct Held {
  bool operator==(const Held&) const = default;
};
inline Held held() { return {}; }
inline void reset_device() {}
inline void set_thread_order(uint64_t) {}

}  // namespace emulated
