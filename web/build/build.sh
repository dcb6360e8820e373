#!/usr/bin/env bash
# build.sh OUT: builds the page into OUT: assets.cpp and the compressed files that it embeds. Called by CMake when a source of
# the page has changed. Packages come from the user's cache (script/lib/node.sh), results too: another preset or checkout with the
# same sources takes what is there.
set -euo pipefail
# shellcheck source=script/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../script/lib/common.sh"
# shellcheck source=script/lib/python.sh
. "$PM_ROOT/script/lib/python.sh"
# shellcheck source=script/lib/node.sh
. "$PM_ROOT/script/lib/node.sh"

PM_PAGES_KEPT=6
out=$1
web=$PM_ROOT/web
cache=$PM_CACHE/pages

sources_sum() {
  (cd "$web" && find build public src index.html package.json package-lock.json svelte.config.js vite.config.ts -type f -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-24)
}

mkdir -p "$cache"
exec 8>"$cache/lock"
flock 8
ensure_web_packages
sum=$(sources_sum)
if [[ ! -f $cache/$sum/.complete ]]; then
  rm -rf "${cache:?}/$sum"
  ensure_node
  cd "$web"
  node node_modules/vite/bin/vite.js build --logLevel warn --outDir "$cache/$sum/dist" --emptyOutDir
  node build/pack.mjs "$cache/$sum/dist" "$cache/$sum/packed"
  rm -rf "${cache:?}/$sum/dist"
  touch "$cache/$sum/.complete"
fi
touch "$cache/$sum"
# The compiler reads the files where they lie in OUT, so that the cache may be emptied at any time.
rm -rf "$out"
mkdir -p "$out"
cp -r "$cache/$sum/packed/." "$out/"
sed -i "s|$cache/$sum/packed/|$out/|g" "$out/assets.cpp"
find "$cache" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort -rn | tail -n +$((PM_PAGES_KEPT + 1)) | cut -d' ' -f2- | xargs -r rm -rf
