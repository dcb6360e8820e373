#include "backend/cuda/step_graphs.h"

#include <algorithm>
#include <bit>

#include "base/log.h"

namespace pagemill::cuda {

int32_t graph_rows(int32_t rows, int32_t rows_max) {
  int32_t padded = static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(rows)));
  if (rows > 8) {
    const int32_t step = rows <= 64 ? 8 : rows <= 256 ? 16 : 32;
    padded = (rows + step - 1) / step * step;
  }
  return std::max(rows, std::min(padded, rows_max));
}

int32_t graph_context(int32_t context, int32_t context_max) {
  const auto padded = static_cast<int64_t>(std::bit_ceil(static_cast<uint32_t>(std::max(context, 512))));
  return std::max(context, static_cast<int32_t>(std::min<int64_t>(padded, context_max)));
}

void StepGraphs::clear() {
  for (Graph& graph : graphs_) (void)cudaGraphExecDestroy(graph.exec);
  graphs_.clear();
}

cudaGraphExec_t StepGraphs::record(cudaStream_t stream, DeviceStatus& status, const std::function<void()>& body) {
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return nullptr;
  body();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream, &graph);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&exec, graph, 0);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  if (error == cudaSuccess && status.ok()) return exec;
  if (exec != nullptr) (void)cudaGraphExecDestroy(exec);
  (void)cudaGetLastError();
  log_warning("a step could not be recorded as a CUDA graph ({}); steps run op by op from now on", cudaGetErrorString(error));
  return nullptr;
}

void StepGraphs::run(const void* owner, const StepShape& shape, cudaStream_t stream, DeviceStatus& status, const std::function<void()>& body) {
  if (broken_ || !status.ok()) return body();
  auto found = std::find_if(graphs_.begin(), graphs_.end(), [&](const Graph& graph) { return graph.owner == owner && graph.shape == shape; });
  if (found == graphs_.end()) {
    const cudaGraphExec_t exec = record(stream, status, body);
    if (exec == nullptr) {
      broken_ = true;
      return body();
    }
    ++recorded_;
    if (graphs_.size() >= kGraphsMax) {
      const auto oldest = std::min_element(graphs_.begin(), graphs_.end(), [](const Graph& a, const Graph& b) { return a.used < b.used; });
      (void)cudaGraphExecDestroy(oldest->exec);
      graphs_.erase(oldest);
    }
    graphs_.push_back({owner, shape, exec, 0});
    found = graphs_.end() - 1;
  } else {
    ++replayed_;
  }
  found->used = ++clock_;
  status.take(cudaGraphLaunch(found->exec, stream), "launching a recorded step");
}

}  // namespace pagemill::cuda
