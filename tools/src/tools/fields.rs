//! Arguments and results, field by field: how they are read, checked and shown.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use p2p_workflow_scheduler::node::CallError;
use p2p_workflow_scheduler::scheduler::limits::MAX_LABELS;
use p2p_workflow_scheduler::scheduler::{Rejection, TagCheck, TagSet, WorkflowTag};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// How much of one payload or result a text shows: what fits in a model's context beside other
/// things. The structured content has all of it.
const MAX_TEXT_BODY_BYTES: usize = 64 * 1024;

/// Reads a tool's arguments.
///
/// # Errors
/// `invalid_argument`, with the field and what is expected there.
pub(super) fn parse<T: DeserializeOwned>(arguments: &str) -> Result<T, CallError> {
    let arguments = match arguments.trim_ascii() {
        "" | "null" => "{}",
        arguments => arguments,
    };
    if !arguments.starts_with('{') {
        return Err(invalid(
            "arguments must be a JSON object, such as {\"task_id\": \"a\"}.".into(),
        ));
    }
    serde_json::from_str(arguments).map_err(|error| explain::<T>(arguments, &error))
}

/// Reads them again, slower, to find the field that is wrong.
fn explain<T: DeserializeOwned>(arguments: &str, error: &serde_json::Error) -> CallError {
    let mut reader = serde_json::Deserializer::from_str(arguments);
    let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(found) => (found.path().to_string(), found.inner().to_string()),
        Ok(_) => (".".to_owned(), error.to_string()),
    };
    let what = error.split(" at line ").next().unwrap_or(&error);
    let mut what = what.to_owned();
    for (ours, theirs) in [
        ("expected f64", "expected a number"),
        ("expected u64", "expected a whole number"),
        ("expected a sequence", "expected a list"),
        ("a map", "an object"),
        ("map, ", "object, "),
        ("sequence, ", "list, "),
    ] {
        what = what.replace(ours, theirs);
    }
    invalid(match path.as_str() {
        "." => format!("{what}."),
        path if what.contains(&format!("`{path}`")) => format!("{what}."),
        path => format!("{path}: {what}."),
    })
}

pub(super) fn invalid(what: String) -> CallError {
    CallError::Rejected(Rejection::InvalidArgument { what })
}

/// A whole number within a range.
pub(super) fn whole(
    field: &str,
    number: f64,
    range: RangeInclusive<u32>,
) -> Result<u32, CallError> {
    let (least, most) = (f64::from(*range.start()), f64::from(*range.end()));
    if number.fract() == 0.0 && (least..=most).contains(&number) {
        // Exact: a whole number between two others of 32 bits.
        return Ok(number as u32);
    }
    Err(invalid(format!("{field} is {number}. Give a whole number from {least} to {most}.")))
}

/// Seconds in milliseconds.
pub(super) fn millis(field: &str, seconds: f64, most: u64) -> Result<u64, CallError> {
    let most_seconds = most / 1000;
    match seconds >= 0.0 && seconds <= most_seconds as f64 {
        // Exact: at most a year in milliseconds, far below 2^53.
        true => Ok((seconds * 1000.0).round() as u64),
        false => Err(invalid(format!(
            "{field} is {seconds}. Give a number of seconds from 0 to {most_seconds}."
        ))),
    }
}

/// At most as many tags as are taken at once.
pub(super) fn few_tags(names: &[String]) -> Result<(), CallError> {
    match names.len() <= MAX_LABELS {
        true => Ok(()),
        false => Err(CallError::Rejected(Rejection::TooLarge {
            what: "tags (in entries)".to_owned(),
            size: names.len() as u64,
            limit: MAX_LABELS as u64,
        })),
    }
}

/// Tags, all of which must be known.
pub(super) fn tags(names: &[String]) -> Result<TagSet, CallError> {
    few_tags(names)?;
    TagCheck::of(names).all_known().map_err(CallError::Rejected)
}

/// The tags' names.
pub(super) fn names(tags: TagSet) -> Vec<&'static str> {
    tags.iter().map(WorkflowTag::as_str).collect()
}

/// A JSON text as it is. What a peer sent may be no JSON after all: it is shown as a string then.
pub(super) fn json(text: &str) -> Box<RawValue> {
    serde_json::from_str(text)
        .or_else(|_| serde_json::value::to_raw_value(text))
        .expect("a string is JSON")
}

/// A payload or result for a text, cut where it is too long for one.
pub(super) fn shown(body: &str) -> Cow<'_, str> {
    if body.len() <= MAX_TEXT_BODY_BYTES {
        return body.into();
    }
    let cut = body.floor_char_boundary(MAX_TEXT_BODY_BYTES);
    let size = body.len();
    format!("{} … (cut here; structuredContent has all {size} bytes)", &body[..cut]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {
        #[serde(rename = "task_id")]
        _task_id: String,
        #[serde(rename = "priority")]
        _priority: Option<f64>,
        #[serde(rename = "tags", default)]
        _tags: Vec<String>,
        #[serde(rename = "payload")]
        _payload: Option<Box<RawValue>>,
    }

    fn error(arguments: &str) -> String {
        parse::<Input>(arguments).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_argument_is_named_with_what_is_expected() {
        assert_eq!(error("{}"), "missing field `task_id`.");
        assert_eq!(
            error(r#"{"task_id":"a","payload":[{}],"priority":"high"}"#),
            "priority: invalid type: string \"high\", expected a number."
        );
        assert_eq!(
            error(r#"{"task_id":"a","tags":["x",5]}"#),
            "tags[1]: invalid type: integer `5`, expected a string."
        );
        assert_eq!(
            error(r#"{"task_id":"a","prio":5}"#),
            "unknown field `prio`, expected one of `task_id`, `priority`, `tags`, `payload`."
        );
        assert!(error(r#"["a"]"#).starts_with("arguments must be a JSON object"));
        assert!(error(r#""{}""#).starts_with("arguments must be a JSON object"));
        assert!(error(r#"{"task_id":"a","priority":1e999}"#).contains("number out of range"));
    }

    #[test]
    fn numbers_out_of_range_are_refused_however_large() {
        for number in [0.0, 11.0, 1.5, -5.0, 1e300] {
            let error = whole("priority", number, 1..=10).unwrap_err();
            assert_eq!(error.code(), "invalid_argument");
        }
        assert_eq!(whole("priority", 10.0, 1..=10).unwrap(), 10);
        assert_eq!(millis("wait_seconds", 0.25, 50_000).unwrap(), 250);
        for seconds in [-0.001, 50.001, 1e300] {
            assert!(millis("wait_seconds", seconds, 50_000).is_err());
        }
    }

    #[test]
    fn a_stored_text_that_is_no_json_is_shown_as_a_string() {
        assert_eq!(json("{\"b\":1.10}").get(), "{\"b\":1.10}");
        assert_eq!(json("{oops").get(), "\"{oops\"");
    }

    #[test]
    fn a_long_body_is_cut_between_characters() {
        let body = "ü".repeat(MAX_TEXT_BODY_BYTES);
        assert!(shown(&body).starts_with(&body[..MAX_TEXT_BODY_BYTES]));
        assert!(shown(&body).contains("all 131072 bytes"));
        assert_eq!(shown("short"), "short");
    }
}
