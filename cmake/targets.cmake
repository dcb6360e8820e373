# How a folder of src/ declares its library, its tests, its benchmarks and its fuzz harnesses.

# Two precompiled headers serve the whole tree: cmake/pch.h, and the same with GoogleTest. Named in angle brackets:
# CMake would write the checkout's path otherwise, and no compiler cache would serve a second one.
include_directories(${CMAKE_SOURCE_DIR}/cmake)
# Their definitions are part of a precompiled header: everything that uses one has them (through pagemill_base).
set(pch_users_have Threads::Threads tl::expected Boost::json fmt::fmt spdlog::spdlog)
add_library(pagemill_pch OBJECT ${CMAKE_SOURCE_DIR}/cmake/pch.cpp)
target_precompile_headers(pagemill_pch PRIVATE <pch.h>)
target_link_libraries(pagemill_pch PRIVATE ${pch_users_have})
add_library(pagemill_test_pch OBJECT ${CMAKE_SOURCE_DIR}/cmake/pch.cpp)
target_precompile_headers(pagemill_test_pch PRIVATE <test_pch.h>)
# Test code itself is not hot, and compiling it is half of a build.
if(PAGEMILL_SANITIZE)
  set(test_optimisation -O0)
else()
  set(test_optimisation -O1)
endif()
target_compile_options(pagemill_test_pch PRIVATE ${test_optimisation})
target_link_libraries(pagemill_test_pch PRIVATE ${pch_users_have} GTest::gtest GTest::gmock)

# pm_add_library(NAME SOURCES a.cpp … [DEPS target …] [PRECOMPILE <header> …])
# A static library; its headers are included as "folder/header.h". PRECOMPILE: a precompiled header of its own, with these added,
# for a folder most of whose files include the same heavy ones.
function(pm_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRECOMPILE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(${name} PUBLIC tl::expected Threads::Threads ${ARG_DEPS})
  if(ARG_PRECOMPILE)
    target_precompile_headers(${name} PRIVATE <pch.h> ${ARG_PRECOMPILE})
  else()
    target_precompile_headers(${name} REUSE_FROM pagemill_pch)
  endif()
endfunction()

# The tests labelled `threads`: what a ThreadSanitizer build needs.
add_custom_target(thread_tests)

# pm_add_test(NAME SOURCES a_test.cpp … [DEPS target …] [LABELS label] [WHOLE] [TIMEOUT seconds])
# One GoogleTest binary. ctest lists each test by itself; with WHOLE the binary is one ctest entry (for
# suites that share something costly, such as a loaded model).
# Labels: `unit` (the default), `threads` (run under ThreadSanitizer too), `model` (needs the default model), `slow`.
function(pm_add_test name)
  cmake_parse_arguments(ARG "WHOLE" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} pagemill_test_paths tl::expected Threads::Threads GTest::gtest GTest::gmock GTest::gtest_main)
  target_precompile_headers(${name} REUSE_FROM pagemill_test_pch)
  target_compile_options(${name} PRIVATE ${test_optimisation})
  list(LENGTH ARG_LABELS labels)
  if(labels GREATER 1)
    # CMake flattens a list in the properties of discovered tests: the second label would be taken for a property.
    message(FATAL_ERROR "${name}: one label, not '${ARG_LABELS}'")
  endif()
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(thread_tests ${name})
  endif()
  if(PAGEMILL_SANITIZE AND ARG_LABELS MATCHES "^(model|slow)$")
    # No sanitizer build runs these: they are built there only when asked for by name.
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    return()
  endif()
  if(ARG_WHOLE)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
  else()
    gtest_discover_tests(${name} NO_PRETTY_VALUES DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
      PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
  endif()
endfunction()

# pm_add_benchmark(NAME SOURCES a_bench.cpp … [DEPS target …]): a Google Benchmark binary; built, not run by ctest.
function(pm_add_benchmark name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} benchmark::benchmark)
  if(PAGEMILL_SANITIZE)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)  # its figures would say nothing
  endif()
endfunction()

# pm_add_fuzzer(NAME SOURCES fuzz_x.cpp [DEPS target …]): a libFuzzer harness; the corpus lies in tests/fuzz/corpus/NAME.
# ctest replays the corpus; `script/test --ci` fuzzes a little on top.
function(pm_add_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(NOT PAGEMILL_FUZZERS)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_test(NAME ${name}_corpus COMMAND ${name} -runs=0 ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
  set_tests_properties(${name}_corpus PROPERTIES LABELS fuzz TIMEOUT 600)
endfunction()

include(GoogleTest)
