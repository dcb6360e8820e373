use super::*;

fn added(tokens: &[(&str, bool)]) -> AddedTokens {
    let token = |(id, (text, control)): (u32, &(&str, bool))| AddedToken {
        id,
        text: text.to_string(),
        control: *control,
        ..AddedToken::default()
    };
    AddedTokens::new((0u32..).zip(tokens).map(token).collect()).unwrap()
}

fn parts(tokens: &AddedTokens, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let shown = |part: Part| match part {
        Part::Token(id) => format!("#{id}"),
        Part::Text(text) => text.replace(SHIELD, "^"),
    };
    tokens.split(text, |part| Ok(out.push(shown(part)))).unwrap();
    out
}

#[test]
fn the_longest_token_wins() {
    let tokens = added(&[("<s>", true), ("<s>>", true), ("s", false)]);
    assert_eq!(parts(&tokens, "a<s>>b<s>s"), ["a", "#1", "b", "#0", "#2"]);
}

#[test]
fn shielded_text_holds_no_token() {
    let tokens = added(&[("<|im_start|>", true), ("</think>", false), ("x", false)]);
    for text in ["<|im_start|>", "a<|im_start|></think>x", "<|im_start<|im_start|>|>", "x", "xx</think>"] {
        let shielded = tokens.shield(text, Shield::All).unwrap();
        assert_eq!(parts(&tokens, &shielded).concat().replace('^', ""), text);
        assert_eq!(shielded.replace(SHIELD, ""), text);
    }
    let control_only = tokens.shield("</think><|im_start|>", Shield::ControlOnly).unwrap();
    assert_eq!(parts(&tokens, &control_only)[0], "#1");
    assert!(!parts(&tokens, &control_only).contains(&"#0".to_string()));
}

#[test]
fn halves_do_not_join() {
    let tokens = added(&[("<|end|>", true)]);
    for cut in 1..7 {
        let (left, right) = "<|end|>".split_at(cut);
        for space in ["", " ", "\n"] {
            // A template may trim both and put them side by side.
            let left = tokens.shield(&format!("a{left}{space}"), Shield::All).unwrap();
            let right = tokens.shield(&format!("{space}{right}b"), Shield::All).unwrap();
            let joined = left.trim().to_string() + right.trim();
            assert!(!parts(&tokens, &joined).contains(&"#0".to_string()), "{cut}");
            // The template's own text may be the other half.
            let completed = "<|end|>"[..cut].to_string() + right.trim();
            assert!(!parts(&tokens, &completed).contains(&"#0".to_string()), "{cut}");
        }
    }
}

#[test]
fn runs_of_white_space_are_no_lookalikes() {
    let tokens = added(&[("\n\n", false), ("  ", false)]);
    assert_eq!(tokens.shield("a\n\nb  c", Shield::All).unwrap(), "a\n\nb  c");
}

#[test]
fn stripping_tokens_take_white_space() {
    let token = AddedToken { id: 0, text: "<m>".into(), lstrip: true, rstrip: true, ..AddedToken::default() };
    let word = AddedToken { id: 1, text: "cat".into(), single_word: true, ..AddedToken::default() };
    let tokens = AddedTokens::new(vec![token, word]).unwrap();
    assert_eq!(parts(&tokens, "a  <m> \n b"), ["a", "#0", "b"]);
    assert_eq!(parts(&tokens, "cat concat cat_ a cat"), ["#1", " concat cat_ a ", "#1"]);
}

#[test]
fn starts_and_ends_of_tokens_are_found_among_their_neighbours() {
    let tokens = added(&[("<a>", true), ("<ab>", true), ("<abc", true), ("b>>", true)]);
    for (text, starts, ends) in [
        ("<", true, false),
        ("<a", true, false),
        ("<ab", true, false),
        ("<abc", false, false),
        ("<b", false, false),
        (">", false, true),
        ("b>", true, true),
        ("bc", false, true),
        ("ab>", false, true),
        ("<ab>", false, false),
    ] {
        assert_eq!(tokens.all.starts_token(text), starts, "{text}");
        assert_eq!(tokens.all.ends_token(text), ends, "{text}");
    }
}

fn numbered(count: u32, text: impl Fn(u32) -> String) -> Result<AddedTokens> {
    let token = |id| AddedToken { id, text: text(id), control: true, ..AddedToken::default() };
    AddedTokens::new((0..count).map(token).collect())
}

#[test]
fn tokens_that_share_little_are_limited() {
    let hostile = |id: u32| (0..512).map(|at| char::from(b'a' + (id.wrapping_mul(at) >> 3) as u8 % 26)).collect();
    let message = numbered(1500, hostile).err().expect("too much to search for").message;
    assert!(message.contains("added tokens hold"), "{message}");
    let long = numbered(2100, |id| format!("{id:0512}")).err().expect("too many bytes").message;
    assert!(long.contains("added tokens hold 1075200 bytes"), "{long}");
    // As models with audio or places in them have.
    let audio = numbered(30_000, |id| format!("<custom_token_{id}>")).unwrap();
    assert_eq!(parts(&audio, "a<custom_token_29999>b"), ["a", "#29999", "b"]);
}
