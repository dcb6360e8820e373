#!/usr/bin/env bash
# Tests and measures the CPU kernels of this machine, in the folder that script/cpu pack made: ./run [RESULTS [PART...]]
# Parts, in order (none named = all): machine tests models table kernels scaling. Needs glibc, lscpu and awk; nothing is built there and
# nothing fetched. Every part has limits of its own, and RESULTS is whole after each: what follows a failure or the end of the time is all that is lost.
# Of the environment: ISAS (those that are measured), BIG (shape of the large model), MODELS (where models go), KEEP (a folder that
# gets results.tgz after each part), TINY=1 (tiny shapes, to try the script itself).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit
# shellcheck source=script/lib/parts.sh
. ./parts.sh || exit
results=${1:-results}
shift || true
parts=("$@")
((${#parts[@]} > 0)) || parts=(machine tests models table kernels scaling)
mkdir -p "$results/raw"
results=$(cd "$results" && pwd)
export LC_ALL=C
began=$SECONDS failures=0

all_isas=(plain avx2 avx_vnni avx512 avx512_vnni amx)
models=${MODELS:-/dev/shm}
cores=$(nproc)
# The processors that this process may use, one a line.
allowed=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status | tr , '\n' | awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); ++i) print i }')
if [[ -n ${TINY:-} ]]; then
  shapes=(tiny-qwen2 smollm2-135m) types=(q4_k_m bf16) prompt=32 decode=8 streams=1,2 repeat=3 seconds=1 kernel_shapes=256x512
  types_of() { if [[ $1 == tiny-* ]]; then echo "q8_0 bf16"; else echo "q4_0"; fi; }
else
  shapes=(qwen2.5-0.5b "${BIG:-qwen2.5-7b}") types=(q4_k_m bf16) prompt=512 decode=32 streams=1,16 repeat=3 seconds=3 kernel_shapes=896x4864,3584x18944
  types_of() { echo "${types[@]}"; }
fi

has() { ./bin/cpu_backend_test --gtest_list_tests --gtest_filter="Isas/CpuOps.SaysWhatRuns/$1" | grep -q SaysWhatRuns; }

# The sets that are measured: the two widest of this CPU that were asked for.
measured() {
  local isa list=()
  for isa in ${ISAS:-avx2 avx512_vnni amx}; do has "$isa" && list+=("$isa"); done
  ((${#list[@]} > 0)) || list=(plain)
  printf '%s\n' "${list[@]}" | tail -2
}

model_files() {
  local shape type
  for shape in "${shapes[@]}"; do
    for type in $(types_of "$shape"); do echo "$models/$shape.$type.gguf"; done
  done
}

# bench FILE ISA THREADS SECONDS: as many cores as threads, so that the limits beside the figures are those cores' too.
bench() {
  local name
  name=$(basename "$1" .gguf)
  limited "engine_$2_$3_$name" "$4" taskset -c "$(head -n "$3" <<<"$allowed" | paste -sd,)" ./bin/pagemill bench engine "$1" --device cpu --isa "$2" --threads "$3" \
    --prompt "$prompt" --decode "$decode" --streams "$streams" --repeat "$repeat" --csv "$results/raw/$name.$2.$3.csv"
}

# All runs with the instruction set that was asked for in front, and their medians side by side.
summarise() {
  local file
  compgen -G "$results/raw/*.csv" >/dev/null || return 0
  for file in "$results"/raw/*.csv; do
    awk -v isa="$(basename "$file" .csv | awk -F. '{ print $(NF - 1) }')" 'NR > 1 { print isa "," $0 }' "$file"
  done >"$results/runs.tmp"
  { echo "isa_asked,seconds,model,cpu,isa,threads,test,size,decode,depth,engine,run,tokens_per_s,limit_tokens_per_s,held_limit_tokens_per_s"; cat "$results/runs.tmp"; } >"$results/runs.csv"
  rm "$results/runs.tmp"
  echo "model,test,size,threads,isa,median_tokens_per_s,smallest,largest,share_of_limit_percent,runs" >"$results/table.csv"
  awk -F, 'NR > 1 {
      key = $3 "," $7 "," $8 "," $6 "," $1
      value[key, ++count[key]] = $13
      limit[key] = $14
    }
    END {
      for (key in count) {
        n = count[key]
        for (i = 1; i <= n; ++i) v[i] = value[key, i] + 0
        for (i = 2; i <= n; ++i)
          for (j = i; j > 1 && v[j - 1] > v[j]; --j) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        median = n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
        share = 0
        if (limit[key] > 0) share = 100 * median / limit[key]
        printf("%s,%.3f,%.3f,%.3f,%.1f,%d\n", key, median, v[1], v[n], share, n)
      }
    }' "$results/runs.csv" | sort -t, -k1,1 -k2,2 -k3,3n -k4,4n -k5,5 >>"$results/table.csv"
  awk -F, '$5 == "avx512_vnni" { base[$1 "," $2 "," $3 "," $4] = $6 }
    $5 == "amx" { amx[$1 "," $2 "," $3 "," $4] = $6 }
    END { for (key in amx) if (base[key] > 0) printf("%s,%.2f\n", key, amx[key] / base[key]) }' "$results/table.csv" | sort >"$results/amx_over_avx512_vnni.csv"
}

for part in "${parts[@]}"; do
  echo "## $part at $((SECONDS - began)) s"
  case $part in
    machine)
      lscpu >"$results/cpu.txt"
      uname -a >>"$results/cpu.txt"
      lscpu | grep -E '^(Model name|CPU\(s\)|NUMA node\(s\))'
      limited machine 60 ./bin/pagemill bench machine --seconds "$seconds"
      grep -iE 'amx|vnni|read' "$results/machine.log" || true
      ;;
    tests)
      limited isa_test 30 ./bin/isa_test --gtest_brief=1
      limited calibrate_test 60 ./bin/calibrate_test --gtest_brief=1
      limited amx_tiles_test 60 ./bin/amx_tiles_test --gtest_brief=1
      limited linear_test 300 ./bin/linear_test --gtest_brief=1
      for isa in "${all_isas[@]}"; do
        if has "$isa"; then
          # Attention's cases go on with the number of heads: avx512_4_… is not avx512_vnni_4_….
          limited "ops_$isa" 200 ./bin/cpu_backend_test --gtest_brief=1 --gtest_filter="*/$isa:*/${isa}_?_*:*/${isa}_??_*:*/${isa}_???_*"
        else
          # The program says why.
          [[ -f $models/tiny.gguf ]] || ./bin/pagemill-make-model --shape tiny-qwen2 --type q8_0 --seed 1 "$models/tiny.gguf" >/dev/null 2>&1
          echo "not here: $(./bin/pagemill bench engine "$models/tiny.gguf" --device cpu --isa "$isa" 2>&1 | tail -1)" | tee -a "$results/missing.txt"
        fi
      done
      ;;
    models)
      for shape in "${shapes[@]}"; do
        for type in $(types_of "$shape"); do
          limited models 300 ./bin/pagemill-make-model --shape "$shape" --type "$type" --seed 1 "$models/$shape.$type.gguf"
        done
      done
      ;;
    table)  # everything on all cores: the first answer to whether AMX pays
      for file in $(model_files); do
        for isa in $(measured); do bench "$file" "$isa" "$cores" 240; done
      done
      summarise
      ;;
    kernels)
      for isa in $(measured); do
        limited "kernels_$isa" 200 ./bin/linear_bench --isa "$isa" --types q4_k,q6_k,q8_0,bf16 --rows 1,16,24,64,512 --shapes "$kernel_shapes"
      done
      ;;
    scaling)  # fewer cores, most first: one core takes minutes over the large model
      for file in $(model_files); do
        for ((threads = cores / 2; threads >= 1; threads /= 2)); do
          for isa in $(measured); do bench "$file" "$isa" "$threads" $((threads > 2 ? 240 : 480)); done
        done
      done
      summarise
      ;;
    *) echo "no part $part" >&2; failures=$((failures + 1)) ;;
  esac
  keep
done
summarise
keep
cat "$results/parts.csv"
[[ ! -s $results/table.csv ]] || cat "$results/table.csv"
[[ ! -s $results/amx_over_avx512_vnni.csv ]] || { echo "amx over avx512_vnni (model, test, size, threads, times):"; cat "$results/amx_over_avx512_vnni.csv"; }
exit "$((failures > 0))"
