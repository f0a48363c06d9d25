//! Puts an entry into JSON, with comments or without.
//!
//! The text is edited as a concrete syntax tree, so that everything else stays as it was written:
//! comments, order, indentation, line ends, trailing commas. What the client does not read is not
//! read here either: to write into a file that it throws away would be no help. Afterwards the new
//! text is read again and compared, value by value, with what it should say: a key given twice, of
//! which the client reads the other one, does not pass.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstRootNode};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{Change, Entry, Merged};

/// What clients' files may have beyond JSON.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Puts the entry at `key`, `name` of JSON without comments and trailing commas.
///
/// # Errors
/// As [`merge_with_comments`].
pub(super) fn merge(text: &str, key: &str, name: &str, entry: &Entry) -> Result<Merged, String> {
    if !text.trim().is_empty() {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
            let told = error.to_string();
            let what = told.split(" at line ").next().unwrap_or_default();
            format!("line {}, column {}: {what}", error.line(), error.column())
        })?;
    }
    merge_with_comments(text, key, name, entry)
}

/// Puts the entry at `key`, `name`.
///
/// # Errors
/// Why the text was left alone, with line and column where it is about a place.
pub(super) fn merge_with_comments(
    text: &str,
    key: &str,
    name: &str,
    entry: &Entry,
) -> Result<Merged, String> {
    // The tree lives as long as its root does.
    let root = parse(text)?;
    let before = root.to_serde_value();
    let object = root.object_value_or_create().ok_or("it holds no JSON object")?;
    let servers =
        object.object_value_or_create(key).ok_or_else(|| format!("its {key:?} is no object"))?;
    let value = Value::Object(entry.clone());
    let change = match servers.get(name) {
        Some(found)
            if found.value().and_then(|found| found.to_serde_value()) == Some(value.clone()) =>
        {
            Change::Unchanged
        }
        Some(found) => {
            found.set_value(input(&value));
            Change::Replaced
        }
        None => {
            servers.append(name, input(&value));
            Change::Added
        }
    };
    let text = match change {
        Change::Unchanged => text.to_owned(),
        Change::Added | Change::Replaced => root.to_string(),
    };
    match parse(&text)?.to_serde_value() == Some(expected(before, key, name, value)) {
        true => Ok(Merged { text, change }),
        false => Err(format!("it has {key:?} or {name:?} more than once: keep one of them")),
    }
}

fn parse(text: &str) -> Result<CstRootNode, String> {
    CstRootNode::parse(text, &OPTIONS).map_err(|error| {
        let (line, column) = (error.line_display(), error.column_display());
        format!("line {line}, column {column}: {}", error.kind())
    })
}

/// What the text said before, with the entry.
fn expected(before: Option<Value>, key: &str, name: &str, entry: Value) -> Value {
    let mut root = match before {
        Some(Value::Object(root)) => root,
        _ => Map::new(),
    };
    let servers = root.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(servers) = servers {
        servers.insert(name.into(), entry);
    }
    Value::Object(root)
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), input(value)));
            CstInputValue::Object(fields.collect())
        }
    }
}
