"""Prints a table of the kernels in a folder of object files. Called by script/kernels; cuobjdump and nvdisasm are on the PATH."""

import collections
import pathlib
import re
import subprocess
import sys

# Column → what counts for it in the disassembly.
INSTRUCTIONS = {
    "HGMMA": re.compile(r"\bHGMMA\b"),
    "HMMA": re.compile(r"\bHMMA\b"),
    "16-byte loads": re.compile(r"\bLDG\.E\.[\w.]*128"),
    "LDGSTS": re.compile(r"\bLDGSTS\b"),
    "UTMALDG / UBLKCP": re.compile(r"\b(UTMALDG|UBLKCP)\b"),
    "spills": re.compile(r"\b(LDL|STL)\b"),
}
FUNCTION = re.compile(r"Function\s*:?\s*(\S+?):?\s*$")
USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sections(text):
    """(architecture, function, lines) of either of cuobjdump's listings."""
    arch, function, lines = None, None, []
    for line in text.splitlines():
        found = re.match(r"\s*(?:arch\s*=\s*|code for )(sm_\w+)", line)
        named = FUNCTION.search(line)
        if found or named:
            if function:
                yield arch, function, lines
            arch, function, lines = (found.group(1), None, []) if found else (arch, named.group(1), [])
        elif function:
            lines.append(line)
    if function:
        yield arch, function, lines


def readable(symbols):
    names = subprocess.run(["c++filt"], input="\n".join(symbols), check=True, capture_output=True, text=True).stdout.splitlines()
    short = {}
    for symbol, name in zip(symbols, names):
        name = name.replace("(anonymous namespace)::", "").replace("pagemill::cuda::", "").replace("__nv_bfloat16", "bf16").replace("__half", "f16")
        short[symbol] = re.sub(r"^void ", "", name.split("(")[0])
    return short


def main():
    kernels = collections.defaultdict(dict)
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.cu.o")):
        for arch, function, lines in sections(run("cuobjdump", "--dump-resource-usage", str(path))):
            usage = USAGE.search(" ".join(lines))
            if usage:
                kernels[path.name.removesuffix(".o"), function, arch]["usage"] = usage.groups()
        for arch, function, lines in sections(run("cuobjdump", "--dump-sass", str(path))):
            text = "\n".join(lines)
            kernels[path.name.removesuffix(".o"), function, arch]["counts"] = [len(pattern.findall(text)) for pattern in INSTRUCTIONS.values()]
    names = readable(sorted({function for _, function, _ in kernels}))
    print("| file | kernel | architecture | registers | stack | shared | " + " | ".join(INSTRUCTIONS) + " |")
    print("| --- | --- | --- |" + " --- |" * (3 + len(INSTRUCTIONS)))
    for (file, function, arch), found in sorted(kernels.items(), key=lambda each: (each[0][0], names[each[0][1]], each[0][2])):
        registers, stack, shared, _ = found.get("usage", ("?",) * 4)
        counts = found.get("counts", ["?"] * len(INSTRUCTIONS))
        print(f"| {file} | `{names[function]}` | {arch} | {registers} | {stack} | {shared} | " + " | ".join(map(str, counts)) + " |")


main()
