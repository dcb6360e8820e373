"""Prints a table of the kernels in a folder of object files and checks what they must hold. Called by script/kernels.

One line per kernel, f16 and bf16 together (the worse of the two), for each architecture: registers, spilled bytes' instructions
(loads and stores of local memory), blocks that a multiprocessor holds at once, and the share of its warps that these are.
Exit code 1 where a kernel that every step runs spills, or lacks the instructions that it is made for.
cuobjdump and nvdisasm are on the PATH.
"""

import collections
import pathlib
import re
import subprocess
import sys

INSTRUCTIONS = {
    "HGMMA": re.compile(r"\bHGMMA\b"),
    "HMMA": re.compile(r"\bHMMA\b"),
    "128-bit loads": re.compile(r"\bLDG\.E\.[\w.]*128"),
    "LDGSTS": re.compile(r"\bLDGSTS\b"),
    "UBLKCP": re.compile(r"\b(UTMALDG|UBLKCP)\b"),
    "spills": re.compile(r"\b(LDL|STL)\b"),
}
FUNCTION = re.compile(r"Function\s*:?\s*(\S+?):?\s*$")
USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")

# A multiprocessor's limits (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"): warps, blocks, KB of shared memory.
LIMITS = {"sm_80": (64, 32, 164), "sm_86": (48, 16, 100), "sm_89": (48, 24, 100), "sm_90": (64, 32, 228), "sm_90a": (64, 32, 228), "sm_120": (48, 24, 100)}
REGISTERS, REGISTER_UNIT, BLOCK_RESERVED = 65536, 256, 1024


def ints(name):
    return [int(each) for each in re.findall(r"(?<=[<,(\s])(\d+)(?=[>,\s])", name)]


def skinny(name):
    units, _, stages = ints(name)
    return 256, 8 * stages * 4 * units * 512 + 2 * 8 * units * 16 * 8 * 4


def skinny_hopper(name):
    (columns,) = ints(name)
    return 256, (4 if columns == 32 else 3) * (128 + columns) * 128 + columns * 132 * 4


def decode(name):
    (dim,) = ints(name)
    warps = 2 if dim > 128 else 4
    return warps * 32, warps * 3 * 2 * 16 * dim * 2


def prefill(name):
    (dim,) = ints(name)
    return (128, 2 * 2 * 1 * 16 * dim * 2) if dim > 128 else (256, 2 * 2 * 4 * 16 * dim * 2)


def prefill_hopper(name):
    (dim,) = ints(name)
    return 288, 2 * 64 * dim * 2 + 2 * 4 * 4 * 16 * dim * 2


# (file, kernel): its launch as the launcher makes it, threads and dynamic shared memory, and what its machine code must hold.
KERNELS = {
    ("skinny.cu", "skinny_kernel"): (skinny, ("HMMA", "128-bit loads", "LDGSTS")),
    ("skinny_hopper.cu", "hopper_kernel"): (skinny_hopper, ("HGMMA", "LDGSTS")),
    ("attention_decode.cu", "decode_kernel"): (decode, ("HMMA", "LDGSTS")),
    ("attention_prefill.cu", "prefill_kernel"): (prefill, ("HMMA", "LDGSTS")),
    ("attention_hopper.cu", "hopper_kernel"): (prefill_hopper, ("HGMMA", "UBLKCP")),
    ("sample.cu", "sample_kernel"): (lambda _: (1024, 3 * 2048 * 8 + 32 * 8 + 40), ()),
    ("sample.cu", "logprobs_kernel"): (lambda _: (1024, 3 * 2048 * 8 + 32 * 8 + 40), ()),
    ("rows.cu", "rms_norm_kernel"): (lambda _: (448, 0), ("128-bit loads",)),  # threads of a row of 3,584
}
OTHERS = (lambda _: (256, 0), ())
# These may spill: what they leave out of registers is not in a loop over weights, keys or values.
MAY_SPILL = {("sample.cu", "sample_kernel"), ("sample.cu", "logprobs_kernel")}


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
        name = name.replace("(anonymous namespace)::", "").replace("pagemill::cuda::", "")
        short[symbol] = re.sub(r"^void ", "", name.split("(")[0])
    return short


def occupancy(arch, registers, shared, threads):
    """(blocks of a multiprocessor, share of its warps)"""
    warps_max, blocks_max, shared_kb = LIMITS[arch]
    warps = (threads + 31) // 32
    of_warp = -(-max(registers, 1) * 32 // REGISTER_UNIT) * REGISTER_UNIT
    blocks = min(blocks_max, warps_max // warps, REGISTERS // of_warp // warps, shared_kb * 1024 // (-(-shared // 128) * 128 + BLOCK_RESERVED))
    return blocks, blocks * warps / warps_max


def read(folder):
    """(file, symbol, architecture) → usage, counts of INSTRUCTIONS, whether it is more than a stub"""
    kernels = collections.defaultdict(dict)
    for path in sorted(pathlib.Path(folder).glob("*.cu.o")):
        file = path.name.removesuffix(".o")
        for arch, function, lines in sections(run("cuobjdump", "--dump-resource-usage", str(path))):
            usage = USAGE.search(" ".join(lines))
            if usage:
                kernels[file, function, arch]["usage"] = tuple(map(int, usage.groups()))
        for arch, function, lines in sections(run("cuobjdump", "--dump-sass", str(path))):
            text = "\n".join(lines)
            kernels[file, function, arch]["counts"] = {name: len(pattern.findall(text)) for name, pattern in INSTRUCTIONS.items()}
            kernels[file, function, arch]["stub"] = len(re.findall(r"/\*[0-9a-f]{4,}\*/\s", text)) < 24  # not compiled for this architecture
    return kernels


def main():
    kernels = read(sys.argv[1])
    names = readable(sorted({function for _, function, _ in kernels}))
    table, wrong = collections.defaultdict(dict), []
    for (file, function, arch), found in sorted(kernels.items()):
        if found.get("stub", True) or "usage" not in found:
            continue
        name = names[function]
        launch, must_hold = KERNELS.get((file, name.split("<")[0]), OTHERS)
        threads, dynamic = launch(name)
        registers, _, static, _ = found["usage"]
        static -= BLOCK_RESERVED if int(re.sub(r"\D", "", arch)) >= 90 and static >= BLOCK_RESERVED else 0  # counted in there from sm_90 on
        shared = dynamic + (-(-static // 1024) * 1024 if dynamic else static)  # dynamic memory is aligned to 1 KB behind the static
        blocks, share = occupancy(arch, registers, shared, threads)
        counts = found["counts"]
        short = re.sub(r"\b(__half|__nv_bfloat16)\b", "T", name)
        line = table[file, short, shared].setdefault(arch, [0, 0, 1e9, 1.0, set()])
        line[0], line[1] = max(line[0], registers), max(line[1], counts["spills"])
        line[2], line[3] = min(line[2], blocks), min(line[3], share)
        line[4] |= {each for each, count in counts.items() if count and each != "spills"}
        if blocks == 0:
            wrong.append(f"{file} {name} does not start on {arch}: {shared} bytes of shared memory, {registers} registers, {threads} threads")
        wrong += [f"{file} {name} on {arch} holds no {each}" for each in must_hold if not counts[each]]
        if must_hold and counts["spills"] and (file, name.split("<")[0]) not in MAY_SPILL:
            wrong.append(f"{file} {name} on {arch} spills: {counts['spills']} loads and stores of local memory")
    archs = sorted({arch for lines in table.values() for arch in lines}, key=lambda arch: int(re.sub(r"\D", "", arch)))
    print("| file, kernel | shared KB | " + " | ".join(archs) + " | holds |")
    print("| --- | --- |" + " --- |" * (len(archs) + 1))
    for (file, name, shared), lines in sorted(table.items()):
        cells = [f"{each[0]}, {each[1]}, {each[2]} = {each[3]:.0%}" if each else "" for each in map(lines.get, archs)]
        holds = " ".join(sorted(set().union(*(each[4] for each in lines.values()))))
        print(f"| {file} `{name}` | {shared / 1024:.1f} | " + " | ".join(cells) + f" | {holds} |")
    for each in wrong:
        print(f"error: {each}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
