# pagemill_rust: the Rust static library in rust/ with its C ABI. cargo keeps its target folder in the user's cache, so that
# every checkout and preset shares the compiled crates (cmake/cargo_shared.sh); the library itself is copied into the build folder.

find_program(CARGO cargo HINTS $ENV{HOME}/.cargo/bin REQUIRED)

if(DEFINED ENV{XDG_CACHE_HOME} AND NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
  set(rust_target $ENV{XDG_CACHE_HOME}/pagemill/cargo)
else()
  set(rust_target $ENV{HOME}/.cache/pagemill/cargo)
endif()

set(cargo_shared ${CMAKE_SOURCE_DIR}/cmake/cargo_shared.sh)
set(rust_manifest ${CMAKE_SOURCE_DIR}/rust/Cargo.toml)
set(rust_library ${CMAKE_BINARY_DIR}/rust/libpagemill_text.a)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/rust)
file(GLOB_RECURSE rust_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/rust/src/*.rs)

add_custom_command(
  OUTPUT ${rust_library}
  COMMAND ${cargo_shared} ${rust_target} ${CARGO} ${rust_manifest} ${rust_library} -- build
  DEPENDS ${rust_sources} ${rust_manifest} ${CMAKE_SOURCE_DIR}/rust/Cargo.lock
  COMMENT "Building the Rust library"
  USES_TERMINAL  # three minutes from nothing: cargo's own progress is shown
  VERBATIM)
add_custom_target(pagemill_rust_build DEPENDS ${rust_library})

add_library(pagemill_rust STATIC IMPORTED GLOBAL)
if(PAGEMILL_STATIC)
  set(rust_unwinder gcc_eh)
else()
  set(rust_unwinder gcc_s)
endif()
set_target_properties(pagemill_rust PROPERTIES
  IMPORTED_LOCATION ${rust_library}
  INTERFACE_INCLUDE_DIRECTORIES ${CMAKE_SOURCE_DIR}/rust/include
  INTERFACE_LINK_LIBRARIES "${rust_unwinder};util;rt;pthread;m;dl")
add_dependencies(pagemill_rust pagemill_rust_build)
