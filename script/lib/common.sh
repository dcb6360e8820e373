# shellcheck shell=bash
# Shared by every script here: where things are, progress lines, failure reports, root rights.
# Source it after `set -euo pipefail`; it defines functions and PM_* variables and does nothing else.
# shellcheck disable=SC2034 # the variables are for those who source this

PM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
export HOME
PM_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/pagemill
PM_LOGS=$PM_CACHE/logs
# Debian's own interpreter: the packages that setup installs are for this one, whatever PATH says.
PM_PYTHON=/usr/bin/python3
PM_TICKER_SECONDS=15
# Where the symbolizer for reports of a clang build lies.
PM_LLVM_BIN=/usr/lib/llvm-16/bin

# say TEXT: one progress line with the time of day and the seconds since the script started.
say() {
  printf '%(%H:%M:%S)T %4ds  %s\n' -1 "$SECONDS" "$1"
}

# die WHAT [WHAT-TO-DO]: ends the script.
die() {
  printf '%(%H:%M:%S)T %4ds  error: %s\n' -1 "$SECONDS" "$1" >&2
  if [[ $# -gt 1 ]]; then printf '       what to do: %s\n' "$2" >&2; fi
  exit 1
}

# version_at_least HAVE WANT: compares dotted versions.
version_at_least() {
  [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1) == "$2" ]]
}

# as_root COMMAND...: runs it as root. Asks for a password only at a terminal.
as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif ! command -v sudo >/dev/null; then
    die "root rights are needed for: $*" "run this script as root, or install sudo"
  elif [[ -t 0 ]]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

# Prints a line now and then so that a slow step is visibly alive: the log's last line, and the size of the
# directory $PM_WATCHED where there is one. Runs in the background until killed or until the script is gone (an
# interrupt reaches the script only). The sleep keeps none of our file descriptors, so that a reader of our output
# never waits for it.
tick() {
  local label=$1 log=$2 started=$SECONDS last size
  while sleep "$PM_TICKER_SECONDS" >/dev/null 2>&1 9>&- && kill -0 "$$" 2>/dev/null; do
    last=$(tail -c 2000 "$log" 2>/dev/null | tr '\r' '\n' | grep -v '^ *$' | tail -n1 | cut -c1-100 || true)
    size=$(du -sh "${PM_WATCHED:-/nonexistent}" 2>/dev/null | cut -f1 || true)
    say "  $label: still going after $((SECONDS - started)) s${size:+, $size so far}${last:+: $last}"
  done
}

# run_logged LABEL HINT COMMAND...: runs a command whose output goes to a log; prints a line at the start, while
# it runs and at the end. On failure shows the log's last lines and the hint, and ends the script.
run_logged() {
  local label=$1 hint=$2 started=$SECONDS status=0 ticker log
  shift 2
  log=$PM_LOGS/$(printf '%s' "$label" | tr -c 'A-Za-z0-9.' '-').log
  mkdir -p "$PM_LOGS"
  : >"$log"
  say "$label ..."
  tick "$label" "$log" &
  ticker=$!
  "$@" >"$log" 2>&1 </dev/null || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  if [[ $status -ne 0 ]]; then
    printf -- '------- last lines of %s\n' "$log" >&2
    tail -n 25 "$log" >&2
    printf -- '-------\n' >&2
    die "$label failed with status $status" "$hint"
  fi
  say "$label: done in $((SECONDS - started)) s"
}

# pip_download DIRECTORY REQUIREMENT...: exact wheels without their dependencies, nothing left in pip's own cache.
# Its temporary files go to the directory too, so that an interrupted download is cleaned up with it.
pip_download() {
  local directory=$1
  shift
  TMPDIR=$directory "$PM_PYTHON" -m pip download --no-cache-dir --no-deps --only-binary=:all: --progress-bar off \
    --disable-pip-version-check --retries 5 --dest "$directory" "$@"
}

# write_table NAME TABLE: puts it between the comments "NAME table" and "end of the NAME table" of docs/kernels.md.
write_table() {
  python3 - "$PM_ROOT/docs/kernels.md" "$1" "$2" <<'PYTHON'
import pathlib, sys
path, name, table = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
begin, end = f"<!-- {name} table -->\n", f"<!-- end of the {name} table -->"
before, rest = path.read_text().split(begin, 1)
after = rest.split(end, 1)[1]
path.write_text(f"{before}{begin}{table}\n{end}{after}")
PYTHON
}
