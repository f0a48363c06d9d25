//! What an expression comes to.
//!
//! As on GitHub: names and texts are compared without regard to case, values of different types as
//! numbers, `&&` and `||` give one of their operands, and what is not there is null.

use serde_json::{Map, Value};

use super::parse::number_of;
use super::{Expression, Function, Operator};

/// What expressions speak of.
#[derive(Clone, Copy, Debug)]
pub(in crate::jobs) struct Scope<'a> {
    pub(in crate::jobs) contexts: &'a Map<String, Value>,
    /// How the job has gone so far.
    pub(in crate::jobs) status: Status,
}

/// How a job has gone so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::jobs) enum Status {
    #[default]
    Success,
    Failure,
    /// Of the jobs that one needs: none failed, and some did not run.
    Skipped,
}

impl Status {
    pub(in crate::jobs) fn name(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::Failure => "failure",
            Status::Skipped => "skipped",
        }
    }
}

impl Expression {
    /// # Errors
    /// A function was given what it cannot work with.
    pub(in crate::jobs) fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, String> {
        Ok(match self {
            Expression::Literal(value) => value.clone(),
            Expression::Name(name) => find(scope.contexts, name),
            Expression::Index(of, key) => {
                let (of, key) = (of.evaluate(scope)?, key.evaluate(scope)?);
                match &of {
                    Value::Object(map) => find(map, &text(&key)),
                    Value::Array(items) => item(items, &key),
                    _ => Value::Null,
                }
            }
            Expression::Not(of) => Value::Bool(!is_true(&of.evaluate(scope)?)),
            Expression::Binary(operator, left, right) => {
                let left = left.evaluate(scope)?;
                match operator {
                    Operator::And if !is_true(&left) => left,
                    Operator::Or if is_true(&left) => left,
                    Operator::And | Operator::Or => right.evaluate(scope)?,
                    _ => Value::Bool(compares(*operator, &left, &right.evaluate(scope)?)),
                }
            }
            Expression::Call(function, arguments) => {
                let arguments: Vec<Value> =
                    arguments.iter().map(|it| it.evaluate(scope)).collect::<Result<_, _>>()?;
                call(*function, &arguments, scope.status)?
            }
        })
    }
}

fn find(map: &Map<String, Value>, name: &str) -> Value {
    let found = map.get(name).or_else(|| {
        map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    });
    found.cloned().unwrap_or_default()
}

fn item(items: &[Value], key: &Value) -> Value {
    let index = number(key).filter(|index| index.fract() == 0.0 && *index >= 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and not negative; what is too large is beyond the end"
    )]
    let found = index.and_then(|index| items.get(index as usize));
    found.cloned().unwrap_or_default()
}

/// Whether a value counts as true.
pub(in crate::jobs) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// How a value stands in a text.
pub(in crate::jobs) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) => "Array".into(),
        Value::Object(_) => "Object".into(),
    }
}

/// The number that a value is taken for; `None` is no number.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(0.0),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.trim().is_empty() => Some(0.0),
        Value::String(text) => match text.trim().strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok().map(f64::from),
            None => text.trim().parse().ok(),
        },
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn compares(operator: Operator, left: &Value, right: &Value) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => {
            Some(left.to_uppercase().cmp(&right.to_uppercase()))
        }
        // Lists and objects equal nothing: whether two are one and the same is not kept.
        _ => number(left).zip(number(right)).and_then(|(left, right)| left.partial_cmp(&right)),
    };
    match operator {
        Operator::Equal => order == Some(Equal),
        Operator::NotEqual => order != Some(Equal),
        Operator::Less => order == Some(Less),
        Operator::LessOrEqual => matches!(order, Some(Less | Equal)),
        Operator::Greater => order == Some(Greater),
        Operator::GreaterOrEqual => matches!(order, Some(Greater | Equal)),
        Operator::And | Operator::Or => false,
    }
}

fn call(function: Function, arguments: &[Value], status: Status) -> Result<Value, String> {
    let folded = |at: usize| arguments.get(at).map(text).unwrap_or_default().to_lowercase();
    Ok(match function {
        Function::Contains => Value::Bool(match &arguments[0] {
            Value::Array(items) => {
                items.iter().any(|item| compares(Operator::Equal, item, &arguments[1]))
            }
            _ => folded(0).contains(&folded(1)),
        }),
        Function::StartsWith => folded(0).starts_with(&folded(1)).into(),
        Function::EndsWith => folded(0).ends_with(&folded(1)).into(),
        Function::Format => format(&text(&arguments[0]), &arguments[1..])?.into(),
        Function::Join => {
            let separator = arguments.get(1).map_or_else(|| ",".to_owned(), text);
            match &arguments[0] {
                Value::Array(items) => {
                    items.iter().map(text).collect::<Vec<_>>().join(&separator).into()
                }
                other => text(other).into(),
            }
        }
        Function::ToJson => {
            serde_json::to_string_pretty(&arguments[0]).map_err(|error| error.to_string())?.into()
        }
        Function::FromJson => {
            let value: Value = serde_json::from_str(&text(&arguments[0]))
                .map_err(|error| format!("fromJSON: {error}"))?;
            whole(value)
        }
        Function::Success => (status == Status::Success).into(),
        Function::Failure => (status == Status::Failure).into(),
        Function::Always => true.into(),
        // What is cancelled here is ended, and evaluates nothing any more.
        Function::Cancelled => false.into(),
    })
}

/// Whole numbers have no fraction, however they were written.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            number.as_f64().and_then(number_of).map_or(Value::Null, Value::from)
        }
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, whole(value))).collect())
        }
        other => other,
    }
}

/// `{0}` is the first value, `{{` and `}}` are braces.
fn format(pattern: &str, values: &[Value]) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), pattern);
    while let Some(at) = rest.find(['{', '}']) {
        filled += &rest[..at];
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            filled += brace;
            rest = after;
            continue;
        }
        let field = rest.split_once('}').filter(|_| brace == "{");
        let Some((index, after)) = field else {
            return Err(format!("format: {pattern:?} has a lone brace"));
        };
        let value = index.parse().ok().and_then(|index: usize| values.get(index));
        let value = value.ok_or_else(|| format!("format: there is no value for {{{index}}}"))?;
        filled += &text(value);
        rest = after;
    }
    filled += rest;
    Ok(filled)
}
