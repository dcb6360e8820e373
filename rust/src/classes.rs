//! Character classes of the pre-tokenizers, looked up in one load.

use crate::unicode_tables as tables;
use std::sync::OnceLock;

pub const LETTER: u8 = 1;
pub const NUMBER: u8 = 2;
pub const SPACE: u8 = 4;
pub const PUNCTUATION: u8 = 8;
pub const DIGIT: u8 = 16;

/// No class holds a code point from here on (checked by a test).
const END: usize = 0x34000;

fn build() -> Box<[u8]> {
    let mut flags = vec![0u8; END].into_boxed_slice();
    let classes = [
        (tables::LETTER, LETTER),
        (tables::NUMBER, NUMBER),
        (tables::SPACE, SPACE),
        (tables::PUNCTUATION, PUNCTUATION),
        (tables::DIGIT, DIGIT),
    ];
    for (ranges, class) in classes {
        for &(first, last) in ranges {
            for flag in &mut flags[first as usize..=last as usize] {
                *flag |= class;
            }
        }
    }
    flags
}

/// The classes of every code point; fetch it once per text.
#[derive(Clone, Copy)]
pub struct Classes(&'static [u8]);

impl Classes {
    pub fn get() -> Classes {
        static FLAGS: OnceLock<Box<[u8]>> = OnceLock::new();
        Classes(FLAGS.get_or_init(build))
    }

    /// The union of the classes that hold `c`.
    #[inline]
    pub fn of(self, c: char) -> u8 {
        self.0.get(c as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_lies_below_the_end_of_the_table() {
        let all = [
            tables::LETTER,
            tables::NUMBER,
            tables::SPACE,
            tables::PUNCTUATION,
            tables::DIGIT,
        ];
        for ranges in all {
            assert!(ranges.iter().all(|&(a, b)| a <= b && (b as usize) < END));
        }
    }

    #[test]
    fn well_known_characters_have_their_class() {
        let classes = Classes::get();
        for (c, class) in [
            ('a', LETTER),
            ('的', LETTER),
            ('7', NUMBER | DIGIT),
            ('½', NUMBER | DIGIT),
            ('\u{a0}', SPACE),
            ('!', PUNCTUATION),
            ('+', 0),
            ('\u{10ffff}', 0),
        ] {
            assert_eq!(classes.of(c), class, "{c:?}");
        }
    }
}
