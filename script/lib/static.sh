# shellcheck shell=bash
# The binary that travels: checks that it needs nothing but glibc, strips it and packs it.

PM_PACKED_LIMIT_BYTES=$((64 * 1024 * 1024))

# What glibc and the kernel bring everywhere.
is_system_library() {
  [[ $1 =~ ^(libc|libm|libdl|libpthread|librt|libutil|libresolv|ld-linux-x86-64)\.so\. ]]
}

pack_static() {
  local binary=$1 library bytes foreign=()
  while read -r library; do
    is_system_library "$library" || foreign+=("$library")
  done < <(readelf --dynamic --wide "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
  if ((${#foreign[@]} > 0)); then
    die "$binary needs ${foreign[*]}" "a static binary may need glibc alone: see PAGEMILL_STATIC in cmake/dependencies.cmake"
  fi
  strip --strip-all -o "$binary.stripped" "$binary"
  gzip --best --stdout "$binary.stripped" >"$binary.gz"
  bytes=$(stat --format=%s "$binary.gz")
  say "$binary.gz: $((bytes / 1024 / 1024)) MiB packed, $(($(stat --format=%s "$binary.stripped") / 1024 / 1024)) MiB unpacked, needs only glibc"
  if ((bytes > PM_PACKED_LIMIT_BYTES)); then
    die "$binary.gz takes more than $((PM_PACKED_LIMIT_BYTES / 1024 / 1024)) MiB" "build fewer architectures (CMAKE_CUDA_ARCHITECTURES)"
  fi
}
