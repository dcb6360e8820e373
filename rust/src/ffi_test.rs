//! The hand-written header and the functions here declare the same names, and the structs have C's sizes.

use super::*;
use std::collections::BTreeSet;
use std::mem::size_of;

fn names(source: &str, before: &str) -> BTreeSet<String> {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let calls = lines.flat_map(|line| line.match_indices("pmt_").map(move |(at, _)| (line, at)));
    calls
        .filter(|(line, at)| line[..*at].ends_with(before))
        .filter_map(|(line, at)| line[at..].split_once('(').map(|(name, _)| name.to_string()))
        .collect()
}

#[test]
fn the_header_declares_what_is_exported() {
    let header = names(include_str!("../include/pagemill_text.h"), " ");
    let exported = names(include_str!("ffi.rs"), "extern \"C\" fn ");
    assert_eq!(header, exported);
    assert!(exported.len() > 12);
}

#[test]
fn structs_have_the_size_that_the_header_asserts() {
    let header = include_str!("../include/pagemill_text.h");
    for (name, size) in [
        ("PmtText", size_of::<PmtText>()),
        ("PmtBuffer", size_of::<PmtBuffer>()),
        ("PmtIds", size_of::<PmtIds>()),
        ("PmtVocabulary", size_of::<PmtVocabulary>()),
        ("PmtRequest", size_of::<PmtRequest>()),
    ] {
        let wanted = format!("sizeof({name}) == {size},");
        assert!(header.contains(&wanted), "the header lacks {wanted}");
    }
}

#[test]
fn a_panic_becomes_a_status() {
    let (mut result, mut message) = (0, PmtBuffer { data: std::ptr::null_mut(), size: 0 });
    let status = unsafe { guarded(&mut result, &mut message, || -> Result<i32> { panic!("boom") }) };
    assert_eq!((status, result), (Status::Panic, 0));
    let text = unsafe { std::str::from_utf8(array(message.data, message.size)).unwrap() };
    assert!(text.contains("boom"));
    unsafe { pmt_buffer_free(&mut message) };
    assert!(message.data.is_null());
}
