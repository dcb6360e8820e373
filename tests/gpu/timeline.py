#!/usr/bin/env python3
"""What timeline.cpp wrote, as tables: each kernel's part of a decode step, the GPU's pauses between steps, the host's time per step.

    timeline.py TIMELINE OUT      writes OUT_kernels.csv, OUT_steps.csv and OUT_step_N.csv: one whole step of each size; OUT_prompts.csv: steps of prompts

A step begins at embed_kernel. Steps with the same kernels and grids are of one kind; kinds seen at least 20 times are decode steps of one batch size.
A kernel's part is what it adds to the step's end: from the end of those before it to its own (its wait for the one before is not its part).
Kernels of layers are told apart by their place after the layer's attention.
"""
import collections
import re
import statistics
import sys

SEEN_MIN = 20
PROMPT_ROWS_MIN = 512  # of a step without single rows that is listed


def short(name):
    found = re.search(r"\d+([a-z_]+_kernel)", name)
    if not found:
        return re.sub(r"[^A-Za-z0-9_]", "_", name)[:72]
    types = re.search(r"_kernelI(.*?)E?Ev", name)
    return found.group(1) + ("<" + re.sub(r"[^A-Za-z0-9]", "", types.group(1))[:24] + ">" if types else "")


def read(path):
    events, calls = [], []
    with open(path) as lines:
        for line in lines:
            kind, begin, end, grid, name = line.rstrip("\n").split(",", 4)
            if kind == "call":
                calls.append((int(begin), int(end), int(grid), name))
            else:
                events.append((int(begin), int(end), kind, int(grid), short(name) if kind == "kernel" else name))
    return sorted(events), sorted(calls)


def steps_of(events):
    steps, step = [], None
    for event in events:
        if event[2] == "kernel" and event[4].startswith("embed_kernel"):
            step = []
            steps.append(step)
        if step is not None and event[2] == "kernel":
            step.append(event)
    return steps


def parts_of(step):
    """What each kernel adds to the step's end: label → ns."""
    added, latest = collections.Counter(), step[0][0]
    for event in step:
        added[event[4]] += max(0, event[1] - latest)
        latest = max(latest, event[1])
    return added


def write_prompts(steps, path):
    with open(path, "w") as table:
        print("step,rows,step us,pause before us,kernel,us,share", file=table)
        for i, step in enumerate(steps):
            rows = step[0][3]  # embed_kernel has a block for each
            if rows < PROMPT_ROWS_MIN or any(event[4].startswith("decode_kernel") for event in step):
                continue
            span = max(event[1] for event in step) - step[0][0]
            pause = max(0, step[0][0] - max(event[1] for event in steps[i - 1])) if i > 0 else 0
            for name, ns in parts_of(step).most_common():
                print(f"{i},{rows},{span / 1e3:.1f},{pause / 1e3:.1f},{name},{ns / 1e3:.1f},{ns / span:.4f}", file=table)


def places(step):
    """A label for each kernel: its name, grid and its place after its layer's attention."""
    attention = [i for i, event in enumerate(step) if event[4].startswith("decode_kernel")]
    period = collections.Counter(b - a for a, b in zip(attention, attention[1:])).most_common(1)[0][0] if len(attention) > 1 else 0
    for i, event in enumerate(step):
        inside = period and attention[0] <= i < attention[-1]
        yield (f"{(i - attention[0]) % period}" if inside else "first" if not period or i < attention[0] else "last", event[4], event[3])


def main():
    events, calls = read(sys.argv[1])
    kinds = collections.defaultdict(list)
    steps = steps_of(events)
    write_prompts(steps, sys.argv[2] + "_prompts.csv")
    for index, step in enumerate(steps):
        kinds[tuple((event[4], event[3]) for event in step)].append(index)
    waits = [(begin, end) for begin, end, _, name in calls if name.startswith("cudaEventSynchronize")]
    with open(sys.argv[2] + "_steps.csv", "w") as table, open(sys.argv[2] + "_kernels.csv", "w") as parts:
        print("kind,steps,kernels,step us (median),step us p99,span us (median),pause us (median),pause us p99,pause share,host us per step (median),host us p99", file=table)
        print("kind,place,kernel,grid,count per step,us per step,duration us per step,share", file=parts)
        number = 0
        for kind, indices in sorted(kinds.items(), key=lambda item: item[1][0]):
            pairs = [(i, i + 1) for i in indices if i + 1 < len(steps) and i + 1 in set(indices)]
            if len(pairs) < SEEN_MIN or not any(name.startswith("decode_kernel") for name, _ in kind):
                continue
            number += 1
            whole = [(steps[b][0][0] - steps[a][0][0]) / 1e3 for a, b in pairs]
            ends = {i: max(event[1] for event in steps[i]) for i in indices}
            pause = [max(0, steps[b][0][0] - ends[a]) / 1e3 for a, b in pairs]
            span = [(ends[a] - steps[a][0][0]) / 1e3 for a, _ in pairs]
            begin, end = steps[pairs[0][0]][0][0], ends[pairs[-1][1]]
            inside = [wait for wait in waits if begin <= wait[0] <= end]
            host = [(b[0] - a[1]) / 1e3 for a, b in zip(inside, inside[1:])] or [float("nan")]
            p99 = lambda values: sorted(values)[int(0.99 * (len(values) - 1))]
            median = statistics.median
            print(f"{number},{len(indices)},{len(kind)},{median(whole):.1f},{p99(whole):.1f},{median(span):.1f},{median(pause):.1f},{p99(pause):.1f},"
                  f"{median(pause) / median(whole):.4f},{median(host):.1f},{p99(host):.1f}", file=table)
            added, lasted, count = collections.Counter(), collections.Counter(), collections.Counter()
            sample = [a for a, _ in pairs][:200]
            for i in sample:
                latest = steps[i][0][0]
                for label, event in zip(places(steps[i]), steps[i]):
                    added[label] += max(0, event[1] - latest)
                    lasted[label] += event[1] - event[0]
                    count[label] += 1
                    latest = max(latest, event[1])
            total = sum(added.values())
            for label, ns in added.most_common():
                print(f"{number},{label[0]},{label[1]},{label[2]},{count[label] / len(sample):g},{ns / len(sample) / 1e3:.1f},{lasted[label] / len(sample) / 1e3:.1f},{ns / total:.4f}", file=parts)
            one = min(pairs, key=lambda pair: abs((steps[pair[1]][0][0] - steps[pair[0]][0][0]) / 1e3 - median(whole)))[0]
            with open(f"{sys.argv[2]}_step_{number}.csv", "w") as line:
                print("start us,duration us,kernel,grid", file=line)
                for event in steps[one]:
                    print(f"{(event[0] - steps[one][0][0]) / 1e3:.2f},{(event[1] - event[0]) / 1e3:.2f},{event[4]},{event[3]}", file=line)


main()
