"""GEMM rates of cuBLAS through PyTorch, as CSV: what prefill's and large batches' products are measured against. Skipped where PyTorch is not."""

import sys

try:
    import torch
except ImportError:
    print("gemm,skipped: no PyTorch")
    sys.exit(0)

SHAPES = {  # name → in, out
    "qwen2.5-7b qkv": (3584, 4608), "qwen2.5-7b o": (3584, 3584), "qwen2.5-7b gate": (3584, 18944), "qwen2.5-7b down": (18944, 3584),
    "llama-3-8b qkv": (4096, 6144), "llama-3-8b o": (4096, 4096), "llama-3-8b gate": (4096, 14336), "llama-3-8b down": (14336, 4096),
}
ROWS = (64, 256, 2048, 8192)


def median_us(run, repeats=5):
    """Of one replay of a graph of ten calls, so that launches do not count."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            run()
    times = []
    for _ in range(repeats + 1):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 100)
    return sorted(times[1:])[repeats // 2]


def held():
    """The gate product of growing prompts in turn, 0.1 s each and a second on end: what the card's power leaves of its rate."""
    from triton.testing import do_bench

    print("product,rows,0.1 s: TFLOP/s,1 s: TFLOP/s")
    for name in ("qwen2.5-7b gate", "llama-3-8b gate"):
        k, n = SHAPES[name]
        weight = torch.randn(n, k, device="cuda", dtype=torch.bfloat16) * 0.02
        for rows in (512, 1024, 2048, 4096, 8192):
            x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
            out = torch.empty(rows, n, device="cuda", dtype=torch.bfloat16)
            run = lambda: torch.mm(x, weight.t(), out=out)
            ms = do_bench(run, return_mode="median")
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            count = int(1000 / ms)
            begin.record()
            for _ in range(count):
                run()
            end.record()
            torch.cuda.synchronize()
            flops = 2 * rows * k * n
            print(f"{name},{rows},{flops / ms * 1e-9:.0f},{flops * count / begin.elapsed_time(end) * 1e-9:.0f}", flush=True)


def main():
    held()
    print("product,rows,us,TFLOP/s,GB/s of weights")
    for name, (k, n) in {"square": (8192, 8192), **SHAPES}.items():
        copies = max(1, int(3e9 / (2 * k * n)))
        weights = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) * 0.02 for _ in range(copies)]
        for rows in (8192,) if name == "square" else ROWS:
            x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
            out = torch.empty(rows, n, device="cuda", dtype=torch.bfloat16)
            turn = iter(range(1 << 30))
            us = median_us(lambda: torch.mm(x, weights[next(turn) % copies].t(), out=out))
            print(f"{name},{rows},{us:.1f},{2 * rows * k * n / us * 1e-6:.0f},{2 * k * n / us * 1e-3:.0f}", flush=True)


main()
