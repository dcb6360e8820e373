//! GPT-2's spelling of bytes as printable characters, in which byte-level vocabularies are written.

use std::sync::OnceLock;

/// One past the last character of the spelling.
const END: usize = 0x144;

/// Bytes that print are spelled as themselves; the others, in order, as U+0100 and up.
fn build() -> [Option<u8>; END] {
    let mut map = [None; END];
    let prints = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    for byte in 0..=255u8 {
        if prints(byte) {
            map[byte as usize] = Some(byte);
        } else {
            map[next] = Some(byte);
            next += 1;
        }
    }
    map
}

/// The bytes that `token` spells, or none if it holds a character outside the spelling.
pub fn bytes_of(token: &str) -> Option<Vec<u8>> {
    static MAP: OnceLock<[Option<u8>; END]> = OnceLock::new();
    let map = MAP.get_or_init(build);
    token.chars().map(|c| map.get(c as usize).copied().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_every_byte_once() {
        let all: String = (0..END as u32).filter_map(char::from_u32).filter(|c| bytes_of(&c.to_string()).is_some()).collect();
        let mut bytes = bytes_of(&all).unwrap();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn knows_the_famous_ones() {
        assert_eq!(bytes_of("Ġhello"), Some(b" hello".to_vec()));
        assert_eq!(bytes_of("Ċ"), Some(b"\n".to_vec()));
        assert_eq!(bytes_of("ĠäºĨ"), Some(" 了".as_bytes().to_vec()));
        assert_eq!(bytes_of("a b"), None);
        assert_eq!(bytes_of("的"), None);
    }
}
