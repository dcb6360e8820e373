//! Builds a tokenizer from the text of a tokenizer.json.
//!
//! The shapes that `vocabulary` can build from a GGUF file get the same engines here; every other one is left to the
//! `tokenizers` crate.

use crate::added::{AddedToken, AddedTokens};
use crate::bpe::Merges;
use crate::byte_map;
use crate::error::{Error, Result};
use crate::split::Splitter;
use crate::tokenizer::{ByteLevel, Engine, Sentence, TokenBytes, TokenKind, Tokenizer};
use crate::vocabulary::{byte_of, push_merge, Ids, TOKENS_MAX};
use ahash::AHashMap;
use serde_json::{json, Value as Json};

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub fn build(text: &str) -> Result<Tokenizer> {
    let json: Json = serde_json::from_str(text).map_err(|e| Error::invalid(format!("tokenizer.json: {e}")))?;
    if !json.is_object() {
        return Err(Error::invalid("tokenizer.json is not an object"));
    }
    let added = added_tokens(&json)?;
    let spelling = Spelling::of(&json);
    let engine = match native(&json, &added)? {
        Some(engine) => engine,
        None => Engine::Crate(Box::new(crate_tokenizer(json.clone())?)),
    };
    let (bytes, kinds) = token_table(&json, &added, spelling)?;
    Ok(Tokenizer { engine, added: AddedTokens::new(added)?, bytes, kinds })
}

fn flag(json: &Json, name: &str, default: bool) -> bool {
    json.get(name).and_then(Json::as_bool).unwrap_or(default)
}

fn added_tokens(json: &Json) -> Result<Vec<AddedToken>> {
    let Some(list) = json.get("added_tokens").and_then(Json::as_array) else {
        return Ok(Vec::new());
    };
    let token = |(index, entry): (usize, &Json)| {
        let id = entry.get("id").and_then(Json::as_u64).filter(|&id| id < TOKENS_MAX as u64);
        let text = entry.get("content").and_then(Json::as_str);
        match (id, text) {
            (Some(id), Some(text)) => Ok(AddedToken {
                id: id as u32,
                text: text.into(),
                control: flag(entry, "special", false),
                lstrip: flag(entry, "lstrip", false),
                rstrip: flag(entry, "rstrip", false),
                single_word: flag(entry, "single_word", false),
            }),
            _ => Err(Error::invalid(format!(
                "tokenizer.json: added_tokens[{index}] needs 'content' and an 'id' below {TOKENS_MAX}"
            ))),
        }
    };
    list.iter().enumerate().map(token).collect()
}

/// Id of each token of the model's vocabulary: an object, or a list of [token, score].
fn vocabulary(json: &Json) -> Result<Vec<(&str, u32)>> {
    let too_large = || Error::limit(format!("tokenizer.json: an id is not below {TOKENS_MAX}"));
    let valid = |id: u64| u32::try_from(id).ok().filter(|&id| (id as usize) < TOKENS_MAX);
    match json.pointer("/model/vocab") {
        Some(Json::Object(vocab)) => vocab
            .iter()
            .map(|(token, id)| Ok((token.as_str(), id.as_u64().and_then(valid).ok_or_else(too_large)?)))
            .collect(),
        Some(Json::Array(vocab)) if vocab.len() <= TOKENS_MAX => (0u32..)
            .zip(vocab)
            .map(|(id, entry)| match entry.get(0).and_then(Json::as_str) {
                Some(token) => Ok((token, id)),
                None => Err(Error::invalid(format!("tokenizer.json: model.vocab[{id}] has no text"))),
            })
            .collect(),
        _ => Err(Error::invalid("tokenizer.json: model.vocab is missing or too large")),
    }
}

/// How the text of a token relates to the bytes it prints.
#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    ByteLevel,
    Sentence,
}

impl Spelling {
    fn of(json: &Json) -> Spelling {
        let shown = |part: &str| json.get(part).map(Json::to_string).unwrap_or_default();
        let byte_level = shown("decoder").contains("\"ByteLevel\"") || shown("pre_tokenizer").contains("\"ByteLevel\"");
        if byte_level { Spelling::ByteLevel } else { Spelling::Sentence }
    }

    fn bytes(self, token: &str) -> Vec<u8> {
        let bytes = match self {
            Spelling::ByteLevel => byte_map::bytes_of(token),
            Spelling::Sentence => byte_of(token).map(|byte| vec![byte]),
        };
        bytes.unwrap_or_else(|| match self {
            Spelling::ByteLevel => token.as_bytes().to_vec(),
            Spelling::Sentence => token.replace('\u{2581}', " ").into_bytes(),
        })
    }
}

fn token_table(json: &Json, added: &[AddedToken], spelling: Spelling) -> Result<(TokenBytes, Vec<TokenKind>)> {
    let mut table: AHashMap<u32, (Vec<u8>, TokenKind)> = AHashMap::new();
    for (token, id) in vocabulary(json)? {
        let is_byte = spelling == Spelling::Sentence && byte_of(token).is_some();
        let kind = if is_byte { TokenKind::Byte } else { TokenKind::Normal };
        table.insert(id, (spelling.bytes(token), kind));
    }
    for token in added {
        let kind = if token.control { TokenKind::Control } else { TokenKind::UserDefined };
        table.insert(token.id, (token.text.as_bytes().to_vec(), kind));
    }
    let count = table.keys().max().map_or(0, |&id| id + 1);
    let mut bytes = TokenBytes::default();
    let mut kinds = Vec::with_capacity(count as usize);
    for id in 0..count {
        let (token, kind) = table.remove(&id).unwrap_or((Vec::new(), TokenKind::Unused));
        bytes.push(&token);
        kinds.push(kind);
    }
    Ok((bytes, kinds))
}

/// What the crate makes of the file, without its added tokens and anything that adds or cuts ids.
fn crate_tokenizer(mut json: Json) -> Result<tokenizers::Tokenizer> {
    tokenizers::utils::parallelism::set_parallelism(false);
    json["added_tokens"] = json!([]);
    for part in ["truncation", "padding", "post_processor"] {
        json[part] = Json::Null;
    }
    tokenizers::Tokenizer::from_bytes(json.to_string()).map_err(|e| Error::invalid(format!("tokenizer.json: {e}")))
}

/// The engine for a shape that is known here.
fn native(json: &Json, added: &[AddedToken]) -> Result<Option<Engine>> {
    let model = &json["model"];
    let unset = |name: &str| matches!(model.get(name), None | Some(Json::Null)) || model[name] == "" || model[name] == 0.0;
    let is_bpe = model["type"] == "BPE"
        && ["dropout", "continuing_subword_prefix", "end_of_word_suffix"].into_iter().all(unset);
    if !is_bpe {
        return Ok(None);
    }
    let ids = Ids::new(vocabulary(json)?.into_iter().collect(), added);
    let unknown = model.get("unk_token").and_then(Json::as_str).and_then(|token| ids.find(token));
    let ignore_merges = flag(model, "ignore_merges", false);
    if flag(model, "byte_fallback", false) {
        let sentence = json["pre_tokenizer"].is_null() && flag(model, "fuse_unk", false) && !ignore_merges;
        return Ok(match sentence_prefix(&json["normalizer"]).filter(|_| sentence) {
            Some(prefix) => Some(Engine::Sentence(Sentence::new(&ids, merges(model, &ids)?, unknown, prefix))),
            None => None,
        });
    }
    let normalizer = &json["normalizer"];
    let nfc = normalizer["type"] == "NFC";
    let known_normalizer = normalizer.is_null() || nfc;
    let Some(splitter) = splitter(&json["pre_tokenizer"]).filter(|_| known_normalizer && unknown.is_none()) else {
        return Ok(None);
    };
    let engine = ByteLevel::new(&ids, splitter, nfc, ignore_merges, merges(model, &ids)?);
    Ok(Some(Engine::ByteLevel(engine)))
}

fn merges(model: &Json, ids: &Ids) -> Result<Merges> {
    let list = model["merges"].as_array().map_or(&[][..], Vec::as_slice);
    let mut merges = Merges::with_capacity(list.len());
    for (rank, entry) in list.iter().enumerate() {
        let pair = match entry {
            Json::String(text) => text.split_once(' '),
            _ => entry[0].as_str().zip(entry[1].as_str()),
        };
        pair.ok_or_else(|| Error::invalid("not two tokens"))
            .and_then(|pair| push_merge(&mut merges, ids, pair))
            .map_err(|e| Error::invalid(format!("tokenizer.json: model.merges[{rank}]: {}", e.message)))?;
    }
    Ok(merges)
}

/// Whether a SentencePiece normalizer puts a space before the text; none if it is of another kind.
fn sentence_prefix(normalizer: &Json) -> Option<bool> {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
    if *normalizer == replace || *normalizer == json!({"type": "Sequence", "normalizers": [replace]}) {
        return Some(false);
    }
    (*normalizer == json!({"type": "Sequence", "normalizers": [prepend, replace]})).then_some(true)
}

fn splitter(pre_tokenizer: &Json) -> Option<Splitter> {
    let byte_level = |json: &Json, use_regex: bool| {
        json["type"] == "ByteLevel"
            && !flag(json, "add_prefix_space", true)
            && flag(json, "use_regex", true) == use_regex
    };
    if byte_level(pre_tokenizer, true) {
        return Some(Splitter::Gpt2);
    }
    let [first, second] = pre_tokenizer["pretokenizers"].as_array()?.as_slice() else {
        return None;
    };
    if first["type"] == "Digits" && flag(first, "individual_digits", false) && byte_level(second, true) {
        return Some(Splitter::DigitsThenGpt2);
    }
    let isolates = first["type"] == "Split" && first["behavior"] == "Isolated" && !flag(first, "invert", false);
    if !isolates || !byte_level(second, false) {
        return None;
    }
    match first["pattern"]["Regex"].as_str()? {
        QWEN2 => Some(Splitter::Cl100k { max_digits: 1 }),
        LLAMA3 => Some(Splitter::Cl100k { max_digits: 3 }),
        _ => None,
    }
}

#[cfg(test)]
#[path = "tokenizer_json_test.rs"]
mod tests;
