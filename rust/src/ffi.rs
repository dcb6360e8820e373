//! The C ABI of `include/pagemill_text.h`, which holds its contract.
//!
//! Safety, for every function here: pointers are null where the header allows it, else valid for what the header says.

use crate::added::Shield;
use crate::error::{Error, Result, Status};
use crate::template::{Request, Template};
use crate::tokenizer::{Engine, TokenKind, Tokenizer};
use crate::tokenizer_json;
use crate::vocabulary::{self, Vocabulary};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::null;
use std::slice;

#[derive(Clone, Copy)]
#[repr(C)]
pub struct PmtText {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct PmtBuffer {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct PmtIds {
    data: *mut u32,
    size: usize,
}

#[repr(C)]
pub struct PmtVocabulary {
    model: PmtText,
    pre: PmtText,
    tokens: *const PmtText,
    token_count: usize,
    scores: *const f32,
    score_count: usize,
    types: *const i32,
    type_count: usize,
    merges: *const PmtText,
    merge_count: usize,
    unknown_id: i64,
    add_space_prefix: u8,
}

#[repr(C)]
pub struct PmtRequest {
    messages: PmtText,
    tools: PmtText,
    documents: PmtText,
    special_tokens: PmtText,
    variables: PmtText,
    add_generation_prompt: u8,
    continue_final_message: u8,
    local_time_s: i64,
    output_bytes_max: usize,
    shield: *const Tokenizer,
}

unsafe fn array<'a, T>(data: *const T, count: usize) -> &'a [T] {
    match count {
        0 => &[],
        _ => slice::from_raw_parts(data, count),
    }
}

impl PmtText {
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        array(self.data, self.size)
    }

    unsafe fn text<'a>(self, name: &str) -> Result<&'a str> {
        let bytes = self.bytes();
        std::str::from_utf8(bytes)
            .map_err(|e| Error::invalid(format!("{name}: not UTF-8 at byte {}", e.valid_up_to())))
    }
}

/// Gives `items` away as pointer and length; `reclaim` takes them back.
fn give<T>(items: Vec<T>) -> (*mut T, usize) {
    let size = items.len();
    (Box::into_raw(items.into_boxed_slice()) as *mut T, size)
}

unsafe fn reclaim<T>(data: &mut *mut T, size: &mut usize) {
    if !data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(*data, *size)));
    }
    *data = std::ptr::null_mut();
    *size = 0;
}

impl PmtBuffer {
    fn from(bytes: Vec<u8>) -> PmtBuffer {
        let (data, size) = give(bytes);
        PmtBuffer { data, size }
    }
}

/// Runs `work` and stores its result, or its error's message.
unsafe fn guarded<T>(result: *mut T, message: *mut PmtBuffer, work: impl FnOnce() -> Result<T>) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let message = format!("internal error: {}", text.unwrap_or_default());
        Err(Error { status: Status::Panic, message })
    });
    match outcome {
        Ok(value) => {
            result.write(value);
            Status::Ok
        }
        Err(error) => {
            if !message.is_null() {
                message.write(PmtBuffer::from(error.message.into_bytes()));
            }
            error.status
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn pmt_buffer_free(buffer: *mut PmtBuffer) {
    reclaim(&mut (*buffer).data, &mut (*buffer).size);
}

#[no_mangle]
pub unsafe extern "C" fn pmt_ids_free(ids: *mut PmtIds) {
    reclaim(&mut (*ids).data, &mut (*ids).size);
}

unsafe fn texts<'a>(name: &str, list: &[PmtText]) -> Result<Vec<&'a str>> {
    list.iter()
        .enumerate()
        .map(|(index, text)| text.text("").map_err(|e| Error::invalid(format!("{name}[{index}]{}", e.message))))
        .collect()
}

impl PmtVocabulary {
    unsafe fn read(&self) -> Result<Vocabulary<'_>> {
        Ok(Vocabulary {
            model: self.model.text("tokenizer.ggml.model")?,
            pre: self.pre.text("tokenizer.ggml.pre")?,
            tokens: texts("tokenizer.ggml.tokens", array(self.tokens, self.token_count))?,
            scores: array(self.scores, self.score_count),
            types: array(self.types, self.type_count),
            merges: texts("tokenizer.ggml.merges", array(self.merges, self.merge_count))?,
            unknown: u32::try_from(self.unknown_id).ok(),
            add_space_prefix: self.add_space_prefix != 0,
        })
    }
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_from_vocabulary(
    vocabulary: *const PmtVocabulary,
    tokenizer: *mut *mut Tokenizer,
    message: *mut PmtBuffer,
) -> Status {
    guarded(tokenizer, message, || {
        let built = vocabulary::build(&(*vocabulary).read()?)?;
        Ok(Box::into_raw(Box::new(built)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_from_json(
    json: PmtText,
    tokenizer: *mut *mut Tokenizer,
    message: *mut PmtBuffer,
) -> Status {
    guarded(tokenizer, message, || {
        let built = tokenizer_json::build(json.text("tokenizer.json")?)?;
        Ok(Box::into_raw(Box::new(built)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

fn owned_ids(ids: Vec<u32>) -> PmtIds {
    let (data, size) = give(ids);
    PmtIds { data, size }
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_encode(
    tokenizer: *const Tokenizer,
    bytes: PmtText,
    ids: *mut PmtIds,
    message: *mut PmtBuffer,
) -> Status {
    guarded(ids, message, || {
        let text = String::from_utf8_lossy(bytes.bytes());
        Ok(owned_ids((*tokenizer).encode(&text)?))
    })
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_encode_rendered(
    tokenizer: *const Tokenizer,
    text: PmtText,
    ids: *mut PmtIds,
    message: *mut PmtBuffer,
) -> Status {
    guarded(ids, message, || {
        Ok(owned_ids((*tokenizer).encode_rendered(text.text("the rendered text")?)?))
    })
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_shield(
    tokenizer: *const Tokenizer,
    text: PmtText,
    which: i32,
    shielded: *mut PmtBuffer,
    message: *mut PmtBuffer,
) -> Status {
    guarded(shielded, message, || {
        let which = if which == 1 { Shield::ControlOnly } else { Shield::All };
        let out = (*tokenizer).shield(text.text("the text")?, which)?;
        Ok(PmtBuffer::from(out.into_bytes()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_adds_space_prefix(tokenizer: *const Tokenizer) -> u8 {
    matches!(&(*tokenizer).engine, Engine::Sentence(engine) if engine.add_space_prefix).into()
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_vocabulary_size(tokenizer: *const Tokenizer) -> usize {
    (&*tokenizer).kinds.len()
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_token_bytes(tokenizer: *const Tokenizer, id: u32) -> PmtText {
    match (&*tokenizer).bytes.get(id) {
        Some(bytes) => PmtText { data: bytes.as_ptr(), size: bytes.len() },
        None => PmtText { data: null(), size: 0 },
    }
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_token_kind(tokenizer: *const Tokenizer, id: u32) -> u8 {
    let kind = (&*tokenizer).kinds.get(id as usize).copied();
    kind.unwrap_or(TokenKind::Unused) as u8
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_added_count(tokenizer: *const Tokenizer) -> usize {
    (&*tokenizer).added.tokens().len()
}

#[no_mangle]
pub unsafe extern "C" fn pmt_tokenizer_added_id(tokenizer: *const Tokenizer, index: usize) -> u32 {
    (&*tokenizer).added.tokens().get(index).map_or(u32::MAX, |token| token.id)
}

#[no_mangle]
pub unsafe extern "C" fn pmt_template_compile(
    source: PmtText,
    compiled: *mut *mut Template,
    message: *mut PmtBuffer,
) -> Status {
    guarded(compiled, message, || {
        let template = Template::compile(source.text("chat template")?)?;
        Ok(Box::into_raw(Box::new(template)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn pmt_template_render(
    compiled: *const Template,
    request: *const PmtRequest,
    prompt: *mut PmtBuffer,
    message: *mut PmtBuffer,
) -> Status {
    guarded(prompt, message, || {
        let request = &*request;
        let rendered = (*compiled).render(&Request {
            messages: request.messages.text("messages")?,
            tools: request.tools.text("tools")?,
            documents: request.documents.text("documents")?,
            special_tokens: request.special_tokens.text("special tokens")?,
            variables: request.variables.text("template variables")?,
            add_generation_prompt: request.add_generation_prompt != 0,
            continue_final_message: request.continue_final_message != 0,
            local_time_s: request.local_time_s,
            output_bytes_max: request.output_bytes_max,
            shield: request.shield.as_ref(),
        })?;
        Ok(PmtBuffer::from(rendered.into_bytes()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn pmt_template_free(compiled: *mut Template) {
    if !compiled.is_null() {
        drop(Box::from_raw(compiled));
    }
}

#[cfg(test)]
#[path = "ffi_test.rs"]
mod tests;
