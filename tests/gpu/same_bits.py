#!/usr/bin/env python3
"""Are answers the same bits however they are run? Asks two servers of one model with --deterministic, a roomy one and a crowded one (small steps,
a KV pool too small for all), over HTTP, for tokens and log-probabilities.

    same_bits.py --roomy 8000 --crowded 8001 --vocab 152064
"""
import argparse
import concurrent.futures
import json
import random
import sys
import urllib.request


def ask(port, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        answer = json.load(response)
    choice = answer["choices"][0]
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]


def metric(port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def requests(options):
    random_ = random.Random(7)
    for i in range(options.requests):
        length = random_.randrange(options.prompt // 3, options.prompt + 1)
        yield {"model": "", "prompt": [random_.randrange(options.vocab) for _ in range(length)], "max_tokens": options.output, "ignore_eos": True, "logprobs": 0,
               "return_token_ids": True, "seed": 1000 + i, "temperature": 0 if i % 2 else 0.8}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roomy", type=int, required=True)
    parser.add_argument("--crowded", type=int, default=0)
    parser.add_argument("--vocab", type=int, required=True)
    parser.add_argument("--requests", type=int, default=12)
    parser.add_argument("--prompt", type=int, default=600)
    parser.add_argument("--output", type=int, default=96)
    parser.add_argument("--label", default="")
    options = parser.parse_args()
    bodies, wrong = list(requests(options)), 0
    alone = [ask(options.roomy, body) for body in bodies]

    def together(port):
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            return list(pool.map(lambda body: ask(port, body), bodies))

    def compare(name, answers, note):
        nonlocal wrong
        tokens = sum(a[0] == b[0] for a, b in zip(alone, answers))
        bits = sum(a == b for a, b in zip(alone, answers))
        print(f"{options.label},{name},{len(bodies)},{tokens},{bits},{note}", flush=True)
        wrong += bits != len(bodies)

    print("label,way,requests,same tokens,same bits,note")
    hits = metric(options.roomy, "vllm:prefix_cache_hits_total")
    compare("alone again (prefix cache)", [ask(options.roomy, body) for body in bodies], f"{metric(options.roomy, 'vllm:prefix_cache_hits_total') - hits:.0f} tokens from the cache")
    compare("together", together(options.roomy), "")
    if options.crowded:
        answers = together(options.crowded)
        preemptions = metric(options.crowded, "vllm:num_preemptions_total")
        compare("together in small steps and too little memory (mixed; chunked; preempted)", answers, f"{preemptions:.0f} preemptions")
        wrong += preemptions == 0
    sys.exit(wrong > 0)


main()
