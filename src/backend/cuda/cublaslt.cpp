#include "backend/cuda/cublaslt.h"

#include <dlfcn.h>

#include <fmt/format.h>

namespace pagemill::cuda {

namespace {

// Prompts are cut into chunks of many lengths; beyond this the plans are made anew.
constexpr size_t kPlansMax = 4096;

uint64_t key_of(const CublasLt::Product& p) {
  uint64_t key = 0;
  for (const auto part : {static_cast<uint64_t>(p.rows), static_cast<uint64_t>(p.in), static_cast<uint64_t>(p.out_features),
                          static_cast<uint64_t>(p.bias != nullptr), static_cast<uint64_t>(p.out_f32), static_cast<uint64_t>(p.type)})
    key = (key ^ part) * 0x9E3779B97F4A7C15 + 0x7F4A7C15;
  return key;
}

}  // namespace

bool CublasLt::find_functions([[maybe_unused]] void* library) {
#if PAGEMILL_CUDA_EMULATION
  const auto find = [](auto& function, const char*, auto* address) { function = address; return true; };
#else
  const auto find = [library](auto& function, const char* name, auto*) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
    return function != nullptr;
  };
#endif
#define PM_FIND(member, name) find(call_.member, #name, &name)
  return PM_FIND(create, cublasLtCreate) && PM_FIND(destroy, cublasLtDestroy) && PM_FIND(matmul, cublasLtMatmul) &&
         PM_FIND(heuristic, cublasLtMatmulAlgoGetHeuristic) && PM_FIND(desc_create, cublasLtMatmulDescCreate) &&
         PM_FIND(desc_destroy, cublasLtMatmulDescDestroy) && PM_FIND(desc_set, cublasLtMatmulDescSetAttribute) &&
         PM_FIND(layout_create, cublasLtMatrixLayoutCreate) && PM_FIND(layout_destroy, cublasLtMatrixLayoutDestroy) &&
         PM_FIND(preference_create, cublasLtMatmulPreferenceCreate) && PM_FIND(preference_destroy, cublasLtMatmulPreferenceDestroy) &&
         PM_FIND(preference_set, cublasLtMatmulPreferenceSetAttribute);
#undef PM_FIND
}

Result<std::unique_ptr<CublasLt>> CublasLt::open() {
  std::unique_ptr<CublasLt> opened(new CublasLt);
#if PAGEMILL_CUDA_EMULATION
  opened->path_ = "emulated";
  opened->find_functions(nullptr);
#else
  // The loader's own places (LD_LIBRARY_PATH, ld.so.conf), then where toolkits put it.
  for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "/usr/local/cuda-13/lib64/libcublasLt.so.13",
                           "/usr/lib/x86_64-linux-gnu/libcublasLt.so.13"}) {
    opened->library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (opened->library_ == nullptr) continue;
    opened->path_ = name;
    break;
  }
  if (opened->library_ == nullptr)
    return fail(ErrorCode::not_found, "libcublasLt.so.13 was not found (LD_LIBRARY_PATH, the system's folders and /usr/local/cuda/lib64 were searched)");
  if (!opened->find_functions(opened->library_)) return fail(ErrorCode::unsupported, fmt::format("{} lacks functions of cuBLASLt", opened->path_));
#endif
  if (const cublasStatus_t status = opened->call_.create(&opened->handle_); status != CUBLAS_STATUS_SUCCESS)
    return fail(ErrorCode::io, fmt::format("cuBLASLt does not start (status {})", static_cast<int>(status)));
  return opened;
}

CublasLt::~CublasLt() {
  for (auto& [key, plan] : plans_) destroy_plan(plan);
  if (handle_ != nullptr) call_.destroy(handle_);
  // The library stays loaded: its threads and context may outlive us.
}

void CublasLt::destroy_plan(Plan& plan) const {
  if (plan.operation != nullptr) call_.desc_destroy(plan.operation);
  for (cublasLtMatrixLayout_t layout : {plan.weight, plan.x, plan.out})
    if (layout != nullptr) call_.layout_destroy(layout);
}

/// cuBLASLt counts columns first: a row-major [rows, in] is its [in, rows]. So outᵀ [out, rows] = weight [in, out]ᵀ · xᵀ [in, rows].
CublasLt::Plan CublasLt::make_plan(const Product& product, size_t workspace_bytes) const {
  Plan plan;
  const cudaDataType_t type = product.type == ElementType::f16 ? CUDA_R_16F : CUDA_R_16BF;
  const auto rows = static_cast<uint64_t>(product.rows), in = static_cast<uint64_t>(product.in), out = static_cast<uint64_t>(product.out_features);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  bool ok = call_.desc_create(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
            call_.desc_set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) == CUBLAS_STATUS_SUCCESS &&
            call_.layout_create(&plan.weight, type, in, out, static_cast<int64_t>(in)) == CUBLAS_STATUS_SUCCESS &&
            call_.layout_create(&plan.x, type, in, rows, static_cast<int64_t>(in)) == CUBLAS_STATUS_SUCCESS &&
            call_.layout_create(&plan.out, product.out_f32 ? CUDA_R_32F : type, out, rows, static_cast<int64_t>(out)) == CUBLAS_STATUS_SUCCESS;
  if (ok && product.bias != nullptr)
    ok = call_.desc_set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) == CUBLAS_STATUS_SUCCESS &&
         call_.desc_set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &product.bias, sizeof product.bias) == CUBLAS_STATUS_SUCCESS;
  cublasLtMatmulPreference_t preference = nullptr;
  if (ok && call_.preference_create(&preference) == CUBLAS_STATUS_SUCCESS) {
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    plan.usable = call_.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes) == CUBLAS_STATUS_SUCCESS &&
                  call_.heuristic(handle_, plan.operation, plan.weight, plan.x, plan.out, plan.out, preference, 1, &found, &count) == CUBLAS_STATUS_SUCCESS &&
                  count == 1;
    plan.algorithm = found.algo;
    call_.preference_destroy(preference);
  }
  return plan;
}

bool CublasLt::multiply(const Product& product, void* workspace, size_t workspace_bytes, cudaStream_t stream, DeviceStatus& status) {
  if (plans_.size() >= kPlansMax) {
    for (auto& [key, plan] : plans_) destroy_plan(plan);
    plans_.clear();
  }
  const auto [found, fresh] = plans_.try_emplace(key_of(product));
  Plan& plan = found->second;
  if (fresh) plan = make_plan(product, workspace_bytes);
  if (!plan.usable) return false;
  if (product.bias != nullptr && call_.desc_set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &product.bias, sizeof product.bias) != CUBLAS_STATUS_SUCCESS)
    return false;
  const float one = 1, zero = 0;
  const cublasStatus_t result = call_.matmul(handle_, plan.operation, &one, product.weight, plan.weight, product.x, plan.x, &zero, product.out, plan.out,
                                             product.out, plan.out, &plan.algorithm, workspace, workspace_bytes, stream);
  if (result == CUBLAS_STATUS_SUCCESS) return true;
  cudaError_t error = cudaPeekAtLastError();
  status.take(error != cudaSuccess ? error : cudaErrorUnknown, fmt::format("multiplying matrices by cuBLASLt (status {})", static_cast<int>(result)));
  return true;
}

}  // namespace pagemill::cuda
