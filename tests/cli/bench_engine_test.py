"""`pagemill bench engine`: what it leaves when it is stopped. Runs a tiny model of random weights.

    bench_engine_test.py PAGEMILL MAKE-MODEL
"""

import csv
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from server import HANG_SECONDS  # noqa: E402

PAGEMILL = MAKE_MODEL = None
FOLDER = tempfile.TemporaryDirectory()
MODEL = FOLDER.name + "/tiny.gguf"


def setUpModule():
    subprocess.run([MAKE_MODEL, "--shape", "tiny-llama", "--type", "q8_0", "--seed", "1", MODEL], check=True, stdout=subprocess.DEVNULL)


class Csv(unittest.TestCase):
    def bench(self, path, repeat):
        return subprocess.Popen([PAGEMILL, "bench", "engine", MODEL, "--isa", "plain", "--threads", "1", "--prompt", "8", "--decode", "2", "--repeat", str(repeat), "--csv", path],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def check(self, path):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual({row["isa"] for row in rows}, {"plain"})
        for kind in ("prefill", "decode"):
            runs = [int(row["run"]) for row in rows if row["test"] == kind]
            self.assertEqual(runs, list(range(1, len(runs) + 1)))
        self.assertTrue(all(float(row["tokens_per_s"]) > 0 and float(row["limit_tokens_per_s"]) > 0 for row in rows))
        return len(rows)

    def test_a_bench_that_is_stopped_leaves_the_runs_that_ended(self):
        path = pathlib.Path(FOLDER.name) / "stopped.csv"
        process = self.bench(path, 1_000)
        part = path.with_name(f"{path.name}.{process.pid}.part")
        end = time.monotonic() + HANG_SECONDS
        while not part.exists() or part.read_text().count("\n") < 5:
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), end)
            time.sleep(0.005)
        process.kill()
        process.communicate()
        self.assertGreaterEqual(self.check(part), 4)

    def test_what_others_add_meanwhile_stays(self):
        path = pathlib.Path(FOLDER.name) / "ended.csv"
        process = self.bench(path, 2)
        part = path.with_name(f"{path.name}.{process.pid}.part")
        end = time.monotonic() + HANG_SECONDS
        while not part.exists() or "\n" not in part.read_text():
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), end)
            time.sleep(0.005)
        path.write_text(part.read_text().splitlines()[0] + "\n# another's line\n")
        process.communicate(timeout=HANG_SECONDS)
        self.assertEqual(process.returncode, 0)
        head, other, *own = path.read_text().splitlines()
        self.assertTrue(head.startswith("seconds,"))
        self.assertEqual((other, len(own)), ("# another's line", 4))
        self.assertFalse(part.exists())

    def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(self):
        result = subprocess.run([PAGEMILL, "bench", "engine", FOLDER.name + "/no-such-model.gguf", "--csv", FOLDER.name + "/nowhere/runs.csv"], capture_output=True, text=True,
                                timeout=HANG_SECONDS, check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("--csv", result.stderr)
        self.assertIn("cannot be written", result.stderr)


if __name__ == "__main__":
    PAGEMILL, MAKE_MODEL = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
