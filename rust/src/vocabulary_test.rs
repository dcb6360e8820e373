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

/// A SentencePiece vocabulary whose token `reserved` is of the type `kind`.
fn sentence_with(tokens: &[&'static str], reserved: usize, kind: i32) -> Tokenizer {
    let types: Vec<i32> = (0..tokens.len()).map(|id| if id == reserved { kind } else { token_type::NORMAL }).collect();
    let scores: Vec<f32> = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let vocabulary = Vocabulary {
        model: "llama",
        tokens: tokens.to_vec(),
        scores: &scores,
        types: &types,
        ..Vocabulary::default()
    };
    build(&vocabulary).unwrap()
}

#[test]
fn text_does_not_merge_into_an_added_token() {
    for kind in [token_type::CONTROL, token_type::USER_DEFINED, token_type::UNKNOWN] {
        let tokenizer = sentence_with(&["<", "s>", ">", "<s>", "s"], 3, kind);
        let shielded = tokenizer.shield("<s>", crate::added::Shield::All).unwrap();
        assert_eq!(tokenizer.encode_rendered(&shielded).unwrap(), [0, 1]);
        assert_eq!(tokenizer.encode("<s>").unwrap(), [0, 1]);
        assert_eq!(tokenizer.encode_rendered("<s>").unwrap(), [3]);
    }
}

#[test]
fn a_character_that_is_a_control_token_is_not_one_in_text() {
    let tokenizer = sentence_with(&["a", "\u{1}"], 1, token_type::CONTROL);
    assert_eq!(tokenizer.encode("a\u{1}a").unwrap(), [0, 0]);
    assert_eq!(tokenizer.encode_rendered("a\u{1}a").unwrap(), [0, 1, 0]);
}

#[test]
fn listed_merges_do_not_make_a_control_token() {
    for (pre, ids) in [("gpt-2", [0, 1]), ("llama-bpe", [0, 1])] {
        let vocabulary = Vocabulary {
            model: "gpt2",
            pre,
            tokens: vec!["a", "b", "ab"],
            types: &[token_type::NORMAL, token_type::NORMAL, token_type::CONTROL],
            merges: vec!["a b"],
            ..Vocabulary::default()
        };
        assert_eq!(build(&vocabulary).unwrap().encode("ab").unwrap(), ids, "{pre}");
    }
}

#[test]
fn runs_of_spaces_that_were_added_still_merge() {
    let tokenizer = sentence_with(&["\u{2581}", "\u{2581}\u{2581}"], 1, token_type::USER_DEFINED);
    assert_eq!(tokenizer.encode("  ").unwrap(), [1]);
}

#[test]
fn deriving_merges_is_bounded() {
    let refused = |tokens: Vec<&str>| {
        let scores = vec![0.0; tokens.len()];
        let vocabulary = Vocabulary { model: "llama", tokens, scores: &scores, ..Vocabulary::default() };
        build(&vocabulary).err().expect("a limit").message
    };
    let long = "a".repeat(257);
    assert!(refused(vec!["b", &long]).contains("tokenizer.ggml.tokens[1] has 257 bytes"));
    let many: Vec<String> = (0..5000).map(|id| format!("{id:0250}")).collect();
    assert!(refused(many.iter().map(String::as_str).collect()).contains("too many long tokens"));
    // Every run of a letter is a token, so that every cut is a merge.
    let runs: Vec<String> = ('A'..='z')
        .flat_map(|letter| (1..=255).map(move |count| String::from(letter).repeat(count)))
        .collect();
    let message = refused(runs.iter().map(String::as_str).collect());
    assert!(message.contains("imply more than"), "{message}");
}
