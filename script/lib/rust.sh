# shellcheck shell=bash
# A Rust toolchain new enough for the crates in rust/Cargo.lock, and those crates.

PM_RUST_MINIMUM=1.87.0

# A rustup installation that a login shell would find is used by a bare environment (CI, sudo) too.
add_rustup_to_path() {
  if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
    PATH=$HOME/.cargo/bin:$PATH
  fi
}

# Prints the version of the rustc that cargo will call; nothing when there is none or it does not run.
rust_version() {
  command -v cargo >/dev/null && rustc --version 2>/dev/null | cut -d' ' -f2
}

ensure_rust() {
  local have
  add_rustup_to_path
  have=$(rust_version || true)
  if [[ -n $have ]] && version_at_least "$have" "$PM_RUST_MINIMUM"; then
    say "Rust: $have"
    return
  fi
  say "Rust: ${have:-none} here, $PM_RUST_MINIMUM needed: taking Debian's rustc-web"
  install_packages "Rust packages" "${PM_RUST_PACKAGES[@]}"
  hash -r
  have=$(rust_version || true)
  if [[ -z $have ]] || ! version_at_least "$have" "$PM_RUST_MINIMUM"; then
    die "rustc on PATH is still ${have:-missing}, and $PM_RUST_MINIMUM is needed" \
      "update it (rustup update stable), or take the older $(command -v rustc || echo rustc) out of PATH"
  fi
}

# Fetches the crates once per Cargo.lock, so that a build needs no network.
fetch_crates() {
  local lock=$PM_ROOT/rust/Cargo.lock stamp=$PM_CACHE/crates.stamp sum
  [[ -f $lock ]] || return 0
  sum=$(sha256sum <"$lock")
  if [[ -f $stamp && $(<"$stamp") == "$sum" && -d ${CARGO_HOME:-$HOME/.cargo}/registry ]]; then
    say "Rust crates: all here"
    return
  fi
  run_logged "fetch Rust crates" "check that cargo reaches crates.io, then run this again" \
    cargo fetch --locked --manifest-path "$PM_ROOT/rust/Cargo.toml"
  printf '%s\n' "$sum" >"$stamp"
}
