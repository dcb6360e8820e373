// Speed of the matrix kernels beside this machine's limits, measured in the same run.
//
//   linear_bench [--isa NAME] [--types q4_k,q5_0,…] [--rows 1,4,8,16,64,512] [--shapes 896x4864,…] [--threads N] [--pack]
//
// A line is one product [rows, in] x [out, in]: the median of at least five runs over weights that no cache holds. `bound` is the time
// that the slower of memory (weight bytes) and arithmetic (2 · rows · in · out operations) needs; `share` is bound ÷ time.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include "backend/calibrate.h"
#include "backend/cpu/linear/linear.h"
#include "base/quant_blocks.h"
#include "base/rng.h"

namespace pagemill {
namespace {

struct Options {
  Isa isa = best_isa();
  std::vector<DType> types = {DType::q4_k, DType::q5_0, DType::q8_0, DType::q6_k, DType::f16};
  std::vector<int64_t> rows = {1, 4, 8, 16, 64, 512};
  std::vector<std::pair<int64_t, int64_t>> shapes = {{896, 4864}, {3584, 18944}};  // in x out
  int threads = 0;
  bool pack = false;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--pack") {
      options.pack = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (flag == "--isa") {
      const auto isa = parse_isa(value);
      if (!isa) return false;
      options.isa = *isa;
    } else if (flag == "--threads") {
      options.threads = std::atoi(value.c_str());
    } else if (flag == "--types") {
      options.types.clear();
      for (const std::string& name : split(value)) {
        const auto type = dtype_from_name(name);
        if (!type) return false;
        options.types.push_back(*type);
      }
    } else if (flag == "--rows") {
      options.rows.clear();
      for (const std::string& number : split(value)) options.rows.push_back(std::atoll(number.c_str()));
    } else if (flag == "--shapes") {
      options.shapes.clear();
      for (const std::string& shape : split(value)) {
        long long in = 0, out = 0;
        if (std::sscanf(shape.c_str(), "%lldx%lld", &in, &out) != 2) return false;
        options.shapes.emplace_back(in, out);
      }
    } else {
      return false;
    }
  }
  return true;
}

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Random codes with scales small enough that nothing overflows; 16 and 32 bits are numbers as weights are: neither denormal nor infinite,
/// which some instructions take a hundred times as long for.
std::vector<std::byte> random_bytes(DType type, int64_t out, int64_t in) {
  std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(type, in) * out));
  SplitMix64 random(1);
  if (!traits(type).quantized) {
    const auto size = static_cast<size_t>(traits(type).block_bytes);
    for (size_t at = 0; at < bytes.size(); at += size) {
      const auto value = static_cast<float>(random.uniform() * 0.2 - 0.1);
      const uint16_t bits = type == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
      std::memcpy(bytes.data() + at, type == DType::f32 ? static_cast<const void*>(&value) : &bits, size);
    }
    return bytes;
  }
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t bits = random() & 0x3f3f3f3f3f3f3f3f;
    std::memcpy(bytes.data() + i, &bits, 8);
  }
  return bytes;
}

struct Case {
  ComputePool& pool;
  LinearScratch& scratch;
  const Options& options;
  const MachineLimits& limits;
};

void run_rows(const Case& c, const std::vector<std::unique_ptr<PackedWeight>>& copies, int64_t rows) {
  const PackedWeight& weight = *copies.front();
  std::vector<float> x(static_cast<size_t>(rows * weight.in)), out(static_cast<size_t>(rows * weight.out));
  SplitMix64 random(2);
  for (float& value : x) value = static_cast<float>(random.normal());
  std::vector<std::byte> memory(QuantizedRows::bytes(rows, weight.in) + 64);
  LinearInput input{.quantized = QuantizedRows(memory.data(), rows, weight.in), .floats = x.data(), .floats_stride = weight.in, .rows = rows};
  quantize_rows(c.pool, weight.kernels(), x.data(), weight.in, input.quantized);
  std::vector<std::byte> rounded_memory(weight.wants_rounded(rows) ? RoundedRows::bytes(rows, weight.in) + 64 : 0);
  if (weight.wants_rounded(rows)) {
    auto* aligned = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(rounded_memory.data()) + 63) / 64 * 64);
    input.rounded = RoundedRows(aligned, rows, weight.in);
    round_rows(c.pool, weight.kernels(), x.data(), weight.in, input.rounded);
  }
  std::vector<double> times;
  size_t copy = 0;
  const double end = seconds_now() + 0.25;
  while (times.size() < 5 || (seconds_now() < end && times.size() < 200)) {
    const LinearPart part{copies[copy++ % copies.size()].get(), nullptr, out.data(), weight.out};
    const double begin = seconds_now();
    linear(c.pool, c.scratch, input, {&part, 1});
    times.push_back(seconds_now() - begin);
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const double bytes = static_cast<double>(weight.device_bytes), ops = 2.0 * static_cast<double>(rows * weight.in * weight.out);
  const double peak = weight.wants_quantized(rows) ? c.limits.int8_ops.best : c.limits.float16_ops.best;
  const double bound = std::max(bytes / c.limits.read_all_threads.best, ops / peak);
  std::printf("%-7s %6lld x %-6lld %5lld %10.1f µs  (%5.1f … %5.1f %%) %7.1f GB/s %8.1f Gop/s  share %5.1f %%\n",
              std::string(to_string(weight.source_dtype)).c_str(), static_cast<long long>(weight.in), static_cast<long long>(weight.out),
              static_cast<long long>(rows), median * 1e6, 100 * (times.front() / median - 1), 100 * (times[times.size() * 9 / 10] / median - 1),
              bytes / median * 1e-9, ops / median * 1e-9, 100 * bound / median);
  std::fflush(stdout);
}

void run_type(const Case& c, DType type, int64_t in, int64_t out) {
  if (in % traits(type).block_elems != 0) return;
  const std::vector<std::byte> source = random_bytes(type, out, in);
  WeightArena arena;
  std::vector<std::unique_ptr<PackedWeight>> copies;
  const size_t uncached = std::max(size_t{192} << 20, 2 * static_cast<size_t>(std::max(sysconf(_SC_LEVEL3_CACHE_SIZE), 0L)));
  std::vector<double> rates;
  for (size_t bytes = 0; bytes < uncached || copies.size() < 2; bytes += copies.back()->device_bytes) {
    const double begin = seconds_now();
    copies.push_back(std::move(PackedWeight::make({"w", type, out, in, source}, c.options.isa, c.pool, arena).value()));
    rates.push_back(static_cast<double>(source.size()) / (seconds_now() - begin));
  }
  if (c.options.pack) {
    std::sort(rates.begin(), rates.end());
    std::printf("%-7s %6lld x %-6lld  packed at %.2f GB/s (median; best %.2f)\n", std::string(to_string(type)).c_str(), static_cast<long long>(in),
                static_cast<long long>(out), rates[rates.size() / 2] * 1e-9, rates.back() * 1e-9);
  }
  for (const int64_t rows : c.options.rows) run_rows(c, copies, rows);
}

int main_of(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: linear_bench [--isa NAME] [--types q4_k,…] [--rows 1,4,…] [--shapes INxOUT,…] [--threads N] [--pack]\n");
    return 2;
  }
  ComputePool pool(options.threads);
  LinearScratch scratch(pool.threads());
  const MachineLimits limits = measure_machine(2);
  std::printf("%s, %s, %d threads: read %.1f GB/s, int8 %.0f Gop/s (%s), 16 bits %.0f Gflop/s (%s)\n", limits.cpu_model.c_str(),
              std::string(to_string(options.isa)).c_str(), pool.threads(), limits.read_all_threads.best * 1e-9, limits.int8_ops.best * 1e-9,
              limits.int8_ops.variant.c_str(), limits.float16_ops.best * 1e-9, limits.float16_ops.variant.c_str());
  const Case c{pool, scratch, options, limits};
  for (const auto& [in, out] : options.shapes)
    for (const DType type : options.types) run_type(c, type, in, out);
  return 0;
}

}  // namespace
}  // namespace pagemill

int main(int argc, char** argv) { return pagemill::main_of(argc, argv); }
