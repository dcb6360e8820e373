"""The whole program under clients that leave, come in crowds, or both, for as long as you like.

    endurance.py PAGEMILL MAKE-MODEL soak [--seconds 300] [--streams 64]
    endurance.py PAGEMILL MAKE-MODEL aborts [--requests 10000]
    endurance.py PAGEMILL MAKE-MODEL overload [--seconds 60]

Serves a tiny model of random weights (or --model FILE) with the real engine and says what it saw; ends with 1 where something was
lost, leaked or wrong. Times are printed and judged only with --judge-times: they mean something on an idle machine alone.
"""

import argparse
import asyncio
import json
import pathlib
import random
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from server import Server  # noqa: E402

FAILURES = []
# A small pool is soon touched to its last page: from then on, what grows is a leak. A short run may still be touching it.
POOL_BYTES = 16 << 20


def check(condition, what):
    print(("ok    " if condition else "FAILED"), what, flush=True)
    if not condition:
        FAILURES.append(what)


class Answer:
    """What came back: status, head, body, and when each piece arrived."""

    def __init__(self):
        self.status, self.head, self.body, self.arrivals, self.seconds = 0, b"", b"", [], 0.0

    def complete(self):
        """A whole answer: JSON with a finish reason for every choice, or a stream that ends as it should."""
        if b"text/event-stream" not in self.head:
            return all(choice["finish_reason"] in ("stop", "length") for choice in json.loads(self.body)["choices"])
        frames = self.body.split(b"\n\n")
        return frames[-2:] == [b"data: [DONE]", b""] and b'"error"' not in self.body and any(b'"finish_reason":"' in frame for frame in frames)


def unchunk(data):
    """A chunked body without its framing; raises where it is not whole."""
    out = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            return out
        out, data = out + data[:size], data[size + 2:]


class Client:
    def __init__(self, server):
        self.port = urllib.parse.urlsplit(server.url).port

    def request(self, body):
        data = json.dumps(body).encode()
        return (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: " + str(len(data)).encode() + b"\r\n\r\n" + data)

    async def ask(self, body):
        """The whole answer."""
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = Answer()
        try:
            writer.write(self.request(body))
            data = b""
            while piece := await reader.read(1 << 16):
                data += piece
                answer.arrivals.append((time.monotonic(), piece.count(b"data: ")))
        finally:
            writer.close()
        answer.seconds = time.monotonic() - started
        answer.head, _, answer.body = data.partition(b"\r\n\r\n")
        answer.status = int(answer.head[9:12])
        if b"Transfer-Encoding: chunked" in answer.head:
            answer.body = unchunk(answer.body)
        return answer

    async def leave(self, body, random_):
        """Asks and goes away: within the request, at once after it, or some way into the answer; with FIN or with RST."""
        request = self.request(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        state = random_.randrange(4)
        writer.write(request[:random_.randrange(1, len(request))] if state == 0 else request)
        await writer.drain()
        if state == 2:
            await asyncio.sleep(random_.random() * 0.05)
        if state == 3:
            for _ in range(random_.randrange(1, 6)):
                await reader.read(1 << 16)
        if random_.random() < 0.5:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def random_body(random_, tokens_max=200):
    return {"prompt": "".join(random_.choice("abcdefgh ,.") for _ in range(random_.randrange(1, 100))), "max_tokens": random_.randrange(1, tokens_max),
            "stream": random_.random() < 0.8, "n": random_.choice([1, 1, 1, 2]), "ignore_eos": random_.random() < 0.5, "temperature": 1}


def wait_until_empty(server, what):
    """Nothing runs, waits or holds a block, and every request that began has ended exactly once."""
    load = {}
    for _ in range(600):
        load = server.get_json("/v1/load")
        if load["running"] == load["waiting"] == load["kv_blocks_live"] == 0:
            break
        time.sleep(0.1)
    check(load["running"] == load["waiting"] == load["kv_blocks_live"] == 0, f"{what}: running, waiting and KV blocks in use are back to 0")
    for _ in range(100):
        metrics = server.request("GET", "/metrics").body.decode()
        started = sum(map(int, re.findall(r"^vllm:request_params_n_count\{.*?\} (\d+)", metrics, re.M)))
        ended = sum(map(int, re.findall(r"^vllm:request_success_total\{.*?\} (\d+)", metrics, re.M)))
        if started == ended:
            break
        time.sleep(0.1)
    check(started == ended, f"{what}: {started} requests began, {ended} ended")


def check_idle(server, seconds=5):
    time.sleep(1)
    before = server.cpu_ticks()
    time.sleep(seconds)
    ticks = server.cpu_ticks() - before
    check(ticks <= 1, f"idle afterwards: {ticks} clock ticks of processor time in {seconds} s")


async def soak(server, options):
    client, counts, memory = Client(server), {"answered": 0, "left": 0}, []
    end = time.monotonic() + options.seconds
    started = time.monotonic()

    async def stream(seed):
        random_ = random.Random(seed)
        while time.monotonic() < end:
            body = random_body(random_)
            if random_.random() < 0.5:
                await client.leave(body, random_)
                counts["left"] += 1
            else:
                answer = await client.ask(body)
                if answer.status != 200 or not answer.complete():
                    check(False, f"an error that no client caused: {answer.head!r} {answer.body[-500:]!r}")
                counts["answered"] += 1

    async def watch():
        while time.monotonic() < end:
            memory.append((time.monotonic() - started, server.resident_bytes()))
            await asyncio.sleep(1)

    await asyncio.gather(watch(), *(stream(seed) for seed in range(options.streams)))
    memory.append((time.monotonic() - started, server.resident_bytes()))
    check(counts["answered"] > 0 and counts["left"] > 0, f"{options.streams} streams, {options.seconds} s: {counts['answered']} answered, {counts['left']} left early")
    early = next(size for at, size in memory if at >= min(60, options.seconds / 2))
    growth = memory[-1][1] / early - 1
    print(f"      RSS {early / 2**20:.1f} MiB after {min(60, options.seconds / 2):.0f} s, {memory[-1][1] / 2**20:.1f} MiB at the end: {growth:+.2%}")
    check(memory[-1][1] <= early * 1.02 + (0 if options.seconds >= 300 else POOL_BYTES), "RSS grew by 2 % at most")
    wait_until_empty(server, "soak")
    check_idle(server)


async def aborts(server, options):
    client, memory = Client(server), []
    numbers = iter(range(options.requests))

    async def worker(seed):
        random_ = random.Random(seed)
        for number in numbers:
            await client.leave(random_body(random_, 1500), random_)
            if number % (options.requests // 10) == 0:
                memory.append(server.resident_bytes())

    await asyncio.gather(*(worker(seed) for seed in range(16)))
    wait_until_empty(server, f"{options.requests} aborted requests")
    memory.append(server.resident_bytes())
    half = memory[len(memory) // 2]
    growth = memory[-1] / half - 1
    check(memory[-1] <= half * 1.02 + (0 if options.requests >= 5_000 else POOL_BYTES), f"RSS by tenths of them, MiB: {', '.join(f'{size / 2**20:.1f}' for size in memory)}; second half {growth:+.2%}")
    check_idle(server)


def inter_token_ms(answers):
    """The mean time between tokens of each answer, from its first to its last."""
    means = []
    for answer in answers:
        first, last = answer.arrivals[0][0], answer.arrivals[-1][0]
        tokens = sum(count for _, count in answer.arrivals)
        if tokens > 1:
            means.append((last - first) * 1e3 / (tokens - 1))
    return means


def quantiles(values):
    values = sorted(values)
    return f"median {statistics.median(values):.2f}, p99 {values[int(len(values) * 0.99)]:.2f}, max {values[-1]:.2f}"


async def overload(server, options):
    client = Client(server)
    body = {"prompt": "abcdefgh" * 4, "max_tokens": options.tokens, "ignore_eos": True, "stream": True}
    capacity, refused, accepted = [], [], []
    phase_s = max(3, options.seconds / 4)

    async def closed_loop(end):
        while time.monotonic() < end:
            capacity.append(await client.ask(body))

    started = time.monotonic()
    await asyncio.gather(*(closed_loop(started + phase_s) for _ in range(options.slots)))
    rate = len(capacity) / (time.monotonic() - started)
    at_capacity = inter_token_ms(capacity)
    memory = server.resident_bytes()
    print(f"      at capacity: {options.slots} streams, {rate:.2f} requests/s of {options.tokens} tokens; ms between tokens: {quantiles(at_capacity)}")

    async def arrive():
        answer = await client.ask(body)
        (refused if answer.status == 429 else accepted).append(answer)

    arrivals, random_ = [], random.Random(1)
    end, due = time.monotonic() + options.seconds, time.monotonic()
    while due < end:
        await asyncio.sleep(max(0, due - time.monotonic()))
        arrivals.append(asyncio.ensure_future(arrive()))
        due += random_.expovariate(10 * rate)
    await asyncio.gather(*arrivals)
    under_load = inter_token_ms(accepted)
    print(f"      at 10 times that: {len(arrivals)} requests in {options.seconds} s, {len(accepted)} accepted, {len(refused)} refused")
    print(f"      accepted, ms between tokens: {quantiles(under_load)}; refused, ms to the answer: {quantiles([a.seconds * 1e3 for a in refused])}")
    check(len(accepted) + len(refused) == len(arrivals) and accepted and refused, "every request was answered or refused")
    check(all(answer.status == 200 and answer.complete() for answer in accepted), "what was accepted came whole")
    check(all(b"\r\nRetry-After: " in answer.head and b'"code":429' in answer.body for answer in refused), "what was refused got 429 with Retry-After")
    grown = server.resident_bytes() - memory
    check(grown <= 0.02 * memory + POOL_BYTES, f"memory is bounded: RSS {grown / 2**20:+.1f} MiB since the phase at capacity")
    if options.judge_times:
        check(statistics.median(under_load) <= 1.5 * statistics.median(at_capacity), "accepted requests keep their time between tokens within 1.5 times (median)")
        check(max(answer.seconds for answer in refused) <= 0.1, "refusals come within 100 ms")
    wait_until_empty(server, "overload")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pagemill")
    parser.add_argument("make_model")
    parser.add_argument("run", choices=["soak", "aborts", "overload"])
    parser.add_argument("--seconds", type=float, help="soak: 300, overload: 60")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=8, help="overload: requests computed at a time, and as many wait")
    parser.add_argument("--tokens", type=int, default=512, help="overload: of each answer")
    parser.add_argument("--model", help="a GGUF file instead of the tiny model")
    parser.add_argument("--judge-times", action="store_true")
    options = parser.parse_args()
    options.seconds = options.seconds or (60 if options.run == "overload" else 300)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or folder + "/tiny.gguf"
        if not options.model:
            subprocess.run([options.make_model, "--shape", "tiny-llama", "--type", "q8_0", "--seed", "1", model], check=True, stdout=subprocess.DEVNULL)
        bounds = ["--kv-cache-memory-bytes", str(POOL_BYTES)]
        if options.run == "overload":
            bounds += ["--max-num-seqs", str(options.slots), "--max-queued-requests", str(options.slots)]
        with Server([options.pagemill, "serve", model, "--port", "0", "--log-level", "warning", *bounds]) as server:
            asyncio.run({"soak": soak, "aborts": aborts, "overload": overload}[options.run](server, options))
            check(server.terminate() == 0, "SIGTERM ends it with 0")
            check(server.log() == "", f"the log has no warning: {server.log()[:500]!r}")
    print(f"{len(FAILURES)} failures")
    sys.exit(1 if FAILURES else 0)


main()
