#!/usr/bin/env python3
"""Load on a running server: N streams of random prompts at once, over HTTP, and what they felt. Needs nothing but Python.

    load.py --port 8000 --vocab 152064 --streams 1,5,16,64,256 --prompt 512 --output 256 --csv streams.csv

Works with any server of OpenAI's protocol that takes prompts of token ids and ignore_eos (vLLM, llama-server). One that does not return token ids is
believed the number of tokens in its usage, and each of its events counts as one in the times.

A round of N streams starts N requests together and ends with the last of them; few streams run more rounds. Output tokens/s is all tokens of
a round over its whole time, prompts included; times to the first token and between tokens are as a client sees them.
"""
import argparse
import json
import multiprocessing
import random
import selectors
import socket
import sys
import time

HEAD = "label,streams,round,prompt,output,seconds,output_tokens,output_tokens_per_s,ttft_p50_ms,ttft_max_ms,gap_p50_ms,gap_p99_ms,gap_max_ms,tokens_per_event,errors"


class Stream:
    """One request on a connection of its own."""

    def __init__(self, options, seed):
        random_ = random.Random(seed)
        body = json.dumps({
            "model": options.model, "prompt": [random_.randrange(options.vocab) for _ in range(options.prompt)], "max_tokens": options.output,
            "ignore_eos": True, "temperature": 0, "stream": True, "return_token_ids": True, "stream_options": {"include_usage": True},
        }).encode()
        self.request = (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
                        b"Content-Length: %d\r\n\r\n" % len(body)) + body
        self.socket = socket.create_connection(("127.0.0.1", options.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.times, self.pieces, self.data = [], [], bytearray()

    def start(self):
        self.began = time.perf_counter()
        self.socket.sendall(self.request)
        self.socket.setblocking(False)

    def read(self):
        """False at the end."""
        piece = self.socket.recv(1 << 16)
        if not piece:
            return False
        self.times.append(time.perf_counter())
        self.pieces.append(len(self.data))
        self.data += piece
        return True

    def result(self):
        """When it began, (time, tokens) of every event that brought some, all tokens, whether it is whole; parsed when all is over, so that parsing disturbs nobody."""
        events, at, text, total = [], 0, bytes(self.data), None
        status = text[9:12]
        piece = 0
        while True:
            found = text.find(b"data: {", at)
            if found < 0:
                break
            end = text.find(b"\n", found)
            while piece + 1 < len(self.pieces) and self.pieces[piece + 1] <= found:
                piece += 1
            event = json.loads(text[found + 6:end])
            total = (event.get("usage") or {}).get("completion_tokens", total)
            choice = (event.get("choices") or [{}])[0]
            count = len(choice["token_ids"] or []) if "token_ids" in choice else int(bool(choice.get("text")))
            if count:
                events.append((self.times[piece], count))
            at = end
        if total is None:
            total = sum(count for _, count in events)
        return self.began, events, total, status == b"200" and b"data: [DONE]" in text


def work(options, seeds, barrier, results):
    streams = [Stream(options, seed) for seed in seeds]
    selector = selectors.DefaultSelector()
    barrier.wait()
    for stream in streams:
        stream.start()
        selector.register(stream.socket, selectors.EVENT_READ, stream)
    left = len(streams)
    while left:
        for key, _ in selector.select():
            if not key.data.read():
                selector.unregister(key.data.socket)
                left -= 1
    results.put([stream.result() for stream in streams])


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def run_round(options, streams, seed):
    workers = min(streams, options.processes)
    barrier, results = multiprocessing.Barrier(workers), multiprocessing.Queue()
    children = [multiprocessing.Process(target=work, args=(options, [seed * 1000 + i for i in range(worker, streams, workers)], barrier, results)) for worker in range(workers)]
    for child in children:
        child.start()
    answers = [answer for _ in children for answer in results.get(timeout=options.timeout)]
    for child in children:
        child.join()
    errors = sum(1 for _, _, total, whole in answers if not whole or total != options.output)
    tokens = sum(total for _, events, total, _ in answers if events)
    answers = [(began, events) for began, events, _, _ in answers if events]
    if not answers:
        return None, errors
    first = [1e3 * (events[0][0] - began) for began, events in answers]
    gaps = [1e3 * (b[0] - a[0]) for _, events in answers for a, b in zip(events, events[1:])]
    seconds = max(events[-1][0] for _, events in answers) - min(began for began, _ in answers)
    return (seconds, tokens, tokens / seconds, quantile(first, 0.5), max(first), quantile(gaps, 0.5), quantile(gaps, 0.99), max(gaps, default=0),
            tokens / sum(len(events) for _, events in answers)), errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--vocab", type=int, required=True)
    parser.add_argument("--streams", default="1,5,16,64,256")
    parser.add_argument("--rounds", default="5,3,3,2,2", help="for each level; the last number is also that of the levels after it")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--output", type=int, default=256)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--timeout", type=int, default=120)
    parser.add_argument("--label", default="")
    parser.add_argument("--csv", default="")
    options = parser.parse_args()
    out = open(options.csv, "a") if options.csv else sys.stdout
    if out.tell() == 0 if options.csv else True:
        print(HEAD, file=out, flush=True)
    failed = 0
    levels, rounds_of = [int(level) for level in options.streams.split(",")], [int(rounds) for rounds in options.rounds.split(",")]
    rounds_of += rounds_of[-1:] * (len(levels) - len(rounds_of))
    for level, rounds in zip(levels, rounds_of):
        for number in range(rounds):
            row, errors = run_round(options, level, 100 * level + number)
            failed += errors
            cells = ["%.3f" % value for value in row] if row else [""] * 9
            print(",".join([options.label, str(level), str(number), str(options.prompt), str(options.output), *cells, str(errors)]), file=out, flush=True)
    sys.exit(failed > 0)


main()
