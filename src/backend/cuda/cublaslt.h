// cuBLASLt for matrix products of many rows. The library is opened at run time: a machine that has only the driver works without it.
//
// Used by the engine thread alone. Plans (cuBLASLt's "algorithms") are chosen once per shape and kept.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include <cublasLt.h>

#include "backend/cuda/handles.h"
#include "backend/cuda/kernels.h"

namespace pagemill::cuda {

/// Scratch that NVIDIA recommends for Hopper.
inline constexpr size_t kCublasWorkspaceBytes = 32u << 20;

class CublasLt {
 public:
  /// An error that says where it was looked for.
  static Result<std::unique_ptr<CublasLt>> open();
  ~CublasLt();

  struct Product {
    ElementType type;
    const void *x, *weight;   // [rows, in], [out, in]
    const void* bias;         // [out] of the type, or null
    void* out;                // [rows, out] of the type, or f32
    bool out_f32;
    int rows, in, out_features;
  };
  /// Enqueues out = x · weightᵀ (+ bias). False where the library has no plan for this shape: nothing was enqueued then.
  bool multiply(const Product& product, void* workspace, size_t workspace_bytes, cudaStream_t stream, DeviceStatus& status);

  const std::string& path() const { return path_; }

 private:
  struct Functions {
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtDestroy) destroy;
    decltype(&cublasLtMatmul) matmul;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
    decltype(&cublasLtMatmulDescCreate) desc_create;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  };
  struct Plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    bool usable = false;
  };
  CublasLt() = default;
  bool find_functions(void* library);
  Plan make_plan(const Product& product, size_t workspace_bytes) const;
  void destroy_plan(Plan& plan) const;

  std::string path_;
  void* library_ = nullptr;
  Functions call_{};
  cublasLtHandle_t handle_ = nullptr;
  std::unordered_map<uint64_t, Plan> plans_;  // by rows, in, out and flags
};

}  // namespace pagemill::cuda
