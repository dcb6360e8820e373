"""Writes a copy of a kernel file with one bug planted: plant_bug.py SOURCE OUT BUG. planted_bugs_test.cpp expects each to be caught."""

import pathlib
import sys

# (what stands there, what is put instead)
BUGS = {
    # A warp reads the others' partial results before they are written.
    "missing_barrier": ("  __syncthreads();\n\n  T* const result", "\n  T* const result"),
    # The last block of a context is left out.
    "tile_off_by_one": ("block < range.last; block += P::kWarps, ahead", "block + 1 < range.last; block += P::kWarps, ahead"),
    # The accumulator's columns are taken for another lane's.
    "wrong_fragment_lane": ("swizzled(g, n * 8 + 2 * t);", "swizzled(g, n * 8 + 2 * (t ^ 1));"),
    # The first split's share of the context is forgotten when the splits are put together.
    "lost_split": ("for (int s = 0; s < splits; ++s) {", "for (int s = 1; s < splits; ++s) {"),
}


def main():
    source, out, bug = sys.argv[1:]
    text = pathlib.Path(source).read_text(encoding="utf-8")
    right, wrong = BUGS[bug]
    if text.count(right) != 1:
        sys.exit(f"{source}: {right!r} stands there {text.count(right)} times: plant the bug {bug} in {__file__} anew")
    pathlib.Path(out).write_text(text.replace(right, wrong), encoding="utf-8")


main()
