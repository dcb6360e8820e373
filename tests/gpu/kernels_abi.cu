// The kernels behind a C ABI, for whole_model.py: pointers and numbers alone. Each returns CUDA's error code.
#include "backend/cuda/kernels.h"

namespace {

using namespace pagemill::cuda;

KernelContext context;

ElementType type_of(int bf16) { return bf16 != 0 ? ElementType::bf16 : ElementType::f16; }

}  // namespace

extern "C" {

/// Once; `workspace` is zeroed and holds pm_product_workspace_bytes().
void pm_set_up(void* stream, int multiprocessors, int arch, int programmatic, int deterministic, void* workspace) {
  int device = 0, shared_bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) return;
  context = {.stream = static_cast<cudaStream_t>(stream), .multiprocessors = multiprocessors, .arch = arch, .programmatic = programmatic != 0,
             .deterministic = deterministic != 0, .product_workspace = workspace, .block_shared_bytes = static_cast<size_t>(shared_bytes)};
}
size_t pm_product_workspace_bytes() { return product_workspace_bytes(); }
size_t pm_attention_workspace_bytes(int heads, int dim) { return attention_workspace_bytes(heads, dim); }
size_t pm_kv_block_bytes(int kv_heads, int dim) { return kv_layer_block_bytes(kv_heads, dim); }

int pm_embed(int bf16, const int32_t* tokens, const int32_t* positions, const void* table, void* out, int rows, int hidden) {
  return embed(context, {type_of(bf16), tokens, nullptr, positions, nullptr, table, out, rows, hidden});
}
int pm_rms_norm(int bf16, void* x, const void* delta, const float* weight, void* out, int rows, int hidden, float eps) {
  return rms_norm(context, {type_of(bf16), x, delta, weight, out, rows, hidden, eps});
}
int pm_rope_angles(const int32_t* positions, const float* inv_freq, void* angles, int rows, int half) {
  return rope_angles(context, {positions, inv_freq, 1.0f, static_cast<float2*>(angles), rows, half});
}
int pm_linear(int bf16, const void* x, const void* weight, void* out, int out_f32, int rows, int in, int out_features) {
  return linear_skinny(context, {type_of(bf16), x, weight, nullptr, nullptr, out, out_f32 != 0, rows, in, out_features});
}
int pm_gated(int bf16, const void* x, const void* gate, const void* up, void* out, int rows, int in, int ffn) {
  return gated_skinny(context, {type_of(bf16), x, gate, up, out, rows, in, ffn});
}
int pm_gated_silu(int bf16, const void* gate, const void* up, void* out, int64_t count) { return gated_silu(context, type_of(bf16), gate, up, out, count); }
int pm_qkv(int bf16, const void* x, const void* wq, const void* wk, const void* wv, const float* bq, const float* bk, const float* bv, const void* angles,
           const int32_t* slots, void* q, void* kv, int rows, int in, int heads, int kv_heads, int dim) {
  return qkv_skinny(context, {type_of(bf16), x, {wq, wk, wv}, {bq, bk, bv}, static_cast<const float2*>(angles), slots, q, {kv, kv_heads, dim}, rows, in, heads});
}
int pm_rope_store(int bf16, void* q, const void* k, const void* v, const void* angles, const int32_t* slots, void* kv, int rows, int heads, int kv_heads, int dim) {
  return rope_store(context, {type_of(bf16), q, k, v, 0, {}, q, static_cast<const float2*>(angles), slots, {kv, kv_heads, dim}, rows, heads});
}
int pm_attention(int bf16, const void* q, void* out, void* kv, const int32_t* table, int stride, const int32_t* positions, const int32_t* seq_of_row,
                 const int32_t* row_begin, int rows, int seqs, int heads, int kv_heads, int dim, int context_max, int rows_max, float scale, void* workspace) {
  return attention(context, {type_of(bf16), q, out, {kv, kv_heads, dim}, table, stride, positions, seq_of_row, row_begin, rows, seqs, heads, context_max, rows_max,
                             scale, 0, workspace});
}
}
