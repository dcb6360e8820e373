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
    def stopped_after(self, path, lines):
        """A bench with two rows and endless runs, killed when the file has so many lines."""
        process = subprocess.Popen([PAGEMILL, "bench", "engine", MODEL, "--isa", "plain", "--threads", "1", "--prompt", "8", "--decode", "2", "--repeat", "1000", "--csv", path],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        end = time.monotonic() + HANG_SECONDS
        while not path.exists() or path.read_text().count("\n") < lines:
            self.assertIsNone(process.poll(), process.stderr.read() if process.poll() is not None else "")
            self.assertLess(time.monotonic(), end)
            time.sleep(0.005)
        process.kill()
        process.communicate()

    def test_a_bench_that_is_stopped_leaves_the_runs_that_ended(self):
        path = pathlib.Path(FOLDER.name) / "runs.csv"
        self.stopped_after(path, 5)
        before = path.read_text()
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        self.assertGreaterEqual(len(rows), 3)  # the kill may come between two writes' cut and end
        self.assertEqual({row["isa"] for row in rows}, {"plain"})
        for kind in ("prefill", "decode"):
            runs = [int(row["run"]) for row in rows if row["test"] == kind]
            self.assertEqual(runs, list(range(1, len(runs) + 1)))
        self.assertTrue(all(float(row["tokens_per_s"]) > 0 and float(row["limit_tokens_per_s"]) > 0 for row in rows))

        # Another bench adds to it.
        self.stopped_after(path, before.count("\n") + 2)
        self.assertTrue(path.read_text().startswith(before))
        self.assertEqual(path.read_text().count("seconds,"), 1)

    def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(self):
        result = subprocess.run([PAGEMILL, "bench", "engine", FOLDER.name + "/no-such-model.gguf", "--csv", FOLDER.name + "/nowhere/runs.csv"], capture_output=True, text=True,
                                timeout=HANG_SECONDS, check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("--csv", result.stderr)
        self.assertIn("cannot be written", result.stderr)


if __name__ == "__main__":
    PAGEMILL, MAKE_MODEL = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
