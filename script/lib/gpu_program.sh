#!/usr/bin/env bash
# Runs the whole program on a machine with a GPU, in the folder that script/gpu pack made: ./program [RESULTS] [PART...]
# Parts, in order (none named = all): machine check models decode prefill streams long timeline bits cpu answer. Needs the driver, Python 3 and, for
# prompts at full speed, libcublasLt.so.13; nothing is built there and nothing fetched. About 8 minutes on an H200 with 16 cores.
# Every part has a time limit of its own, and RESULTS is whole after each: what follows a failure or the end of the time is all that is lost.
# With KEEP=DIR set, RESULTS are packed into DIR/results.tgz after each part.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit
# shellcheck source=script/lib/parts.sh
. ./parts.sh || exit
results=${1:-results}
shift || true
parts=("$@")
((${#parts[@]} > 0)) || parts=(machine check models decode prefill streams long timeline bits cpu answer)
mkdir -p "$results"
results=$(cd "$results" && pwd)
models=${MODELS:-/dev/shm}
qwen=$models/qwen2.5-7b.bf16.gguf llama=$models/llama-3-8b.bf16.gguf
qwen_shape=${QWEN_SHAPE:-qwen2.5-7b} llama_shape=${LLAMA_SHAPE:-llama-3-8b}
qwen_vocab=${QWEN_VOCAB:-152064} llama_vocab=${LLAMA_VOCAB:-128256}
device=${DEVICE:-cuda}
levels=${LEVELS:-1,16,64,256} stream_levels=${STREAM_LEVELS:-1,5,16,64,256} prompts=${PROMPTS:-2048,8192,32768}
depth=${DEPTH:-512} output=${OUTPUT:-256}
began=$SECONDS failures=0
export LC_ALL=C
export HOME=${HOME:-/tmp}

# Folders with what the program opens by name: cuBLASLt, and CUPTI for the timeline.
for library in libcublasLt.so.13 libcupti.so.13; do
  found=$(ls /usr/local/cuda*/lib64/"$library" /usr/local/cuda*/extras/CUPTI/lib64/"$library" /opt/*/.venv/lib/python3*/site-packages/nvidia/*/lib/"$library" 2>/dev/null | head -1)
  [[ -n $found ]] || found=$(timeout 10 find / -xdev -name "$library" 2>/dev/null | head -1)
  [[ -n $found ]] && export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(dirname "$found")
done

processes() { nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader 2>/dev/null | sed "s/^/$1,/" >>"$results/memory.csv"; }

# served NAME MODEL PORT FLAG…: a server in the background, ready; its pid in $server
served() {
  local name=$1 model=$2 port=$3 from now
  shift 3
  from=$(date +%s%N)
  ./bin/pagemill serve "$model" --device "$device" --port "$port" --no-chat-page "$@" >>"$results/$name.log" 2>&1 &
  server=$!
  while ! grep -q '^Ready after' "$results/$name.log"; do
    now=$(date +%s%N)
    if ! kill -0 "$server" 2>/dev/null || (((now - from) / 1000000000 > 60)); then
      echo "FAILED: no server for $name"
      tail -5 "$results/$name.log"
      failures=$((failures + 1))
      kill -9 "$server" 2>/dev/null
      return 1
    fi
    sleep 0.02
  done
  echo "$name,$(((($(date +%s%N) - from)) / 1000000)),$(stat -Lc %s "$model")" >>"$results/load_ms.csv"
  processes "$name at load ($server)"
  return 0
}

stop() {
  kill -TERM "$1" 2>/dev/null
  for _ in {1..100}; do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done
  kill -9 "$1" 2>/dev/null
}

each_model() {  # FUNCTION: called with a name, its file and its vocabulary
  "$1" qwen2.5-7b "$qwen" "$qwen_vocab"
  "$1" llama-3-8b "$llama" "$llama_vocab"
}

decode() {
  local level command=(./bin/pagemill bench engine "$2" --device "$device" --depth "$depth" --decode 192 --prompt 1 --repeat 3 --csv "$results/decode.csv")
  limited "decode_$1" 110 "${command[@]}" --streams "$levels" && return
  # What of it works, and how the rest fails.
  for level in ${levels//,/ }; do limited "decode_$1" 40 "${command[@]}" --streams "$level" || break; done
  CUDA_LAUNCH_BLOCKING=1 limited "decode_$1_eager" 40 "${command[@]}" --streams "$level" --repeat 1 --enforce-eager
}

# Both beyond what the shapes' files name: a prompt leaves room for its answer, and Llama-3 names 8,192.
prefill() { limited "prefill_$1" 60 ./bin/pagemill bench engine "$2" --device "$device" --hf-overrides '{"max_position_embeddings":40960}' --prompt "$prompts" --decode 2 --streams 1 --repeat 5 --max-step-ms 0 --csv "$results/prefill.csv"; }

streams() {
  served "streams_$1" "$2" 18101 --max-num-seqs 256 || return
  limited "load_$1" 100 python3 load.py --port 18101 --label "$1" --vocab "$3" --streams "$stream_levels" --prompt "$depth" --output "$output" --csv "$results/streams.csv"
  processes "streams_$1 after the largest step ($server)"
  curl -s "http://127.0.0.1:18101/metrics" >"$results/metrics_$1.txt"
  stop "$server"
}

# Watched runs: one decode level after the other; prompts.
watched() {  # NAME FLAG…
  local name=$1
  shift
  CUDA_INJECTION64_PATH=$PWD/timeline.so limited "$name" 60 ./bin/pagemill bench engine "$@" --device "$device" --repeat 1
  limited "$name" 60 python3 timeline.py timeline.raw "$results/$name"
  rm -f timeline.raw
}
timeline() {
  watched "timeline_$1" "$2" --depth "$depth" --decode 96 --prompt 1 --streams "$levels"
  watched "timeline_prompts_$1" "$2" --hf-overrides '{"max_position_embeddings":40960}' --prompt "$prompts" --decode 2 --streams 1 --max-step-ms 0
}

bits() {  # LABEL FLAG…
  local label=$1 roomy crowded
  shift
  served "bits_roomy_$label" "$qwen" 18102 --deterministic --max-num-seqs 32 --gpu-memory-utilization 0.4 "$@" || return
  roomy=$server
  if served "bits_crowded_$label" "$qwen" 18103 --deterministic --max-num-seqs 32 --max-num-batched-tokens 200 --max-model-len 800 --kv-cache-memory-bytes "${CROWDED:-112M}" "$@"; then
    crowded=$server
    limited "bits_$label" 80 python3 same_bits.py --roomy 18102 --crowded 18103 --vocab "$qwen_vocab" --label "$label"
    stop "$crowded"
  fi
  stop "$roomy"
}

cpu_tests() {
  limited cpu_backend_test 150 ./bin/cpu_backend_test --gtest_brief=1
  limited linear_test 150 ./bin/linear_test --gtest_brief=1
}

cpu_speed() {
  local isa
  limited cpu_machine 30 ./bin/pagemill bench machine
  for isa in ${ISAS:-avx2 avx_vnni avx512 avx512_vnni}; do
    limited "cpu_$isa" 40 ./bin/pagemill bench engine "$models/small.gguf" --device cpu --isa "$isa" --prompt 512 --decode 64 --streams 1,16 --repeat 3 --csv "$results/cpu_$isa.csv"
  done
}

make_model() { timeout 150 ./bin/pagemill-make-model --shape "$1" --type "$2" --seed 1 "$3" >>"$results/models.log" 2>&1; }

for part in "${parts[@]}"; do
  # A program that hangs is not waited for again and again.
  if [[ $(grep -cs ',124$' "$results/parts.csv") -ge 3 && ! $part =~ ^(machine|models|cpu)$ ]]; then
    echo "## $part skipped: three commands hung"
    continue
  fi
  echo "## $part at $((SECONDS - began)) s"
  case $part in
    machine)
      lscpu >"$results/cpu.txt"
      nvidia-smi -q -d CLOCK,MEMORY,POWER,PERFORMANCE >"$results/nvidia-smi.txt" 2>&1
      nvidia-smi --query-gpu=timestamp,name,utilization.gpu,memory.used,power.draw,clocks.sm,clocks.mem,temperature.gpu --format=csv -lms 500 >"$results/gpu.csv" 2>&1 &
      sampler=$!
      # Beside the next two parts, which want little of the processors.
      make_model "$qwen_shape" bf16 "$qwen" &
      qwen_made=$!
      make_model "$llama_shape" bf16 "$llama" &
      llama_made=$!
      { make_model "${SMALL_SHAPE:-smollm2-135m}" q4_k "$models/small.gguf"; cpu_tests; } &
      cpu_tested=$!
      limited machine 40 ./bin/pagemill bench machine --device "$device"
      ;;
    check)
      limited check 120 ./bin/gpu_engine_check ||
        limited check_sanitizer 60 compute-sanitizer --tool memcheck ./bin/gpu_engine_check --gtest_filter='*LogitsAreTheReferences*'
      ;;
    models) wait "$qwen_made" "$llama_made"; ls -la "$models" >>"$results/models.log" ;;
    decode | prefill | streams) each_model "$part" ;;
    long)
      limited long 60 ./bin/pagemill bench engine "$qwen" --device "$device" --max-model-len "${LONG_LEN:-131072}" --prompt "${LONG:-131056}" --decode 2 --streams 1 --repeat 1 --max-step-ms 0 \
        --hf-overrides "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":${ORIGINAL:-32768}},\"max_position_embeddings\":${LONG_LEN:-131072}}" --csv "$results/long.csv"
      ;;
    timeline) each_model timeline ;;
    bits)
      bits own
      bits sm80 --cuda-arch 80
      ;;
    cpu)
      wait "$cpu_tested"
      cpu_speed
      ;;
    answer)  # more than 8,000 tokens of one answer, beside 15 others
      served answer "$qwen" 18104 --max-num-seqs 256 &&
        limited long_answers 120 python3 load.py --port 18104 --label "16 long answers" --vocab "$qwen_vocab" --streams 16 --rounds 1 --prompt "$depth" --output "${LONG_OUTPUT:-8192}" --csv "$results/streams.csv"
      stop "$server"
      ;;
    *) echo "no part $part" >&2; failures=$((failures + 1)) ;;
  esac
  keep
done
[[ -z ${sampler:-} ]] || kill "$sampler" 2>/dev/null
keep
cat "$results/parts.csv"
exit "$((failures > 0))"
