#!/usr/bin/env python3
"""Writes tests/model/goldens: what HF transformers computes for the default model's GGUF file and for tiny random models.

    python3 -m venv VENV && VENV/bin/pip install torch==2.15.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6 accelerate==1.15.0
    VENV/bin/python script/goldens/logits.py

A .logits file is one line of JSON, then little-endian arrays. For each text: i32 tokens[n]; then for each position
f32 min, f32 max, i32 top_ids[top], f32 top_values[top], f32 some[subset], where some[k] is the logit of token
(k * (vocab // subset) + position) % vocab. rope.json holds the frequencies of the scalings at full size.

The tiny models' weights are drawn from SplitMix64, so that tests/support/tiny_model.cpp makes the same ones.
"""

import json
import os
import pathlib
import subprocess
import tempfile
from importlib.metadata import version

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/model/goldens"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pagemill/models"
DEFAULT_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
TOP = 8
VERSIONS = {name: version(name) for name in ("torch", "transformers", "gguf", "numpy")}

TEXTS = {
    "english": """The mill stood where the river bends, and for two hundred years it had ground the corn of three villages. When the
last miller died, in the winter of 1931, nobody came to take his place: flour was cheaper in town, and the young people had learned
to like white bread. The wheel froze, thawed, and rotted. Children dared each other to climb through the broken window and bring back
a handful of dust from the upper floor. Then, one spring, a woman from the coast bought the ruin for less than the price of a car.
She said she wanted to make paper. Everyone laughed, but she had done the arithmetic: the water fell four metres, the stones could be
sold, and linen rags cost nothing. By autumn the wheel was turning again, and the first sheets, thick and slightly blue, hung drying
in the loft like washing. "It is not good paper yet," she told the schoolteacher, "but it is paper, and it will be better in March." """,
    "chinese": "从前有一座磨坊，建在河流转弯的地方。两百年来，三个村子的粮食都在这里磨成面粉。1931年冬天，最后一位磨坊主去世了，没有人来接替他。"
               "后来，一个从海边来的女人买下了这座废墟，她说她想造纸。大家都笑了，但是她已经算过：水从四米高的地方落下，旧布几乎不要钱。",
    "code": '''def merge_sorted(left, right):
    """Merge two sorted lists into one, keeping equal elements in order."""
    result, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]


class LruCache:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        value = self.items.pop(key, None)
        if value is not None:
            self.items[key] = value  # most recently used goes last
        return value
''',
}

# What tests/support/tiny_model.cpp builds by the same names. `rope` is HF's rope_parameters without theta.
COMMON = {"layers": 3, "hidden": 48, "ffn": 80, "vocab": 320, "tokens": 150, "theta": 10000.0, "tied": False, "f16": False, "rope": None}
TINY = {
    "tiny-llama-mha": {"arch": "llama", "heads": 4, "kv_heads": 4, "head_dim": 12},
    "tiny-llama-gqa3": {"arch": "llama", "heads": 6, "kv_heads": 2, "head_dim": 16, "tied": True, "theta": 500000.0,
                        "rope": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 64}},
    "tiny-llama-gqa4": {"arch": "llama", "heads": 8, "kv_heads": 2, "head_dim": 10, "f16": True,
                        "rope": {"rope_type": "linear", "factor": 2.5}},
    "tiny-qwen2-gqa7": {"arch": "qwen2", "heads": 14, "kv_heads": 2, "head_dim": 8,
                        "rope": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 40}},
    "tiny-qwen2-tied": {"arch": "qwen2", "heads": 3, "kv_heads": 1, "head_dim": 16, "theta": 1000000.0, "tied": True},
}


def splitmix(count, seed):
    """The first `count` outputs, all at once: the state is a counter."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def tiny_tensor(name, shape, f16):
    """Uniform values: peaked attention, norm weights and biases far from 1 and 0."""
    if name.endswith("norm.weight"):
        scale, offset = 0.75, 1.25
    elif name.endswith(".bias"):
        scale, offset = 1.5, 0.25
    elif name in ("token_embd.weight", "output.weight"):
        scale, offset = 8.0 / np.sqrt(float(shape[-1])), 0.0
    elif "attn_q" in name or "attn_k" in name:
        scale, offset = 4.0 / np.sqrt(float(shape[-1])), 0.0
    else:
        scale, offset = 1.75 / np.sqrt(float(shape[-1])), 0.0
    uniform = (splitmix(int(np.prod(shape)), fnv1a(name)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    values = ((uniform * 2.0 - 1.0) * scale + offset).astype(np.float32).reshape(shape)
    return values.astype(np.float16).astype(np.float32) if f16 and len(shape) == 2 else values


def unpermuted(values, heads):
    """Rows of a GGUF q or k of arch llama in HF's order: per head, GGUF row 2i + j is HF row j * D/2 + i."""
    rows, cols = values.shape
    return values.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def tiny_model(spec):
    arch, heads, kv_heads, dim = spec["arch"], spec["heads"], spec["kv_heads"], spec["head_dim"]
    hidden, ffn, vocab = spec["hidden"], spec["ffn"], spec["vocab"]
    config_class, model_class = (LlamaConfig, LlamaForCausalLM) if arch == "llama" else (Qwen2Config, Qwen2ForCausalLM)
    config = config_class(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=spec["layers"], num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=dim, max_position_embeddings=4096, rms_norm_eps=1e-5, tie_word_embeddings=spec["tied"],
        rope_parameters={**(spec["rope"] or {"rope_type": "default"}), "rope_theta": spec["theta"]}, attn_implementation="eager")
    state = {}

    def put(hf_name, gguf_name, shape, permuted_heads=0):
        values = tiny_tensor(gguf_name, shape, spec["f16"])
        state[hf_name] = torch.from_numpy(unpermuted(values, permuted_heads) if permuted_heads else values)

    put("model.embed_tokens.weight", "token_embd.weight", (vocab, hidden))
    for layer in range(spec["layers"]):
        to, of = f"model.layers.{layer}.", f"blk.{layer}."
        llama = arch == "llama"
        put(to + "input_layernorm.weight", of + "attn_norm.weight", (hidden,))
        put(to + "self_attn.q_proj.weight", of + "attn_q.weight", (heads * dim, hidden), heads if llama else 0)
        put(to + "self_attn.k_proj.weight", of + "attn_k.weight", (kv_heads * dim, hidden), kv_heads if llama else 0)
        put(to + "self_attn.v_proj.weight", of + "attn_v.weight", (kv_heads * dim, hidden))
        if not llama:
            for part, rows in (("q", heads * dim), ("k", kv_heads * dim), ("v", kv_heads * dim)):
                put(to + f"self_attn.{part}_proj.bias", of + f"attn_{part}.bias", (rows,))
        put(to + "self_attn.o_proj.weight", of + "attn_output.weight", (hidden, heads * dim))
        put(to + "post_attention_layernorm.weight", of + "ffn_norm.weight", (hidden,))
        put(to + "mlp.gate_proj.weight", of + "ffn_gate.weight", (ffn, hidden))
        put(to + "mlp.up_proj.weight", of + "ffn_up.weight", (ffn, hidden))
        put(to + "mlp.down_proj.weight", of + "ffn_down.weight", (hidden, ffn))
    put("model.norm.weight", "output_norm.weight", (hidden,))
    if spec["tied"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    else:
        put("lm_head.weight", "output.weight", (vocab, hidden))
    model = model_class(config).to(torch.float32)
    assert model.config.head_dim == dim if arch == "llama" else True
    model.load_state_dict(state, strict=True)
    return model.eval()


def gguf_model(folder, name):
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager").eval()


def write_logits(path, model, name, texts, subset):
    """texts: {name: token ids}."""
    vocab = model.config.vocab_size
    header = {"model": name, "made_with": VERSIONS, "vocab": vocab, "top": TOP, "subset": subset,
              "texts": [{"name": key, "tokens": len(ids)} for key, ids in texts.items()]}
    with open(path, "wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        for key, ids in texts.items():
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].to(torch.float32)
            top = logits.topk(TOP)
            gap = top.values[:, 0] - top.values[:, 1]
            print(f"{name} {key}: {len(ids)} positions, range {float((logits.amax(1) - logits.amin(1)).mean()):.1f}, median gap {float(gap.median()):.2f}")
            file.write(np.asarray(ids, "<i4").tobytes())
            for position in range(len(ids)):
                row = logits[position].numpy()
                chosen = (np.arange(subset) * (vocab // subset) + position) % vocab
                file.write(np.asarray([row.min(), row.max()], "<f4").tobytes())
                file.write(top.indices[position].numpy().astype("<i4").tobytes() + top.values[position].numpy().astype("<f4").tobytes())
                file.write(row[chosen].astype("<f4").tobytes())


def rope_goldens():
    """Frequencies of HF's own functions at the sizes of real models."""
    cases = {
        "llama3.1-8b": (128, 500000.0, 131072, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                 "original_max_position_embeddings": 8192}),
        "llama3.2-1b": (64, 500000.0, 131072, {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                "original_max_position_embeddings": 8192}),
        "qwen2.5-7b-yarn": (128, 1000000.0, 32768, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
        "yarn-own-bounds": (80, 10000.0, 4096, {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096,
                                                "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 0.7}),
        "linear": (64, 10000.0, 4096, {"rope_type": "linear", "factor": 4.0}),
    }
    out = []
    for name, (dim, theta, context, rope) in cases.items():
        config = LlamaConfig(hidden_size=dim, num_attention_heads=1, head_dim=dim, max_position_embeddings=context,
                             rope_parameters={**rope, "rope_theta": theta})
        frequencies, scale = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
        out.append({"name": name, "head_dim": dim, "theta": theta, "context": context, "rope_parameters": rope,
                    "inv_freq": [float(value) for value in frequencies], "scale": float(scale)})
    return {"made_with": VERSIONS, "cases": out}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    (OUT / "rope.json").write_text(json.dumps(rope_goldens(), indent=1) + "\n")
    for name, overrides in TINY.items():
        spec = {**COMMON, **overrides}
        ids = (splitmix(spec["tokens"], fnv1a(name)) % np.uint64(spec["vocab"])).astype(int).tolist()
        write_logits(OUT / f"{name}.logits", tiny_model(spec), name, {"random": ids}, subset=64)
    tokenizer = AutoTokenizer.from_pretrained(CACHE, gguf_file=DEFAULT_MODEL)
    texts = {key: tokenizer(text, add_special_tokens=False).input_ids for key, text in TEXTS.items()}
    write_logits(OUT / "smollm2-135m-q4_1.logits", gguf_model(CACHE, DEFAULT_MODEL), DEFAULT_MODEL, texts, subset=192)
    # The same model in other element types, a few positions of each text.
    texts = {key: ids[:48] for key, ids in texts.items()}
    for kind in ("f16", "q8_0"):
        with tempfile.TemporaryDirectory() as folder:
            name = f"smollm2-135m-{kind}.gguf"
            subprocess.run([ROOT / "script/make_model", "--from", "default", "--type", kind, f"{folder}/{name}"], check=True)
            write_logits(OUT / f"smollm2-135m-{kind}.logits", gguf_model(folder, name), name, texts, subset=96)


if __name__ == "__main__":
    main()
