use super::*;

#[test]
fn merges_are_cut_at_the_first_space_that_is_not_the_first_byte() {
    assert_eq!(split_merge("a b"), Some(("a", "b")));
    assert_eq!(split_merge("  a"), Some((" ", "a")));
    assert_eq!(split_merge("a b c"), Some(("a", "b c")));
    for broken in ["", "a", " ", "ab", "a "] {
        assert_eq!(split_merge(broken), None);
    }
}

#[test]
fn byte_tokens_are_recognised() {
    assert_eq!(byte_of("<0x0A>"), Some(10));
    assert_eq!(byte_of("<0xFF>"), Some(255));
    for other in ["<0x0a>", "<0x+1>", "<0x100>", "0x0A", "<0x>"] {
        assert_eq!(byte_of(other), None);
    }
}

#[test]
fn sentencepiece_merges_follow_the_scores() {
    let vocabulary = Vocabulary {
        model: "llama",
        tokens: vec!["a", "b", "c", "ab", "bc", "abc"],
        scores: &[0.0, 0.0, 0.0, -2.0, -1.0, -3.0],
        ..Vocabulary::default()
    };
    let tokenizer = build(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode("abc").unwrap(), [5]);
    assert_eq!(tokenizer.encode("abcb").unwrap(), [5, 1]);
    assert_eq!(tokenizer.encode("abb").unwrap(), [3, 1]);
}
