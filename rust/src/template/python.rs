//! Values as Python prints and reads them.

use super::work::pay_for_walk;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use std::borrow::Cow;

type Result<T> = std::result::Result<T, Error>;

/// Deepest value that can be serialised. Python gives up at about 1000, after a stack that we do not have.
pub const DEPTH_MAX: usize = 200;

/// `repr(float)`: the shortest digits that read back as the same number; exponent below 1e-4 and from 1e16 on.
pub fn float_repr(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let shortest = format!("{number:e}");
        let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
        return match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        };
    }
    let plain = number.to_string();
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

/// The number in `value` if it is a float.
pub fn as_float(value: &Value) -> Option<f64> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    is_float.then(|| f64::try_from(value.clone()).ok()).flatten()
}

/// `str(value)`.
pub fn to_str<'v>(state: &State, value: &'v Value) -> Result<Cow<'v, str>> {
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    Ok(Cow::Owned(match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => {
            let mut out = String::new();
            repr(state, value, 0, &mut out)?;
            out
        }
        _ => {
            pay_for_walk(state, value)?;
            value.to_string()
        }
    }))
}

/// `repr(value)`. Every item costs fuel: a small value may stand for a huge list.
fn repr(state: &State, value: &Value, depth: usize, out: &mut String) -> Result<()> {
    if let Some(number) = as_float(value) {
        out.push_str(&float_repr(number));
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(failure(format!("the value is nested deeper than {DEPTH_MAX}")));
    }
    match value.kind() {
        ValueKind::Seq => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                state.consume_fuel(1)?;
                out.push_str(if count > 0 { ", " } else { "" });
                repr(state, &item, depth + 1, out)?;
                count += 1;
            }
            out.push_str(if tuple && count == 1 { "," } else { "" });
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                state.consume_fuel(1)?;
                out.push_str(if index > 0 { ", " } else { "" });
                repr(state, &key, depth + 1, out)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        // minijinja writes strings as Python does.
        _ => {
            pay_for_walk(state, value)?;
            let text = format!("{value:?}");
            state.consume_fuel((text.len() / 64) as u64)?;
            out.push_str(&text);
        }
    }
    Ok(())
}

/// The filter `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`: Python's `json.dumps`.
pub fn tojson(state: &State, value: &Value, kwargs: Kwargs) -> Result<Value> {
    let ensure_ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    let indent: Option<Value> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    let indent = indent.filter(|v| !v.is_none() && !v.is_undefined()).map(|v| match v.as_str() {
        Some(text) => text.to_string(),
        None => " ".repeat(usize::try_from(v).unwrap_or(0).min(64)),
    });
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(failure("tojson: separators must be two strings")),
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let mut writer = JsonWriter {
        state,
        out: String::new(),
        indent,
        item,
        key,
        ensure_ascii: ensure_ascii.unwrap_or(false),
        sort_keys: sort_keys.unwrap_or(false),
    };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

pub fn failure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

struct JsonWriter<'s> {
    /// Pays for every value and byte.
    state: &'s State<'s, 's>,
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl JsonWriter<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(failure(format!("tojson: the value is nested deeper than {DEPTH_MAX}")));
        }
        let start = self.out.len();
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => return self.map(value, depth),
            ValueKind::Seq | ValueKind::Iterable => {
                return self.list(value.try_iter()?, '[', ']', depth, |w, item| w.value(&item, depth + 1))
            }
            other => return Err(failure(format!("tojson: {other} is not JSON serializable"))),
        }
        self.state.consume_fuel(1 + (self.out.len() - start) as u64 / 64)
    }

    fn number(&mut self, value: &Value) {
        let text = match as_float(value) {
            Some(number) if number.is_nan() => "NaN".into(),
            Some(number) if number.is_infinite() && number > 0.0 => "Infinity".into(),
            Some(number) if number.is_infinite() => "-Infinity".into(),
            Some(number) => float_repr(number),
            None => value.to_string(),
        };
        self.out.push_str(&text);
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<()> {
        let mut entries = Vec::new();
        for key in value.try_iter()? {
            self.state.consume_fuel(1)?;
            let item = value.get_item(&key)?;
            entries.push((key, item));
        }
        if self.sort_keys {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        self.list(entries.into_iter(), '{', '}', depth, |w, (key, item)| {
            match key.kind() {
                ValueKind::String => w.string(key.as_str().unwrap_or_default()),
                ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                    w.out.push('"');
                    w.value(&key, depth + 1)?;
                    w.out.push('"');
                }
                other => return Err(failure(format!("tojson: a key must not be a {other}"))),
            }
            let separator = w.key.clone();
            w.out.push_str(&separator);
            w.value(&item, depth + 1)
        })
    }

    fn list<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        open: char,
        close: char,
        depth: usize,
        mut write: impl FnMut(&mut Self, T) -> Result<()>,
    ) -> Result<()> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                let separator = self.item.clone();
                self.out.push_str(&separator);
            }
            empty = false;
            self.newline(depth + 1)?;
            write(self, item)?;
        }
        if !empty {
            self.newline(depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    fn newline(&mut self, depth: usize) -> Result<()> {
        let Some(indent) = &self.indent else {
            return self.state.consume_fuel(self.item.len() as u64 / 64);
        };
        self.state.consume_fuel((self.item.len() + depth * indent.len()) as u64 / 64)?;
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 => self.escape(c as u16),
                // The shield of look-alikes has to survive, or it would be printed.
                c if self.ensure_ascii && (c as u32) >= 0x7f && c != crate::added::SHIELD => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().for_each(|&unit| self.escape(unit));
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, unit: u16) {
        self.out.push_str(&format!("\\u{unit:04x}"));
    }
}

/// The filter `int(default=0, base=10)`.
pub fn int(
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> Result<Value> {
    let default = or_keyword(default, &kwargs, "default")?.unwrap_or_else(|| Value::from(0));
    let base = match base {
        Some(base) => base,
        None => kwargs.get::<Option<u32>>("base")?.unwrap_or(10),
    };
    kwargs.assert_all_used()?;
    let parsed = match value.as_str() {
        Some(text) => i64::from_str_radix(digits(text.trim(), base), base.clamp(2, 36))
            .ok()
            .or_else(|| text.trim().parse::<f64>().ok().and_then(truncate)),
        None if value.kind() == ValueKind::Bool => Some(i64::from(value.is_true())),
        None => match as_float(value) {
            Some(number) => truncate(number),
            None if value.is_integer() => return Ok(value.clone()),
            None => None,
        },
    };
    Ok(parsed.map_or(default, Value::from))
}

/// `text` without the prefix that marks its base.
fn digits(text: &str, base: u32) -> &str {
    let prefixes = match base {
        2 => ["0b", "0B"],
        8 => ["0o", "0O"],
        16 => ["0x", "0X"],
        _ => return text,
    };
    prefixes.into_iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text)
}

fn truncate(number: f64) -> Option<i64> {
    (number.abs() < 9.2e18).then_some(number as i64)
}

/// The filter `float(default=0.0)`.
pub fn float(value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value> {
    let default = or_keyword(default, &kwargs, "default")?.unwrap_or_else(|| Value::from(0.0));
    kwargs.assert_all_used()?;
    let parsed = match value.as_str() {
        Some(text) => text.trim().parse::<f64>().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(parsed.map_or(default, Value::from))
}

/// The filter `default(default_value="", boolean=False)`.
pub fn default(
    value: &Value,
    default: Option<Value>,
    boolean: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value> {
    let default = or_keyword(default, &kwargs, "default_value")?.unwrap_or_else(|| Value::from(""));
    let boolean = match boolean {
        Some(boolean) => boolean,
        None => kwargs.get::<Option<bool>>("boolean")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let missing = value.is_undefined() || (boolean && !value.is_true());
    Ok(if missing { default } else { value.clone() })
}

fn or_keyword(
    positional: Option<Value>,
    kwargs: &Kwargs,
    name: &str,
) -> Result<Option<Value>> {
    match positional {
        Some(value) => Ok(Some(value)),
        None => kwargs.get(name),
    }
}

/// The test `iterable`: whether `iter(value)` works.
pub fn is_iterable(value: &Value) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(value.kind(), String | Seq | Map | Iterable | Undefined)
}

/// The test `sequence`: whether the value has a length and items.
pub fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Map, Seq, String, Undefined};
    matches!(value.kind(), String | Seq | Map | Undefined)
}

/// The test `number`, for which a boolean is one.
pub fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_like_python() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (123456789.125, "123456789.125"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (5e-324, "5e-324"),
            (1.0 / 3.0, "0.3333333333333333"),
        ] {
            assert_eq!(float_repr(number), text);
        }
    }
}
