//! Text processing for Pagemill: tokenizers and chat templates behind a C ABI (`include/pagemill_text.h`).
//!
//! `ffi` is the only module with unsafe code. No thread is started here and nothing is shared between handles.

mod added;
mod bpe;
mod byte_map;
mod classes;
mod error;
pub mod ffi;
mod split;
mod template;
mod tokenizer;
mod tokenizer_json;
mod unicode_tables;
mod vocabulary;
