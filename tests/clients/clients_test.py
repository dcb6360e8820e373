"""Clients that people use, unmodified and at pinned versions, against `pagemill serve` with the default model.

    clients_test.py BINARY

script/setup --test fetches them. Each client has a script of its own here that checks what it gets and ends with 1 if
anything is wrong; they can also be run by hand: SCRIPT URL KEY LIMITED-KEY.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from server import HANG_SECONDS, Server  # noqa: E402

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pagemill"
KEY, LIMITED_KEY = "sk-of-the-client-test", "sk-with-one-request-at-a-time"
BINARY = None


def node():
    """The Node that script/setup uses: the system's, or the one in its environment."""
    own = CACHE / "venv" / "bin" / "node"
    return str(own) if own.exists() else "node"


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile("w", suffix=".keys", delete=False) as keys:
            keys.write(f"{KEY} inference,metrics\n{LIMITED_KEY} inference max=1\n")
        cls.addClassCleanup(os.unlink, keys.name)
        cls.server = Server([BINARY, "serve", "--port", "0", "--api-key-file", keys.name, "--max-model-len", "2048", "--deterministic"], key=KEY)
        cls.addClassCleanup(cls.server.kill)

    def check(self, *command, **environment):
        result = subprocess.run([*command, self.server.url, KEY, LIMITED_KEY], capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
                                env={**os.environ, **environment})
        print(result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertNotIn("FAILED", result.stdout)
        self.assertIn("0 failures", result.stdout)

    def python(self, script, **environment):
        self.check(str(CACHE / "venv" / "bin" / "python"), str(HERE / script), **environment)

    def test_openai_for_python(self):
        self.python("openai_client.py")

    def test_openai_for_node(self):
        self.check(node(), str(HERE / "openai_client.cjs"), NODE_PATH=str(CACHE / "node-clients" / "node_modules"))

    def test_langchain(self):
        self.python("langchain_client.py")

    def test_litellm(self):
        self.python("litellm_client.py", LITELLM_LOCAL_MODEL_COST_MAP="True")


if __name__ == "__main__":
    BINARY = sys.argv.pop(1)
    unittest.main(verbosity=2)
