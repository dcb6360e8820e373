"""Runs the pagemill binary for the tests here: plainly, or in a pseudo-terminal."""

import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import fcntl
import time
import unittest

HANG_SECONDS = 300  # no bound on speed: what takes this long will never end

BINARY = None


def main():
    """Runs the caller's tests: `X_test.py BINARY [unittest arguments]`."""
    global BINARY
    import __main__
    BINARY = str(pathlib.Path(sys.argv.pop(1)).resolve())
    sys.modules["program"].BINARY = BINARY
    unittest.main(module=__main__, verbosity=2)


def run(*arguments, stdin="", env=None):
    """The finished process, with stdout and stderr as text."""
    return subprocess.run([BINARY, *arguments], input=stdin, text=True, capture_output=True, timeout=HANG_SECONDS,
                          env={**os.environ, **(env or {})})


def plain(text):
    """Without escape sequences and carriage returns."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


class Terminal:
    """The program in a pseudo-terminal of 100 columns, with folders of its own for state."""

    def __init__(self, *arguments, env=None):
        self.folder = tempfile.TemporaryDirectory()
        self.output = ""
        self.seen = 0  # where expect() goes on
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": self.folder.name, **(env or {})}
            os.chdir(self.folder.name)
            os.execve(BINARY, [BINARY, *arguments], environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text):
        """Waits until `text` has come after what was last expected; returns all from there to its end."""
        self._wait_until(lambda shown: text in shown, text)
        shown = plain(self.output)
        start, self.seen = self.seen, shown.index(text, self.seen) + len(text)
        return shown[start:self.seen]

    def expect_more(self):
        """Waits until anything has come after what was last expected."""
        self._wait_until(lambda shown: shown.strip() != "", "more")

    def _wait_until(self, satisfied, what):
        deadline = time.monotonic() + HANG_SECONDS
        while not satisfied(plain(self.output)[self.seen:]):
            if time.monotonic() > deadline or not self._read():
                raise AssertionError(f"no {what!r} in {plain(self.output)[self.seen:]!r}")

    def _read(self):
        ready, _, _ = select.select([self.fd], [], [], 1.0)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side is closed
            return False
        self.output += data.decode(errors="replace")
        return bool(data)

    def wait(self):
        """The exit status, after reading whatever still comes."""
        deadline = time.monotonic() + HANG_SECONDS
        while self._read():
            if time.monotonic() > deadline:
                raise AssertionError(f"still running after {plain(self.output)[self.seen:]!r}")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.fd)
        self.folder.cleanup()
