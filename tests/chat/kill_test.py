"""Kills the server with SIGKILL at random moments of a busy conversation: what it had acknowledged must be there afterwards, and the database whole.

kill_test.py SERVER [KILLS [SEED]]: SERVER is chat_scripted_server. Prints what was killed and kept.
"""

import http.client
import json
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid


class Busy(Exception):
    """Too many answers at a time: nothing was taken."""


class Server:
    def __init__(self, program, folder):
        self.process = subprocess.Popen([program, str(folder), "0", "none", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline().strip().rsplit(":", 1)[1])
        self.csrf = self.call("GET", "/me")["csrf"]

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"X-CSRF-Token": getattr(self, "csrf", "")}
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, "/chat/api" + path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 429:
                raise Busy
            if answer.status >= 400:
                raise AssertionError(f"{method} {path}: {answer.status} {text[:200]}")
            return json.loads(text) if text else None
        finally:
            connection.close()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


class Workload(threading.Thread):
    """Writes until the server is gone. Only what was answered is noted."""

    def __init__(self, server, kept, seed):
        super().__init__()
        self.server, self.kept, self.random, self.error = server, kept, random.Random(seed), None

    def run(self):
        try:
            while True:
                try:
                    self.step()
                except Busy:
                    time.sleep(0.005)
        except AssertionError as error:
            self.error = error
        except (OSError, http.client.HTTPException, ValueError):
            pass  # killed in the middle of a request: nothing was acknowledged

    def step(self):
        conversation, message = uuid.uuid4().hex, uuid.uuid4().hex
        self.server.call("POST", "/conversations", {"id": conversation, "title": "a title"})
        self.kept["conversations"].add(conversation)
        text = "".join(self.random.choice("排序算法 abc\n") for _ in range(self.random.randrange(1, 400))) + "."
        self.server.call("POST", f"/conversations/{conversation}/messages", {"id": message, "parent_id": None, "text": text})
        self.kept["messages"][message] = text
        if self.random.random() < 0.3:
            self.server.call("DELETE", f"/conversations/{conversation}")
            self.kept["deleted"].add(conversation)
        if self.random.random() < 0.3:
            self.server.call("PUT", "/drafts/new", {"text": text, "documents": []})


def check(folder, kept):
    database = sqlite3.connect(folder / "chat.db")
    try:
        assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert not database.execute("PRAGMA foreign_key_check").fetchall()
        texts = {}
        for message, text in database.execute("SELECT message_id, text FROM parts ORDER BY seq"):
            texts[message] = texts.get(message, "") + text
        for message, text in kept["messages"].items():
            assert texts.get(message) == text, f"message {message} is lost"
        there = dict(database.execute("SELECT id, deleted_ms IS NOT NULL FROM conversations"))
        for conversation in kept["conversations"]:
            assert conversation in there, f"conversation {conversation} is lost"
        for conversation in kept["deleted"]:
            assert there[conversation], f"conversation {conversation} is back"
    finally:
        database.close()


def main(program, kills=12, seed=1):
    rng = random.Random(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pagemill-kill-"))
    kept = {"conversations": set(), "messages": {}, "deleted": set()}
    total, begun = 0, time.monotonic()
    try:
        for cycle in range(kills):
            server = Server(program, folder)
            writers = [Workload(server, kept, rng.random()) for _ in range(3)]
            for writer in writers:
                writer.start()
            time.sleep(rng.uniform(0.0, 0.25))
            server.kill()
            for writer in writers:
                writer.join()
                if writer.error:
                    raise writer.error
            check(folder, kept)
            if cycle % 100 == 99:  # the next hundred begin with an empty folder, so that checking stays quick
                total += len(kept["messages"])
                shutil.rmtree(folder)
                folder.mkdir()
                kept = {"conversations": set(), "messages": {}, "deleted": set()}
        total += len(kept["messages"])
        server = Server(program, folder)
        open_answers = sqlite3.connect(folder / "chat.db").execute("SELECT COUNT(*) FROM generations WHERE status = 'generating'").fetchone()[0]
        server.kill()
        assert open_answers == 0, "answers that were cut off are marked"
        assert total > 0 or kills < 5, "nothing was ever acknowledged"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{kills} kills in {time.monotonic() - begun:.0f} s: {total} acknowledged messages, none lost; integrity_check ok after each")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
