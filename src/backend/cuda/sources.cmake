# The CUDA backend's sources, for the two ways they are compiled in: here with nvcc, in tests/cuda_emulation with the host compiler.

# The kernels, in the order of a step.
set(PAGEMILL_CUDA_KERNELS
  rows.cu skinny.cu skinny_hopper.cu rope_store.cu attention_decode.cu attention_prefill.cu attention_hopper.cu gated_hopper.cu sample.cu calibrate.cu)
# The host's side.
set(PAGEMILL_CUDA_HOST
  calibrate.cpp cublaslt.cpp cuda_backend.cpp cuda_ops.cpp handles.cpp kv_pool.cpp step_buffers.cpp step_graphs.cpp weights.cpp)
