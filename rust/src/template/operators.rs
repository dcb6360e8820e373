//! What a compiled template does otherwise than minijinja has it.
//!
//! Its `+`, `*` and slices of lists are lazy and free: each makes every later pass over the list longer, and a list that is doubled 33
//! times is copied at once, without a bound. Its literals, comparisons and `~` take any value for a small one (see `work`). Its `%`
//! does not format strings. Such instructions become calls of the functions here: the instruction that calls a function of so many
//! arguments takes and leaves the same values on the stack. What is left of minijinja's is a comparison in a chain (`a < b < c`).

use super::python::to_str;
use super::strings::pay_for_format;
use super::work::{is_container, pay_for_comparison, pay_for_search, pay_for_walk};
use super::LimitHit;
use minijinja::formatting::{format, FormatStyle};
use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::{Enumerator, Object, ObjectRepr, Rest, Tuple, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Expression, State};
use std::sync::{Arc, OnceLock};

/// Longest list that an operator makes.
const LIST_MAX: usize = 1_000_000;

/// Makes such instructions calls. No template can spell the names of these functions.
pub fn replace(code: &mut Instructions<'static>) -> Result<(), Error> {
    let mut at = 0;
    while let Some(instruction) = code.get_mut(at) {
        let (name, arguments) = match instruction {
            Instruction::Add => ("+", Some(2)),
            Instruction::Mul => ("*", Some(2)),
            Instruction::Rem => ("%", Some(2)),
            Instruction::StringConcat => ("~", Some(2)),
            Instruction::Eq => ("==", Some(2)),
            Instruction::Ne => ("!=", Some(2)),
            Instruction::Lt => ("<", Some(2)),
            Instruction::Lte => ("<=", Some(2)),
            Instruction::Gt => (">", Some(2)),
            Instruction::Gte => (">=", Some(2)),
            Instruction::In => (" in ", Some(2)),
            Instruction::Slice => ("[:]", Some(4)),
            Instruction::BuildList(count) => ("[]", counted(*count)?),
            Instruction::BuildTuple(count) => ("()", counted(*count)?),
            Instruction::BuildMap(pairs) => ("{}", counted(Some(2 * *pairs))?),
            _ => {
                at += 1;
                continue;
            }
        };
        *instruction = Instruction::CallFunction(name, arguments);
        at += 1;
    }
    Ok(())
}

/// A number of arguments; None is one that lies on the stack.
fn counted(count: Option<usize>) -> Result<Option<u16>, Error> {
    let too_many = |_| limit(format!("a literal holds more than {} values", u16::MAX));
    count.map(u16::try_from).transpose().map_err(too_many)
}

fn limit(message: String) -> Error {
    let hit = LimitHit(message);
    Error::new(ErrorKind::InvalidOperation, hit.0.clone()).with_source(hit)
}

/// Adds the functions that the calls mean.
pub fn add_to(environment: &mut Environment<'static>) {
    environment.add_function("+", add);
    environment.add_function("*", multiply);
    environment.add_function("%", modulo);
    environment.add_function("~", concatenate);
    environment.add_function("==", |state: &State, a: Value, b: Value| pay_for_comparison(state, &a, &b).map(|()| a == b));
    environment.add_function("!=", |state: &State, a: Value, b: Value| pay_for_comparison(state, &a, &b).map(|()| a != b));
    environment.add_function("<", |state: &State, a: Value, b: Value| pay_for_comparison(state, &a, &b).map(|()| a < b));
    environment.add_function("<=", |state: &State, a: Value, b: Value| pay_for_comparison(state, &a, &b).map(|()| a <= b));
    environment.add_function(">", |state: &State, a: Value, b: Value| pay_for_comparison(state, &a, &b).map(|()| a > b));
    environment.add_function(">=", |state: &State, a: Value, b: Value| pay_for_comparison(state, &a, &b).map(|()| a >= b));
    environment.add_function(" in ", contains);
    environment.add_function("[:]", slice);
    environment.add_function("[]", |state: &State, items: Rest<Value>| paid(state, items).map(Value::from));
    environment.add_function("()", |state: &State, items: Rest<Value>| paid(state, items).map(|items| Value::from(Tuple::from(items))));
    environment.add_function("{}", map);
    environment.add_filter("format", format_filter);
    environment.add_test("lower", |state: &State, text: &str| is_cased(state, text, char::is_lowercase));
    environment.add_test("upper", |state: &State, text: &str| is_cased(state, text, char::is_uppercase));
    // Not Jinja's; lazy or free.
    environment.remove_filter("chain");
    environment.remove_filter("zip");
    environment.remove_test("startingwith");
    environment.remove_test("endingwith");
    environment.remove_global("debug");
}

/// minijinja's own operator, as an expression of `a`, `b`, `c` and `d`.
fn original<const N: usize>(source: &'static str, cell: &OnceLock<Expression<'static, 'static>>, operands: [Value; N]) -> Result<Value, Error> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(Environment::empty);
    let expression = match cell.get() {
        Some(expression) => expression,
        None => {
            let compiled = environment.compile_expression(source)?;
            cell.get_or_init(|| compiled)
        }
    };
    expression.eval(Value::from_pairs(["a", "b", "c", "d"].into_iter().zip(operands)))
}

/// The items of a literal. What they hold is paid for here, so that no value becomes larger than what was paid.
fn paid(state: &State, items: Rest<Value>) -> Result<Vec<Value>, Error> {
    items.iter().filter(|item| is_container(item)).try_for_each(|item| pay_for_walk(state, item))?;
    Ok(items.0)
}

fn map(state: &State, entries: Rest<Value>) -> Result<Value, Error> {
    let entries = paid(state, entries)?;
    Ok(Value::from_pairs(entries.chunks_exact(2).map(|entry| (entry[0].clone(), entry[1].clone()))))
}

/// The filter `format(*arguments)`.
fn format_filter(state: &State, text: &str, arguments: Rest<Value>) -> Result<Value, Error> {
    pay_for_format(state, text)?;
    arguments.iter().try_for_each(|argument| pay_for_walk(state, argument))?;
    format(FormatStyle::Printf, text, &arguments.0).map(Value::from)
}

/// `str.islower` and `str.isupper`: all letters that have a case have this one, and there is one.
fn is_cased(state: &State, text: &str, wanted: fn(char) -> bool) -> Result<bool, Error> {
    state.consume_fuel(text.len() as u64 / 64)?;
    let mut cased = text.chars().filter(|c| c.is_lowercase() || c.is_uppercase()).peekable();
    Ok(cased.peek().is_some() && cased.all(wanted))
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// Refuses a list that would be too long.
fn check_length(length: usize) -> Result<(), Error> {
    if length <= LIST_MAX {
        return Ok(());
    }
    Err(limit(format!("a list of {length} items; at most {LIST_MAX} are allowed")))
}

fn add(state: &State, a: Value, b: Value) -> Result<Value, Error> {
    static EXPRESSION: OnceLock<Expression<'static, 'static>> = OnceLock::new();
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        state.consume_fuel(((left.len() + right.len()) / 64) as u64)?;
        return Ok(Value::from([left, right].concat()));
    }
    if !is_list(&a) || !is_list(&b) {
        return original("a + b", &EXPRESSION, [a, b]);
    }
    check_length(a.len().unwrap_or(0).saturating_add(b.len().unwrap_or(0)))?;
    if a.is_tuple() || b.is_tuple() {
        return original("a + b", &EXPRESSION, [a, b]);
    }
    Sum::of(state, &a, &b).map(Value::from_object)
}

/// `a + b` of lists. Templates collect with `ns.list = ns.list + [item]`: the sum shares its full pieces with `a`, so that a list of n
/// items costs n^2 / PIECE and not n^2.
#[derive(Debug)]
struct Sum {
    /// All of PIECE items but the last.
    pieces: Vec<Arc<Vec<Value>>>,
    length: usize,
}

impl Sum {
    const PIECE: usize = 64;

    fn of(state: &State, a: &Value, b: &Value) -> Result<Sum, Error> {
        let mut sum = match a.downcast_object_ref::<Sum>() {
            Some(sum) => Sum { pieces: sum.pieces.clone(), length: sum.length },
            None => Sum { pieces: Vec::new(), length: 0 },
        };
        state.consume_fuel(1 + sum.pieces.len() as u64 / 8)?;
        if sum.length == 0 {
            sum.append(state, a)?;
        }
        sum.append(state, b)?;
        Ok(sum)
    }

    fn append(&mut self, state: &State, items: &Value) -> Result<(), Error> {
        for item in items.try_iter()? {
            if self.length % Sum::PIECE == 0 {
                state.consume_fuel(Sum::PIECE as u64 / 2)?;
                self.pieces.push(Arc::new(Vec::with_capacity(Sum::PIECE)));
            }
            self.length += 1;
            check_length(self.length)?;
            if let Some(piece) = self.pieces.last_mut() {
                Arc::make_mut(piece).push(item);
            }
        }
        Ok(())
    }
}

impl Object for Sum {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = key.as_usize()?;
        self.pieces.get(index / Sum::PIECE)?.get(index % Sum::PIECE).cloned()
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length)
    }
}

fn multiply(state: &State, a: Value, b: Value) -> Result<Value, Error> {
    static EXPRESSION: OnceLock<Expression<'static, 'static>> = OnceLock::new();
    let repeated = [(&a, &b), (&b, &a)].into_iter().find_map(|(what, times)| Some((what, usize::try_from(i64::try_from(times.clone()).ok()?.max(0)).ok()?)));
    if let Some((text, times)) = repeated.and_then(|(what, times)| Some((what.as_str()?, times))) {
        state.consume_fuel((text.len() as u64).saturating_mul(times as u64) / 64)?;
    }
    let Some((list, times)) = repeated.filter(|(what, _)| is_list(what)) else {
        return original("a * b", &EXPRESSION, [a, b]);
    };
    check_length(list.len().unwrap_or(LIST_MAX + 1).saturating_mul(times))?;
    if list.is_tuple() {
        return original("a * b", &EXPRESSION, [a, b]);
    }
    let items: Vec<Value> = list.try_iter()?.collect();
    Ok((0..times).flat_map(|_| items.iter().cloned()).collect())
}

fn modulo(state: &State, a: Value, b: Value) -> Result<Value, Error> {
    static EXPRESSION: OnceLock<Expression<'static, 'static>> = OnceLock::new();
    let Some(text) = a.as_str() else {
        return original("a % b", &EXPRESSION, [a, b]);
    };
    pay_for_format(state, text)?;
    pay_for_walk(state, &b)?;
    let arguments: Vec<Value> = if b.is_tuple() { b.try_iter()?.collect() } else { vec![b] };
    format(FormatStyle::Printf, text, &arguments).map(Value::from)
}

fn concatenate(state: &State, a: Value, b: Value) -> Result<Value, Error> {
    let (left, right) = (to_str(state, &a)?, to_str(state, &b)?);
    state.consume_fuel((left.len() + right.len()) as u64 / 64)?;
    Ok(Value::from([left, right].concat()))
}

fn contains(state: &State, item: Value, container: Value) -> Result<Value, Error> {
    static EXPRESSION: OnceLock<Expression<'static, 'static>> = OnceLock::new();
    pay_for_search(state, &item, &container)?;
    original("a in b", &EXPRESSION, [item, container])
}

fn slice(state: &State, value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    static EXPRESSION: OnceLock<Expression<'static, 'static>> = OnceLock::new();
    state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / 64)?;
    let is_list = is_list(&value) && !value.is_tuple();
    // Items before the first are passed one by one.
    state.consume_fuel(if is_list { value.len().unwrap_or(0) as u64 / 16 } else { 0 })?;
    let part = original("a[b:c:d]", &EXPRESSION, [value, start, stop, step])?;
    if !is_list {
        return Ok(part);
    }
    check_length(part.len().unwrap_or(0))?;
    Ok(part.try_iter()?.collect::<Vec<Value>>().into())
}
