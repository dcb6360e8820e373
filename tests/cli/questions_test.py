"""Fixed questions whose greedy answers by the real model contain the expected word. At each of them the reference's two best
tokens lie a logit or more apart up to that word, so that rounding does not turn it."""

import unittest

import program
from program import run

QUESTIONS = [
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the chemical symbol for water?", "H2O"),
    ("What is the tallest mountain in the world?", "Everest"),
    ("What is the largest ocean on Earth?", "Pacific"),
    ("What is the chemical symbol for gold?", "Au"),
]


class Questions(unittest.TestCase):
    pass


def check(question, word):
    def test(self):
        result = run("chat", "--temperature", "0", "--max-tokens", "40", stdin=question)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn(word, result.stdout)
    return test


for number, (question, word) in enumerate(QUESTIONS):
    setattr(Questions, f"test_{number}_{word}", check(question, word))


if __name__ == "__main__":
    program.main()
