#include "cli/gpu.h"

#include <charconv>

#include <fmt/format.h>

#include "backend/cuda/cuda.h"
#include "base/log.h"
#include "format/gguf.h"

namespace pagemill {
namespace {

tl::unexpected<Error> no_such_device(const std::string& device) {
  return fail(ErrorCode::invalid_argument, fmt::format("--device must be auto, cpu, cuda, cuda:N or npu, not '{}'", device), "--device");
}

}  // namespace

Result<int> gpu_index(const std::string& device) {
  if (device == "cuda" || device == "auto") return 0;
  if (!device.starts_with("cuda:")) return no_such_device(device);
  const std::string_view number = std::string_view(device).substr(5);
  int index = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
  if (error != std::errc{} || end != number.data() + number.size() || index < 0) return no_such_device(device);
  return index;
}

namespace {

/// bfloat16 where the file's matrices are: half floats would not hold all of their range. Else half floats, which are more exact.
Result<DType> choose_dtype(const std::string& name, const std::filesystem::path& model) {
  if (name == "half" || name == "float16" || name == "f16") return DType::f16;
  if (name == "bfloat16" || name == "bf16") return DType::bf16;
  if (name != "auto") return fail(ErrorCode::unsupported, fmt::format("--dtype {}: a GPU computes in float16 or bfloat16", name), "--dtype");
  PM_ASSIGN(const auto source, open_gguf(model));
  int64_t bfloat = 0, other = 0;
  for (const TensorView& tensor : source->tensors()) {
    if (tensor.shape.size() < 2) continue;
    (tensor.dtype == DType::bf16 ? bfloat : other) += static_cast<int64_t>(tensor.bytes.size());
  }
  return bfloat > other ? DType::bf16 : DType::f16;
}

}  // namespace

void GpuFlags::declare(CLI::App& command, const std::string& group) {
  command.add_option("--gpu-memory-utilization", memory_utilization, "Share of a GPU's memory that may be in use; without a meaning on the CPU")
      ->check(CLI::Range(0.01, 1.0))->capture_default_str()->group(group);
  command.add_flag("--enforce-eager", enforce_eager, "Without CUDA graphs; without a meaning on the CPU")->group(group);
  command.add_flag("--deterministic", deterministic, "The same bits whatever else runs, on a GPU and on a CPU with AMX, where prompts are slower for it; on other CPUs that always holds")->group(group);
  command.add_option("--cuda-arch", cuda_arch, "Run the kernels of an older GPU: 80 = those without Hopper's instructions; 0 = the GPU's own")
      ->type_name("N")->check(CLI::IsMember({0, 80, 86, 89, 90, 120}))->capture_default_str()->group(group);
}

Result<std::unique_ptr<Backend>> make_gpu_backend(const std::string& device, const GpuFlags& flags, const std::filesystem::path& model, int threads) {
  if (device == "cpu") return nullptr;
  if (device == "npu") return fail(ErrorCode::unsupported, "--device npu: this build computes on CPUs and NVIDIA GPUs", "--device");
  if (device != "auto" && device != "cuda" && !device.starts_with("cuda:")) return no_such_device(device);
  CudaOptions options{.memory_utilization = flags.memory_utilization, .graphs = !flags.enforce_eager, .deterministic = flags.deterministic,
                      .arch = flags.cuda_arch, .threads = threads};
  PM_ASSIGN(options.device, gpu_index(device));
  if (device == "auto") {
    const auto devices = cuda_devices();
    if (!devices) {
      if (devices.error().code != ErrorCode::unsupported) log_warning("no GPU is used: {}", devices.error().message);
      return nullptr;
    }
  }
  PM_ASSIGN(options.dtype, choose_dtype(flags.dtype, model));
  auto backend = make_cuda_backend(options);
  if (!backend && device == "auto" && backend.error().code == ErrorCode::unsupported) {
    log_warning("no GPU is used: {}", backend.error().message);
    return nullptr;
  }
  if (!backend) return tl::unexpected(std::move(backend).error().within("--device " + device));
  return backend;
}

}  // namespace pagemill
