#!/usr/bin/env python3
"""Writes src/format/testdata/quants.json: what gguf-py makes of pseudo-random blocks, and how well it quantises.

    python3 -m venv VENV && VENV/bin/pip install gguf==0.17.1 numpy==2.4.6
    VENV/bin/python script/goldens/format_quants.py

Inputs come from SplitMix64, so that the test makes the same ones; only two blocks a type are stored in full, the
others as one hash.
"""

import json
import pathlib
from importlib.metadata import version

import gguf
import numpy as np

SEED = 20240607
BLOCKS = 2048
QUANTIZED_BLOCKS = 4096
# Where the f16 scales of a block lie; their exponents are kept below infinity's.
TYPES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
QUANTIZERS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def splitmix(count, seed):
    """The first `count` outputs, all at once: the state is a counter."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def random_blocks(block_bytes, scales):
    total = BLOCKS * block_bytes
    blocks = splitmix((total + 7) // 8, SEED).view(np.uint8)[:total].reshape(BLOCKS, block_bytes).copy()
    for at in scales:
        high = blocks[:, at + 1]
        high[(high & 0x7C) == 0x7C] &= 0xBF
    return blocks


def hash_of(values):
    bits = values.astype(np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    index = np.arange(bits.size, dtype=np.uint64)
    with np.errstate(over="ignore"):
        terms = (bits + np.uint64(1)) * (index * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1))
        return f"{int(terms.sum(dtype=np.uint64)):016x}"


def bell_curve(count):
    """Sums of four 16-bit words around 0: close to normal, exact in f32."""
    words = splitmix(count, SEED).view(np.uint16).reshape(count, 4).astype(np.int64)
    return ((words.sum(axis=1) - 131070).astype(np.float32) * np.float32(2.0**-16)).reshape(1, count)


def main():
    golden = {
        "made_by": f"script/goldens/format_quants.py with gguf {version('gguf')} and numpy {np.__version__}",
        "seed": SEED, "blocks": BLOCKS, "dequantize": {}, "quantize": {"values": QUANTIZED_BLOCKS * 32, "rmse": {}},
    }
    for name, scales in TYPES.items():
        qtype = gguf.GGMLQuantizationType[name]
        blocks = random_blocks(gguf.GGML_QUANT_SIZES[qtype][1], scales)
        values = gguf.quants.dequantize(blocks, qtype)
        assert np.isfinite(values).all()
        golden["dequantize"][name.lower()] = {
            "scales": scales,
            "first_blocks": blocks[:2].tobytes().hex(),
            "first_values": values[:2].astype("<f4").tobytes().hex(),
            "hash": hash_of(values),
        }
    patterns = np.arange(65536, dtype=np.uint16)
    half = patterns.view(np.float16).astype(np.float32)
    brain = gguf.quants.dequantize(patterns.view(np.uint8), gguf.GGMLQuantizationType.BF16)
    for name, values in (("f16", half), ("bf16", brain)):
        golden["dequantize"][name] = {"hash": hash_of(np.where(np.isnan(values), np.float32(0), values))}
    x = bell_curve(QUANTIZED_BLOCKS * 32)
    for name in QUANTIZERS:
        qtype = gguf.GGMLQuantizationType[name]
        back = gguf.quants.dequantize(gguf.quants.quantize(x, qtype), qtype)
        golden["quantize"]["rmse"][name.lower()] = float(np.sqrt(np.mean((back.astype(np.float64) - x) ** 2)))
    root = pathlib.Path(__file__).resolve().parents[2]
    target = root / "src/format/testdata/quants.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
