"""schemathesis (pinned) makes requests out of our own /openapi.json, valid and not, and compares the answers with it.

    schemathesis_test.py PAGEMILL MAKE-MODEL [SCHEMATHESIS-OPTIONS]

Serves a tiny model with a short context. Fails on any 5xx but 501 and 503, and on a status, type or body that is not documented.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from server import Server  # noqa: E402

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pagemill"
KEY = "sk-of-schemathesis"


def main():
    pagemill, make_model, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        model, keys = folder + "/tiny.gguf", folder + "/keys"
        subprocess.run([make_model, "--shape", "tiny-llama", "--type", "q8_0", "--seed", "1", model], check=True, stdout=subprocess.DEVNULL)
        pathlib.Path(keys).write_text(f"{KEY} inference,metrics\n")
        with Server([pagemill, "serve", model, "--port", "0", "--max-model-len", "256", "--api-key-file", keys, "--log-level", "warning"], key=KEY) as server:
            status = subprocess.run(
                [CACHE / "venv/bin/schemathesis", "--config-file", HERE / "schemathesis.toml", "run", server.url + "/openapi.json", "--header", f"Authorization: Bearer {KEY}",
                 "--seed", "1", "--request-timeout", "300", "--suppress-health-check", "all", "--warnings", "off", "--no-color", *(options or ["--max-examples", "40"])],
                cwd=folder, check=False, stdin=subprocess.DEVNULL).returncode
            load = server.get_json("/v1/load")
            print("left:", {name: load[name] for name in ("running", "waiting", "kv_blocks_live")})
            ended = server.terminate()
            print(server.log())
        sys.exit(status or ended or (load["running"] + load["waiting"] + load["kv_blocks_live"] > 0))


main()
