#include "engine/backends_under_test.h"

namespace pagemill {

std::vector<BackendUnderTest> backends_under_test() {
  return {{.name = "reference", .make = make_reference_backend}};
}

}  // namespace pagemill
