use super::*;

#[test]
fn text_does_not_merge_into_an_added_token() {
    for (normalizer, model) in [
        (json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}), json!({"byte_fallback": true, "fuse_unk": true})),
        (Json::Null, json!({"ignore_merges": false})),
        (Json::Null, json!({"ignore_merges": true})),
    ] {
        let sentence = !normalizer.is_null();
        let mut file = json!({
            "added_tokens": [{"id": 3, "content": "<s>", "special": true}],
            "normalizer": normalizer,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "model": model,
        });
        if sentence {
            file["pre_tokenizer"] = Json::Null;
        }
        file["model"]["type"] = json!("BPE");
        file["model"]["vocab"] = json!({"<": 0, "s>": 1, ">": 2, "<s>": 3, "s": 4});
        file["model"]["merges"] = json!(["s >", "< s>"]);
        let tokenizer = build(&file.to_string()).unwrap();
        assert!(!matches!(tokenizer.engine, Engine::Crate(_)));
        let ids = tokenizer.encode("<s>").unwrap();
        assert!(!ids.contains(&3), "{ids:?}");
        assert_eq!(tokenizer.encode_rendered("<s>").unwrap(), [3]);
    }
}
