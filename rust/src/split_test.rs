//! The hand-written splitters against the regular expressions they stand for.

use super::*;
use crate::classes::Classes;
use fancy_regex::Regex;

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const SYMBOLS: &str = r"[\p{P}\$\+<=>\^~\|]+";

/// Matches and the gaps between them.
fn isolate<'t>(regex: &Regex, pieces: Vec<&'t str>) -> Vec<&'t str> {
    let mut out = Vec::new();
    for piece in pieces {
        let mut end = 0;
        for found in regex.find_iter(piece).map(|m| m.unwrap()) {
            out.push(&piece[end..found.start()]);
            out.push(found.as_str());
            end = found.end();
        }
        out.push(&piece[end..]);
    }
    out.retain(|piece| !piece.is_empty());
    out
}

fn pieces(splitter: Splitter, text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    splitter.split(text, |piece| out.push(piece));
    assert_eq!(out.concat(), text);
    out
}

/// Characters of every kind the expressions tell apart, leaving out those whose class depends on the Unicode version.
fn alphabet() -> Vec<char> {
    let regexes = [
        (LETTER, Regex::new(r"^\p{L}").unwrap()),
        (NUMBER | DIGIT, Regex::new(r"^\p{N}").unwrap()),
        (SPACE, Regex::new(r"^\s").unwrap()),
        (PUNCTUATION, Regex::new(r"^\p{P}").unwrap()),
    ];
    let agrees = |c: &char| {
        let text = c.to_string();
        regexes.iter().all(|(class, regex)| (Classes::get().of(*c) & class == *class) == regex.is_match(&text).unwrap())
    };
    let common = "  \n\r\t'''sStTrReEvVmMlLdDſaz09½٣!?.,$+<=>^~|_-éß的日\u{301}\u{85}\u{a0}\u{2028}\u{3000}😀\u{fe0f}\u{200d}";
    let sampled = (0..0x110000u32).step_by(997).filter_map(char::from_u32);
    common.chars().chain(sampled).filter(agrees).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn splitters_equal_their_regular_expressions() {
    let number = Regex::new(r"\p{N}").unwrap();
    let numbers = Regex::new(r"\p{N}+").unwrap();
    let triples = Regex::new("[0-9][0-9][0-9]").unwrap();
    let [qwen2, llama3, gpt2, symbols] = [QWEN2, LLAMA3, GPT2, SYMBOLS].map(|r| Regex::new(r).unwrap());
    let alphabet = alphabet();
    let mut random = Random(7);
    for round in 0..20_000 {
        let length = random.below(24);
        // Half of the texts draw on the common characters only, so that rules meet each other.
        let kinds = if round % 2 == 0 { 60 } else { alphabet.len() };
        let text: String = (0..length).map(|_| alphabet[random.below(kinds)]).collect();
        let whole = vec![text.as_str()];
        let whole = if text.is_empty() { vec![] } else { whole };
        for (splitter, wanted) in [
            (Splitter::Cl100k { max_digits: 1 }, isolate(&qwen2, whole.clone())),
            (Splitter::Cl100k { max_digits: 3 }, isolate(&llama3, whole.clone())),
            (Splitter::Gpt2, isolate(&gpt2, whole.clone())),
            (Splitter::DigitsThenGpt2, isolate(&gpt2, isolate(&number, whole.clone()))),
            (
                Splitter::Unnamed,
                isolate(&triples, isolate(&numbers, isolate(&gpt2, isolate(&symbols, whole.clone())))),
            ),
        ] {
            assert_eq!(pieces(splitter, &text), wanted, "{splitter:?} on {text:?}");
        }
    }
}

#[test]
fn digits_are_cut_before_the_lookahead_sees_them() {
    assert_eq!(pieces(Splitter::DigitsThenGpt2, "a 12"), ["a", " ", "1", "2"]);
    assert_eq!(pieces(Splitter::Gpt2, "a 12"), ["a", " 12"]);
}

#[test]
fn hostile_texts_take_linear_time() {
    for unit in [" ", "\n", " \n", "a", " a", "\u{301}", "'", "1", "\t\r", "!\n"] {
        let text = unit.repeat(2_000_000 / unit.len());
        for splitter in [
            Splitter::Cl100k { max_digits: 1 },
            Splitter::Cl100k { max_digits: 3 },
            Splitter::Gpt2,
            Splitter::DigitsThenGpt2,
            Splitter::Unnamed,
        ] {
            let mut bytes = 0;
            splitter.split(&text, |piece| bytes += piece.len());
            assert_eq!(bytes, text.len());
        }
    }
}
