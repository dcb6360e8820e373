//! Chat templates with the semantics of Hugging Face's `apply_chat_template`, bounded in time and memory.

mod messages;
mod operators;
mod python;
mod source;
mod strings;
mod time;
mod work;

use crate::error::{Error, Result, Status};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State};
use minijinja::machinery::{eval, make_string_output, CompiledTemplate, TemplateConfig};
pub use messages::Request;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOURCE_BYTES_MAX: usize = 1 << 20;
/// A call costs four levels of minijinja's recursion counter; blocks around it cost one each.
const RECURSION_MAX: usize = 64 * 5;
/// Steps and 64-byte units of data that every render may use, plus some for its input; never more than `FUEL_MAX`.
const FUEL_BASE: u64 = 500_000;
const FUEL_PER_INPUT_BYTE: u64 = 4;
const FUEL_MAX: u64 = 5_000_000;
const TIME_MAX: Duration = Duration::from_millis(250);
/// Stack of a render. Address space: only what is used becomes memory.
const STACK_BYTES: usize = 128 << 20;
const NAME: &str = "chat_template";

/// A compiled template. Immutable, so one may be shared between threads.
pub struct Template {
    /// Borrows `source`, which lies still on the heap; declared before it, so dropped before it.
    compiled: CompiledTemplate<'static>,
    environment: Environment<'static>,
    #[allow(dead_code)]
    source: Box<str>,
}

/// Bounds of one render, checked whenever something is printed.
#[derive(Clone, Copy, Debug)]
struct Deadline(Instant);

/// The error behind `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

#[derive(Debug)]
struct LimitHit(String);

impl std::fmt::Display for LimitHit {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LimitHit {}

impl Template {
    pub fn compile(source: &str) -> Result<Template> {
        if source.len() > SOURCE_BYTES_MAX {
            let size = source.len();
            return Err(Error::limit(format!(
                "chat template has {size} bytes; at most {SOURCE_BYTES_MAX} are allowed"
            )));
        }
        let source: Box<str> = source::prepare(&normalize_newlines(source))?.into();
        // SAFETY: `compiled` is private, and `source` outlives it and is never changed.
        let text: &'static str = unsafe { &*std::ptr::from_ref::<str>(&source) };
        let config = TemplateConfig {
            syntax_config: syntax().map_err(describe)?,
            default_auto_escape: Arc::new(|_| AutoEscape::None),
        };
        let mut compiled = CompiledTemplate::new(NAME, text, &config).map_err(describe)?;
        operators::replace(&mut compiled.instructions).map_err(describe)?;
        Ok(Template { compiled, environment: new_environment(), source })
    }

    /// The prompt for `request`. Fails with `Raised` when the template refuses it, with `Limit` when a bound is hit.
    pub fn render(&self, request: &Request) -> Result<String> {
        // A list in a list in a list, as deep as the fuel allows, is freed by recursion: about 50 bytes of stack a level.
        stacker::grow(STACK_BYTES, || self.render_here(request))
    }

    fn render_here(&self, request: &Request) -> Result<String> {
        let context = messages::context(request)?;
        let mut environment = self.environment.clone();
        let fuel = FUEL_BASE + FUEL_PER_INPUT_BYTE * request.input_bytes() as u64;
        environment.set_fuel(Some(fuel.min(FUEL_MAX)));
        let deadline = Deadline(Instant::now() + TIME_MAX);
        environment.set_formatter(move |out, state, value| print(deadline, out, state, value));
        let mut prompt = String::new();
        let (code, blocks) = (&self.compiled.instructions, &self.compiled.blocks);
        let mut out = make_string_output(&mut prompt);
        eval(&environment, code, context.variables, blocks, &mut out, AutoEscape::None).map_err(describe)?;
        drop(out);
        if prompt.len() > request.output_bytes_max {
            let limit = request.output_bytes_max;
            return Err(Error::limit(format!("chat template: its output is longer than {limit} bytes")));
        }
        match context.final_text {
            Some(text) => messages::cut_after(prompt, &text),
            None => Ok(prompt),
        }
    }
}

/// Jinja reads every kind of line end as "\n".
fn normalize_newlines(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

fn syntax() -> std::result::Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn new_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_unknown_method_callback(strings::call_method);
    environment.add_filter("tojson", python::tojson);
    environment.add_filter("int", python::int);
    environment.add_filter("float", python::float);
    environment.add_filter("default", python::default);
    environment.add_filter("d", python::default);
    environment.add_test("iterable", python::is_iterable);
    environment.add_test("sequence", python::is_sequence);
    environment.add_test("number", python::is_number);
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_filter("trim", |state: &State, value: &Value, chars: Option<&str>, kwargs: Kwargs| {
        let chars = match chars {
            Some(chars) => Some(chars),
            None => kwargs.get("chars")?,
        };
        kwargs.assert_all_used()?;
        let text = python::to_str(state, value)?;
        Ok::<_, minijinja::Error>(strings::strip(&text, chars, true, true).to_string())
    });
    environment.add_function("raise_exception", |state: &State, message: &Value| -> std::result::Result<Value, _> {
        let message = python::to_str(state, message)?.into_owned();
        let error = minijinja::Error::new(ErrorKind::InvalidOperation, message.clone());
        Err(error.with_source(Raised(message)))
    });
    operators::add_to(&mut environment);
    environment
}

/// Prints a value as Python's `str` does.
fn print(
    deadline: Deadline,
    out: &mut Output,
    state: &mut State,
    value: &Value,
) -> std::result::Result<(), minijinja::Error> {
    if Instant::now() > deadline.0 {
        let hit = LimitHit(format!("it took longer than {} ms", TIME_MAX.as_millis()));
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, hit.0.clone()).with_source(hit));
    }
    let text = python::to_str(state, value)?;
    state.consume_fuel((text.len() / 64) as u64)?;
    out.write_str(&text).map_err(minijinja::Error::from)
}

/// Turns minijinja's error into ours: what the template raised, a limit, or a fault with its line.
fn describe(error: minijinja::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut innermost = None;
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<Raised>() {
            return Error { status: Status::Raised, message: raised.0.clone() };
        }
        if let Some(hit) = current.downcast_ref::<LimitHit>() {
            return Error::limit(format!("chat template: {hit}"));
        }
        innermost = current.downcast_ref::<minijinja::Error>().or(innermost);
        cause = current.source();
    }
    let shown = innermost.unwrap_or(&error);
    let line = shown.line().or(error.line()).map_or(String::new(), |line| format!(" line {line}"));
    let message = match shown.detail() {
        Some(detail) => format!("chat template{line}: {}: {detail}", shown.kind()),
        None => format!("chat template{line}: {}", shown.kind()),
    };
    match shown.kind() {
        ErrorKind::OutOfFuel => Error::limit(format!("chat template{line}: it needs too many steps or too much memory")),
        _ => Error::invalid(message),
    }
}

#[cfg(test)]
#[path = "template_test.rs"]
mod tests;
