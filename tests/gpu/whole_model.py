"""Whole models of true shape on the kernels, against HF transformers on the same random weights.

python3 whole_model.py kernels.so [--layers N] [--arch 80]

For Qwen2.5-7B's and Llama-3-8B's shapes, f16 and bf16: 16 sequences of 240 tokens are prefilled (in two chunks, so that the second attends to a cached
prefix), then 16 positions decoded, teacher-forced, by all 16 at once and by one alone: 256 positions. Prints, as CSV, the largest |Δlogit| against HF in f32
beside HF's own in the same type, and the top-1 differences where the f32 gap exceeds twice that. The products of chunks are torch's (the engine's are
cuBLASLt's); everything else is the kernels'. Attention is peaked, biases and norm weights are far from 0 and 1. Exit code 1 beyond 1.5 times HF's difference.
With --plant KIND (position, bias, block, mask) an error is made on purpose, which must be found.
"""

import argparse
import ctypes
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

SEQUENCES, PROMPT, CHUNK, STEPS = 16, 240, 128, 16
BLOCK = 16


def pointer(tensor):
    return ctypes.c_void_p(0 if tensor is None else tensor.data_ptr())


def ints(values):
    return torch.tensor(values, dtype=torch.int32, device="cuda")


class Kernels:
    def __init__(self, path, arch):
        self.library = ctypes.CDLL(path)
        for name in ("pm_product_workspace_bytes", "pm_attention_workspace_bytes", "pm_kv_block_bytes"):
            getattr(self.library, name).restype = ctypes.c_size_t
        properties = torch.cuda.get_device_properties(0)
        arch = arch or 10 * properties.major + properties.minor
        self.workspace = torch.zeros(self.library.pm_product_workspace_bytes(), dtype=torch.uint8, device="cuda")
        self.arguments = [properties.multi_processor_count, arch, int(arch >= 90)]
        self.set_up(False)

    def set_up(self, deterministic):
        self.library.pm_set_up(ctypes.c_void_p(torch.cuda.current_stream().cuda_stream), *self.arguments, int(deterministic), pointer(self.workspace))

    def __call__(self, name, *arguments):
        converted = [pointer(a) if a is None or isinstance(a, torch.Tensor) else ctypes.c_float(a) if isinstance(a, float) else a for a in arguments]
        error = getattr(self.library, "pm_" + name)(*converted)
        if error != 0:
            sys.exit(f"{name}: CUDA error {error}")


class Model:
    """One decoder over the kernels; weights are the HF model's own tensors."""

    def __init__(self, kernels, hf, bf16, plant):
        self.k, self.c, self.hf, self.bf16, self.plant = kernels, hf.config, hf, int(bf16), plant
        c = self.c
        self.heads, self.kv_heads, self.dim = c.num_attention_heads, c.num_key_value_heads, c.hidden_size // c.num_attention_heads
        self.blocks_each = (PROMPT + STEPS + BLOCK - 1) // BLOCK
        blocks = SEQUENCES * self.blocks_each
        order = torch.randperm(blocks, generator=torch.Generator().manual_seed(3))
        self.table = order.to(torch.int32).view(SEQUENCES, self.blocks_each).cuda()
        block_bytes = kernels.library.pm_kv_block_bytes(self.kv_heads, self.dim)
        self.kv = [torch.full((blocks * block_bytes,), 255, dtype=torch.uint8, device="cuda") for _ in hf.model.layers]  # NaN: stale blocks show
        self.attention_workspace = torch.zeros(kernels.library.pm_attention_workspace_bytes(self.heads, self.dim), dtype=torch.uint8, device="cuda")
        self.inv_freq = hf.model.rotary_emb.inv_freq.float().cuda()
        self.f32 = {}

    def vector(self, tensor):
        if tensor is None:
            return None
        return self.f32.setdefault(tensor.data_ptr(), tensor.float().contiguous())

    def product(self, x, weight, bias=None):
        rows = x.shape[0]
        if rows > 32 or bias is not None:
            return torch.nn.functional.linear(x, weight, bias)
        out = torch.empty(rows, weight.shape[0], dtype=x.dtype, device="cuda")
        self.k("linear", self.bf16, x, weight, out, 0, rows, weight.shape[1], weight.shape[0])
        return out

    def forward(self, runs, tokens):
        """runs: (sequence, first position, count); returns f32 logits [rows, vocab]."""
        c, k, b = self.c, self.k, self.bf16
        positions = [p + i for _, p, n in runs for i in range(n)]
        sequence_of = [s for s, _, n in runs for _ in range(n)]
        begin = [0]
        for _, _, n in runs:
            begin.append(begin[-1] + n)
        table = self.table[[s for s, _, _ in runs]].contiguous()
        slots = [int(self.host_table[s][p // BLOCK]) * BLOCK + p % BLOCK for s, p in zip(sequence_of, positions)]
        rows, hidden, dtype = len(positions), c.hidden_size, self.hf.dtype
        d_positions, d_slots, d_begin = ints(positions), ints(slots), ints(begin)
        d_rope = ints([p + (self.plant == "position" and p % 2) for p in positions])
        d_seq = ints([i for i, (_, _, n) in enumerate(runs) for _ in range(n)])
        if self.plant == "block":
            table[:, [0, 1]] = table[:, [1, 0]]
        attended = ints([max(p - (self.plant == "mask"), 0) for p in positions])
        new = lambda n: torch.full((rows, n), float("nan"), dtype=dtype, device="cuda")
        x, normed, q, out = new(hidden), new(hidden), new(self.heads * self.dim), new(self.heads * self.dim)
        angles = torch.empty(rows, self.dim, dtype=torch.float32, device="cuda")
        k("rope_angles", d_rope, self.inv_freq, angles, rows, self.dim // 2)
        k("embed", b, tokens, d_positions, self.hf.model.embed_tokens.weight, x, rows, hidden)
        delta = None
        for layer, kv in zip(self.hf.model.layers, self.kv):
            a, m = layer.self_attn, layer.mlp
            k("rms_norm", b, x, delta, self.vector(layer.input_layernorm.weight), normed, rows, hidden, c.rms_norm_eps)
            biases = [p.bias for p in (a.q_proj, a.k_proj, a.v_proj)]
            if self.plant == "bias" and biases[1] is not None:
                biases[1] = torch.zeros_like(biases[1])
            if rows <= 64:
                k("qkv", b, normed, a.q_proj.weight, a.k_proj.weight, a.v_proj.weight, *[self.vector(v) for v in biases], angles, d_slots, q, kv, rows, hidden,
                  self.heads, self.kv_heads, self.dim)
            else:
                q = torch.nn.functional.linear(normed, a.q_proj.weight, biases[0])
                keys, values = (torch.nn.functional.linear(normed, p.weight, bias) for p, bias in ((a.k_proj, biases[1]), (a.v_proj, biases[2])))
                k("rope_store", b, q, keys, values, angles, d_slots, kv, rows, self.heads, self.kv_heads, self.dim)
            k("attention", b, q, out, kv, table, table.shape[1], attended, d_seq, d_begin, rows, len(runs), self.heads, self.kv_heads, self.dim,
              max(positions) + 1, max(n for _, _, n in runs), self.dim ** -0.5, self.attention_workspace)
            delta = self.product(out, a.o_proj.weight)
            k("rms_norm", b, x, delta, self.vector(layer.post_attention_layernorm.weight), normed, rows, hidden, c.rms_norm_eps)
            ffn = new(c.intermediate_size)
            if rows <= 32:
                k("gated", b, normed, m.gate_proj.weight, m.up_proj.weight, ffn, rows, hidden, c.intermediate_size)
            else:
                gate, up = (torch.nn.functional.linear(normed, p.weight) for p in (m.gate_proj, m.up_proj))
                k("gated_silu", b, gate, up, ffn, ctypes.c_int64(rows * c.intermediate_size))
            delta = self.product(ffn, m.down_proj.weight)
        k("rms_norm", b, x, delta, self.vector(self.hf.model.norm.weight), normed, rows, hidden, c.rms_norm_eps)
        wanted = normed[[e - 1 for e in begin[1:]]] if rows > 32 else normed
        logits = torch.empty(wanted.shape[0], c.vocab_size, dtype=torch.float32, device="cuda")
        k("linear", b, wanted, self.hf.lm_head.weight, logits, 1, wanted.shape[0], hidden, c.vocab_size)
        return logits

    def run(self, tokens, decoders):
        """Prefills all of tokens' sequences, then decodes `decoders` of them together; logits [decoders, STEPS, vocab]."""
        self.host_table = self.table.cpu().numpy()
        for s in range(decoders):
            for first, last in ((0, CHUNK), (CHUNK, PROMPT)):
                self.forward([(s, first, last - first)], tokens[s, first:last].int().contiguous())
        steps = []
        for position in range(PROMPT, PROMPT + STEPS):
            steps.append(self.forward([(s, position, 1) for s in range(decoders)], tokens[:decoders, position].int().contiguous()))
        return torch.stack(steps, 1)


def shape(name, layers):
    if name == "qwen2.5-7b":
        return Qwen2ForCausalLM, Qwen2Config(hidden_size=3584, intermediate_size=18944, num_hidden_layers=layers or 28, num_attention_heads=28, num_key_value_heads=4,
                                             vocab_size=152064, rms_norm_eps=1e-6, rope_theta=1e6, max_position_embeddings=32768, tie_word_embeddings=False)
    return LlamaForCausalLM, LlamaConfig(hidden_size=4096, intermediate_size=14336, num_hidden_layers=layers or 32, num_attention_heads=32, num_key_value_heads=8,
                                         vocab_size=128256, rms_norm_eps=1e-5, rope_theta=5e5, max_position_embeddings=8192, tie_word_embeddings=False)


@torch.no_grad()
def build(name, dtype, layers):
    """Random weights, rounded to dtype: attention peaked, biases and norm weights far from 0 and 1."""
    kind, config = shape(name, layers)
    torch.manual_seed(1)
    torch.set_default_dtype(dtype)
    with torch.device("cuda"):
        model = kind(config)
    torch.set_default_dtype(torch.float32)
    for key, parameter in model.named_parameters():
        if key.endswith("norm.weight"):
            parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
        elif key.endswith("bias"):
            parameter.copy_(0.5 * torch.randn_like(parameter))
        else:
            parameter.normal_(0, 0.02 * (2 if "q_proj" in key or "k_proj" in key else 1))
    return model.eval()


@torch.no_grad()
def compare(kernels, name, dtype, layers, plant):
    hf = build(name, dtype, layers)
    torch.manual_seed(2)
    tokens = torch.randint(0, hf.config.vocab_size, (SEQUENCES, PROMPT + STEPS), device="cuda")
    def reference(model):
        return torch.stack([model(tokens[s:s + 1], logits_to_keep=STEPS).logits[0].float() for s in range(SEQUENCES)])
    theirs = reference(hf)
    mine = {n: Model(kernels, hf, dtype == torch.bfloat16, plant).run(tokens, n) for n in (SEQUENCES, 1)}
    kernels.set_up(True)
    mine["deterministic"] = Model(kernels, hf, dtype == torch.bfloat16, plant).run(tokens, SEQUENCES)
    kernels.set_up(False)
    exact = reference(hf.float())
    own = (theirs - exact).abs().max().item()
    good = True
    for n, logits in mine.items():
        truth = exact[:logits.shape[0]]
        difference = (logits - truth).abs().max().item()
        top = truth.topk(2, -1).values
        clear = top[..., 0] - top[..., 1] > 2 * own
        wrong = ((logits.argmax(-1) != truth.argmax(-1)) & clear).sum().item()
        ok = difference <= 1.5 * own and wrong == 0
        good &= ok
        print(f"{name},{str(dtype)[6:]},{n},{difference:.4f},{own:.4f},{difference / own:.2f},{wrong} of {clear.sum().item()},{'ok' if ok else 'WRONG'}", flush=True)
    del hf
    torch.cuda.empty_cache()
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--arch", type=int, default=0)
    parser.add_argument("--plant", default="")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    kernels = Kernels(options.library, options.arch)
    print("model,type,rows decoded together,largest difference of logits from HF f32,HF's own in this type,ratio,top-1 wrong where clear,verdict")
    results = [compare(kernels, name, dtype, options.layers, options.plant)
               for name in ("qwen2.5-7b", "llama-3-8b") if options.only in name for dtype in (torch.bfloat16, torch.float16)]
    sys.exit(0 if all(results) else 1)


main()
