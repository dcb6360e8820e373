#include "backend/cuda/weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "backend/cpu/reference_weight.h"
#include "base/check.h"
#include "base/dequantize.h"

namespace pagemill::cuda {

namespace {

constexpr size_t kLaneBytes = 4u << 20;   // of a pinned buffer: large enough for the bus, small enough for a thread's cache
constexpr size_t kSlabBytes = 64u << 20;
constexpr size_t kAlign = 256;

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

void to_sixteen_bits(DType type, const float* from, int64_t count, uint16_t* to) {
  if (type == DType::f16) {
    for (int64_t i = 0; i < count; ++i) to[i] = f32_to_f16(from[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = f32_to_bf16(from[i]);
  }
}

}  // namespace

size_t cuda_weight_bytes(int64_t out, int64_t in) {
  const auto elements = static_cast<size_t>(out) * static_cast<size_t>(in);
  return out == 1 ? aligned(elements * 4) + aligned(elements * 2) : aligned(elements * 2);
}

Result<std::unique_ptr<WeightLoader>> WeightLoader::make(int device, DType type, int threads) {
  std::unique_ptr<WeightLoader> loader(new WeightLoader(device, type, threads));
  PM_ASSIGN(loader->stream_, Stream::make());
  const auto count = static_cast<size_t>(loader->pool_.threads());
  for (size_t i = 0; i < 2 * count; ++i) {
    Lane lane;
    PM_ASSIGN(lane.buffer, PinnedMemory::make(kLaneBytes, "loading weights"));
    PM_ASSIGN(lane.copied, Event::make());
    loader->lanes_.push_back(std::move(lane));
  }
  loader->next_lane_.resize(count);
  loader->floats_.resize(count);
  return loader;
}

WeightLoader::~WeightLoader() { (void)finish(); }

Result<void> WeightLoader::reserve(size_t bytes) {
  PM_ASSIGN(region_, DeviceMemory::make(bytes, "weights"));
  region_used_ = 0;
  return {};
}

/// Without a region, large weights get memory of their own, small ones share slabs: the driver hands out 2 MiB at least.
Result<std::byte*> WeightLoader::place(CudaWeight& weight, size_t bytes) {
  if (region_ && region_used_ + bytes <= region_->size_bytes()) {
    weight.memory = region_;
    return region_->data() + std::exchange(region_used_, region_used_ + bytes);
  }
  if (bytes >= kSlabBytes / 4) {
    PM_ASSIGN(weight.memory, DeviceMemory::make(bytes, "a weight"));
    return weight.memory->data();
  }
  if (!slab_ || slab_used_ + bytes > slab_->size_bytes()) {
    PM_ASSIGN(slab_, DeviceMemory::make(std::max(bytes, kSlabBytes / 8), "weights"));
    slab_used_ = 0;
  }
  weight.memory = slab_;
  return slab_->data() + std::exchange(slab_used_, slab_used_ + bytes);
}

Result<std::unique_ptr<CudaWeight>> WeightLoader::load(const WeightBytes& weight) {
  PM_CHECK(weight.out > 0 && weight.in > 0, "{}", weight.name);
  auto loaded = std::make_unique<CudaWeight>();
  loaded->source_dtype = weight.dtype;
  loaded->out = weight.out;
  loaded->in = weight.in;
  loaded->device_bytes = cuda_weight_bytes(weight.out, weight.in);
  PM_ASSIGN(std::byte* const to, place(*loaded, loaded->device_bytes));
  loaded->matrix = to;
  if (weight.out == 1) {
    loaded->vector = reinterpret_cast<const float*>(to);
    loaded->matrix = to + aligned(static_cast<size_t>(weight.in) * 4);
    PM_TRY(load_vector(weight, to));
    return loaded;
  }
  const int64_t row_bytes_there = weight.in * 2;
  const int64_t rows_at_once = std::max<int64_t>(1, static_cast<int64_t>(kLaneBytes) / row_bytes_there);
  if (row_bytes_there > static_cast<int64_t>(kLaneBytes))
    return fail(ErrorCode::unsupported, "rows of more than 2,097,152 elements are not supported on a GPU");
  std::atomic<int> error{cudaSuccess};
  pool_.run({"prepare", weight.in, weight.out}, (weight.out + rows_at_once - 1) / rows_at_once, [&](int64_t task, int thread) {
    if (error.load(std::memory_order_relaxed) != cudaSuccess) return;
    const int64_t first = task * rows_at_once, count = std::min(rows_at_once, weight.out - first);
    const cudaError_t failed = load_rows(weight, first, count, to + first * row_bytes_there, thread);
    if (failed != cudaSuccess) error.store(failed, std::memory_order_relaxed);
  });
  PM_TRY(as_result(static_cast<cudaError_t>(error.load()), "copying weights"));
  return loaded;
}

/// Rows [first, first + count) of a matrix, on the pool's threads.
cudaError_t WeightLoader::load_rows(const WeightBytes& weight, int64_t first, int64_t count, std::byte* to, int thread) {
  const auto t = static_cast<size_t>(thread);
  Lane& lane = lanes_[2 * t + static_cast<size_t>(std::exchange(next_lane_[t], 1 - next_lane_[t]))];
  if (const cudaError_t error = cudaSetDevice(device_); error != cudaSuccess) return error;
  if (const cudaError_t error = cudaEventSynchronize(lane.copied.get()); error != cudaSuccess) return error;
  const auto source_row = static_cast<size_t>(row_bytes(weight.dtype, weight.in));
  const auto elements = static_cast<size_t>(weight.in);
  std::byte* buffer = lane.buffer->data();
  if (weight.dtype == type_ && weight.unpermute_head_dim == 0) {
    std::memcpy(buffer, weight.bytes.data() + static_cast<size_t>(first) * source_row, static_cast<size_t>(count) * source_row);
  } else {
    std::vector<float>& floats = floats_[t];
    floats.resize(elements);
    for (int64_t row = 0; row < count; ++row) {
      const int64_t n = first + row, in_file = weight.unpermute_head_dim == 0 ? n : interleaved_row(n, weight.unpermute_head_dim);
      const auto bytes = weight.bytes.subspan(static_cast<size_t>(in_file) * source_row, source_row);
      auto* const out = reinterpret_cast<uint16_t*>(buffer) + static_cast<size_t>(row) * elements;
      if (weight.dtype == type_) {
        std::memcpy(out, bytes.data(), source_row);
      } else {
        dequantize_row(weight.dtype, bytes, floats);
        to_sixteen_bits(type_, floats.data(), weight.in, out);
      }
    }
  }
  const size_t bytes = static_cast<size_t>(count) * elements * 2;
  if (const cudaError_t error = cudaMemcpyAsync(to, buffer, bytes, cudaMemcpyHostToDevice, stream_.get()); error != cudaSuccess) return error;
  return cudaEventRecord(lane.copied.get(), stream_.get());
}

Result<void> WeightLoader::load_vector(const WeightBytes& weight, std::byte* to) {
  const auto count = static_cast<size_t>(weight.in);
  std::vector<float> in_file(count), values(count);
  dequantize_row(weight.dtype, weight.bytes, in_file);
  for (size_t i = 0; i < count; ++i) {
    const auto n = static_cast<int64_t>(i);
    values[i] = in_file[weight.unpermute_head_dim == 0 ? i : static_cast<size_t>(interleaved_row(n, weight.unpermute_head_dim))];
  }
  std::vector<std::byte> both(aligned(count * 4) + count * 2);
  std::memcpy(both.data(), values.data(), count * 4);
  to_sixteen_bits(type_, values.data(), weight.in, reinterpret_cast<uint16_t*>(both.data() + aligned(count * 4)));
  // From pageable memory: the runtime has taken it over when this returns.
  return as_result(cudaMemcpyAsync(to, both.data(), both.size(), cudaMemcpyHostToDevice, stream_.get()), "copying weights");
}

Result<void> WeightLoader::finish() {
  if (stream_.get() == nullptr) return {};
  return as_result(cudaStreamSynchronize(stream_.get()), "copying weights");
}

}  // namespace pagemill::cuda
