"""Starts `pagemill serve` (or another program that prints its URL) for tests in Python, and asks it things over plain HTTP."""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.parse

HANG_SECONDS = 300  # no bound on speed: what takes this long will never end


class Server:
    """A server on a free port. Its log goes to a file; stdout is read line by line as it comes."""

    def __init__(self, command, ready=True, key=None):
        self.key = key
        self.stderr = tempfile.TemporaryFile("w+")
        self.lines = []
        self.data = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # of the chat page: not the user's own
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.stderr, stdin=subprocess.DEVNULL, text=True,
                                        env={**os.environ, "XDG_DATA_HOME": self.data.name})
        try:
            while not (found := re.search(r"https?://\S+", self.read_line())):
                pass
            self.url = found.group(0)
            if ready:
                self.wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def read_line(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the server ended with {self.process.wait()}: {''.join(self.lines)}{self.log()}")
        self.lines.append(line)
        return line

    def wait_until_ready(self):
        deadline = time.monotonic() + HANG_SECONDS
        while self.request("GET", "/health").status != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not become ready: {self.log()}")
            time.sleep(0.05)

    def request(self, method, path, body=None, headers=None):
        """One request on a connection of its own; the answer has status, headers and body."""
        address = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=HANG_SECONDS)
        headers = dict(headers or {})
        if self.key:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, (str, bytes)) else json.dumps(body)
        connection.request(method, address.path + path, body=body, headers=headers)
        answer = connection.getresponse()
        answer.body = answer.read()
        connection.close()
        return answer

    def get_json(self, path):
        return json.loads(self.request("GET", path).body)

    def log(self):
        self.stderr.seek(0)
        return self.stderr.read()

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu_ticks(self):
        """Processor time that it has taken so far, in clock ticks (usually of 10 ms)."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def terminate(self):
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        try:
            rest, _ = self.process.communicate(timeout=HANG_SECONDS)
            self.lines.append(rest or "")
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise AssertionError(f"the server did not end: {self.log()}") from error
        return self.process.returncode

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
