//! Added tokens (control and user-defined): found in the text of a rendered template, never in the text of a user.
//!
//! A template mixes its own text with the text of users. Before rendering, `shield` puts U+FDD0 into every part of a user's
//! text that looks like an added token; after rendering, `split` finds the added tokens that are left, which can only be the
//! template's own, and takes U+FDD0 out of the text between them.

use crate::error::{Error, Result};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

/// Breaks up look-alikes. A Unicode noncharacter, so no text needs it; it is refused in input.
pub const SHIELD: char = '\u{fdd0}';

/// Longest added token in bytes. Real ones stay below 60; searching costs at most text × this.
const LENGTH_MAX: usize = 512;
const COUNT_MAX: usize = 65_536;
const TOTAL_BYTES_MAX: usize = 1 << 20;
/// Bytes that the tokens do not share with the start of another: an automaton has a state for each, of up to 60 bytes while
/// it is built. Tens of thousands of numbered tokens stay far below it, as they share all but their digits.
const DISTINCT_BYTES_MAX: usize = 1 << 18;

#[derive(Clone, Debug, Default)]
pub struct AddedToken {
    pub id: u32,
    pub text: String,
    /// A control token; the others are plain vocabulary that is matched before merging.
    pub control: bool,
    /// Also takes the white space before / after it.
    pub lstrip: bool,
    pub rstrip: bool,
    /// Only where no letter, digit or underscore touches it.
    pub single_word: bool,
}

impl AddedToken {
    /// Whether text of a user must not become it. A run of white space that is plain vocabulary is how some models spell
    /// indentation: it gives no power.
    pub fn is_reserved(&self) -> bool {
        let is_space = |c: char| c.is_whitespace() || c == '\u{2581}';
        self.control || !self.text.trim_matches(is_space).is_empty()
    }
}

/// A part of a rendered text.
#[derive(Debug, PartialEq)]
pub enum Part<'t> {
    Token(u32),
    Text(&'t str),
}

/// Which look-alikes `shield` breaks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shield {
    All,
    ControlOnly,
}

#[derive(Default)]
pub struct AddedTokens {
    tokens: Vec<AddedToken>,
    matcher: Option<AhoCorasick>,
    all: Lookalikes,
    control: Lookalikes,
}

/// Finds where a text looks like a token, or like the start or end of one that neighbouring text may complete.
#[derive(Default)]
struct Lookalikes {
    matcher: Option<AhoCorasick>,
    /// The tokens' bytes, sorted, and the same of their reversed bytes: what starts a token precedes it directly.
    sorted: Vec<Box<[u8]>>,
    sorted_reversed: Vec<Box<[u8]>>,
    longest: usize,
}

fn build_matcher<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Option<AhoCorasick>> {
    let texts: Vec<&str> = texts.collect();
    if texts.is_empty() {
        return Ok(None);
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::ContiguousNFA)) // a DFA takes up to 1 KB per byte of a token
        .build(texts)
        .map(Some)
        .map_err(|e| Error::invalid(format!("added tokens: {e}")))
}

fn sorted(texts: impl Iterator<Item = Box<[u8]>>) -> Vec<Box<[u8]>> {
    let mut texts: Vec<Box<[u8]>> = texts.collect();
    texts.sort_unstable();
    texts
}

/// How many bytes are left when what a token shares with the start of another is counted once.
fn distinct_bytes(tokens: &[AddedToken]) -> usize {
    let mut texts: Vec<&[u8]> = tokens.iter().map(|t| t.text.as_bytes()).collect();
    texts.sort_unstable();
    let shared = |pair: &[&[u8]]| pair[0].iter().zip(pair[1]).take_while(|(a, b)| a == b).count();
    texts.iter().map(|t| t.len()).sum::<usize>() - texts.windows(2).map(shared).sum::<usize>()
}

impl Lookalikes {
    fn new<'a>(tokens: impl Iterator<Item = &'a AddedToken>) -> Result<Lookalikes> {
        let texts: Vec<&str> = tokens.map(|t| t.text.as_str()).collect();
        Ok(Lookalikes {
            matcher: build_matcher(texts.iter().copied())?,
            sorted: sorted(texts.iter().map(|text| text.as_bytes().into())),
            sorted_reversed: sorted(texts.iter().map(|text| text.bytes().rev().collect())),
            longest: texts.iter().map(|t| t.len()).max().unwrap_or(0),
        })
    }

    /// Whether a token starts with `text` and goes on after it.
    fn starts_token(&self, text: &str) -> bool {
        let at = self.sorted.partition_point(|token| **token <= *text.as_bytes());
        self.sorted.get(at).is_some_and(|token| token.starts_with(text.as_bytes()))
    }

    /// Whether a token ends with `text` and has more before it.
    fn ends_token(&self, text: &str) -> bool {
        let reversed = || text.bytes().rev();
        let at = self.sorted_reversed.partition_point(|token| token.iter().copied().cmp(reversed()).is_le());
        let token = self.sorted_reversed.get(at);
        token.is_some_and(|token| token.iter().copied().take(text.len()).eq(reversed()))
    }

    /// Byte positions of `text` that need a U+FDD0, ascending.
    fn marks(&self, text: &str) -> Vec<usize> {
        let mut marks = Vec::new();
        let Some(matcher) = &self.matcher else {
            return marks;
        };
        let after_first = |at: usize| at + text[at..].chars().next().map_or(0, char::len_utf8);

        // White space at the ends may be trimmed by the template, so the ends are those of the trimmed text.
        let start = text.len() - text.trim_start().len();
        let end = text.trim_end().len().max(start);
        let trimmed = &text[start..end];
        let lengths = |limit: usize| (1..=limit.min(trimmed.len())).filter(|&n| n < self.longest);
        if lengths(self.longest)
            .filter(|&n| trimmed.is_char_boundary(n))
            .any(|n| self.ends_token(&trimmed[..n]))
        {
            marks.push(start);
        }
        let mut at = 0;
        while let Some(found) = matcher.find(Input::new(text).range(at..)) {
            at = after_first(found.start());
            marks.push(at);
        }
        for n in lengths(self.longest) {
            let from = trimmed.len() - n;
            if trimmed.is_char_boundary(from) && self.starts_token(&trimmed[from..]) {
                marks.push(after_first(start + from));
            }
        }
        marks.sort_unstable();
        marks.dedup();
        marks
    }
}

impl AddedTokens {
    pub fn new(tokens: Vec<AddedToken>) -> Result<AddedTokens> {
        if tokens.len() > COUNT_MAX {
            let count = tokens.len();
            return Err(Error::limit(format!("{count} added tokens; at most {COUNT_MAX} are allowed")));
        }
        let total: usize = tokens.iter().map(|t| t.text.len()).sum();
        if total > TOTAL_BYTES_MAX {
            return Err(Error::limit(format!(
                "added tokens hold {total} bytes; at most {TOTAL_BYTES_MAX} are allowed"
            )));
        }
        for token in &tokens {
            let id = token.id;
            if token.text.is_empty() {
                return Err(Error::invalid(format!("added token {id} is empty")));
            }
            if token.text.len() > LENGTH_MAX {
                let length = token.text.len();
                return Err(Error::limit(format!(
                    "added token {id} has {length} bytes; at most {LENGTH_MAX} are allowed"
                )));
            }
            if token.text.contains(SHIELD) {
                return Err(Error::invalid(format!("added token {id} holds U+FDD0")));
            }
        }
        let distinct = distinct_bytes(&tokens);
        if distinct > DISTINCT_BYTES_MAX {
            return Err(Error::limit(format!(
                "added tokens hold {distinct} bytes that they do not share; at most {DISTINCT_BYTES_MAX} are allowed"
            )));
        }
        Ok(AddedTokens {
            matcher: build_matcher(tokens.iter().map(|t| t.text.as_str()))?,
            all: Lookalikes::new(tokens.iter().filter(|t| t.is_reserved()))?,
            control: Lookalikes::new(tokens.iter().filter(|t| t.control))?,
            tokens,
        })
    }

    pub fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// `text` with every look-alike broken up, so that no template can make it an added token. Fails on U+FDD0.
    pub fn shield(&self, text: &str, which: Shield) -> Result<String> {
        if text.contains(SHIELD) {
            return Err(Error::invalid("the text holds U+FDD0, a Unicode noncharacter; remove it"));
        }
        let lookalikes = match which {
            Shield::All => &self.all,
            Shield::ControlOnly => &self.control,
        };
        let marks = lookalikes.marks(text);
        let mut out = String::with_capacity(text.len() + marks.len() * SHIELD.len_utf8());
        let mut from = 0;
        for at in marks {
            out.push_str(&text[from..at]);
            out.push(SHIELD);
            from = at;
        }
        out.push_str(&text[from..]);
        Ok(out)
    }

    /// Cuts a rendered text into added tokens and the text between them (which may still hold U+FDD0).
    pub fn split<'t>(&self, text: &'t str, mut part: impl FnMut(Part<'t>) -> Result<()>) -> Result<()> {
        let mut from = 0; // start of the text that was not yet handed out
        let mut at = 0;
        while let Some(found) = self
            .matcher
            .as_ref()
            .and_then(|m| m.find(Input::new(text).range(at..)))
        {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            at = end;
            if text[end..].starts_with(SHIELD) && token.text.chars().nth(1).is_none()
                || token.single_word && touches_word(text, start, end)
            {
                continue;
            }
            if token.lstrip {
                start = from + text[from..start].trim_end().len();
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if start > from {
                part(Part::Text(&text[from..start]))?;
            }
            part(Part::Token(token.id))?;
            from = end;
            at = end;
        }
        if from < text.len() {
            part(Part::Text(&text[from..]))?;
        }
        Ok(())
    }
}

fn touches_word(text: &str, start: usize, end: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text[..start].chars().next_back().is_some_and(is_word)
        || text[end..].chars().next().is_some_and(is_word)
}

#[cfg(test)]
#[path = "added_test.rs"]
mod tests;
