"""Plants each violation that tidy.py looks for and expects it to be found, beside a clean tree with none."""

import pathlib
import tempfile
import unittest

import tidy

LAYERS = """# order
base    :
format  :
text    : format rust
engine  : text
session : engine/handle.h text
cli     : *
"""

CLEAN = {
    "src/LAYERS": LAYERS,
    "src/base/CMakeLists.txt": "pm_add_library(pagemill_base SOURCES a.cpp)",
    "src/base/a.cpp": '#include "base/a.h"\n#include <vector>\nauto home = std::getenv("HOME");\n',
    "src/base/a.h": "#pragma once\n",
    "src/session/CMakeLists.txt": "SOURCES\n  s.cpp deep/t_test.cpp",
    "src/session/s.cpp": '#include "engine/handle.h"\n#include "text/t.h"\n#include "base/a.h"\n',
    "src/session/deep/t_test.cpp": '#include "engine/scheduler.h"\n',
    "src/text/t.h": '#pragma once\n#include "rust_abi.h"\n',
    "rust/include/rust_abi.h": "",
    "script/run": 'cd "$HOME/work/x"\n',
}


class TidyTest(unittest.TestCase):
    def violations(self, **planted):
        """The violations of the clean tree with these files on top; '__' in a name stands for '/'."""
        files = dict(CLEAN)
        files.update({name.replace("__", "/"): text for name, text in planted.items()})
        return self.violations_of(files)

    def violations_of(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, content in files.items():
                target = pathlib.Path(root) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content if isinstance(content, bytes) else content.encode())
            tree = tidy.Tree(root, files.keys())
            return [violation for check in tidy.CHECKS for violation in check(tree)]

    def assert_one(self, expected, **planted):
        found = self.violations(**planted)
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])

    def with_file(self, path, content):
        return {path.replace("/", "__"): content}

    def test_clean_tree_passes(self):
        self.assertEqual(self.violations(), [])

    def test_layer_above(self):
        self.assert_one("text may not include engine/handle.h",
                        **self.with_file("src/text/t.h", '#pragma once\n  #  include "engine/handle.h"\n'))

    def test_only_the_named_header_of_a_folder(self):
        self.assert_one("session may not include engine/scheduler.h",
                        **self.with_file("src/session/s.cpp", '#include "engine/scheduler.h"\n'))

    def test_rust_header_outside_its_layers(self):
        self.assert_one("the Rust library's",
                        **self.with_file("src/base/a.cpp", '#include "rust_abi.h"\n'))

    def test_include_that_is_no_path_from_src(self):
        self.assert_one("not a path from src/", **self.with_file("src/base/a.cpp", '#include "a.h"\n'))

    def test_folder_without_layer(self):
        self.assert_one("not in src/LAYERS", **self.with_file("src/other/o.h", "#pragma once\n"))

    def test_cycle_in_layers(self):
        self.assert_one("not listed above it", **self.with_file("src/LAYERS", LAYERS.replace("format  :", "format  : text")))

    def test_missing_layers(self):
        files = {path: text for path, text in CLEAN.items() if path != "src/LAYERS"}
        self.assertEqual(self.violations_of(files), ["src/LAYERS: missing"])

    def test_long_file(self):
        self.assert_one("801 lines", **self.with_file("src/base/a.h", "#pragma once\n" * 801))
        self.assert_one("1201 lines", **self.with_file("src/backend/k.h", "#pragma once\n" * 1201),
                        **self.with_file("src/LAYERS", LAYERS + "backend :\n"))

    def test_large_file(self):
        self.assert_one("1000001 bytes", **self.with_file("tests/golden.bin", b"\xff" * 1_000_001))

    def test_leftovers(self):
        for text in ("# TO" "DO: later", "// FIX" "ME", 'error("not implem' 'ented")'):
            self.assert_one("left in", **self.with_file("script/run", text + "\n"))

    def test_machine_path(self):
        for text in ("cd /wo" "rk/main", 'open("/ho' 'me/me/x")'):
            self.assert_one("a path of one machine", **self.with_file("README.md", text + "\n"))

    def test_test_that_is_not_built(self):
        self.assert_one("src/session/s_test.cpp: in no CMakeLists.txt", **self.with_file("src/session/s_test.cpp", ""))
        self.assert_one("src/session/deep/s.cpp: in no CMakeLists.txt", **self.with_file("src/session/deep/s.cpp", ""))
        source = self.with_file("src/session/x.cpp", "")
        self.assert_one("src/session/x.cpp: in no CMakeLists.txt", **source, **self.with_file("src/session/other.cmake", "x.cpp"))
        self.assertEqual(self.violations(**source, **self.with_file("src/session/sources.cmake", "set(LIST x.cpp)")), [])

    def test_header_without_pragma(self):
        self.assert_one("no #pragma once", **self.with_file("src/base/a.h", ""))

    def test_regex(self):
        self.assert_one("std::regex", **self.with_file("src/base/a.cpp", "std::regex pattern;\n"))

    def test_shared_temporary_folder(self):
        for text in ('auto f = testing::TempDir() + "/x";', "std::filesystem::temp_directory_path()"):
            self.assert_one("run side by side", **self.with_file("tests/cli/x.cpp", text), **self.with_file("tests/cli/CMakeLists.txt", "x.cpp"))
            self.assert_one("run side by side", **self.with_file("src/base/a_test.cpp", text),
                            **self.with_file("src/base/CMakeLists.txt", CLEAN["src/base/CMakeLists.txt"].replace("a.cpp", "a.cpp a_test.cpp")))
            self.assertEqual(self.violations(**self.with_file("src/base/a.cpp", text)), [])

    def test_own_environment_variable(self):
        self.assert_one("of our own", **self.with_file("src/base/a.cpp", 'getenv("PAGEMILL_DEBUG");\n'))

    def test_addresses_in_npm_lock(self):
        self.assert_one("download addresses", **self.with_file("web/package-lock.json", '{"resolved": "x"}'))


if __name__ == "__main__":
    unittest.main()
