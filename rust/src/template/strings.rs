//! Python's string methods where they differ from Rust's idea of them or from what `pycompat` has.

use super::work::{is_container, pay_for_search, pay_for_walk};
use minijinja::value::{from_args, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

/// `str.isspace`: Unicode white space and the four separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `strip`, `lstrip` and `rstrip` by the sides chosen.
pub fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
    let drop = |c: char| chars.map_or_else(|| is_space(c), |set| set.contains(c));
    let text = if left { text.trim_start_matches(drop) } else { text };
    if right {
        text.trim_end_matches(drop)
    } else {
        text
    }
}

/// Called for a method that the value itself does not have.
pub fn call_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    args.iter().filter(|argument| is_container(argument)).try_for_each(|argument| pay_for_walk(state, argument))?;
    if let (ValueKind::Seq, Some(item)) = (value.kind(), args.first()) {
        pay_for_search(state, item, value)?;
    }
    if let (ValueKind::String, Some(text)) = (value.kind(), value.as_str()) {
        if method == "format" {
            pay_for_format(state, text)?;
        }
        if let Some(result) = string_method(text, method, args) {
            return result;
        }
    }
    unknown_method_callback(state, value, method, args)
}

/// Widest field of a format.
const WIDTH_MAX: usize = 9_999;

/// Charges for the widest text that a format can make before it is made; minijinja makes any width for nothing. A width that
/// comes from an argument (`*` or nested braces) is refused.
pub fn pay_for_format(state: &State, format: &str) -> Result<(), Error> {
    let refused = || Error::new(ErrorKind::InvalidOperation, format!("a format's width must be at most {WIDTH_MAX}"));
    let mut widest = 0;
    for digits in format.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()) {
        widest = widest.max(digits.parse::<usize>().map_err(|_| refused())?);
    }
    let mut open = false;
    for c in format.replace("{{", "").replace("}}", "").chars() {
        if c == '{' && open {
            return Err(refused());
        }
        open = c == '{' || (open && c != '}');
    }
    let printf_star = format.split('%').skip(1).any(|spec| spec.trim_start_matches(['-', '+', ' ', '#', '0', '.']).starts_with('*'));
    if widest > WIDTH_MAX || printf_star {
        return Err(refused());
    }
    let fields = format.matches(['{', '%']).count();
    state.consume_fuel((fields * (widest + 64) / 64) as u64)
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match method {
        "strip" | "lstrip" | "rstrip" => from_args(args).map(|(chars,): (Option<&str>,)| {
            Value::from(strip(text, chars, method != "rstrip", method != "lstrip"))
        }),
        "split" | "rsplit" => split(text, args, method == "rsplit"),
        "splitlines" => from_args(args)
            .map(|(keep,): (Option<bool>,)| split_lines(text, keep.unwrap_or(false))),
        "partition" | "rpartition" => partition(text, args, method == "rpartition"),
        "removeprefix" => from_args(args)
            .map(|(prefix,): (&str,)| Value::from(text.strip_prefix(prefix).unwrap_or(text))),
        "removesuffix" => from_args(args)
            .map(|(suffix,): (&str,)| Value::from(text.strip_suffix(suffix).unwrap_or(text))),
        _ => return None,
    })
}

fn list(pieces: Vec<&str>) -> Value {
    pieces.into_iter().map(Value::from).collect()
}

fn split(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    // Accept keyword arguments as Python does: split(sep=None, maxsplit=-1).
    let (separator, limit, kwargs): (Option<&str>, Option<i64>, minijinja::value::Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(separator) => Some(separator),
        None => kwargs.get("sep")?,
    };
    let limit = match limit {
        Some(limit) => Some(limit),
        None => kwargs.get("maxsplit")?,
    };
    kwargs.assert_all_used()?;
    let cuts = usize::try_from(limit.unwrap_or(-1)).unwrap_or(usize::MAX - 1);
    Ok(list(match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) if from_right => {
            let mut pieces: Vec<&str> = text.rsplitn(cuts + 1, separator).collect();
            pieces.reverse();
            pieces
        }
        Some(separator) => text.splitn(cuts + 1, separator).collect(),
        None if from_right => split_space_right(text, cuts),
        None => split_space(text, cuts),
    }))
}

fn split_space(text: &str, cuts: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = match rest.find(is_space) {
            Some(end) if pieces.len() < cuts => end,
            _ => {
                // What is left of an unlimited split has no white space; of a limited one it keeps all of it.
                pieces.push(rest);
                break;
            }
        };
        pieces.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    pieces
}

fn split_space_right(text: &str, cuts: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        let start = rest.rfind(is_space).filter(|_| pieces.len() < cuts);
        let Some(start) = start else {
            pieces.push(rest);
            break;
        };
        let word = start + rest[start..].chars().next().map_or(0, char::len_utf8);
        pieces.push(&rest[word..]);
        rest = rest[..start].trim_end_matches(is_space);
    }
    pieces.reverse();
    pieces
}

/// Python's line ends: more than Rust's.
fn split_lines(text: &str, keep_ends: bool) -> Value {
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_end).unwrap_or(rest.len());
        let length = if rest[end..].starts_with("\r\n") {
            2
        } else {
            rest[end..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(if keep_ends { &rest[..end + length] } else { &rest[..end] });
        rest = &rest[end + length..];
    }
    list(lines)
}

fn partition(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let cut = if from_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match (cut, from_right) {
        (Some((before, after)), _) => [before, separator, after],
        (None, false) => [text, "", ""],
        (None, true) => ["", "", text],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}
