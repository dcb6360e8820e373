// A source file for CMake to hang a precompiled header on.
