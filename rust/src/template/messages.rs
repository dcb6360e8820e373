//! The variables of a template, from the JSON of a request.

use super::strings::strip;
use super::time::strftime;
use crate::added::Shield;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use minijinja::value::{merge_maps, Serde, Value};
use serde_json::{Map, Value as Json};

/// One prompt to render. Texts are JSON; an empty one means None.
pub struct Request<'a> {
    /// Array of messages.
    pub messages: &'a str,
    /// Array of tool schemas.
    pub tools: &'a str,
    /// Array of documents.
    pub documents: &'a str,
    /// Object of the model's own variables: `bos_token`, `eos_token`, …; trusted, never shielded.
    pub special_tokens: &'a str,
    /// Object of further variables: `enable_thinking`, …; they win over `special_tokens`.
    pub variables: &'a str,
    pub add_generation_prompt: bool,
    /// Cut the prompt after the last message's text, so that the model goes on with it.
    pub continue_final_message: bool,
    /// Seconds since 1970-01-01 00:00 on the local clock, for `strftime_now`.
    pub local_time_s: i64,
    pub output_bytes_max: usize,
    /// Whose added tokens the input must not imitate; none leaves the input as it is.
    pub shield: Option<&'a Tokenizer>,
}

/// Names that the request itself sets.
const OWN_NAMES: [&str; 6] =
    ["messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"];

impl Request<'_> {
    pub fn input_bytes(&self) -> usize {
        self.messages.len() + self.tools.len() + self.documents.len() + self.variables.len()
    }
}

fn parse(name: &str, text: &str) -> Result<Json> {
    if text.is_empty() {
        return Ok(Json::Null);
    }
    serde_json::from_str(text).map_err(|e| Error::invalid(format!("{name}: {e}")))
}

/// An object, or null for an empty text.
fn parse_object(name: &str, text: &str) -> Result<Json> {
    match parse(name, text)? {
        json @ (Json::Object(_) | Json::Null) => Ok(json),
        _ => Err(Error::invalid(format!("{name}: not an object"))),
    }
}

/// What a template sees, and the text of the last message if the prompt is to end with it.
pub struct Context {
    pub variables: Value,
    pub final_text: Option<String>,
}

pub fn context(request: &Request) -> Result<Context> {
    let mut messages = parse("messages", request.messages)?;
    let mut tools = parse("tools", request.tools)?;
    let mut documents = parse("documents", request.documents)?;
    let mut given = parse_object("template variables", request.variables)?;
    if let Some(name) = OWN_NAMES.iter().find(|name| given.get(**name).is_some()) {
        return Err(Error::invalid(format!("template variables: '{name}' may not be set")));
    }
    let Json::Array(list) = &mut messages else {
        return Err(Error::invalid("messages: not an array"));
    };
    if let Some(tokenizer) = request.shield {
        for (index, message) in list.iter_mut().enumerate() {
            shield(tokenizer, trust(message), message)
                .map_err(|e| Error::invalid(format!("messages[{index}]: {}", e.message)))?;
        }
        for (name, json) in [("tools", &mut tools), ("documents", &mut documents), ("template variables", &mut given)] {
            shield(tokenizer, Shield::All, json)
                .map_err(|e| Error::invalid(format!("{name}: {}", e.message)))?;
        }
    }
    let final_text = match request.continue_final_message {
        true => Some(last_text(list)?),
        false => None,
    };
    let mut variables = match parse_object("special tokens", request.special_tokens)? {
        Json::Object(variables) => variables,
        _ => Map::new(),
    };
    if let Json::Object(given) = given {
        variables.extend(given);
    }
    for (name, value) in [("messages", messages), ("tools", tools), ("documents", documents)] {
        variables.insert(name.into(), value);
    }
    variables.insert("add_generation_prompt".into(), Json::Bool(request.add_generation_prompt));
    let time_s = request.local_time_s;
    let now = Value::from_function(move |format: &str| strftime(time_s, format));
    let clock = Value::from_pairs([("strftime_now", now)]);
    let variables = merge_maps([clock, Value::from(Serde(variables))]);
    Ok(Context { variables, final_text })
}

/// The text of the last message: its content, or the last part of it that has a text.
fn last_text(messages: &[Json]) -> Result<String> {
    let content = messages.last().and_then(|message| message.get("content"));
    let text = match content {
        Some(Json::Array(parts)) => parts.iter().rev().find_map(|part| part.get("text")),
        other => other,
    };
    let text = text.and_then(Json::as_str).map(String::from);
    text.ok_or_else(|| Error::invalid("continue_final_message: the last message has no text to go on with"))
}

/// `prompt` up to the end of the last message's text, as Hugging Face cuts it: with the white space after the text if the
/// template kept it (which it does not look for in a text that starts with white space).
pub fn cut_after(mut prompt: String, text: &str) -> Result<String> {
    let trimmed = strip(text, None, true, true);
    let Some(start) = prompt.rfind(trimmed) else {
        return Err(Error::invalid(
            "continue_final_message: the template does not print the last message's text as it is",
        ));
    };
    let kept = if prompt[start..].starts_with(text) { text } else { trimmed };
    prompt.truncate(start + kept.len());
    Ok(prompt)
}

/// Which look-alikes a message may not hold. The model's own words and the operator's may hold plain added tokens such as
/// `</think>`, which templates look for; a control token only ever comes from the template.
fn trust(message: &Json) -> Shield {
    match message.get("role").and_then(Json::as_str) {
        Some("system" | "developer" | "assistant") => Shield::ControlOnly,
        _ => Shield::All,
    }
}

/// Shields every string in `json`, names of members included. The JSON parser bounds the depth.
fn shield(tokenizer: &Tokenizer, which: Shield, json: &mut Json) -> Result<()> {
    match json {
        Json::String(text) => *text = tokenizer.shield(text, which)?,
        Json::Array(items) => {
            for item in items {
                shield(tokenizer, which, item)?;
            }
        }
        Json::Object(members) => {
            for (name, mut value) in std::mem::take(members) {
                shield(tokenizer, which, &mut value)?;
                members.insert(tokenizer.shield(&name, which)?, value);
            }
        }
        _ => {}
    }
    Ok(())
}
