# shellcheck shell=bash
# A Python environment in the cache, for what tests need from PyPI: Debian's own Python takes no packages of others.

PM_VENV=$PM_CACHE/venv
PM_REQUIREMENTS=$PM_ROOT/tests/requirements.txt

ensure_venv() {
  if ! "$PM_VENV/bin/python" -c '' 2>/dev/null; then
    run_logged "make a Python environment" "is Debian's python3-venv installed?" "$PM_PYTHON" -m venv --clear "$PM_VENV"
  fi
}

pip_install() {
  "$PM_VENV/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --progress-bar off --retries 5 "$@"
}

# Installs tests/requirements.txt (exact versions with hashes), once per content.
ensure_test_requirements() {
  local stamp=$PM_VENV/.requirements sum
  [[ -f $PM_REQUIREMENTS ]] || return 0
  ensure_venv
  sum=$(sha256sum <"$PM_REQUIREMENTS")
  if [[ -f $stamp && $(<"$stamp") == "$sum" ]]; then
    say "Python packages for the tests: all here"
    return
  fi
  run_logged "fetch Python packages for the tests" "check that pip reaches PyPI, then run this again" \
    pip_install --no-compile --no-deps --only-binary=:all: --requirement "$PM_REQUIREMENTS"
  printf '%s\n' "$sum" >"$stamp"
}
