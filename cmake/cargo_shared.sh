#!/bin/sh
# cargo_shared.sh TARGET CARGO MANIFEST [COPY_TO] -- CARGO-ARGUMENTS: runs cargo in a target folder that several checkouts share.
#
# cargo gives the crate of every checkout the same name there and judges it by file times, so it would take another checkout's
# result for fresh. This keeps the path of the checkout that built last and has the crate built anew when it is another.
# A lock holds until the result is copied.
set -eu
target=$1 cargo=$2 manifest=$3 copy_to=
shift 3
if [ "$1" != -- ]; then copy_to=$1; shift; fi
shift

export CARGO_TARGET_DIR="$target"
mkdir -p "$target"
exec 9>"$target/pagemill.lock"
flock 9
stamp=$target/pagemill.checkout
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$manifest" ]; then
  "$cargo" clean --release --package pagemill_text --manifest-path "$manifest" 9>&-
  printf '%s' "$manifest" >"$stamp"
fi
"$cargo" "$@" --locked --release --manifest-path "$manifest" 9>&-
if [ -n "$copy_to" ]; then cp "$target/release/libpagemill_text.a" "$copy_to"; fi
