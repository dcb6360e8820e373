//! What a template's source goes through before minijinja reads it.
//!
//! `{% generation %}` … `{% endgeneration %}` mark the assistant's text for training. minijinja does not know the tag; rendering needs no
//! more of it than its scope, so it is renamed to `with`. And minijinja's parser bounds brackets and blocks, but not chains: each `not`,
//! `|filter`, `+` or `elif` is a level of its syntax tree, and enough of them overflow the stack. So chains are bounded here.

use crate::error::{Error, Result};

/// Operators, dots, brackets and keywords in one pair of delimiters.
const CHAIN_MAX: usize = 600;
const ELIF_MAX: usize = 200;

/// `source` with the tag renamed, outside of comments, raw blocks and string literals. Fails on a chain that is too long.
pub fn prepare(source: &str) -> Result<String> {
    let mut elifs = 0;
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = next_open(rest) {
        let (before, tag) = rest.split_at(open);
        out.push_str(before);
        let length = if tag.starts_with("{#") {
            tag.find("#}").map_or(tag.len(), |end| end + 2)
        } else {
            let name = tag.starts_with("{%").then(|| tag_name(tag));
            let (start, end) = name.unwrap_or((2, 2));
            let replacement = match &tag[start..end] {
                "generation" => "with",
                "endgeneration" => "endwith",
                other => other,
            };
            elifs += usize::from(replacement == "elif");
            out.push_str(&tag[..start]);
            out.push_str(replacement);
            let length = match replacement {
                "raw" => raw_length(tag, end),
                _ => end + code_length(&tag[end..])?,
            };
            if elifs > ELIF_MAX {
                return Err(Error::limit(format!("chat template: more than {ELIF_MAX} elif")));
            }
            out.push_str(&tag[end..length]);
            rest = &tag[length..];
            continue;
        };
        out.push_str(&tag[..length]);
        rest = &tag[length..];
    }
    out.push_str(rest);
    Ok(out)
}

fn next_open(text: &str) -> Option<usize> {
    let is_open = |pair: &[u8]| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#');
    text.as_bytes().windows(2).position(is_open)
}

/// Where the first word after `{%` starts and ends.
fn tag_name(tag: &str) -> (usize, usize) {
    let body = tag[2..].trim_start_matches(['-', '+']).trim_start();
    let start = tag.len() - body.len();
    let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    (start, start + end.unwrap_or(body.len()))
}

/// Bytes up to and including the `%}` or `}}` that ends the code, which may hold strings and brackets.
fn code_length(code: &str) -> Result<usize> {
    let bytes = code.as_bytes();
    let mut depth = 0usize;
    let mut chain = 0;
    let mut at = 0;
    while at < bytes.len() {
        chain += usize::from(is_link(code, at));
        if chain > CHAIN_MAX {
            return Err(Error::limit(format!(
                "chat template: an expression with more than {CHAIN_MAX} operators"
            )));
        }
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
            }
            b'%' | b'}' if depth == 0 && bytes.get(at + 1) == Some(&b'}') => return Ok(at + 2),
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(bytes.len())
}

/// Whether an operator, a dot, a bracket or a word like `not` starts at this byte.
fn is_link(code: &str, at: usize) -> bool {
    let bytes = code.as_bytes();
    if b"+-*/%~|.[(<>=!".contains(&bytes[at]) {
        return true;
    }
    let in_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !in_word(bytes[at]) || (at > 0 && in_word(bytes[at - 1])) {
        return false;
    }
    let end = bytes[at..].iter().position(|&byte| !in_word(byte)).map_or(bytes.len(), |n| at + n);
    matches!(&bytes[at..end], b"not" | b"and" | b"or" | b"if" | b"else" | b"is" | b"in")
}

/// Bytes of a raw block from its tag up to where `{% endraw` starts; `from` is past the word `raw`.
fn raw_length(tag: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(found) = tag[at..].find("{%") {
        at += found;
        let (start, end) = tag_name(&tag[at..]);
        if &tag[at + start..at + end] == "endraw" {
            return at;
        }
        at += 2;
    }
    tag.len()
}

#[cfg(test)]
mod tests {
    use super::prepare;

    fn rename(source: &str) -> String {
        prepare(source).unwrap()
    }

    #[test]
    fn chains_are_bounded() {
        for link in ["not ", "-", "1|", "x.", "1+", "1 if 1 else ", "1 and ", "f(", "x[0]"] {
            assert!(prepare(&format!("{{{{ {}1 }}}}", link.repeat(1000))).is_err(), "{link}");
            assert!(prepare(&format!("{{{{ {}1 }}}}", link.repeat(100))).is_ok(), "{link}");
        }
        assert!(prepare(&format!("{{{{ [{}] }}}}", "'a + b', 1, ".repeat(1000))).is_ok());
        assert!(prepare(&"{% elif x %}".repeat(201)).is_err());
    }

    #[test]
    fn renames_the_tags_and_keeps_whitespace_control() {
        assert_eq!(
            rename("a {%- generation -%} b {%+endgeneration %} c"),
            "a {%- with -%} b {%+endwith %} c"
        );
    }

    #[test]
    fn leaves_everything_else_alone() {
        for text in [
            "{# {% generation %} #}x",
            "{% raw %}{% generation %}{% endraw %}",
            "{{ '{% generation %}' }}",
            "{{ {'a': {'b': \"}}{% generation %}\"}} }}",
            "{% if generation %}{{ generation }}{% endif %}",
            "{% generations %}",
            "plain { text }",
            "{% set x = '\\'{% generation %}' %}",
            "{{ unfinished '",
            "{%",
            "{#",
            "{% raw",
        ] {
            assert_eq!(rename(text), text);
        }
    }
}
