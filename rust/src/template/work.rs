//! Pays for walks over values, which minijinja takes for free: to it a list is its items' number. A list that holds the same list
//! twice, forty times over, is made in forty steps and printed, compared or copied in 2^40.

use super::python::{failure, DEPTH_MAX};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, State};

/// Bytes that one unit of fuel pays for, and what visiting a value costs in them: sixteen take as long as an instruction.
const BYTES: u64 = 64;
const VISIT: u64 = BYTES / 16;

/// Whether a walk over `value` may be long.
pub fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
}

/// Pays for visiting `value` and everything in it.
pub fn pay_for_walk(state: &State, value: &Value) -> Result<(), Error> {
    let mut walk = Walk { state, owed: 0 };
    walk.value(value, 0)?;
    state.consume_fuel(walk.owed / BYTES)
}

/// Pays for comparing `a` with `b`: the smaller is walked at most.
pub fn pay_for_comparison(state: &State, a: &Value, b: &Value) -> Result<(), Error> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return state.consume_fuel(a.len().min(b.len()) as u64 / BYTES);
    }
    if !is_container(a) || !is_container(b) {
        return Ok(());
    }
    pay_for_walk(state, if a.len() <= b.len() { a } else { b })
}

/// Pays for looking for `item` in `container`.
pub fn pay_for_search(state: &State, item: &Value, container: &Value) -> Result<(), Error> {
    let length = item.as_str().map_or(0, str::len) as u64;
    match container.kind() {
        ValueKind::String => state.consume_fuel((container.as_str().map_or(0, str::len) as u64 + length) / BYTES),
        ValueKind::Map => pay_for_walk(state, item),
        ValueKind::Seq | ValueKind::Iterable if is_container(item) => pay_for_walk(state, container),
        ValueKind::Seq | ValueKind::Iterable => state.consume_fuel(container.len().unwrap_or(0) as u64 * (VISIT + length) / BYTES),
        _ => Ok(()),
    }
}

struct Walk<'s> {
    state: &'s State<'s, 's>,
    owed: u64,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(failure(format!("the value is nested deeper than {DEPTH_MAX}")));
        }
        self.owed += VISIT + value.as_str().map_or(0, str::len) as u64;
        if self.owed > 256 * BYTES {
            self.state.consume_fuel(self.owed / BYTES)?;
            self.owed %= BYTES;
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| self.value(&item, depth + 1)),
            ValueKind::Map => value.try_iter()?.try_for_each(|key| {
                self.value(&key, depth + 1)?;
                self.value(&value.get_item(&key)?, depth + 1)
            }),
            _ => Ok(()),
        }
    }
}
