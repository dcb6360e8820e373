# shellcheck shell=bash
# Debian packages: which ones, and installing those that are missing.
# shellcheck disable=SC2034 # the lists are for those who source this

PM_BUILD_PACKAGES=(
  # toolchain
  g++ cmake ninja-build ccache pkg-config git ca-certificates
  # libraries; Boost 1.81 because Debian's default 1.74 lacks what we use of Beast and JSON
  libboost1.81-dev libboost-json1.81-dev libboost-context1.81-dev
  libsqlite3-dev libsodium-dev libssl-dev libcurl4-openssl-dev libexpected-dev libspdlog-dev libfmt-dev libcli11-dev libedit-dev
  libzip-dev libpugixml-dev libuchardet-dev libseccomp-dev zlib1g-dev tzdata
  # the release build also builds the tests and micro-benchmarks
  libgtest-dev libgmock-dev libbenchmark-dev
  # run as a sandboxed child, never linked
  # (poppler-data: character maps without which many Chinese PDFs come out empty)
  poppler-utils poppler-data
  # fetches the default model, and Node where the system's is too old
  python3 python3-pip python3-venv
)

PM_TEST_PACKAGES=(
  # the chat page's end-to-end tests; the font draws the Chinese of the screenshots
  chromium fonts-noto-cjk
  # sanitizers and libFuzzer: preset asan builds with clang 16
  # llvm-16 brings the symbolizer: without it a sanitizer's report holds bare addresses.
  clang-16 libclang-rt-16-dev lld-16 llvm-16
)

PM_RUST_PACKAGES=(rustc-web cargo-web)

# missing_packages NAME...: prints those that are not installed.
missing_packages() {
  comm -23 <(printf '%s\n' "$@" | sort -u) \
    <(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii //p' | sort -u)
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 "$@"
}

# install_packages LABEL NAME...: installs what is missing. Never removes a package of the machine's owner:
# a conflict ends the script with apt's own words.
install_packages() {
  local label=$1 missing
  shift
  command -v dpkg-query >/dev/null || die "this script sets up Debian 12, and dpkg is not here" \
    "see docs/setup.md for the list of what to install by hand"
  missing=$(missing_packages "$@")
  if [[ -z $missing ]]; then
    say "$label: all installed"
    return
  fi
  if [[ -z ${PM_APT_UPDATED:-} ]]; then
    run_logged "apt-get update" "check the network and the files in /etc/apt" apt_get update
    PM_APT_UPDATED=1
  fi
  say "$label: $(wc -w <<<"$missing") to install: $(tr '\n' ' ' <<<"$missing")"
  # shellcheck disable=SC2086 # one word per package
  run_logged "install $label" "run: apt-get install $(tr '\n' ' ' <<<"$missing")(a conflict with an installed package is yours to settle: nothing is ever removed here)" \
    apt_get install --no-install-recommends --no-remove $missing
}
