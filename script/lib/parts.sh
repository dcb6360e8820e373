# shellcheck shell=bash
# Parts of a run in a packed folder on a bare machine: with cpu_run.sh and gpu_program.sh, which source it there.
# Theirs: $results (a folder), $began (seconds) and $failures (a count). KEEP=DIR of the environment: a folder for results.tgz.

# limited NAME SECONDS COMMAND…: output to RESULTS/NAME.log
limited() {
  local name=$1 limit=$2 from=$SECONDS status
  shift 2
  echo "## $name (at $((SECONDS - began)) s): $*" >>"$results/$name.log"
  timeout --kill-after=5 "$limit" "$@" >>"$results/$name.log" 2>&1
  status=$?
  echo "$name,$((from - began)),$((SECONDS - from)),$status" >>"$results/parts.csv"
  ((status == 0)) || {
    failures=$((failures + 1))
    echo "FAILED ($status): $*"
    tail -5 "$results/$name.log"
  }
  return "$status"
}

keep() { [[ -z ${KEEP:-} ]] || { tar -czf /tmp/results.tgz -C "$results" --exclude='*.raw' . && cp /tmp/results.tgz "$KEEP/results.tgz"; }; }
