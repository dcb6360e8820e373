"""Checks of the tree itself: layers, file sizes, leftovers. Run by ctest; run it alone with `python3 tests/tidy/tidy.py`.

Each check takes a Tree and yields one line per violation. tidy_test.py plants a violation for each.
"""

import pathlib
import re
import subprocess
import sys

CODE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".c", ".rs", ".py", ".sh", ".cmake", ".ts", ".js", ".svelte", ".css", ".html"}
PROSE_SUFFIXES = {".md", ".txt"}
CPP_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}

MAX_LINES = 800
MAX_LINES_BACKEND = 1200
MAX_BYTES = 1_000_000

# Variables that other software defines and that are honoured; there are none of our own.
ALLOWED_ENVIRONMENT = re.compile(
    r"^(HF_\w+|XDG_\w+|HOME|PATH|TERM|COLORTERM|COLUMNS|LINES|LANG|LC_\w+|NO_COLOR|TMPDIR|CUDA_VISIBLE_DEVICES|https?_proxy|no_proxy)$")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)
# Spelled in pieces so that this file passes its own checks.
MARKER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|not (yet )?implem" r"ented", re.IGNORECASE)
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(ho" r"me|ro" r"ot|Us" r"ers|wo" r"rk|mn" r"t)/\w")


class Tree:
    """The files of a checkout, read once. Paths are relative to the root, with forward slashes."""

    def __init__(self, root, paths):
        self.root = pathlib.Path(root)
        self.paths = sorted(paths)
        self._texts = {}

    @classmethod
    def of_git(cls, root):
        """What git tracks or would add: no build output. safe.directory: a checkout may belong to another user."""
        listing = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root, check=True, capture_output=True).stdout.decode()
        return cls(root, [path for path in listing.split("\0") if path and (pathlib.Path(root) / path).is_file()])

    def text(self, path):
        """The file as text; None for what is not UTF-8."""
        if path not in self._texts:
            try:
                self._texts[path] = (self.root / path).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                self._texts[path] = None
        return self._texts[path]

    def code(self):
        """(path, text) of source files and scripts."""
        for path in self.paths:
            suffix = pathlib.PurePosixPath(path).suffix
            is_code = suffix in CODE_SUFFIXES or path.startswith((".ci/", "script/")) and not suffix
            if (is_code or path.endswith("CMakeLists.txt")) and self.text(path) is not None:
                yield path, self.text(path)

    def cpp(self):
        for path, text in self.code():
            if pathlib.PurePosixPath(path).suffix in CPP_SUFFIXES:
                yield path, text

    def prose(self):
        for path in self.paths:
            if pathlib.PurePosixPath(path).suffix in PROSE_SUFFIXES and not path.endswith("CMakeLists.txt"):
                if not path.startswith("tests/") and self.text(path) is not None:
                    yield path, self.text(path)


def line_of(text, match):
    return text.count("\n", 0, match.start()) + 1


def read_layers(text):
    """src/LAYERS → ({folder: what it may include}, violations). A folder may name only folders above it: no cycles."""
    layers, problems = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        folder, colon, allowed = line.partition(":")
        folder = folder.strip()
        if not colon or folder in layers:
            problems.append(f"src/LAYERS:{number}: expected 'folder : what it may include', once per folder")
            continue
        layers[folder] = allowed.split()
        for name in layers[folder]:
            if name not in ("*", "rust") and name.split("/")[0] not in layers:
                problems.append(f"src/LAYERS:{number}: {folder} may include {name}, which is not listed above it")
    return layers, problems


def may_include(folder, header, allowed):
    first = header.split("/")[0]
    return first in (folder, "base") or "*" in allowed or first in allowed or header in allowed


def is_test_code(path):
    name = path.rsplit("/", 1)[-1]
    return name.endswith(("_test.cpp", "_bench.cpp")) or name.startswith("fuzz_")


def check_layers(tree):
    if "src/LAYERS" not in tree.paths:
        yield "src/LAYERS: missing"
        return
    layers, problems = read_layers(tree.text("src/LAYERS"))
    yield from problems
    rust_headers = {path.rsplit("/", 1)[-1] for path in tree.paths if path.startswith("rust/") and path.endswith(".h")}
    known = set(tree.paths)
    for path, text in tree.cpp():
        parts = path.split("/")
        if parts[0] != "src" or len(parts) < 3:
            continue
        folder = parts[1]
        if folder not in layers:
            yield f"{path}: folder {folder} is not in src/LAYERS"
            continue
        if is_test_code(path):
            continue
        for match in INCLUDE.finditer(text):
            header, where = match.group(1), f"{path}:{line_of(text, match)}"
            if header.rsplit("/", 1)[-1] in rust_headers and f"src/{header}" not in known:
                if "rust" not in layers[folder]:
                    yield f"{where}: {folder} may not include the Rust library's {header} (see src/LAYERS)"
            elif header.split("/")[0] not in layers:
                yield f'{where}: "{header}" is not a path from src/ (<> is for libraries)'
            elif not may_include(folder, header, layers[folder]):
                yield f"{where}: {folder} may not include {header} (see src/LAYERS)"


def check_lengths(tree):
    for path, text in tree.code():
        limit = MAX_LINES_BACKEND if path.startswith("src/backend/") else MAX_LINES
        lines = text.count("\n")
        if lines > limit:
            yield f"{path}: {lines} lines, {limit} at most"


def check_sizes(tree):
    for path in tree.paths:
        size = (tree.root / path).stat().st_size
        if size > MAX_BYTES:
            yield f"{path}: {size} bytes, {MAX_BYTES} at most"


def check_leftovers(tree):
    for path, text in [*tree.code(), *tree.prose()]:
        for match in MARKER.finditer(text):
            yield f"{path}:{line_of(text, match)}: '{match.group(0)}' left in"
        for match in MACHINE_PATH.finditer(text):
            yield f"{path}:{line_of(text, match)}: a path of one machine: {match.group(0)}..."


def check_sources_listed(tree):
    """A source that no CMakeLists.txt names is never built; a test so forgotten never fails."""
    lists = {path: tree.text(path) for path in tree.paths if path.endswith("CMakeLists.txt")}
    for path in tree.paths:  # a list that two folders build from stands in a sources.cmake beside the CMakeLists.txt
        beside = path.removesuffix("sources.cmake") + "CMakeLists.txt"
        if path.endswith("/sources.cmake") and beside in lists:
            lists[beside] += "\n" + tree.text(path)
    for path, _ in tree.cpp():
        if not path.startswith(("src/", "tests/")) or not path.endswith((".cpp", ".cu")):
            continue
        parents = [str(parent) for parent in pathlib.PurePosixPath(path).parents]
        for parent in parents:
            listing = lists.get("CMakeLists.txt" if parent == "." else f"{parent}/CMakeLists.txt")
            relative = path if parent == "." else path[len(parent) + 1:]
            if listing and re.search(rf"(?<![\w./-]){re.escape(relative)}(?![\w.])", listing):
                break
        else:
            yield f"{path}: in no CMakeLists.txt"


def check_cpp_rules(tree):
    for path, text in tree.cpp():
        if path.endswith((".h", ".cuh")) and path.startswith(("src/", "tests/")) and "#pragma once" not in text:
            yield f"{path}: no #pragma once"
        if re.search(r"\bstd::(regex|wregex|basic_regex)\b|#\s*include\s*<regex>", text):
            yield f"{path}: std::regex crashes on long input"
        is_test = path.startswith("tests/") or path.endswith("_test.cpp")
        if is_test and re.search(r"\btesting::TempDir\(|\btemp_directory_path\(", text):
            yield f"{path}: tests that run side by side share that folder (TemporaryFolder of base/test_files.h is one's own)"
        for match in re.finditer(r'\bgetenv\(\s*"(\w+)"', text):
            if not ALLOWED_ENVIRONMENT.match(match.group(1)):
                yield f"{path}:{line_of(text, match)}: environment variable {match.group(1)} of our own"


def check_npm_locks(tree):
    for path in tree.paths:
        if path.endswith("package-lock.json") and '"resolved"' in (tree.text(path) or ""):
            yield f"{path}: holds download addresses (npm: omit-lockfile-registry-resolved=true)"


CHECKS = [check_layers, check_lengths, check_sizes, check_leftovers, check_sources_listed, check_cpp_rules, check_npm_locks]


def main(root):
    tree = Tree.of_git(root)
    violations = [violation for check in CHECKS for violation in check(tree)]
    for violation in violations:
        print(violation)
    print(f"tidy: {len(tree.paths)} files, {len(violations)} violations")
    return 1 if violations or not tree.paths else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(__file__).resolve().parents[2]))
