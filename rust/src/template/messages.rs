//! The variables of a template, from the JSON of a request.

use super::time::strftime;
use crate::added::Shield;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use minijinja::value::Value;
use serde_json::{Map, Value as Json};

/// One prompt to render. Texts are JSON; an empty one means None.
pub struct Request<'a> {
    /// Array of messages.
    pub messages: &'a str,
    /// Array of tool schemas.
    pub tools: &'a str,
    /// Array of documents.
    pub documents: &'a str,
    /// Object of further variables: `bos_token`, `enable_thinking`, …
    pub variables: &'a str,
    pub add_generation_prompt: bool,
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

pub fn context(request: &Request) -> Result<Value> {
    let mut messages = parse("messages", request.messages)?;
    let mut tools = parse("tools", request.tools)?;
    let mut documents = parse("documents", request.documents)?;
    let mut variables = match parse("template variables", request.variables)? {
        Json::Null => Map::new(),
        Json::Object(variables) => variables,
        _ => return Err(Error::invalid("template variables: not an object")),
    };
    if let Some(name) = OWN_NAMES.iter().find(|name| variables.contains_key(**name)) {
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
        for (name, json) in [("tools", &mut tools), ("documents", &mut documents)] {
            shield(tokenizer, Shield::All, json)
                .map_err(|e| Error::invalid(format!("{name}: {}", e.message)))?;
        }
    }
    for (name, value) in [("messages", messages), ("tools", tools), ("documents", documents)] {
        variables.insert(name.into(), value);
    }
    variables.insert("add_generation_prompt".into(), Json::Bool(request.add_generation_prompt));
    let time_s = request.local_time_s;
    let now = Value::from_function(move |format: &str| strftime(time_s, format));
    let clock = Value::from_iter([("strftime_now", now)]);
    Ok(minijinja::value::merge_maps([clock, Value::from_serialize(&variables)]))
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
