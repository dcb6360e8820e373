//! `+`, `%` and `format` with what minijinja's lack.
//!
//! Its `+` joins lists lazily, at no cost; a list that is doubled 33 times is then copied at once, without a bound. Its `%` does not
//! format strings. A compiled template calls the functions here instead: the instruction that calls a function of two arguments
//! takes and leaves the same values on the stack.

use super::strings::pay_for_format;
use super::LimitHit;
use minijinja::formatting::{format, FormatStyle};
use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Expression, State};
use std::sync::OnceLock;

/// Names that no template can spell.
const ADD: &str = "+";
const MODULO: &str = "%";

/// Longest list that `+` makes.
const LIST_MAX: usize = 1_000_000;

/// Makes `+` and `%` calls.
pub fn replace(code: &mut Instructions<'static>) {
    let mut at = 0;
    while let Some(instruction) = code.get_mut(at) {
        match instruction {
            Instruction::Add => *instruction = Instruction::CallFunction(ADD, Some(2)),
            Instruction::Rem => *instruction = Instruction::CallFunction(MODULO, Some(2)),
            _ => {}
        }
        at += 1;
    }
}

/// Adds the functions that the calls mean.
pub fn add_to(environment: &mut Environment<'static>) {
    environment.add_function(ADD, add);
    environment.add_function(MODULO, modulo);
    environment.add_filter("format", format_filter);
}

/// The filter `format(*arguments)`.
fn format_filter(state: &State, text: &str, arguments: Rest<Value>) -> Result<Value, Error> {
    pay_for_format(state, text)?;
    format(FormatStyle::Printf, text, &arguments.0).map(Value::from)
}

/// minijinja's own operator, as an expression of `a` and `b`.
fn original(source: &'static str, cell: &OnceLock<Expression<'static, 'static>>, a: Value, b: Value) -> Result<Value, Error> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(Environment::empty);
    let expression = match cell.get() {
        Some(expression) => expression,
        None => {
            let compiled = environment.compile_expression(source)?;
            cell.get_or_init(|| compiled)
        }
    };
    expression.eval(Value::from_pairs([("a", a), ("b", b)]))
}

fn add(state: &State, a: Value, b: Value) -> Result<Value, Error> {
    static EXPRESSION: OnceLock<Expression<'static, 'static>> = OnceLock::new();
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        state.consume_fuel(((left.len() + right.len()) / 64) as u64)?;
        return Ok(Value::from([left, right].concat()));
    }
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_list(&a) && is_list(&b) {
        let length = a.len().unwrap_or(0).saturating_add(b.len().unwrap_or(0));
        if length > LIST_MAX {
            let hit = LimitHit(format!("a list of {length} items; at most {LIST_MAX} are allowed"));
            return Err(Error::new(ErrorKind::InvalidOperation, hit.0.clone()).with_source(hit));
        }
    }
    original("a + b", &EXPRESSION, a, b)
}

fn modulo(state: &State, a: Value, b: Value) -> Result<Value, Error> {
    static EXPRESSION: OnceLock<Expression<'static, 'static>> = OnceLock::new();
    let Some(text) = a.as_str() else {
        return original("a % b", &EXPRESSION, a, b);
    };
    pay_for_format(state, text)?;
    let arguments: Vec<Value> = if b.is_tuple() { b.try_iter()?.collect() } else { vec![b] };
    format(FormatStyle::Printf, text, &arguments).map(Value::from)
}
