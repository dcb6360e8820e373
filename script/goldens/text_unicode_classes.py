#!/usr/bin/env python3
"""Writes rust/src/unicode_tables.rs: the character classes of Hugging Face's tokenizers.

The pre-tokenizers split on \\p{L}, \\p{N}, \\s and \\p{P}. Which code points those hold depends on the Unicode version of the
regex engine inside the Python package, and a newly assigned letter splits differently in another version. So the classes are
asked from the package itself, one code point at a time. Made with tokenizers 0.23.3:

    pip install tokenizers==0.23.3 && script/goldens/text_unicode_classes.py
"""
import pathlib

import tokenizers
from tokenizers import Regex, pre_tokenizers

CODE_POINTS = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
OUT = pathlib.Path(__file__).resolve().parents[2] / "rust/src/unicode_tables.rs"


def matched(pattern):
    """The code points a one-character pattern removes from a text that holds each code point once."""
    kept = set()
    text = "".join(CODE_POINTS)
    for _, (start, end) in pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(text):
        kept.update(range(start, end))
    return [ord(c) for i, c in enumerate(text) if i not in kept]


def digits():
    """What the Digits pre-tokenizer isolates (Rust's char::is_numeric at the package's build)."""
    split = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(" ".join(CODE_POINTS))
    return sorted(ord(piece) for piece, (start, end) in split if end - start == 1 and piece != " ")


def ranges(code_points):
    out = []
    for c in code_points:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def table(name, doc, code_points):
    lines, line = [f"/// {doc}", f"pub const {name}: &[(u32, u32)] = &["], "   "
    for first, last in ranges(code_points):
        entry = f" ({first:#x}, {last:#x}),"
        if len(line) + len(entry) > 118:
            lines.append(line)
            line = "   "
        line += entry
    return "\n".join(lines + [line, "];", ""])


def main():
    classes = {name: matched(p) for name, p in
               [("LETTER", r"\p{L}"), ("NUMBER", r"\p{N}"), ("SPACE", r"\s"), ("PUNCTUATION", r"\p{P}")]}
    OUT.write_text("\n".join([
        f"//! Made by script/goldens/text_unicode_classes.py from tokenizers {tokenizers.__version__}; do not edit.",
        "//! Inclusive ranges of code points, ascending.\n",
        table("LETTER", r"`\p{L}`", classes["LETTER"]),
        table("NUMBER", r"`\p{N}`", classes["NUMBER"]),
        table("SPACE", r"`\s`", classes["SPACE"]),
        table("PUNCTUATION", r"`\p{P}`", classes["PUNCTUATION"]),
        table("DIGIT", "What the `Digits` pre-tokenizer isolates: `char::is_numeric`.", digits()),
    ]))


if __name__ == "__main__":
    main()
