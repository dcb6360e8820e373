//! Values as Python prints them.

use crate::error::{Error, Result};
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::ErrorKind;

/// Deepest value that can be serialised. Python gives up at about 1000, after a stack that we do not have.
const DEPTH_MAX: usize = 200;

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

/// The filter `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`: Python's `json.dumps`.
pub fn tojson(value: &Value, kwargs: Kwargs) -> std::result::Result<Value, minijinja::Error> {
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
        out: String::new(),
        indent,
        item,
        key,
        ensure_ascii: ensure_ascii.unwrap_or(false),
        sort_keys: sort_keys.unwrap_or(false),
    };
    writer.value(value, 0).map_err(|e| failure(e.message))?;
    Ok(Value::from(writer.out))
}

fn failure(message: impl Into<String>) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Largest text one `tojson` makes.
const JSON_BYTES_MAX: usize = 16 << 20;

struct JsonWriter {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl JsonWriter {
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::limit(format!("tojson: the value is nested deeper than {DEPTH_MAX}")));
        }
        if self.out.len() > JSON_BYTES_MAX {
            return Err(Error::limit(format!("tojson: more than {JSON_BYTES_MAX} bytes")));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => self.map(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().map_err(|e| Error::invalid(e.to_string()))?;
                self.list(items, '[', ']', depth, |w, item| w.value(&item, depth + 1))?
            }
            other => return Err(Error::invalid(format!("tojson: {other} is not JSON serializable"))),
        }
        Ok(())
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
        let keys = value.try_iter().map_err(|e| Error::invalid(e.to_string()))?;
        let mut entries = Vec::new();
        for key in keys {
            let item = value.get_item(&key).unwrap_or_default();
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
                other => return Err(Error::invalid(format!("tojson: a key must not be a {other}"))),
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
            self.newline(depth + 1);
            write(self, item)?;
        }
        if !empty {
            self.newline(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn newline(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
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
