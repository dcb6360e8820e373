# shellcheck shell=bash
# The CUDA 13.0 toolkit out of PyPI wheels, unpacked into the cache: enough to compile every kernel, with or
# without a GPU. cuBLAS and cuDNN are loaded at run time, so a machine without a driver keeps only their headers.

PM_CUDA_WHEELS=(
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
  nvidia-cublas==13.0.2.14 nvidia-cudnn-cu13==9.14.0.64
)
PM_CUDA_DIRECTORY=$PM_CACHE/cuda-13.0

has_nvidia_driver() {
  [[ -e /dev/nvidiactl ]]
}

# What the toolkit in the cache was made from; a change of this list makes it anew.
cuda_recipe() {
  printf '%s\n' "${PM_CUDA_WHEELS[@]}"
  if has_nvidia_driver; then echo "with libraries"; else echo "headers only"; fi
}

# Moves one unpacked wheel's files into the toolkit. cuBLAS and cuDNN unpack beside each other as nvidia/<name>.
merge_wheel() {
  local unpacked=$1 toolkit=$2 part
  for part in "$unpacked"/nvidia/*/; do
    case $part in
      */cudnn/)
        has_nvidia_driver || rm -rf "${part}lib"
        ;;
    esac
    cp -a --link "$part". "$toolkit/" || return
  done
}

unpack_cuda() {
  local work=$1 toolkit=$1/toolkit wheel
  rm -rf "$work" && mkdir -p "$toolkit" || return
  for wheel in "${PM_CUDA_WHEELS[@]}"; do
    echo "$wheel"
    mkdir -p "$work/wheel" &&
      pip_download "$work/wheel" "$wheel" >/dev/null &&
      "$PM_PYTHON" -m zipfile -e "$work"/wheel/*.whl "$work/unpacked" || return
    if [[ $wheel == nvidia-cublas==* ]] && ! has_nvidia_driver; then rm -f "$work"/unpacked/nvidia/*/lib/*; fi
    merge_wheel "$work/unpacked" "$toolkit" || return
    rm -rf "$work/wheel" "$work/unpacked"
  done
  # Wheels carry no execute permission, and the linker looks for the unversioned name in lib64.
  chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/* &&
    ln -sf libcudart.so.13 "$toolkit/lib/libcudart.so" &&
    ln -sfn lib "$toolkit/lib64" &&
    try_nvcc "$toolkit" "$work" &&
    rm -rf "$PM_CUDA_DIRECTORY" && mv "$toolkit" "$PM_CUDA_DIRECTORY" && rm -rf "$work"
}

# Compiles and links a kernel for Hopper: the toolkit works, down to assembler and linker.
try_nvcc() {
  local toolkit=$1 work=$2
  cat >"$work/hello.cu" <<'KERNEL'
#include <cuda_bf16.h>
#include <cublasLt.h>
#include <cudnn.h>
__global__ void scale(__nv_bfloat16* x, float by) {
  x[threadIdx.x] = __float2bfloat16(__bfloat162float(x[threadIdx.x]) * by);
  asm volatile("fence.proxy.async;");
}
int main() {
  scale<<<1, 32>>>(nullptr, 2.0f);
  return cudaGetLastError() == cudaSuccess;
}
KERNEL
  "$toolkit/bin/nvcc" -arch=sm_90a -std=c++20 -o "$work/hello" "$work/hello.cu"
}

ensure_cuda() {
  local stamp=$PM_CUDA_DIRECTORY/.recipe
  if [[ -f $stamp && $(<"$stamp") == "$(cuda_recipe)" ]]; then
    say "CUDA toolkit: $PM_CUDA_DIRECTORY"
    return
  fi
  PM_WATCHED=$PM_CACHE/.cuda-fetch run_logged "fetch the CUDA 13.0 toolkit (880 MB)" "check that pip reaches PyPI and that 3 GB are free in $PM_CACHE" \
    unpack_cuda "$PM_CACHE/.cuda-fetch"
  cuda_recipe >"$stamp"
}
