// StepGraphs: whole steps recorded once per shape as CUDA graphs and replayed.
//
// A graph holds the addresses that its step was recorded with; whoever frees or moves what they point to calls clear() first.
// At most kGraphsMax are kept, the least recently used goes. Where recording fails the step runs op by op, and recording is not
// tried again.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "backend/cuda/handles.h"
#include "backend/step.h"

namespace pagemill::cuda {

inline constexpr size_t kGraphsMax = 96;
/// Set aside for them: a graph of some 300 kernels takes about this much of the device's memory.
inline constexpr size_t kGraphBytes = 1u << 20;

class StepGraphs {
 public:
  ~StepGraphs() { clear(); }
  /// Runs `body`, recorded. `owner`: whose step it is (a model's KV pool).
  void run(const void* owner, const StepShape& shape, cudaStream_t stream, DeviceStatus& status, const std::function<void()>& body);
  void clear();
  size_t size() const { return graphs_.size(); }
  /// Recorded and replayed so far.
  uint64_t recorded() const { return recorded_; }
  uint64_t replayed() const { return replayed_; }

 private:
  struct Graph {
    const void* owner;
    StepShape shape;
    cudaGraphExec_t exec;
    uint64_t used;
  };
  cudaGraphExec_t record(cudaStream_t stream, DeviceStatus& status, const std::function<void()>& body);

  std::vector<Graph> graphs_;
  uint64_t clock_ = 0, recorded_ = 0, replayed_ = 0;
  bool broken_ = false;
};

/// The shape a decode step is padded to so that few graphs serve all: 1, 2, 4, 8, then multiples of 8 to 64, of 16 to 256, of 32
/// beyond; at most `rows_max`.
int32_t graph_rows(int32_t rows, int32_t rows_max);
/// Contexts are rounded up to powers of two from 512 on; at most `context_max`.
int32_t graph_context(int32_t context, int32_t context_max);

}  // namespace pagemill::cuda
