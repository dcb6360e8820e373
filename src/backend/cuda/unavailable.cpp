// What stands for the CUDA backend in a build without it.
#include "backend/cuda/cuda.h"

namespace pagemill {

namespace {

tl::unexpected<Error> without_cuda() {
  return fail(ErrorCode::unsupported, "this build of Pagemill has no CUDA support; build it with `script/setup --cuda && script/build cuda`, or leave --device out");
}

}  // namespace

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions&) { return without_cuda(); }
Result<std::vector<DeviceInfo>> cuda_devices() { return without_cuda(); }
Result<MachineLimits> measure_cuda(int) { return without_cuda(); }

}  // namespace pagemill
