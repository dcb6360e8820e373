"""The chat with the default model: in a pipe, and in a pseudo-terminal as a person uses it."""

import json
import pathlib
import unittest

import program
from program import Terminal, run

GREEDY = ["chat", "--temperature", "0"]
LONG = "Count from one to one thousand, with all the numbers in between."


class Pipe(unittest.TestCase):
    def test_only_the_answer_is_printed_and_it_is_the_same_each_time(self):
        first = run(*GREEDY, "--max-tokens", "12", stdin="What is the capital of Japan?\n")
        self.assertEqual((first.returncode, first.stderr), (0, ""))
        self.assertIn("Tokyo", first.stdout)
        self.assertTrue(first.stdout.endswith("\n"))
        self.assertNotIn("\x1b", first.stdout)
        self.assertEqual(run(*GREEDY, "--max-tokens", "12", stdin="What is the capital of Japan?").stdout, first.stdout)

    def test_the_seed_decides_a_sampled_answer(self):
        answers = [run("chat", "--temperature", "1.5", "--seed", seed, "--max-tokens", "12", stdin="Say anything.").stdout for seed in ["7", "7", "8"]]
        self.assertEqual(answers[0], answers[1])
        self.assertNotEqual(answers[0], answers[2])

    def test_no_text_is_an_error(self):
        result = run(*GREEDY, stdin="\n\n")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("stdin", result.stderr)

    def test_text_beyond_the_context_is_an_error_that_says_so(self):
        result = run(*GREEDY, "--max-model-len", "64", stdin="word " * 200)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("64", result.stderr)


class Person(unittest.TestCase):
    """One load of the model for each test; every wait is for text that the program prints."""

    def chat(self, *arguments, env=None):
        terminal = Terminal(*GREEDY, *arguments, env=env)
        self.addCleanup(terminal.close)
        terminal.expect("/help lists the commands")
        terminal.expect("> ")
        return terminal

    def test_a_conversation_remembers_and_forgets(self):
        terminal = self.chat("--max-tokens", "8")
        terminal.type("What is the capital of Japan?\r")
        answer = terminal.expect("tokens/s")
        self.assertIn("Tokyo", answer)
        first = terminal.expect("> ")
        self.assertIn("first after", first)
        self.assertIn("prompt", first)
        terminal.type("/save talk.json\r")
        terminal.expect("Saved to talk.json.")
        saved = json.loads((pathlib.Path(terminal.folder.name) / "talk.json").read_text())
        self.assertEqual([message["role"] for message in saved["messages"]], ["user", "assistant"])
        self.assertIn("Tokyo", saved["messages"][1]["content"])
        terminal.type("/system You are brief.\r")
        terminal.expect("System prompt: You are brief.")
        terminal.type("/clear\r")
        terminal.expect("begins anew")
        terminal.type("/set temperature 9\r")
        terminal.expect("temperature must be a number from 0 to 2")
        terminal.type("/set max_tokens 3\r")
        terminal.expect("max_tokens 3")
        terminal.type("/nonsense\r")
        terminal.expect("no command /nonsense")
        terminal.type("/save /nonexistent/x.md\r")
        terminal.expect("/nonexistent/x.md cannot be written")
        terminal.type("/help\r")
        terminal.expect("Ctrl-C stops an answer")
        terminal.type("/save talk.md\r")
        terminal.expect("Saved to talk.md.")
        self.assertIn("You are brief.", (pathlib.Path(terminal.folder.name) / "talk.md").read_text())
        terminal.type("/exit\r")
        self.assertEqual(terminal.wait(), 0)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        terminal = self.chat()
        terminal.type(LONG + "\r")
        terminal.expect("1")
        terminal.type("\x03")
        terminal.expect("stopped")
        terminal.expect("> ")
        terminal.type("half a line\x03")
        terminal.expect("Ctrl-C again or Ctrl-D quits.")
        terminal.expect("> ")
        terminal.type("\x03")
        self.assertEqual(terminal.wait(), 0)

    def test_what_is_typed_during_an_answer_waits_for_the_prompt(self):
        terminal = self.chat("--max-tokens", "60")
        terminal.type(LONG + "\r")
        terminal.expect("\n")
        terminal.expect_more()  # the answer has begun
        terminal.type("/set seed 4711\r")
        answer = terminal.expect("tokens/s")
        self.assertNotIn("4711", answer)
        terminal.expect("seed 4711, max_tokens 60")
        terminal.expect("> ")
        terminal.type("\x04")
        self.assertEqual(terminal.wait(), 0)

    def test_lines_history_and_wide_characters(self):
        terminal = self.chat("--max-tokens", "2")
        terminal.type("one line\\\r")
        terminal.expect("… ")
        terminal.type("and another\r")
        terminal.expect("tokens")
        terminal.expect("> ")
        terminal.type('"""\r')
        terminal.expect("… ")
        terminal.type('in a block"""\r')
        terminal.expect("tokens")
        terminal.expect("> ")
        terminal.type("\x1b[200~pasted one\rpasted two\x1b[201~\r")
        terminal.expect("tokens")
        terminal.expect("> ")
        terminal.type("你好世界\x1b[D\x1b[D\x7f\r")  # two to the left, rub one out
        terminal.expect("tokens")
        terminal.expect("> ")
        terminal.type("\x1b[A\r")  # the same again, from the history
        terminal.expect("tokens")
        terminal.expect("> ")
        terminal.type("/save talk.json\r")
        terminal.expect("Saved to")
        terminal.expect("> ")  # before it a Ctrl-D would meet the terminal's line mode, which takes it for itself
        saved = json.loads((pathlib.Path(terminal.folder.name) / "talk.json").read_text())
        said = [message["content"] for message in saved["messages"] if message["role"] == "user"]
        self.assertEqual(said, ["one line\nand another", "in a block", "pasted one\npasted two", "你世界", "你世界"])
        terminal.type("\x04")
        self.assertEqual(terminal.wait(), 0)
        history = pathlib.Path(terminal.folder.name) / "pagemill" / "chat_history"
        self.assertEqual(history.stat().st_mode & 0o777, 0o600)

    def test_no_color_is_honoured(self):
        colours = "\x1b[2m"
        terminal = self.chat()
        self.assertIn(colours, terminal.output)
        terminal.type("\x04")
        self.assertEqual(terminal.wait(), 0)
        without = self.chat(env={"NO_COLOR": "1"})
        without.type("\x04")
        self.assertEqual(without.wait(), 0)
        self.assertNotIn(colours, without.output)


if __name__ == "__main__":
    program.main()
