"""Prints a table of the kernels in a folder of object files and checks what they must hold. Called by script/kernels: kernels.py OBJECTS CACHE.

Each architecture's machine code is disassembled by itself, on all cores, and what was found is kept in the folder CACHE by the code's hash: after
a change only what it touched is read again.

One line per kernel, f16 and bf16 together (the worse of the two), for each architecture: registers, spilled bytes' instructions
(loads and stores of local memory), blocks that a multiprocessor holds at once, and the share of its warps that these are.
Exit code 1 where a kernel that every step runs spills, or lacks the instructions that it is made for.
cuobjdump and nvdisasm are on the PATH.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

INSTRUCTIONS = {
    "HGMMA": re.compile(r"\bHGMMA\b"),
    "HMMA": re.compile(r"\bHMMA\b"),
    "128-bit loads": re.compile(r"\bLDG\.E\.[\w.]*128"),
    "LDGSTS": re.compile(r"\bLDGSTS\b"),
    "UBLKCP": re.compile(r"\b(UTMALDG|UBLKCP)\b"),
    "spills": re.compile(r"\b(LDL|STL)\b"),
}
FUNCTION = re.compile(r"Function\s*:?\s*(\S+?):?\s*$")
SECTION = re.compile(r"\s*\.section\s+\.text\.([^,\s]+)")
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s")
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
    return 384, 2 * 64 * dim * 2 + 2 * 2 * 8 * 16 * dim * 2


def gated_hopper(name):
    (width,) = ints(name)
    return 384, (4 if width == 256 else 5) * (128 + width) * 128


# (file, kernel): its launch as the launcher makes it, threads and dynamic shared memory, and what its machine code must hold.
KERNELS = {
    ("skinny.cu", "skinny_kernel"): (skinny, ("HMMA", "128-bit loads", "LDGSTS")),
    ("skinny_hopper.cu", "hopper_kernel"): (skinny_hopper, ("HGMMA", "LDGSTS")),
    ("attention_decode.cu", "decode_kernel"): (decode, ("HMMA", "LDGSTS")),
    ("attention_prefill.cu", "prefill_kernel"): (prefill, ("HMMA", "LDGSTS")),
    ("attention_hopper.cu", "hopper_kernel"): (prefill_hopper, ("HGMMA", "UBLKCP")),
    ("gated_hopper.cu", "gated_kernel"): (gated_hopper, ("HGMMA", "UBLKCP")),
    ("sample.cu", "sample_kernel"): (lambda _: (1024, 3 * 2048 * 8 + 32 * 8 + 40), ()),
    ("sample.cu", "logprobs_kernel"): (lambda _: (1024, 3 * 2048 * 8 + 32 * 8 + 40), ()),
    ("rows.cu", "rms_norm_kernel"): (lambda _: (448, 0), ("128-bit loads",)),  # threads of a row of 3,584
}
OTHERS = (lambda _: (256, 0), ())
# These may spill: what they leave out of registers is not in a loop over weights, keys or values.
MAY_SPILL = {("sample.cu", "sample_kernel"), ("sample.cu", "logprobs_kernel"), ("gated_hopper.cu", "gated_kernel")}


# A kernel that is not compiled for an architecture ends at once there, padded to whole lines of the instruction cache.
STUB_INSTRUCTIONS = 24


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def usages(cubin):
    """function → registers, stack, static shared and local memory"""
    found, function = {}, None
    for line in run("cuobjdump", "--dump-resource-usage", str(cubin)).splitlines():
        named, usage = FUNCTION.search(line), USAGE.search(line)
        if named:
            function = named.group(1)
        elif usage and function:
            found[function] = tuple(map(int, usage.groups()))
    return found


def read_cubin(cubin, cache):
    """function → usage, counts of INSTRUCTIONS, and how many instructions there are in all"""
    recipe = repr(INSTRUCTIONS).encode() + cubin.read_bytes()
    known = cache / (hashlib.sha256(recipe).hexdigest()[:32] + ".json")
    if known.exists():
        return json.loads(known.read_text(encoding="utf-8"))
    found = {function: {"usage": usage, "counts": dict.fromkeys(INSTRUCTIONS, 0), "instructions": 0} for function, usage in usages(cubin).items()}
    function = None
    for line in run("nvdisasm", "--print-code", "--no-dataflow", str(cubin)).splitlines():
        section = SECTION.match(line)
        if section:
            function = found.get(section.group(1))
        elif function and INSTRUCTION.match(line):
            function["instructions"] += 1
            for name, pattern in INSTRUCTIONS.items():
                function["counts"][name] += bool(pattern.search(line))
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=cache, delete=False, encoding="utf-8") as out:
        json.dump(found, out)
    os.replace(out.name, known)
    return found


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


def read(folder, cache):
    """(file, function, architecture) → what read_cubin says of it"""
    kernels = {}
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        cubins = []
        for path in sorted(pathlib.Path(folder).glob("*.cu.o"), key=lambda each: -each.stat().st_size):
            unpacked = pathlib.Path(work) / path.name
            unpacked.mkdir()
            subprocess.run(("cuobjdump", "--extract-elf", "all", str(path.resolve())), check=True, cwd=unpacked, stdout=subprocess.DEVNULL)
            cubins += [(path.name.removesuffix(".o"), cubin) for cubin in sorted(unpacked.glob("*.cubin"))]
        if not cubins:
            sys.exit(f"{folder} holds no kernels")
        for (file, cubin), functions in zip(cubins, pool.map(lambda each: read_cubin(each[1], pathlib.Path(cache)), cubins)):
            arch = re.search(r"\.(sm_\w+)\.", cubin.name).group(1)
            for function, found in functions.items():
                kernels[file, function, arch] = found
    return kernels


def main():
    kernels = read(*sys.argv[1:])
    names = readable(sorted({function for _, function, _ in kernels}))
    table, wrong = collections.defaultdict(dict), []
    for (file, function, arch), found in sorted(kernels.items()):
        if found["instructions"] < STUB_INSTRUCTIONS:
            continue  # not compiled for this architecture
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
