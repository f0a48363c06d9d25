//! Flags whose value is JSON. It is checked, and passed on as it was written.

use std::{fs, io};

use serde_json::value::RawValue;

/// Checks a flag's value.
pub(super) fn json(text: &str) -> Result<Box<RawValue>, String> {
    on_one_line(text)
        .map_err(|error| format!("not JSON: {error} (a plain text needs quotes: '\"text\"')"))
}

/// Reads the file that a flag names; `-` is stdin.
pub(super) fn json_file(path: &str) -> Result<Box<RawValue>, String> {
    let text = match path {
        "-" => io::read_to_string(io::stdin()),
        path => fs::read_to_string(path),
    };
    let text = text.map_err(|error| format!("cannot read it: {error}"))?;
    on_one_line(&text).map_err(|error| format!("not JSON: {error}"))
}

/// A message is a line, so line breaks have to go. In valid JSON they stand between tokens only:
/// inside a text they are escaped.
fn on_one_line(text: &str) -> serde_json::Result<Box<RawValue>> {
    serde_json::from_str::<&RawValue>(text)?;
    serde_json::from_str(&text.replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_word_is_told_how_to_become_json() {
        assert_eq!(json("{\"b\": 1, \"a\": 2}").unwrap().get(), "{\"b\": 1, \"a\": 2}");
        assert!(json("hello").unwrap_err().contains("needs quotes"));
    }

    #[test]
    fn a_file_of_several_lines_becomes_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payload.json");
        std::fs::write(&path, "{\r\n\"a\":\n\"x\\ny\"\n}\n").unwrap();
        let read = json_file(path.to_str().unwrap()).unwrap();
        assert_eq!(read.get(), "{  \"a\": \"x\\ny\" }");
    }

    #[test]
    fn a_text_that_was_broken_by_hand_stays_invalid() {
        assert!(json("\"two\nlines\"").is_err());
    }

    #[test]
    fn a_missing_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(json_file(folder.path().join("none.json").to_str().unwrap()).is_err());
    }
}
