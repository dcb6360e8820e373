#include "cublasLt.h"

#include <vector>

#include "base/dtype.h"
#include "executor.h"

namespace {

using pagemill::bf16_to_f32;
using pagemill::f16_to_f32;

float element(const void* data, cudaDataType_t type, uint64_t index) {
  switch (type) {
    case CUDA_R_32F: return static_cast<const float*>(data)[index];
    case CUDA_R_16F: return f16_to_f32(static_cast<const uint16_t*>(data)[index]);
    case CUDA_R_16BF: return bf16_to_f32(static_cast<const uint16_t*>(data)[index]);
  }
  return 0;
}

void store(void* data, cudaDataType_t type, uint64_t index, float value) {
  switch (type) {
    case CUDA_R_32F: static_cast<float*>(data)[index] = value; break;
    case CUDA_R_16F: static_cast<uint16_t*>(data)[index] = pagemill::f32_to_f16(value); break;
    case CUDA_R_16BF: static_cast<uint16_t*>(data)[index] = pagemill::f32_to_bf16(value); break;
  }
}

/// op(A) as [m][k] in f32, however it lies.
std::vector<float> unpack(const void* data, const cublasLtMatrixLayoutOpaque_t& layout, bool transposed, bool rows_first) {
  const uint64_t outer = rows_first == transposed ? layout.cols : layout.rows, inner = rows_first == transposed ? layout.rows : layout.cols;
  std::vector<float> values(outer * inner);
  for (uint64_t o = 0; o < outer; ++o) {
    for (uint64_t i = 0; i < inner; ++i) {
      const uint64_t row = rows_first == transposed ? i : o, column = rows_first == transposed ? o : i;
      values[o * inner + i] = element(data, layout.type, row + column * static_cast<uint64_t>(layout.ld));
    }
  }
  return values;
}

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t, cudaDataType_t) {
  *desc = new cublasLtMatmulDescOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void* value, size_t) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: desc->transa = *static_cast<const cublasOperation_t*>(value); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: desc->transb = *static_cast<const cublasOperation_t*>(value); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: desc->epilogue = *static_cast<const cublasLtEpilogue_t*>(value); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: desc->bias = *static_cast<const void* const*>(value); break;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows, uint64_t cols, int64_t ld) {
  *layout = new cublasLtMatrixLayoutOpaque_t{type, rows, cols, ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t, const void* value, size_t) {
  preference->workspace = *static_cast<const size_t*>(value);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int wanted, cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = wanted > 0 ? 1 : 0;
  if (wanted > 0) results[0] = {};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t stream) {
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  const auto run = [operation = *desc, la = *a_layout, lb = *b_layout, lc = *c_layout, ld = *d_layout, a, b, c, d, scale, keep] {
    const std::vector<float> left = unpack(a, la, operation.transa == CUBLAS_OP_T, true);     // [m, k]
    const std::vector<float> right = unpack(b, lb, operation.transb == CUBLAS_OP_T, false);   // [n, k]
    const uint64_t k = operation.transa == CUBLAS_OP_T ? la.rows : la.cols;
    for (uint64_t column = 0; column < ld.cols; ++column) {
      for (uint64_t row = 0; row < ld.rows; ++row) {
        const float *x = left.data() + row * k, *y = right.data() + column * k;
        float sums[8] = {};
        uint64_t i = 0;
        for (; i + 8 <= k; i += 8)
          for (uint64_t j = 0; j < 8; ++j) sums[j] += x[i + j] * y[i + j];
        float sum = 0;
        for (; i < k; ++i) sum += x[i] * y[i];
        for (const float part : sums) sum += part;
        sum *= scale;
        if (keep != 0) sum += keep * element(c, lc.type, row + column * static_cast<uint64_t>(lc.ld));
        if (operation.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += element(operation.bias, ld.type, row);
        store(d, ld.type, row + column * static_cast<uint64_t>(ld.ld), sum);
      }
    }
  };
  return emulated::enqueue_host(run, stream) == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
