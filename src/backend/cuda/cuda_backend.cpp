// Memory, weights, steps: the host's side of the CUDA backend. cuda_ops.cpp has the ops.
#include "backend/cuda/cuda_backend.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"

namespace pagemill::cuda {

namespace {

constexpr size_t kAlign = 256;
constexpr size_t kBounceBytes = 4u << 20;
constexpr int kArchMin = 80;
constexpr int kDriverMin = 13000;  // what the runtime that we link needs

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// Why there is no device, as something to do.
Result<void> check_driver() {
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  if (driver == 0)
    return fail(ErrorCode::unsupported, "no NVIDIA driver was found (libcuda.so.1): install the driver, or use --device cpu", "--device");
  if (driver < kDriverMin)
    return fail(ErrorCode::unsupported, fmt::format("the NVIDIA driver supports CUDA {}.{} and this build needs {}.{}: update the driver to 580 or newer, or use "
                                                    "--device cpu", driver / 1000, driver % 1000 / 10, kDriverMin / 1000, kDriverMin % 1000 / 10), "--device");
  return {};
}

Result<int> device_count() {
  PM_TRY(check_driver());
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    (void)cudaGetLastError();
    return fail(ErrorCode::unsupported, "the NVIDIA driver sees no GPU (is CUDA_VISIBLE_DEVICES set?): use --device cpu, or look at nvidia-smi", "--device");
  }
  PM_TRY(as_result(error, "looking for GPUs"));
  return count;
}

}  // namespace

Result<std::unique_ptr<CudaBackend>> CudaBackend::make(const CudaOptions& options) {
  std::unique_ptr<CudaBackend> backend(new CudaBackend(options));
  PM_TRY(backend->open());
  return backend;
}

Result<void> CudaBackend::open() {
  PM_CHECK(options_.dtype == DType::f16 || options_.dtype == DType::bf16, "activations of {}", to_string(options_.dtype));
  PM_ASSIGN(const int count, device_count());
  if (options_.device < 0 || options_.device >= count)
    return fail(ErrorCode::invalid_argument, fmt::format("--device cuda:{}: there {} {} (cuda:0{})", options_.device, count == 1 ? "is" : "are", count,
                                                         count > 1 ? fmt::format(" to cuda:{}", count - 1) : ""), "--device");
  PM_TRY(use_device());
  cudaDeviceProp properties{};
  PM_TRY(as_result(cudaGetDeviceProperties(&properties, options_.device), "asking for the device's properties"));
  const int arch = 10 * properties.major + properties.minor;
  if (arch < kArchMin)
    return fail(ErrorCode::unsupported, fmt::format("{} is sm_{}; this build has kernels from sm_{} (Ampere) on: use --device cpu", properties.name, arch, kArchMin), "--device");
  if (options_.arch > arch)
    return fail(ErrorCode::invalid_argument, fmt::format("--cuda-arch {}: {} is sm_{}", options_.arch, properties.name, arch), "--cuda-arch");
  device_.kind = DeviceKind::cuda;
  device_.name = properties.name;
  device_.index = options_.device;
  PM_ASSIGN(stream_, Stream::make());
  context_.stream = stream_.get();
  context_.multiprocessors = properties.multiProcessorCount;
  context_.arch = options_.arch > 0 ? options_.arch : arch;
  context_.block_shared_bytes = properties.sharedMemPerBlockOptin;
  context_.programmatic = context_.arch >= 90;
  context_.deterministic = options_.deterministic;
  device_.isa = fmt::format("sm_{}", context_.arch);
  if (!options_.deterministic) {
    if (auto opened = CublasLt::open()) {
      cublas_ = std::move(*opened);
    } else {
      log_warning("{}: prompts are computed by kernels made for few rows, several times slower. Install cuBLAS 13, or add its folder to LD_LIBRARY_PATH.", opened.error().message);
    }
  }
  return {};
}

CudaBackend::~CudaBackend() {
  if (stream_.get() == nullptr) return;  // it never came to be
  (void)use_device();
  (void)cudaStreamSynchronize(stream_.get());
}

Result<void> CudaBackend::use_device() { return as_result(cudaSetDevice(options_.device), fmt::format("choosing device {}", options_.device)); }

/// What others leave us of --gpu-memory-utilization.
const DeviceInfo& CudaBackend::device() const {
  size_t free_bytes = 0, total = 0;
  (void)cudaSetDevice(options_.device);
  if (cudaMemGetInfo(&free_bytes, &total) == cudaSuccess) {
    const auto allowed = static_cast<size_t>(options_.memory_utilization * static_cast<double>(total));
    const size_t used = total - free_bytes;
    device_.memory_total_bytes = allowed;
    device_.memory_free_bytes = allowed > used ? std::min(free_bytes, allowed - used) : 0;
  }
  return device_;
}

// --- Loading ---------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<DeviceBuffer>> CudaBackend::allocate(size_t bytes, std::string_view purpose) {
  PM_TRY(use_device());
  PM_ASSIGN(auto memory, DeviceMemory::make(bytes, purpose));
  if (bytes > 0) PM_TRY(as_result(cudaMemsetAsync(memory->data(), 0, bytes, stream_.get()), "clearing memory"));
  return memory;
}

Result<std::unique_ptr<Weight>> CudaBackend::prepare_weight(const WeightBytes& weight) {
  PM_TRY(use_device());
  if (weight.out > 1 && weight.in % 8 != 0)
    return fail(ErrorCode::unsupported, fmt::format("the GPU's kernels need rows of a multiple of 8 elements, and {} has {}: use --device cpu", weight.name, weight.in), "--device");
  PM_TRY(open_loader());
  PM_ASSIGN(auto loaded, loader_->load(weight));
  return loaded;
}

Result<void> CudaBackend::open_loader() {
  if (loader_) return {};
  PM_ASSIGN(loader_, WeightLoader::make(options_.device, options_.dtype, options_.threads));
  return {};
}

/// One region: q, k and v, which come behind each other, can be one product then.
Result<void> CudaBackend::reserve_weights(size_t bytes) {
  PM_TRY(use_device());
  PM_TRY(open_loader());
  return loader_->reserve(bytes);
}

size_t CudaBackend::weight_bytes(DType, int64_t out, int64_t in) const { return cuda_weight_bytes(out, in); }

Result<std::unique_ptr<KvPool>> CudaBackend::allocate_kv(const KvPoolSpec& spec) {
  PM_TRY(use_device());
  if (spec.dtype != options_.dtype)
    return fail(ErrorCode::unsupported, fmt::format("--kv-cache-dtype {}: on a GPU the KV cache has the type of the activations, {}", to_string(spec.dtype), to_string(options_.dtype)), "--kv-cache-dtype");
  PM_TRY(finish_loading());  // the weights come first
  graphs_.clear();  // a pool may come to lie where one was
  PM_ASSIGN(auto pool, CudaKvPool::make(spec, stream_.get()));
  return pool;
}

/// The loader's buffers are given back.
Result<void> CudaBackend::finish_loading() {
  if (!loader_) return {};
  PM_TRY(loader_->finish());
  loader_.reset();
  return {};
}

size_t CudaBackend::kv_block_bytes(const KvPoolSpec& spec, int32_t group) const { return CudaKvPool::block_bytes(spec, group); }

CudaBackend::ScratchPlan CudaBackend::plan_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, const StepCapacity& capacity) const {
  ScratchPlan plan;
  const auto take = [&](size_t& at, size_t bytes) {
    at = plan.total;
    plan.total += aligned(bytes);
  };
  const auto rows = static_cast<size_t>(largest.rows), logit_rows = static_cast<size_t>(largest.logit_rows);
  take(plan.cublas, kCublasWorkspaceBytes);
  take(plan.products, product_workspace_bytes());
  if (!options_.deterministic) take(plan.qkv, rows * static_cast<size_t>(kQkvWidths * heads * head_dim) * 2);
  take(plan.attention, attention_workspace_bytes(heads, head_dim));
  take(plan.angles, rows * static_cast<size_t>(head_dim / 2) * sizeof(float2));
  take(plan.saved_history, static_cast<size_t>(capacity.history) * sizeof(float));
  take(plan.saved_bias, static_cast<size_t>(capacity.bias) * sizeof(float));
  take(plan.sampled, logit_rows * sizeof(SampledToken));
  take(plan.top, logit_rows * limits::kTopLogprobs * sizeof(TopLogprob));
  take(plan.targets, logit_rows * sizeof(int32_t));
  take(plan.scored, logit_rows * sizeof(SampledToken));
  take(plan.scored_top, logit_rows * limits::kTopLogprobs * sizeof(TopLogprob));
  take(plan.floats, kBounceBytes);
  return plan;
}

size_t CudaBackend::scratch_bytes(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t, int32_t vocab) const {
  const StepCapacity capacity = StepCapacity::of(largest, vocab);
  const size_t graphs = options_.graphs ? kGraphsMax * kGraphBytes : 0;
  return plan_scratch(largest, heads, head_dim, capacity).total + capacity.device_bytes() + graphs;
}

/// Grows to what the largest of the models needs.
Result<void> CudaBackend::reserve_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t, int32_t vocab) {
  PM_TRY(synchronize());
  graphs_.clear();
  largest_ = {.rows = std::max(largest_.rows, largest.rows), .seqs = std::max(largest_.seqs, largest.seqs),
              .logit_rows = std::max(largest_.logit_rows, largest.logit_rows), .query_rows_max = std::max(largest_.query_rows_max, largest.query_rows_max),
              .context_max = std::max(largest_.context_max, largest.context_max)};
  heads_ = std::max(heads_, heads);
  head_dim_ = std::max(head_dim_, head_dim);
  vocab_ = std::max(vocab_, vocab);
  const StepCapacity capacity = StepCapacity::of(largest_, vocab_);
  plan_ = plan_scratch(largest_, heads_, head_dim_, capacity);
  scratch_.reset();
  buffers_.reset();
  PM_ASSIGN(scratch_, DeviceMemory::make(plan_.total, "scratch memory"));
  PM_TRY(as_result(cudaMemsetAsync(scratch_->data(), 0, plan_.total, stream_.get()), "clearing memory"));  // products and attention count there
  context_.product_workspace = scratch<void>(plan_.products);
  PM_ASSIGN(buffers_, StepBuffers::make(capacity, kStepsInFlight));
  const auto logit_rows = static_cast<size_t>(largest_.logit_rows);
  top_at_ = aligned(logit_rows * sizeof(SampledToken));
  for (Results& results : results_) {
    PM_ASSIGN(results.memory, PinnedMemory::make(top_at_ + logit_rows * limits::kTopLogprobs * sizeof(TopLogprob), "sampled tokens"));
    PM_ASSIGN(results.ended, Event::make());
  }
  PM_ASSIGN(bounce_, PinnedMemory::make(kBounceBytes, "reading results"));
  return {};
}

Result<void> CudaBackend::prepare_rope(const RopeTable& rope) {
  PM_TRY(use_device());
  if (rope_frequencies(rope) != nullptr) return {};
  const size_t bytes = rope.inv_freq.size() * sizeof(float);
  PM_ASSIGN(auto memory, DeviceMemory::make(bytes, "rotary frequencies"));
  PM_TRY(as_result(cudaMemcpyAsync(memory->data(), rope.inv_freq.data(), bytes, cudaMemcpyHostToDevice, stream_.get()), "copying rotary frequencies"));
  ropes_.emplace_back(rope, std::move(memory));
  return {};
}

const float* CudaBackend::rope_frequencies(const RopeTable& rope) const {
  for (const auto& [known, memory] : ropes_)
    if (known.inv_freq == rope.inv_freq) return reinterpret_cast<const float*>(memory->data());
  return nullptr;
}

// --- A step ----------------------------------------------------------------------------------------------------------------

Result<const StepInputs*> CudaBackend::begin_step(const StepInputs& inputs) {
  PM_CHECK(buffers_ && begun_ - finished_ < kStepsInFlight);
  PM_TRY(use_device());
  PM_TRY(status_.result());
  PM_TRY(finish_loading());
  StepShape padded = inputs.shape;
  int32_t stride = inputs.group[0].stride;
  if (options_.graphs && inputs.shape.query_rows_max == 1 && inputs.shape.logit_rows <= inputs.shape.rows && !inputs.sampling.empty()) {
    padded.rows = graph_rows(inputs.shape.rows, std::min({largest_.rows, largest_.seqs, largest_.logit_rows}));
    padded.seqs = padded.logit_rows = padded.rows;
    // Tables may reach beyond the contexts (blocks reserved ahead); a graph's stride must follow from its shape alone.
    const int32_t reach = std::max(inputs.shape.context_max, stride * limits::kBlockTokens);
    padded.context_max = graph_context(reach, buffers_->capacity().stride * limits::kBlockTokens);
    stride = (padded.context_max + limits::kBlockTokens - 1) / limits::kBlockTokens;
  }
  const StepInputs& there = buffers_->begin(inputs, padded, stride, stream_.get(), status_);
  results_[begun_ % kStepsInFlight].rows = 0;
  angles_of_ = nullptr;
  ++begun_;
  PM_TRY(status_.result());
  return &there;
}

/// Each decode shape's graph for contexts of up to 2,048 tokens, and prompts of many lengths: cuBLASLt loads a kernel, which takes tens of
/// milliseconds, when it first chooses it, and chooses by the number of rows.
std::vector<StepShape> CudaBackend::warm_up_steps(const StepShape& largest) const {
  constexpr int32_t kRowsFirst = 16, kRowsLast = 2048;
  std::vector<StepShape> shapes;
  const auto prompt = [&](int32_t rows) { shapes.push_back({.rows = rows, .seqs = 1, .logit_rows = 1, .query_rows_max = rows, .context_max = rows}); };
  for (int32_t rows = kRowsFirst; rows < largest.rows && rows <= kRowsLast; rows += std::max(kRowsFirst, static_cast<int32_t>(std::bit_floor(static_cast<uint32_t>(rows))) / 8)) prompt(rows);
  prompt(largest.rows);
  const int32_t rows_max = std::min({largest.rows, largest.seqs, largest.logit_rows});
  std::vector<int32_t> contexts;
  for (const int32_t wanted : {512, 1024, 2048}) {
    const int32_t context = graph_context(std::min(wanted, largest.context_max), largest.context_max);
    if (contexts.empty() || context > contexts.back()) contexts.push_back(context);
  }
  for (const int32_t context : contexts) {
    for (int32_t rows = 1; rows <= rows_max; rows = rows < rows_max ? std::min(graph_rows(rows + 1, rows_max), rows_max) : rows + 1)
      shapes.push_back({.rows = rows, .seqs = rows, .logit_rows = rows, .query_rows_max = 1, .context_max = context});
    if (!options_.graphs) break;
  }
  return shapes;
}

void CudaBackend::replay(const StepInputs& step, KvView kv, const std::function<void()>& body) {
  const bool whole_decode = step.shape.query_rows_max == 1 && step.shape.rows == step.shape.logit_rows && !step.sampling.empty();
  if (!options_.graphs || !whole_decode || !buffers_->fits()) return body();
  graphs_.run(kv.pool, step.shape, stream_.get(), status_, body);
  // What a replayed sample() would have noted.
  Results& results = results_[(begun_ - 1) % kStepsInFlight];
  results.rows = buffers_->host().sampling.size();
}

Result<void> CudaBackend::end_step() {
  Results& results = results_[(begun_ - 1) % kStepsInFlight];
  if (!failed() && results.rows > 0) {
    const bool wants_top = std::any_of(buffers_->host().sampling.begin(), buffers_->host().sampling.end(), [](const SamplingRow& row) { return row.logprobs > 0; });
    status_.take(cudaMemcpyAsync(result_tokens(results), scratch<SampledToken>(plan_.sampled), results.rows * sizeof(SampledToken), cudaMemcpyDeviceToHost, stream_.get()),
                 "copying sampled tokens");
    if (wants_top)
      status_.take(cudaMemcpyAsync(result_top(results), scratch<TopLogprob>(plan_.top), results.rows * limits::kTopLogprobs * sizeof(TopLogprob), cudaMemcpyDeviceToHost,
                                   stream_.get()), "copying log-probabilities");
  }
  status_.take(cudaEventRecord(results.ended.get(), stream_.get()), "marking the end of a step");
  return {};  // an error shows in finish_step
}

Result<void> CudaBackend::finish_step() {
  PM_CHECK(finished_ < begun_);
  Results& results = results_[finished_++ % kStepsInFlight];
  status_.take(cudaEventSynchronize(results.ended.get()), "computing a step");
  return status_.result();
}

Result<void> CudaBackend::synchronize() {
  PM_TRY(use_device());
  status_.take(cudaStreamSynchronize(stream_.get()), "computing");
  return status_.result();
}

void CudaBackend::copy_blocks(KvView kv, std::span<const BlockCopy> copies) {
  if (failed() || copies.empty()) return;
  std::vector<int2> pairs;
  for (const BlockCopy& copy : copies) {
    PM_CHECK(copy.group == copies.front().group, "copies of several groups");
    pairs.push_back({copy.from, copy.to});
  }
  const int2* there = buffers_->block_copies(pairs, stream_.get(), status_);
  launched(static_cast<CudaKvPool&>(*kv.pool).copy_blocks(context_, copies.front().group, there, static_cast<int>(pairs.size())), "copying KV blocks");
}

// --- Results ---------------------------------------------------------------------------------------------------------------

Result<void> CudaBackend::finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) {
  Results& results = results_[(finished_ - 1) % kStepsInFlight];
  PM_CHECK(tokens.size() == results.rows && (logprobs.empty() || logprobs.size() == results.rows));
  std::copy_n(result_tokens(results), tokens.size(), tokens.begin());
  for (size_t row = 0; row < logprobs.size(); ++row) {
    LogprobRow& out = logprobs[row];
    out.chosen = tokens[row].logprob;
    out.rank = tokens[row].rank;
    out.top.clear();
    const TopLogprob* top = result_top(results) + row * limits::kTopLogprobs;
    for (int32_t i = 0; i < limits::kTopLogprobs && top[i].token >= 0; ++i) out.top.push_back(top[i]);
  }
  return {};
}

}  // namespace pagemill::cuda

namespace pagemill {

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions& options) {
  PM_ASSIGN(auto backend, cuda::CudaBackend::make(options));
  return backend;
}

Result<std::vector<DeviceInfo>> cuda_devices() {
  PM_ASSIGN(const int count, cuda::device_count());
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    PM_TRY(cuda::as_result(cudaGetDeviceProperties(&properties, i), "asking for the devices' properties"));
    DeviceInfo info;
    info.kind = DeviceKind::cuda;
    info.name = properties.name;
    info.isa = fmt::format("sm_{}", 10 * properties.major + properties.minor);
    info.index = i;
    info.memory_total_bytes = properties.totalGlobalMem;
    devices.push_back(std::move(info));
  }
  return devices;
}

}  // namespace pagemill
