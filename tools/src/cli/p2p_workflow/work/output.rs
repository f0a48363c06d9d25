//! What a command prints: the result on stdout, the error on stderr, both bounded.

use std::collections::VecDeque;

use p2p_workflow_scheduler::scheduler::limits::{MAX_ERROR_BYTES, MAX_PAYLOAD_BYTES};
use serde_json::value::{RawValue, to_raw_value};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::super::input;

/// Read of stderr at once.
const READ_BYTES: usize = 8 * 1024;

/// The beginning of a stream, up to the limit of a result.
#[derive(Debug, Default)]
pub(super) struct Head(Vec<u8>);

impl Head {
    /// Reads until the end, and cancels `full` once there is more than the limit; the rest is read
    /// past. What was read stays if it is dropped.
    pub(super) async fn fill(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        full: &CancellationToken,
    ) {
        while let Ok(1..) = from.read_buf(&mut self.0).await {
            if self.0.len() > MAX_PAYLOAD_BYTES {
                full.cancel();
                self.0.truncate(MAX_PAYLOAD_BYTES);
            }
        }
    }

    /// The result: JSON as it stands there, any other text as a string, nothing for nothing. Bytes
    /// that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn result(&self) -> Result<Option<Box<RawValue>>, String> {
        let text = String::from_utf8_lossy(&self.0);
        if text.trim().is_empty() {
            return Ok(None);
        }
        let result = match input::json(text.trim()) {
            Ok(json) => json,
            Err(_) => to_raw_value(text.trim_end_matches(['\n', '\r']))
                .map_err(|error| error.to_string())?,
        };
        match result.get().len() <= MAX_PAYLOAD_BYTES {
            true => Ok(Some(result)),
            false => Err(too_much()),
        }
    }
}

/// Why a command that printed so much failed.
pub(super) fn too_much() -> String {
    format!(
        "the command printed more than a result may have ({} KiB). Have it print where the output \
         is, not the output.",
        MAX_PAYLOAD_BYTES / 1024
    )
}

/// The end of a stream, as much of it as an error may have.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    /// Reads until the end. What was read stays if it is dropped.
    pub(super) async fn fill(&mut self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        while let Ok(1..) = from.read_buf(&mut buffer).await {
            self.0.extend(&buffer);
            buffer.clear();
            let surplus = self.0.len().saturating_sub(MAX_ERROR_BYTES);
            self.0.drain(..surplus);
        }
    }

    /// The error of a failed attempt: `why` where that says more than the command's own words, then
    /// these, the last of them where they are too many.
    pub(super) fn error(&self, why: Option<&str>) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let said = String::from_utf8_lossy(&bytes);
        let said = said.trim_end();
        let mut error = why.map_or_else(String::new, str::to_owned);
        let gap = if error.is_empty() || said.is_empty() { "" } else { "\n" };
        let room = MAX_ERROR_BYTES.saturating_sub(error.len() + gap.len());
        let mut from = said.len().saturating_sub(room);
        while !said.is_char_boundary(from) {
            from += 1;
        }
        error += gap;
        error += &said[from..];
        error
    }

    /// Whether the command said anything.
    pub(super) fn is_blank(&self) -> bool {
        self.0.iter().all(u8::is_ascii_whitespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn result(stdout: &[u8]) -> Result<Option<String>, String> {
        let (mut head, full) = (Head::default(), CancellationToken::new());
        head.fill(stdout, &full).await;
        assert_eq!(full.is_cancelled(), stdout.len() > MAX_PAYLOAD_BYTES);
        head.result().map(|result| result.map(|json| json.get().to_owned()))
    }

    async fn tail(stderr: &[u8]) -> Tail {
        let mut tail = Tail::default();
        tail.fill(stderr).await;
        tail
    }

    #[tokio::test]
    async fn json_stays_as_it_was_printed_and_other_text_becomes_a_string() {
        let of = async |text: &str| result(text.as_bytes()).await.unwrap();
        assert_eq!(of(" {\"b\":1.10,\"a\":2}\n").await.unwrap(), r#"{"b":1.10,"a":2}"#);
        assert_eq!(of("{\n  \"a\": 1\n}\n").await.unwrap(), r#"{   "a": 1 }"#);
        assert_eq!(of("two\nlines\n").await.unwrap(), r#""two\nlines""#);
        assert_eq!(of("42\n").await.unwrap(), "42");
        assert_eq!(of("1\n2\n").await.unwrap(), r#""1\n2""#);
        assert_eq!(of(" \n").await, None);
        assert_eq!(result(b"caf\xe9").await.unwrap().unwrap(), "\"caf\u{fffd}\"");
    }

    #[tokio::test]
    async fn a_result_beyond_the_limit_is_refused_also_where_only_its_escapes_are() {
        let just = "x".repeat(MAX_PAYLOAD_BYTES - 2);
        assert!(result(just.as_bytes()).await.unwrap().is_some());
        let more = "x".repeat(MAX_PAYLOAD_BYTES + 1);
        assert!(result(more.as_bytes()).await.unwrap_err().contains("256 KiB"));
        let quotes = "\"".repeat(MAX_PAYLOAD_BYTES / 2);
        assert!(result(quotes.as_bytes()).await.unwrap_err().contains("256 KiB"));
    }

    #[tokio::test]
    async fn an_error_is_the_end_of_stderr() {
        assert_eq!(tail(b"no disk\n").await.error(None), "no disk");
        let long = format!("{}end", "é".repeat(MAX_ERROR_BYTES));
        let tail = tail(long.as_bytes()).await;
        for why in [None, Some("it timed out")] {
            let error = tail.error(why);
            assert!(error.len() <= MAX_ERROR_BYTES && error.len() > MAX_ERROR_BYTES - 4);
            assert!(error.ends_with("ééend") && error.starts_with(why.unwrap_or("")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_command_that_said_nothing_is_told_of_by_what_happened() {
        let tail = tail(b" \n").await;
        assert!(tail.is_blank());
        assert_eq!(tail.error(Some("exit code 3")), "exit code 3");
    }
}
