#!/usr/bin/env bash
# Runs on the machine with the GPU, in the folder that script/gpu pack made: ./run [RESULTS] [PART...]
# Parts, in order (none named = all): build check portable sanitizer model limits gemm bench. Results are CSV in RESULTS (default: results).
# About four minutes on 16 cores and an H200; needs nvcc on the PATH, nothing from the network.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit
results=${1:-results}
shift || true
parts=("$@")
((${#parts[@]} > 0)) || parts=(build check portable sanitizer model limits gemm bench)
mkdir -p "$results" o
failures=0

# The architecture of the first GPU; 90 becomes 90a, whose kernels use wgmma.
architecture() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d '.')
  [[ $capability == 90 ]] && capability=90a
  echo "$capability"
}

build() {
  local arch name source flags objects=() jobs=()
  arch=$(architecture)
  local compile=(nvcc -std=c++20 -O3 -lineinfo --expt-relaxed-constexpr "-gencode=arch=compute_$arch,code=sm_$arch" -DFMT_HEADER_ONLY -DFMT_CONSTEVAL=
    -Xcompiler=-ffp-contract=off -Isrc -Itests/gpu -Iinclude)
  # Those of the build that are kernels and need nothing else of the backend's host side.
  local sources=(rows skinny skinny_hopper rope_store attention_decode attention_prefill attention_hopper gated_hopper sample)
  for name in "${sources[@]}"; do
    flags=()
    [[ $name == sample ]] && flags=(--fmad=false)
    "${compile[@]}" "${flags[@]}" -c "src/backend/cuda/$name.cu" -o "o/$name.o" &
    jobs+=($!)
    objects+=("o/$name.o")
  done
  for source in tests/gpu/op_check.cu tests/gpu/op_bench.cu src/backend/cpu/sample.cpp src/base/rng.cpp src/base/check.cpp src/base/dtype.cpp; do
    name=$(basename "${source%.*}")
    [[ $source == *cpu/sample.cpp ]] && name=cpu_sample
    "${compile[@]}" -c "$source" -o "o/$name.o" &
    jobs+=($!)
  done
  for name in "${jobs[@]}"; do wait "$name" || return; done
  local host=(o/cpu_sample.o o/rng.o o/check.o o/dtype.o)
  nvcc "-gencode=arch=compute_$arch,code=sm_$arch" o/op_check.o "${objects[@]}" "${host[@]}" -o op_check &&
    nvcc "-gencode=arch=compute_$arch,code=sm_$arch" o/op_bench.o "${objects[@]}" "${host[@]}" -o op_bench
}

# The kernels as a shared library, and whole models on them against HF transformers; skipped where Python has no transformers.
model() {
  local arch name jobs=()
  if ! python3 -c 'import torch, transformers' 2>/dev/null; then
    echo "model,skipped: no PyTorch or no transformers"
    return
  fi
  arch=$(architecture)
  mkdir -p pic
  for name in rows skinny skinny_hopper rope_store attention_decode attention_prefill attention_hopper gated_hopper; do
    nvcc -std=c++20 -O3 --expt-relaxed-constexpr "-gencode=arch=compute_$arch,code=sm_$arch" -Xcompiler=-fPIC -Isrc -c "src/backend/cuda/$name.cu" -o "pic/$name.o" &
    jobs+=($!)
  done
  nvcc -std=c++20 -O3 --expt-relaxed-constexpr "-gencode=arch=compute_$arch,code=sm_$arch" -Xcompiler=-fPIC -Isrc -c tests/gpu/kernels_abi.cu -o pic/kernels_abi.o || return
  for name in "${jobs[@]}"; do wait "$name" || return; done
  nvcc -shared "-gencode=arch=compute_$arch,code=sm_$arch" pic/*.o -o kernels.so && timeout 200 python3 tests/gpu/whole_model.py ./kernels.so
}

sanitizer() {
  local tool log status=0
  for tool in memcheck racecheck initcheck synccheck; do
    log=$results/$tool.log
    timeout 150 compute-sanitizer --tool "$tool" --error-exitcode 9 ./op_check --small >"$log" 2>&1 || status=1
    echo "$tool,$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" | tail -1 | tr -d '=,')"
  done
  return "$status"
}

for part in "${parts[@]}"; do
  echo "## $part"
  case $part in
    build) build ;;
    check) timeout 200 ./op_check | tee "$results/check.csv" ;;
    portable) timeout 200 ./op_check --portable | tee "$results/check_portable.csv" ;;
    sanitizer) sanitizer | tee "$results/sanitizer.csv" ;;
    model) model | tee "$results/model.csv" ;;
    limits)
      nvidia-smi -q -d CLOCK >"$results/clocks.txt"
      lscpu >"$results/cpu.txt"
      ./op_bench limits | tee "$results/limits.csv"
      ;;
    gemm) python3 gpu_gemm.py | tee "$results/gemm.csv" ;;
    bench) timeout 200 ./op_bench | tee "$results/bench.csv" ;;
    *)
      echo "no part $part" >&2
      false
      ;;
  esac || {
    echo "$part failed" >&2
    failures=$((failures + 1))
  }
done
exit "$((failures > 0))"
