//! Pre-tokenizers: cut a text into the pieces inside which BPE merges.
//!
//! Each is a hand-written equivalent of the regular expressions in its comment (tests compare them with a regex engine).
//! The expressions themselves backtrack, so a regex engine needs quadratic time or gives up on long runs of white space;
//! these look at each character at most twice.

use crate::classes::{Classes, DIGIT, LETTER, NUMBER, PUNCTUATION, SPACE};

/// A pre-tokenizer that is implemented here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splitter {
    /// Qwen2 (`max_digits` 1) and Llama-3 (`max_digits` 3): `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|
    /// \p{N}{1,max_digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Cl100k { max_digits: usize },
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// Every numeric character alone, then `Gpt2` on each remaining piece.
    DigitsThenGpt2,
    /// What llama.cpp does to a vocabulary without a named pre-tokenizer. In turn: `[\p{P}$+<=>^~|]+`, `Gpt2` without
    /// regard to matches of the former, `\p{N}+`, `[0-9]{3}`.
    Unnamed,
}

impl Splitter {
    /// Calls `piece` with the pieces of `text` in order; together they are the whole text.
    pub fn split<'t>(self, text: &'t str, mut piece: impl FnMut(&'t str)) {
        let classes = Classes::get();
        match self {
            Splitter::Cl100k { max_digits } => {
                each(text, |rest| cl100k(classes, rest, max_digits), piece)
            }
            Splitter::Gpt2 => each(text, |rest| gpt2(classes, rest), piece),
            Splitter::DigitsThenGpt2 => {
                let is_digit = |c| classes.of(c) & DIGIT != 0;
                runs(text, is_digit, |run, digits| match digits {
                    true => run.split_inclusive(|_| true).for_each(&mut piece),
                    false => each(run, |rest| gpt2(classes, rest), &mut piece),
                })
            }
            Splitter::Unnamed => unnamed(classes, text, piece),
        }
    }
}

/// Cuts `text` by asking `next` for the length of the first piece of what is left.
fn each<'t>(mut text: &'t str, next: impl Fn(&str) -> usize, mut piece: impl FnMut(&'t str)) {
    while !text.is_empty() {
        let (head, rest) = text.split_at(next(text));
        piece(head);
        text = rest;
    }
}

/// Cuts `text` into maximal runs of characters that are all `inside` or all not.
fn runs<'t>(text: &'t str, inside: impl Fn(char) -> bool, mut run: impl FnMut(&'t str, bool)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let kind = inside(first);
        let end = rest.find(|c| inside(c) != kind).unwrap_or(rest.len());
        run(&rest[..end], kind);
        rest = &rest[end..];
    }
}

/// Bytes of the longest prefix of `text` whose characters all satisfy `wanted`.
fn run_length(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

fn is_other(class: u8) -> bool {
    class & (SPACE | LETTER | NUMBER) == 0
}

/// Length of `\s+(?!\S)|\s+` at the start of `text`, whose first `spaces` bytes are its leading white space.
fn trailing_spaces(text: &str, spaces: usize) -> usize {
    if spaces == text.len() {
        return spaces;
    }
    let last = text[..spaces].chars().next_back().map_or(0, char::len_utf8);
    if spaces > last {
        spaces - last
    } else {
        spaces
    }
}

fn cl100k(classes: Classes, text: &str, max_digits: usize) -> usize {
    let letter = |c| classes.of(c) & LETTER != 0;
    let mut chars = text.chars();
    let first = chars.next().unwrap_or(' ');
    let class = classes.of(first);
    let head = first.len_utf8();
    let rest = &text[head..];
    let second = chars.next();

    if first == '\'' {
        if let Some(length) = contraction_any_case(rest) {
            return head + length;
        }
    }
    if class & LETTER != 0 {
        return head + run_length(rest, letter);
    }
    if class & NUMBER != 0 {
        let digits = text.chars().take(max_digits);
        let digits = digits.take_while(|&c| classes.of(c) & NUMBER != 0);
        return digits.map(char::len_utf8).sum();
    }
    if first != '\r' && first != '\n' && second.is_some_and(letter) {
        return head + run_length(rest, letter);
    }
    let second_is_other = second.is_some_and(|c| is_other(classes.of(c)));
    if is_other(class) || (first == ' ' && second_is_other) {
        let symbols = head + run_length(rest, |c| is_other(classes.of(c)));
        return symbols + run_length(&text[symbols..], |c| c == '\r' || c == '\n');
    }
    let spaces = run_length(text, |c| classes.of(c) & SPACE != 0);
    match text[..spaces].rfind(['\r', '\n']) {
        Some(newline) => newline + 1,
        None => trailing_spaces(text, spaces),
    }
}

/// Length of what follows the apostrophe in `(?i:'s|'t|'re|'ve|'m|'ll|'d)`. U+017F is a lower-case s to the regex engine.
fn contraction_any_case(text: &str) -> Option<usize> {
    let mut chars = text.chars();
    let first = chars.next()?;
    match first.to_ascii_lowercase() {
        's' | 't' | 'm' | 'd' | '\u{17f}' => Some(first.len_utf8()),
        'r' | 'v' if matches!(chars.next()?, 'e' | 'E') => Some(2),
        'l' if matches!(chars.next()?, 'l' | 'L') => Some(2),
        _ => None,
    }
}

fn gpt2(classes: Classes, text: &str) -> usize {
    if let Some(rest) = text.strip_prefix('\'') {
        let contractions = ["s", "t", "re", "ve", "m", "ll", "d"];
        if let Some(found) = contractions.iter().find(|c| rest.starts_with(**c)) {
            return 1 + found.len();
        }
    }
    let skip = usize::from(text.starts_with(' '));
    let kind = |c: char| classes.of(c) & (SPACE | LETTER | NUMBER);
    match text[skip..].chars().next().map(kind) {
        Some(first) if first & SPACE == 0 => {
            skip + run_length(&text[skip..], |c| kind(c) == first)
        }
        _ => trailing_spaces(text, run_length(text, |c| kind(c) & SPACE != 0)),
    }
}

fn unnamed<'t>(classes: Classes, text: &'t str, mut piece: impl FnMut(&'t str)) {
    let symbol = |c: char| classes.of(c) & PUNCTUATION != 0 || "$+<=>^~|".contains(c);
    let number = |c: char| classes.of(c) & NUMBER != 0;
    let mut numbers = |part: &'t str| {
        runs(part, number, |run, numeric| match numeric {
            true => triples(run, &mut piece),
            false => piece(run),
        })
    };
    runs(text, symbol, |run, symbols| match symbols {
        true => numbers(run),
        false => each(run, |rest| gpt2(classes, rest), &mut numbers),
    });
}

/// Isolates each `[0-9]{3}`, found from the left, and keeps what lies between them together.
fn triples<'t>(mut text: &'t str, mut piece: impl FnMut(&'t str)) {
    let is_triple = |w: &[u8]| w.iter().all(u8::is_ascii_digit);
    while let Some(start) = text.as_bytes().windows(3).position(is_triple) {
        if start > 0 {
            piece(&text[..start]);
        }
        piece(&text[start..start + 3]);
        text = &text[start + 3..];
    }
    if !text.is_empty() {
        piece(text);
    }
}

#[cfg(test)]
#[path = "split_test.rs"]
mod tests;
