"""Help, wrong usage, inspect, list and bench machine, without a model."""

import json
import os
import pathlib
import struct
import tempfile
import unittest

import program
from program import run

COMMANDS = [[], ["chat"], ["list"], ["inspect"], ["bench"], ["bench", "machine"], ["bench", "engine"], ["completion"]]


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def tiny_gguf():
    """Version 3, two metadata keys, one tensor of 8 f32."""
    metadata = (gguf_string("general.architecture") + struct.pack("<I", 8) + gguf_string("unheard\x1b[31m-of")
                + gguf_string("general.alignment") + struct.pack("<II", 4, 32))
    tensor = gguf_string("a.weight") + struct.pack("<I", 1) + struct.pack("<Q", 8) + struct.pack("<IQ", 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + metadata + tensor
    return head + b"\0" * (-len(head) % 32) + b"\0" * 32


class Usage(unittest.TestCase):
    def test_every_command_has_help_that_fits_a_terminal(self):
        for command in COMMANDS:
            result = run(*command, "--help")
            self.assertEqual((result.returncode, result.stderr), (0, ""), command)
            self.assertIn("Usage: pagemill " + " ".join(command), result.stdout)
            self.assertIn("Examples:", result.stdout)
            for line in result.stdout.splitlines():
                self.assertLessEqual(len(line), 100, line)

    def test_version(self):
        result = run("--version")
        self.assertRegex(result.stdout, r"^pagemill \d+\.\d+\.\d+\n$")
        self.assertEqual(result.returncode, 0)

    def test_wrong_usage_says_what_was_meant_and_exits_with_2(self):
        for arguments, message in [(["chta"], "did you mean 'chat'?"), (["bench", "engin"], "did you mean 'engine'?"),
                                   (["chat", "--temprature", "0"], "did you mean '--temperature'?"),
                                   (["chat", "--temperature", "3"], "--temperature"), (["chat", "--temperature"], "--temperature"),
                                   (["bench", "engine", "--streams", "0"], "--streams"), (["completion", "tcsh"], "tcsh"), ([], "Commands:")]:
            result = run(*arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
            self.assertIn(message, result.stderr)

    def test_bad_values_are_refused_before_anything_is_loaded(self):
        for arguments, message in [(["--max-model-len", "much"], "--max-model-len"), (["--hf-overrides", "{"], "--hf-overrides"),
                                   (["--hf-overrides", "[]"], "--hf-overrides")]:
            result = run("chat", *arguments, stdin="hello")
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertIn(message, result.stderr)

    def test_completion_scripts_are_sound(self):
        for shell, syntax in [("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])]:
            result = run("completion", shell)
            self.assertEqual(result.returncode, 0)
            for word in ["chat", "inspect", "machine", "temperature", "streams"]:
                self.assertIn(word, result.stdout)
            self.check_syntax(syntax, result.stdout)

    def check_syntax(self, command, script):
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
            file.write(script)
            file.flush()
            try:
                checked = program.subprocess.run([*command, file.name], capture_output=True, text=True)
            except FileNotFoundError:
                return  # that shell is not on this machine
            self.assertEqual((checked.returncode, checked.stderr), (0, ""))


class Inspect(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, data, name="model.gguf"):
        path = pathlib.Path(self.folder.name) / name
        path.write_bytes(data)
        return str(path)

    def test_a_file_of_an_unknown_kind_is_shown_and_no_escape_sequence_gets_through(self):
        path = self.file(tiny_gguf())
        result = run("inspect", path)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("a.weight", result.stdout)
        self.assertIn("runs here     no: ", result.stdout)
        self.assertNotIn("\x1b", result.stdout)
        shown = json.loads(run("inspect", path, "--json").stdout)
        self.assertEqual(shown["architecture"], "unheard\x1b[31m-of")
        self.assertFalse(shown["runs_here"])
        self.assertEqual(shown["tensors"], [{"name": "a.weight", "type": "f32", "shape": [8], "bytes": 32}])

    def test_every_truncation_is_an_error_that_names_the_file(self):
        whole = tiny_gguf()
        for length in range(0, len(whole), 7):
            result = run("inspect", self.file(whole[:length]))
            self.assertEqual((result.returncode, result.stdout), (1, ""), length)
            self.assertIn("model.gguf", result.stderr)

    def test_what_is_no_model(self):
        for path in [self.file(b"", "empty.gguf"), self.file(b"GGML" + b"\0" * 100, "old.gguf"), self.folder.name, "/nonexistent/model.gguf", "/dev/null"]:
            result = run("inspect", path)
            self.assertEqual((result.returncode, result.stdout), (1, ""), path)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)


class List(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.models = pathlib.Path(folder.name) / "pagemill" / "models"
        self.env = {"XDG_CACHE_HOME": folder.name}

    def test_no_models(self):
        result = run("list", env=self.env)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("No models", result.stdout)
        self.assertEqual(json.loads(run("list", "--json", env=self.env).stdout)["models"], [])

    def test_good_and_damaged_models(self):
        self.models.mkdir(parents=True)
        (self.models / "good.gguf").write_bytes(tiny_gguf())
        (self.models / "bad.gguf").write_bytes(b"GGUF")
        models = json.loads(run("list", "--json", env=self.env).stdout)["models"]
        self.assertEqual([model["name"] for model in models], ["bad", "good"])
        self.assertIn("problem", models[0])
        self.assertEqual(models[1]["bytes"], len(tiny_gguf()))
        self.assertEqual(run("list", "--names", env=self.env).stdout, "bad\ngood\n")
        self.assertNotIn("\x1b", run("list", env=self.env).stdout)

    def test_a_missing_default_model_says_which_command_fetches_it(self):
        result = run("chat", stdin="hello", env=self.env)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("script/setup", result.stderr)


class BenchMachine(unittest.TestCase):
    LIMITS = ["read_one_thread_bytes_per_s", "read_all_threads_bytes_per_s", "int8_ops_per_s", "float16_ops_per_s", "float32_ops_per_s"]

    def test_limits_have_their_shape_and_are_plausible(self):
        result = run("bench", "machine", "--seconds", "0.1", "--json")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        machine = json.loads(result.stdout)
        self.assertEqual(machine["threads"], len(os.sched_getaffinity(0)))
        variants = {variant["variant"]: variant for variant in machine["variants"]}
        for name in self.LIMITS:
            limit = machine[name]
            self.assertEqual(limit, variants[limit["variant"]], name)
            self.assertTrue(0 < limit["worst"] <= limit["median"] <= limit["best"], name)
        self.assertGreater(machine["read_all_threads_bytes_per_s"]["best"], 1e8)
        self.assertGreater(machine["float32_ops_per_s"]["best"], 1e8)
        self.assertLess(machine["read_one_thread_bytes_per_s"]["best"], 1e12)

    def test_people_get_a_table(self):
        result = run("bench", "machine", "--seconds", "0.1")
        for line in ["memory read, one thread", "memory read, all threads", "int8", "16-bit float", "32-bit float", "Every variant tried:"]:
            self.assertIn(line, result.stdout)


if __name__ == "__main__":
    program.main()
