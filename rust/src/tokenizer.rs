//! Text → token ids, with the same ids as Hugging Face's tokenizers.

use crate::added::{AddedTokens, Part, Shield, SHIELD};
use crate::bpe::{Merges, Scratch};
use crate::error::{Error, Result};
use crate::split::Splitter;
use ahash::AHashMap;
use unicode_normalization_alignments::UnicodeNormalization;

/// Longest text one call encodes. Merging takes about 20 bytes of memory per byte of a text that does not split into words.
pub const TEXT_BYTES_MAX: usize = 16 << 20;
/// No id: a byte or character that the vocabulary cannot spell.
pub const NO_ID: u32 = u32::MAX;

/// How text between added tokens becomes ids.
pub enum Engine {
    ByteLevel(ByteLevel),
    Sentence(Sentence),
    /// Anything else a tokenizer.json can describe; slower, with the crate's own bounds.
    Crate(Box<tokenizers::Tokenizer>),
}

/// Byte-level BPE (GPT-2, Qwen, Llama-3, SmolLM).
pub struct ByteLevel {
    pub normalize_nfc: bool,
    pub splitter: Splitter,
    pub byte_ids: [u32; 256],
    pub merges: Merges,
    /// Bytes of each token, when a piece that is a token as a whole is taken without merging; else none.
    pub whole: Option<AHashMap<Box<[u8]>, u32>>,
}

/// SentencePiece's BPE in Hugging Face's form (Llama-2): U+2581 for a space, byte fallback.
pub struct Sentence {
    pub add_space_prefix: bool,
    pub char_ids: AHashMap<char, u32>,
    /// Ids of `<0x00>` to `<0xFF>`, if all are there.
    pub byte_ids: Option<Box<[u32; 256]>>,
    pub unknown: Option<u32>,
    pub merges: Merges,
}

/// The bytes that each id stands for.
#[derive(Default)]
pub struct TokenBytes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl TokenBytes {
    pub fn push(&mut self, token: &[u8]) {
        self.bytes.extend_from_slice(token);
        self.ends.push(self.bytes.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, id: u32) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)?;
        let start = match id {
            0 => 0,
            _ => self.ends[id as usize - 1],
        };
        Some(&self.bytes[start..end])
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    Normal = 0,
    /// Added, but plain vocabulary: printed as it is.
    UserDefined = 1,
    /// Added, steers the model: not printed.
    Control = 2,
    /// Printed as one byte (`<0x0A>`).
    Byte = 3,
    /// In the vocabulary without use.
    Unused = 4,
}

/// Immutable once built, so one may be shared between threads.
pub struct Tokenizer {
    pub engine: Engine,
    pub added: AddedTokens,
    pub bytes: TokenBytes,
    pub kinds: Vec<TokenKind>,
}

fn check_size(text: &str) -> Result<()> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let size = text.len();
    Err(Error::limit(format!("the text has {size} bytes; at most {TEXT_BYTES_MAX} are allowed")))
}

impl Tokenizer {
    /// Ids of `text`, in which nothing is an added token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        check_size(text)?;
        let mut ids = Vec::new();
        self.engine.encode(text, &mut Scratch::default(), &mut ids)?;
        Ok(ids)
    }

    /// Ids of a text that a template rendered from shielded input: what reads as an added token is one.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>> {
        check_size(text)?;
        let mut ids = Vec::new();
        let mut scratch = Scratch::default();
        self.added.split(text, |part| {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) if text.contains(SHIELD) => {
                    self.engine.encode(&text.replace(SHIELD, ""), &mut scratch, &mut ids)?
                }
                Part::Text(text) => self.engine.encode(text, &mut scratch, &mut ids)?,
            }
            Ok(())
        })?;
        Ok(ids)
    }

    pub fn shield(&self, text: &str, which: Shield) -> Result<String> {
        self.added.shield(text, which)
    }
}

impl Engine {
    fn encode(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) -> Result<()> {
        match self {
            Engine::ByteLevel(engine) => engine.encode(text, scratch, ids),
            Engine::Sentence(engine) => engine.encode(text, scratch, ids),
            Engine::Crate(engine) => {
                let found = engine
                    .encode_fast(text, false)
                    .map_err(|e| Error::invalid(format!("tokenizer: {e}")))?;
                ids.extend_from_slice(found.get_ids());
            }
        }
        Ok(())
    }
}

impl ByteLevel {
    fn encode(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        // Below U+0300 nothing composes or decomposes.
        if self.normalize_nfc && text.chars().any(|c| c >= '\u{300}') {
            let normalized: String = text.nfc().map(|(c, _)| c).collect();
            self.encode_normalized(&normalized, scratch, ids);
        } else {
            self.encode_normalized(text, scratch, ids);
        }
    }

    fn encode_normalized(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let mut symbols = Vec::new();
        self.splitter.split(text, |piece| {
            if let Some(id) = self.whole.as_ref().and_then(|w| w.get(piece.as_bytes())) {
                ids.push(*id);
                return;
            }
            symbols.clear();
            let spelled = piece.bytes().map(|byte| self.byte_ids[byte as usize]);
            // A byte that the vocabulary cannot spell is dropped, as Hugging Face does.
            symbols.extend(spelled.filter(|&id| id != NO_ID));
            self.merges.apply(&mut symbols, scratch);
            ids.extend_from_slice(&symbols);
        });
    }
}

impl Sentence {
    fn encode(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut symbols = Vec::with_capacity(text.len() + 1);
        let mut after_unknown = false;
        let prefix = self.add_space_prefix.then_some(' ');
        for c in prefix.into_iter().chain(text.chars()) {
            let c = if c == ' ' { '\u{2581}' } else { c };
            if let Some(&id) = self.char_ids.get(&c) {
                symbols.push(id);
                after_unknown = false;
            } else if let Some(bytes) = &self.byte_ids {
                let mut buffer = [0; 4];
                let spelled = c.encode_utf8(&mut buffer).bytes();
                symbols.extend(spelled.map(|b| bytes[b as usize]));
                after_unknown = false;
            } else if let Some(unknown) = self.unknown {
                // Neighbouring unknown characters are one unknown token.
                if !after_unknown {
                    symbols.push(unknown);
                }
                after_unknown = true;
            }
        }
        self.merges.apply(&mut symbols, scratch);
        ids.append(&mut symbols);
    }
}
