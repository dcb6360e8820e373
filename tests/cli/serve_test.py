"""`pagemill serve` as a user starts it: what it prints, what it refuses and how it ends. Serves a tiny model of random weights.

    serve_test.py PAGEMILL MAKE-MODEL
"""

import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from server import HANG_SECONDS, Server  # noqa: E402

PAGEMILL = MAKE_MODEL = None
FOLDER = tempfile.TemporaryDirectory()
MODEL = FOLDER.name + "/tiny.gguf"
KEY = "sk-the-key-of-this-test"


def setUpModule():
    subprocess.run([MAKE_MODEL, "--shape", "tiny-llama", "--type", "q8_0", "--seed", "1", MODEL], check=True, stdout=subprocess.DEVNULL)


def write(name, text):
    path = pathlib.Path(FOLDER.name) / name
    path.write_text(text)
    return str(path)


def serve(*arguments, **options):
    return Server([PAGEMILL, "serve", "--port", "0", *arguments], **options)


def refused(*arguments, env=None):
    """The exit status and stderr of a start that must fail; nothing is printed on stdout."""
    result = subprocess.run([PAGEMILL, "serve", *arguments], capture_output=True, text=True, timeout=HANG_SECONDS, check=False, stdin=subprocess.DEVNULL,
                            env={**os.environ, **(env or {})})
    assert result.stdout == "", result.stdout
    return result.returncode, result.stderr


class Start(unittest.TestCase):
    def test_prints_the_url_a_line_to_try_where_the_memory_goes_and_where_the_time_went(self):
        with serve(MODEL, ready=False) as server:
            self.assertRegex(server.lines[0], r"^Listening on http://127\.0\.0\.1:[1-9]\d* after \d+\.\d\d s; loading " + re.escape(MODEL) + r" \(.*, \d+ threads?\)$")
            while not server.read_line().startswith("    -d"):
                pass
            text = "".join(server.lines)
            self.assertRegex(text, r"Ready after \d+\.\d\d s: tiny with a context of 2048 tokens\.")
            self.assertRegex(text, r"Time: model \d+\.\d\d s.*, beside it tokenizer and template \d+\.\d\d s\.")
            for row in ("weights", "activations", "KV pool", "free"):
                self.assertRegex(server.log(), rf"(?m)^{row} +[\d.]+ [KMG]iB")
            # The line works as it stands.
            line = shlex.split(text[text.index("  curl"):])
            self.assertEqual(line[:3], ["curl", server.url + "/v1/chat/completions", "-H"])
            answer = server.request("POST", "/v1/chat/completions", line[-1])
            self.assertEqual(answer.status, 200, answer.body)

    def test_listens_at_once_and_says_how_far_it_is(self):
        with serve(MODEL, ready=False) as server:
            health = server.request("GET", "/health")
            state = json.loads(health.body)
            self.assertIn((health.status, state["status"]), [(503, "loading"), (200, "ready")])
            self.assertTrue(0 <= state["progress"] <= 1 and isinstance(state["phase"], str))
            if health.status == 503:
                self.assertEqual(health.getheader("Retry-After"), "1")
            server.wait_until_ready()

    def test_names_of_the_model(self):
        with serve("--model", MODEL, "--served-model-name", "first", "second") as server:
            self.assertEqual([one["id"] for one in server.get_json("/v1/models")["data"]], ["first", "second"])
            self.assertEqual(server.request("POST", "/v1/completions", {"model": "second", "prompt": "a", "max_tokens": 1}).status, 200)
            self.assertEqual(server.request("POST", "/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 1}).status, 404)

    def test_vllms_flags_mean_what_they_mean_there(self):
        with serve(MODEL, "--tensor-parallel-size", "1", "--gpu-memory-utilization", "0.9", "--max-model-len", "1K", "--dtype", "half", "--max-num-seqs", "4",
                   "--max-num-batched-tokens", "64", "--kv-cache-memory-bytes", "64M", "--seed", "7", "--generation-config", "vllm", "--no-enable-prefix-caching",
                   "--enforce-eager", "--device", "cpu", "--deterministic", "--root-path", "/llm", "--allowed-origins", '["https://page.example", "https://other.example"]') as server:
            self.assertEqual(server.get_json("/v1/models")["data"][0]["max_model_len"], 1024)
            self.assertTrue(server.url.endswith("/llm"))
            for origin in ("https://page.example", "https://other.example"):
                self.assertEqual(server.request("GET", "/version", headers={"Origin": origin}).getheader("Access-Control-Allow-Origin"), origin)
            self.assertIsNone(server.request("GET", "/version", headers={"Origin": "https://third.example"}).getheader("Access-Control-Allow-Origin"))

    def test_lengths_as_vllm_reads_them(self):
        for length, tokens in [("1k", 1000), ("1K", 1024), ("1.5k", 1500), ("777", 777), ("auto", 2048), ("-1", 2048)]:
            with serve(MODEL, "--max-model-len", length) as server:
                self.assertEqual(server.get_json("/v1/models")["data"][0]["max_model_len"], tokens)

    def test_a_template_and_defaults_of_a_generation_config(self):
        template = write("template.jinja", "{{ messages[0].content }}!")
        config = write("generation_config.json", '{"max_new_tokens": 3, "temperature": 0.5}')
        with serve(MODEL, "--chat-template", template, "--generation-config", config) as server:
            answer = json.loads(server.request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "ab"}], "ignore_eos": True}).body)
            self.assertEqual(answer["usage"]["completion_tokens"], 3)
            plain = json.loads(server.request("POST", "/tokenize", {"prompt": "ab!", "add_special_tokens": False}).body)
            chat = json.loads(server.request("POST", "/tokenize", {"messages": [{"role": "user", "content": "ab"}]}).body)
            self.assertEqual(chat["tokens"], plain["tokens"])

    def test_the_models_own_end_of_sequence_ends_an_answer(self):
        ask = {"prompt": [1, 2], "max_tokens": 5, "temperature": 0, "logit_bias": {"511": 100}}  # the last of this vocabulary is its end
        with serve(MODEL) as server:
            for ignore, reason, tokens in ((False, "stop", 1), (True, "length", 5)):
                answer = json.loads(server.request("POST", "/v1/completions", {**ask, "ignore_eos": ignore}).body)
                self.assertEqual((answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]), (reason, tokens))


class Configuration(unittest.TestCase):
    def check(self, name, text):
        config = write(name, text)
        with serve("--config", config, "--served-model-name", "from-the-command-line", key=KEY) as server:
            models = server.get_json("/v1/models")["data"]
            self.assertEqual([(one["id"], one["max_model_len"]) for one in models], [("from-the-command-line", 512)])
            self.assertEqual(server.request("GET", "/v1/models", headers={"Authorization": "Bearer other-key"}).status, 401)

    def test_vllms_yaml(self):
        self.check("config.yaml", f"# as vLLM reads it\nmodel: {MODEL}\nmax-model-len: 512\nserved-model-name: [one, two]\nenforce-eager: true\n"
                   f"enable_prefix_caching: false\ndtype: 'half'\napi-key:\n  - {KEY}\n  - sk-another-key\n")

    def test_toml(self):
        self.check("config.toml", f'model = "{MODEL}"\nmax-model-len = 512  # tokens\napi-key = ["{KEY}", "sk-another-key"]\nenforce-eager = true\ngpu-memory-utilization = 0.9\n')

    def test_what_is_wrong_in_it_is_named(self):
        for text, message in [("tensor-parallel: 2\n", "did you mean '--tensor-parallel-size'"), ("pipeline-parallel-size: 2\n", "on one device"), ("port: much\n", "port"),
                              ("port: 1\nport: 2\n", "line 2: the key port appears twice"), ("a:\n  b: 1\n", "line 2"), ("[table]\n", "line 1")]:
            status, error = refused("--config", write("wrong.yaml", text))
            self.assertEqual(status, 1, text)
            self.assertIn(message, error)
            self.assertIn("wrong.yaml", error)
        self.assertIn("cannot be read", refused("--config", FOLDER.name + "/none.yaml")[1])


class Refused(unittest.TestCase):
    def test_a_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            status, error = refused(MODEL, "--port", port)
            self.assertEqual(status, 1)
            self.assertIn(f"127.0.0.1:{port} is in use", error)
            self.assertIn("--port", error)

    def test_the_network_without_a_key(self):
        for host in ("0.0.0.0", "::", "192.0.2.1"):
            status, error = refused(MODEL, "--host", host, "--port", "0", "--no-chat-page")
            self.assertEqual(status, 1)
            self.assertIn("--api-key-file", error)
            self.assertIn("--insecure", error)
        with serve(MODEL, "--host", "0.0.0.0") as server:  # accounts guard it: their own keys alone
            self.assertEqual(server.request("GET", "/v1/models").status, 401)
        with serve(MODEL, "--host", "0.0.0.0", "--insecure") as server:
            self.assertEqual(server.request("GET", "/v1/models").status, 200)
            self.assertIn("without a key", server.log())
        with serve(MODEL, "--host", "0.0.0.0", "--api-key", KEY) as server:
            self.assertEqual(server.request("GET", "/v1/models").status, 401)

    def test_files_that_cannot_be_used(self):
        empty, bad = write("empty.keys", "# nobody\n"), write("bad.keys", "sk-a-good-key inference\nsk-a-good-key everything\n")
        broken = write("broken.gguf", "GGUF" + "x" * 100)
        for arguments, message in [(["--api-key-file", FOLDER.name + "/none"], "none cannot be read"), (["--api-key-file", FOLDER.name], "cannot be read"),
                                   (["--api-key-file", empty], "holds no key"), (["--api-key-file", bad], "bad.keys line 2: an unknown scope"),
                                   (["--api-key", "a"], "--api-key"), (["--ssl-certfile", "x"], "key"), (["--ssl-certfile", "none.pem", "--ssl-keyfile", "none.pem"], "none.pem"),
                                   (["--chat-template", FOLDER.name + "/none"], "--chat-template"), (["--generation-config", bad], "--generation-config")]:
            status, error = refused(MODEL, "--port", "0", *arguments)
            self.assertEqual(status, 1, arguments)
            self.assertIn(message, error)
            self.assertNotIn("sk-a-good-key", error)
        for model in (broken, FOLDER.name + "/none.gguf"):
            result = subprocess.run([PAGEMILL, "serve", model, "--port", "0"], capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
            self.assertEqual(result.returncode, 1)
            self.assertIn(model, result.stderr)

    def test_a_model_of_the_hub_says_what_is_missing(self):
        """The command line of a well-known article, word for word."""
        line = "--model qwen/Qwen2.5-7B-Instruct --tensor-parallel-size 1 --gpu-memory-utilization 0.9 --max-model-len 131072 --dtype half"
        status, error = refused(*line.split(), env={"XDG_CACHE_HOME": FOLDER.name})
        self.assertEqual(status, 1)
        self.assertIn("qwen/Qwen2.5-7B-Instruct", error)
        self.assertIn("does not download models from a hub", error)
        self.assertIn("GGUF", error)

    def test_flags_of_vllm_that_are_not_here(self):
        for flags, advice in [(["--tensor-parallel-size", "2"], "only 1"), (["--device", "npu"], "npu"), (["--swap-space", "4"], "computed again"),
                              (["--rope-scaling", "{}"], "--hf-overrides"), (["--enable-lora"], "LoRA"), (["--quantization", "awq"], "file says it"), (["--trust-remote-code"], "never run"),
                              (["--uvicorn-log-level=info"], "--log-level"), (["--max-num-queued-reqs", "1"], "--max-queued-requests"), (["--enable-auto-tool-choice"], "tools"),
                              (["--max-model-length", "1"], "did you mean '--max-model-len'?"), (["--dtype", "int4"], "--dtype"), (["--allowed-origins", "page.example"], "https://page.example"), (["--max-model-len", "many"], "--max-model-len"), (["--max-model-len", "1.5"], "4K (4,096)"), (["--max-model-len", "-5"], "--max-model-len"),
                              (["--gpu-memory-utilization", "7"], "--gpu-memory-utilization"), (["--port", "70000"], "--port"), (["-tp", "2"], "--tensor-parallel-size")]:
            status, error = refused(MODEL, *flags)
            self.assertIn(status, (1, 2), flags)
            self.assertIn(flags[0].split("=")[0], error)
            self.assertIn(advice, error)

    def test_a_context_that_does_not_fit(self):
        result = subprocess.run([PAGEMILL, "serve", MODEL, "--port", "0", "--max-model-len", "131072"], capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("2048", result.stderr)


class End(unittest.TestCase):
    def open_stream(self, server):
        """A socket on which a long stream has begun."""
        body = json.dumps({"prompt": "abc", "max_tokens": 1500, "ignore_eos": True, "stream": True}).encode()
        stream = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=HANG_SECONDS)
        stream.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
        self.assertIn(b" 200 ", stream.recv(1 << 16))
        return stream

    def read_all(self, stream):
        data = b""
        while piece := stream.recv(1 << 16):
            data += piece
        return data

    def test_sigterm_finishes_what_is_under_way(self):
        with serve(MODEL, "--shutdown-timeout", "200") as server:
            with self.open_stream(server) as stream:
                server.process.send_signal(signal.SIGTERM)
                answer = self.read_all(stream)
            self.assertTrue(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), answer[-200:])
            self.assertIn(b'"finish_reason":"length"', answer)
            self.assertEqual(server.wait(), 0)
            self.assertIn("shutting down", server.log())

    def test_the_timeout_of_a_shutdown_cuts_streams_off(self):
        with serve(MODEL, "--shutdown-timeout", "0") as server:
            with self.open_stream(server) as stream:
                self.assertEqual(server.terminate(), 0)
                try:
                    self.assertNotIn(b'"finish_reason":"length"', self.read_all(stream))
                except ConnectionResetError:
                    pass

    def test_a_second_signal_ends_it_at_once(self):
        with serve(MODEL, "--shutdown-timeout", "200") as server:
            with self.open_stream(server) as stream:
                server.process.send_signal(signal.SIGINT)
                server.process.send_signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                stream.close()

    def test_secrets_and_prompts_are_in_no_log(self):
        for form in ("text", "json"):
            with serve(MODEL, "--log-format", form, "--log-level", "debug", "--api-key", KEY, key=KEY) as server:
                server.request("POST", "/v1/completions?api_key=sk-in-the-query", {"prompt": "prompt-secret", "max_tokens": 4, "user": "user-secret"})
                server.request("POST", "/v1/completions", '{"prompt": "prompt-secret"', headers={"Cookie": "session=cookie-secret"})
                server.request("GET", "/v1/models", headers={"X-Api-Key": "sk-wrong-secret", "Authorization": "Bearer sk-wrong-secret"})
                self.assertEqual(server.terminate(), 0)
                log = server.log() + "".join(server.lines)
            self.assertIn("/v1/completions", log)
            for secret in (KEY, "sk-in-the-query", "secret"):
                self.assertNotIn(secret, log)
            if form == "json":
                for line in log.splitlines():
                    if not line.startswith(("Listening", "Ready", "Time:", "  curl", "    -d")) and line:
                        json.loads(line)


if __name__ == "__main__":
    MAKE_MODEL = sys.argv.pop(2)
    PAGEMILL = sys.argv.pop(1)
    unittest.main(verbosity=2)
