//! Builds a tokenizer from a vocabulary as GGUF files hold it.

use crate::added::{AddedToken, AddedTokens};
use crate::bpe::Merges;
use crate::byte_map;
use crate::error::{Error, Result};
use crate::split::Splitter;
use crate::tokenizer::{ByteLevel, Engine, Sentence, TokenBytes, TokenKind, Tokenizer, NO_ID};
use ahash::{AHashMap, AHashSet};

pub const TOKENS_MAX: usize = 1 << 20;
pub const MERGES_MAX: usize = 4 << 20;
/// Longest token. Real ones stay below 1 KB.
const TOKEN_BYTES_MAX: usize = 2048;
/// Longest plain token of a SentencePiece vocabulary. Real ones stay below 100 bytes.
const SENTENCE_TOKEN_BYTES_MAX: usize = 256;
/// Finding a SentencePiece vocabulary's merges reads each token once per cut: the sum of squared lengths. The largest real
/// ones need an eighth of this.
const SENTENCE_WORK_MAX: usize = 256 << 20;
/// Most merges that scores may imply; each takes about 50 bytes while they are found, and the largest real vocabularies
/// imply half of this.
const SENTENCE_MERGES_MAX: usize = 1 << 20;

/// Values of `tokenizer.ggml.token_type`.
mod token_type {
    pub const NORMAL: i32 = 1;
    pub const UNKNOWN: i32 = 2;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    pub const UNUSED: i32 = 5;
    pub const BYTE: i32 = 6;
}

/// The `tokenizer.ggml.*` values of a GGUF file; texts as found there.
#[derive(Default)]
pub struct Vocabulary<'a> {
    /// `model`: "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE)
    pub model: &'a str,
    /// `pre`; empty if the file names none
    pub pre: &'a str,
    pub tokens: Vec<&'a str>,
    /// Empty, or one per token.
    pub scores: &'a [f32],
    /// Empty, or one per token.
    pub types: &'a [i32],
    /// "left right", lowest rank first
    pub merges: Vec<&'a str>,
    pub unknown: Option<u32>,
    pub add_space_prefix: bool,
}

/// Finds tokens by their text.
pub struct Ids<'a> {
    all: AHashMap<&'a str, u32>,
    /// Added tokens that plain text must not become, however its pieces merge.
    reserved: AHashSet<u32>,
}

impl<'a> Ids<'a> {
    pub fn new(all: AHashMap<&'a str, u32>, added: &[AddedToken]) -> Ids<'a> {
        let reserved = added.iter().filter(|token| token.is_reserved()).map(|token| token.id).collect();
        Ids { all, reserved }
    }

    pub fn find(&self, token: &str) -> Option<u32> {
        self.all.get(token).copied()
    }

    /// The tokens that plain text may become.
    pub fn plain(&self) -> impl Iterator<Item = (&'a str, u32)> + '_ {
        let ids = self.all.iter().map(|(&token, &id)| (token, id));
        ids.filter(|(_, id)| !self.reserved.contains(id))
    }
}

pub fn build(vocabulary: &Vocabulary) -> Result<Tokenizer> {
    let ids = check(vocabulary)?;
    let kinds = kinds(vocabulary)?;
    let added = added_tokens(vocabulary, &kinds);
    let ids = Ids::new(ids, &added);
    let engine = match vocabulary.model {
        "gpt2" => Engine::ByteLevel(byte_level(vocabulary, &ids)?),
        "llama" => Engine::Sentence(sentence(vocabulary, &ids)?),
        other => {
            return Err(Error::invalid(format!(
                "tokenizer.ggml.model is '{other}'; only 'gpt2' and 'llama' are known"
            )))
        }
    };
    let mut bytes = TokenBytes::default();
    for (token, kind) in vocabulary.tokens.iter().zip(&kinds) {
        bytes.push(&token_bytes(vocabulary.model, token, *kind));
    }
    Ok(Tokenizer { engine, added: AddedTokens::new(added)?, bytes, kinds })
}

fn added_tokens(vocabulary: &Vocabulary, kinds: &[TokenKind]) -> Vec<AddedToken> {
    let is_added = |kind| matches!(kind, TokenKind::Control | TokenKind::UserDefined);
    let tokens = (0u32..).zip(&vocabulary.tokens).zip(kinds);
    tokens
        .filter(|((_, text), kind)| is_added(**kind) && !text.is_empty())
        .map(|((id, text), kind)| AddedToken {
            id,
            text: text.to_string(),
            control: *kind == TokenKind::Control,
            ..AddedToken::default()
        })
        .collect()
}

/// Checks sizes and looks for duplicates. An empty token is a gap in the vocabulary and has no text to find it by.
fn check<'a>(vocabulary: &Vocabulary<'a>) -> Result<AHashMap<&'a str, u32>> {
    let count = vocabulary.tokens.len();
    if count == 0 {
        return Err(Error::invalid("tokenizer.ggml.tokens is empty"));
    }
    for (name, size, limit) in [
        ("tokens", count, TOKENS_MAX),
        ("merges", vocabulary.merges.len(), MERGES_MAX),
    ] {
        if size > limit {
            return Err(Error::limit(format!(
                "tokenizer.ggml.{name} has {size} entries; at most {limit} are allowed"
            )));
        }
    }
    for (name, size) in [
        ("scores", vocabulary.scores.len()),
        ("token_type", vocabulary.types.len()),
    ] {
        if size != 0 && size != count {
            return Err(Error::invalid(format!(
                "tokenizer.ggml.{name} has {size} entries, but there are {count} tokens"
            )));
        }
    }
    if vocabulary.unknown.is_some_and(|id| id as usize >= count) {
        return Err(Error::invalid(format!(
            "tokenizer.ggml.unknown_token_id is not below the {count} tokens"
        )));
    }
    let mut ids: AHashMap<&str, u32> = AHashMap::with_capacity(count);
    for (id, token) in (0u32..).zip(&vocabulary.tokens) {
        if token.len() > TOKEN_BYTES_MAX {
            let size = token.len();
            return Err(Error::limit(format!(
                "tokenizer.ggml.tokens[{id}] has {size} bytes; at most {TOKEN_BYTES_MAX} are allowed"
            )));
        }
        if token.is_empty() {
            continue;
        }
        if let Some(first) = ids.insert(token, id) {
            return Err(Error::invalid(format!(
                "tokenizer.ggml.tokens[{id}] repeats token {first}"
            )));
        }
    }
    Ok(ids)
}

fn kinds(vocabulary: &Vocabulary) -> Result<Vec<TokenKind>> {
    if vocabulary.types.is_empty() {
        return Ok(vec![TokenKind::Normal; vocabulary.tokens.len()]);
    }
    let kind = |(id, &value): (usize, &i32)| match value {
        token_type::NORMAL => Ok(TokenKind::Normal),
        token_type::UNKNOWN | token_type::CONTROL => Ok(TokenKind::Control),
        token_type::USER_DEFINED => Ok(TokenKind::UserDefined),
        token_type::UNUSED => Ok(TokenKind::Unused),
        token_type::BYTE => Ok(TokenKind::Byte),
        _ => Err(Error::invalid(format!(
            "tokenizer.ggml.token_type[{id}] is {value}; 1 to 6 are known"
        ))),
    };
    vocabulary.types.iter().enumerate().map(kind).collect()
}

fn token_bytes(model: &str, token: &str, kind: TokenKind) -> Vec<u8> {
    match (model, kind) {
        (_, TokenKind::Control | TokenKind::UserDefined) => token.as_bytes().to_vec(),
        ("gpt2", _) => byte_map::bytes_of(token).unwrap_or_else(|| token.as_bytes().to_vec()),
        (_, _) => match byte_of(token) {
            Some(byte) => vec![byte],
            None => token.replace('\u{2581}', " ").into_bytes(),
        },
    }
}

/// The byte that a byte-fallback token like `<0x0A>` stands for.
pub fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let well_formed = digits.len() == 2 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    u8::from_str_radix(well_formed.then_some(digits)?, 16).ok()
}

/// What a pre-tokenizer's name means: splitter, NFC, whether a piece that is a token is not merged.
fn pre_tokenizer(name: &str) -> Result<(Splitter, bool, bool)> {
    Ok(match name {
        "qwen2" | "deepseek-r1-qwen" => (Splitter::Cl100k { max_digits: 1 }, true, false),
        "llama-bpe" | "llama3" | "llama-v3" => (Splitter::Cl100k { max_digits: 3 }, false, true),
        "smollm" => (Splitter::DigitsThenGpt2, false, false),
        "gpt-2" | "gpt2" => (Splitter::Gpt2, false, false),
        "" | "default" => (Splitter::Unnamed, false, false),
        other => {
            return Err(Error::invalid(format!(
                "tokenizer.ggml.pre is '{other}'; known are qwen2, deepseek-r1-qwen, llama-bpe, llama3, llama-v3, \
                 smollm, gpt-2 and default"
            )))
        }
    })
}

fn byte_level(vocabulary: &Vocabulary, ids: &Ids) -> Result<ByteLevel> {
    let (splitter, normalize_nfc, ignore_merges) = pre_tokenizer(vocabulary.pre)?;
    let mut merges = Merges::with_capacity(vocabulary.merges.len());
    for (rank, merge) in vocabulary.merges.iter().enumerate() {
        let halves = split_merge(merge).ok_or_else(|| {
            Error::invalid(format!("tokenizer.ggml.merges[{rank}] is not two tokens with a space between"))
        })?;
        push_merge(&mut merges, ids, halves)
            .map_err(|e| Error::invalid(format!("tokenizer.ggml.merges[{rank}]: {}", e.message)))?;
    }
    Ok(ByteLevel::new(ids, splitter, normalize_nfc, ignore_merges, merges))
}

impl ByteLevel {
    pub fn new(
        ids: &Ids,
        splitter: Splitter,
        normalize_nfc: bool,
        ignore_merges: bool,
        merges: Merges,
    ) -> ByteLevel {
        let mut byte_ids = [NO_ID; 256];
        let mut whole = ignore_merges.then(AHashMap::new);
        for (token, id) in ids.plain() {
            let Some(bytes) = byte_map::bytes_of(token) else {
                continue;
            };
            if let [byte] = bytes[..] {
                byte_ids[byte as usize] = id;
            }
            if let Some(whole) = &mut whole {
                whole.insert(bytes.into(), id);
            }
        }
        ByteLevel { normalize_nfc, splitter, byte_ids, merges, whole }
    }
}

/// Cuts "left right" at the first space that is not the first byte.
fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let at = 1 + merge.as_bytes().get(1..)?.iter().position(|&b| b == b' ')?;
    Some((&merge[..at], &merge[at + 1..])).filter(|(_, right)| !right.is_empty())
}

/// Adds a merge whose halves and result must be tokens. One that makes a reserved token is left out.
pub fn push_merge(merges: &mut Merges, ids: &Ids, (left, right): (&str, &str)) -> Result<()> {
    let merged = [left, right].concat();
    let find = |token: &str| {
        ids.find(token).ok_or_else(|| {
            let shown: String = token.chars().take(40).collect();
            Error::invalid(format!("'{shown}' is not in the vocabulary"))
        })
    };
    let (left, right, merged) = (find(left)?, find(right)?, find(&merged)?);
    if !ids.reserved.contains(&merged) {
        merges.push(left, right, merged);
    }
    Ok(())
}

fn sentence(vocabulary: &Vocabulary, ids: &Ids) -> Result<Sentence> {
    if vocabulary.scores.is_empty() {
        return Err(Error::invalid("tokenizer.ggml.scores is missing; a 'llama' vocabulary needs it"));
    }
    if let Some(id) = vocabulary.scores.iter().position(|s| s.is_nan()) {
        return Err(Error::invalid(format!("tokenizer.ggml.scores[{id}] is not a number")));
    }
    Ok(Sentence::new(ids, merges_from_scores(vocabulary, ids)?, vocabulary.unknown, vocabulary.add_space_prefix))
}

impl Sentence {
    pub fn new(ids: &Ids, merges: Merges, unknown: Option<u32>, add_space_prefix: bool) -> Sentence {
        let mut char_ids = AHashMap::new();
        let mut byte_ids = Box::new([NO_ID; 256]);
        for (token, id) in ids.plain() {
            let mut chars = token.chars();
            if let (Some(c), None) = (chars.next(), chars.next()) {
                char_ids.insert(c, id);
            }
            if let Some(byte) = byte_of(token) {
                byte_ids[byte as usize] = id;
            }
        }
        let complete = byte_ids.iter().all(|&id| id != NO_ID);
        Sentence { add_space_prefix, char_ids, byte_ids: complete.then_some(byte_ids), unknown, merges }
    }
}

/// The merges that Hugging Face derives from a SentencePiece vocabulary: every way to put a token together from two others,
/// best score of the result first; among equals in order of the vocabulary and of the halves' ids.
fn merges_from_scores(vocabulary: &Vocabulary, ids: &Ids) -> Result<Merges> {
    let plain = |id: &u32| !ids.reserved.contains(id);
    let mut found: Vec<(f32, u32, u32, u32)> = Vec::new(); // score, result, left, right
    let mut work = 0;
    for (id, token) in (0u32..).zip(&vocabulary.tokens).filter(|(id, _)| plain(id)) {
        let size = token.len();
        if size > SENTENCE_TOKEN_BYTES_MAX {
            return Err(Error::limit(format!(
                "tokenizer.ggml.tokens[{id}] has {size} bytes; a 'llama' vocabulary may have {SENTENCE_TOKEN_BYTES_MAX}"
            )));
        }
        work += size * size;
        if work > SENTENCE_WORK_MAX {
            return Err(Error::limit("tokenizer.ggml.tokens holds too many long tokens to derive their merges"));
        }
        let from = found.len();
        for (at, _) in token.char_indices().skip(1) {
            if let (Some(left), Some(right)) = (ids.find(&token[..at]), ids.find(&token[at..])) {
                found.push((vocabulary.scores[id as usize], id, left, right));
            }
        }
        found[from..].sort_by_key(|&(_, _, left, right)| (left, right));
        if found.len() > SENTENCE_MERGES_MAX {
            return Err(Error::limit(format!(
                "tokenizer.ggml.tokens imply more than {SENTENCE_MERGES_MAX} merges"
            )));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut merges = Merges::with_capacity(found.len());
    for (_, merged, left, right) in found {
        merges.push(left, right, merged);
    }
    Ok(merges)
}

#[cfg(test)]
#[path = "vocabulary_test.rs"]
mod tests;
