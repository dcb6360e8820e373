#include "cli/device.h"

#include <fmt/format.h>

#include "base/machine.h"

namespace pagemill {

void DeviceFlags::declare(CLI::App& command, const std::string& group) {
  command.add_option("--device", device, "auto, cpu, cuda, cuda:N or npu; auto = a GPU where there is one")->capture_default_str()->group(group);
  command.add_option("--dtype", gpu.dtype, "auto, half, float16, bfloat16, float, float32. On a GPU: of everything, half or bfloat16, auto = as the file's weights. On the "
                     "CPU: of keys and values where --kv-cache-dtype is auto; weights stay as in the file")->capture_default_str()->group(group);
  gpu.declare(command, group);
  command.add_option("--isa", isa,
                     "Instruction set of the CPU kernels: auto (the widest of this CPU), avx2, avx_vnni, avx512, avx512_vnni, amx (values vary in the last bits with what else runs unless --deterministic), plain (C++ without "
                     "intrinsics), or reference, the slow oracle that the others are tested against. All but reference repack the weights while loading: "
                     "once per start, on all threads, into memory of about the file's size, 1 to 1.5 GB/s a core where the file is in the system's cache; nothing is kept on the disk")
      ->type_name("NAME")->capture_default_str()->group(group);
  command.add_option("--threads", threads, "Threads that compute; 0 = as many as this process may use")
      ->type_name("N")->check(CLI::Range(0, 1024))->capture_default_str()->group(group);
  command.add_option("--kv-cache-dtype", kv_cache_dtype,
                     "Type of keys and values: f32, f16, bf16, fp8 or q8_0 (half of f16's memory); auto = f16 on the CPU. A device refuses what it lacks")
      ->type_name("DTYPE")->capture_default_str()->group(group);
}

Result<std::unique_ptr<Backend>> make_backend(const DeviceFlags& flags, const std::filesystem::path& model) {
  const int threads = flags.threads > 0 ? flags.threads : usable_threads();
  PM_ASSIGN(auto gpu, make_gpu_backend(flags.device, flags.gpu, model, threads));
  if (gpu) return gpu;
  return make_cpu_backend(flags.isa, threads, flags.gpu.deterministic);
}

Result<std::optional<DType>> kv_dtype_of(const DeviceFlags& flags) {
  PM_ASSIGN(const auto kv, parse_kv_cache_dtype("--kv-cache-dtype", flags.kv_cache_dtype));
  return kv ? kv : parse_kv_cache_dtype("--dtype", flags.gpu.dtype);
}

Result<std::optional<DType>> parse_kv_cache_dtype(const std::string& flag, const std::string& name) {
  if (name == "auto") return std::nullopt;
  if (name == "f16" || name == "half" || name == "float16") return DType::f16;
  if (name == "bf16" || name == "bfloat16") return DType::bf16;
  if (name == "f32" || name == "float" || name == "float32") return DType::f32;
  if (name == "q8_0") return DType::q8_0;
  if (name.starts_with("fp8"))
    return fail(ErrorCode::unsupported, fmt::format("{} {}: the CPU has no 8-bit floating point; q8_0 takes as much memory and is more exact", flag, name), flag);
  return fail(ErrorCode::invalid_argument, fmt::format("{} must be auto, f32, f16, bf16, fp8 or q8_0, not '{}'", flag, name), flag);
}

std::string describe_device(const DeviceInfo& device, int threads) {
  return fmt::format("{}, {}, {} thread{}", device.name, device.isa, threads, threads == 1 ? "" : "s");
}

}  // namespace pagemill
