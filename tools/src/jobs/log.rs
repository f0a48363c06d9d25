//! The log of a job: a file that grows as its steps print, in which no secret stands.
//!
//! What steps print is masked line by line before it is written. A line that is longer than a buffer
//! is written in pieces, and the end of each piece is held back as far as a secret could reach over
//! it. A secret of several lines is masked as each of its lines, as GitHub does, and each also as it
//! stands between quotes: in JSON, and in messages that quote what they complain of.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

/// What stands where a secret stood.
const MASK: &[u8] = b"***";
/// Bytes of a line that are held back until its end.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Bytes of a log: what is printed beyond that is lost, and said to be.
const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes that are kept in memory, for the error of a step that fails.
const TAIL_BYTES: usize = 2 * 1024;
/// How a step asks that something be masked from now on.
const ADD_MASK: &[u8] = b"::add-mask::";

/// A log, and what is masked in it.
#[derive(Debug)]
pub(super) struct Log(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    written: u64,
    mask: Mask,
    tail: Vec<u8>,
}

/// The texts that nobody shall read, longest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Mask(Vec<Vec<u8>>);

impl Log {
    /// Begins a log that only this user can read.
    pub(super) fn create(path: &Path, mask: Mask) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        // Temporary files are made private.
        let file = tempfile::NamedTempFile::new_in(folder)?.persist(path)?;
        Ok(Log(Mutex::new(Inner { file, written: 0, mask, tail: Vec::new() })))
    }

    /// Writes a line of the runner's own.
    pub(super) fn say(&self, line: &str) {
        let mut inner = self.lock();
        let masked = inner.masked(line.as_bytes(), true);
        inner.write(masked);
    }

    /// Copies what a step prints until its end.
    pub(super) fn follow(&self, mut from: impl Read) {
        let mut held = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        // A pipe that cannot be read is at its end.
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            held.extend_from_slice(&buffer[..count]);
            let mut inner = self.lock();
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                inner.write_line(&line[..end], true);
            }
            if held.len() > MAX_LINE_BYTES {
                let piece = inner.mask.safe_length(&held);
                let piece: Vec<u8> = held.drain(..piece).collect();
                inner.write_line(&piece, false);
            }
        }
        if !held.is_empty() {
            self.lock().write_line(&held, true);
        }
    }

    /// What the step printed last, as much as an error should have.
    pub(super) fn tail(&self) -> String {
        let inner = self.lock();
        let from = inner.tail.len().saturating_sub(TAIL_BYTES);
        String::from_utf8_lossy(&inner.tail[from..]).trim_end().to_owned()
    }

    /// Forgets what was printed, for the next step's [`Log::tail`].
    pub(super) fn clear_tail(&self) {
        self.lock().tail.clear();
    }

    /// A text without secrets.
    pub(super) fn mask(&self, text: &str) -> String {
        self.lock().mask.text(text)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Writes what a step printed.
    fn write_line(&mut self, line: &[u8], is_whole: bool) {
        if let Some(secret) = line.trim_ascii().strip_prefix(ADD_MASK) {
            self.mask.add(secret);
        }
        let masked = self.masked(line, is_whole);
        self.tail.extend_from_slice(&masked);
        let surplus = self.tail.len().saturating_sub(2 * TAIL_BYTES);
        self.tail.drain(..surplus);
        self.write(masked);
    }

    fn masked(&self, line: &[u8], is_whole: bool) -> Vec<u8> {
        let mut masked = self.mask.apply(line);
        if is_whole {
            masked.push(b'\n');
        }
        masked
    }

    fn write(&mut self, mut masked: Vec<u8>) {
        let room = MAX_LOG_BYTES.saturating_sub(self.written);
        if room == 0 {
            return;
        }
        self.written += masked.len() as u64;
        if masked.len() as u64 >= room {
            masked.extend_from_slice(b"\n[the log is full: what follows is lost]\n");
        }
        if let Err(error) = self.file.write_all(&masked) {
            tracing::warn!("the job's log cannot be written: {error}");
            self.written = MAX_LOG_BYTES;
        }
    }
}

impl Mask {
    pub(super) fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut mask = Mask::default();
        secrets.into_iter().for_each(|secret| mask.add(secret.as_bytes()));
        mask
    }

    fn add(&mut self, secret: &[u8]) {
        for line in secret.split(|byte| matches!(byte, b'\n' | b'\r')) {
            self.add_line(line);
            if let Ok(line) = str::from_utf8(line) {
                for quoted in [json!(line).to_string(), format!("{line:?}")] {
                    self.add_line(&quoted.as_bytes()[1..quoted.len() - 1]);
                }
            }
        }
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    fn add_line(&mut self, line: &[u8]) {
        if !line.trim_ascii().is_empty() && !self.0.iter().any(|known| known == line) {
            self.0.push(line.to_vec());
        }
    }

    /// A text without secrets.
    pub(super) fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.apply(text.as_bytes())).into_owned()
    }

    fn apply(&self, text: &[u8]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(text.len() + 1);
        let mut at = 0;
        while at < text.len() {
            match self.0.iter().find(|secret| text[at..].starts_with(secret)) {
                Some(secret) => {
                    masked.extend_from_slice(MASK);
                    at += secret.len();
                }
                None => {
                    masked.push(text[at]);
                    at += 1;
                }
            }
        }
        masked
    }

    /// How much of the beginning of a line can be written so that no secret reaches over its end.
    fn safe_length(&self, text: &[u8]) -> usize {
        let longest = self.0.first().map_or(0, Vec::len);
        let mut at = 0;
        while at + longest < text.len() {
            let found = self.0.iter().find(|secret| text[at..].starts_with(secret));
            at += found.map_or(1, Vec::len);
        }
        at.min(text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(secrets: &[&str], printed: &[&[u8]]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::create(&path, Mask::of(secrets.iter().copied())).unwrap();
        printed.iter().for_each(|piece| log.follow(*piece));
        String::from_utf8(std::fs::read(&path).unwrap()).unwrap()
    }

    #[test]
    fn no_secret_is_written_nor_one_that_a_step_names() {
        let text = logged(
            &["hunter2", "two\nlines"],
            &[b"a hunter2 b\nlines and two\n::add-mask::new\nnew\n"],
        );
        assert_eq!(text, "a *** b\n*** and ***\n::add-mask::***\n***\n");
        assert_eq!(logged(&["", " "], &[b"x y\n"]), "x y\n", "nothing masks everything");
        assert_eq!(logged(&["abc", "abcdef"], &[b"abcdef"]), "***\n");
    }

    /// A token with a quote was masked where it was printed, and stood in what `toJSON` made of it
    /// and in the errors that quoted it, which all peers hold.
    #[test]
    fn a_secret_is_masked_between_quotes_too() {
        let secret = "a\"b\\c\td";
        let (as_json, quoted) = (json!({"x": secret}).to_string(), format!("no: {secret:?}"));
        let text = logged(&[secret], &[secret.as_bytes(), as_json.as_bytes(), quoted.as_bytes()]);
        assert_eq!(text, "***\n{\"x\":\"***\"}\nno: \"***\"\n");
    }

    #[test]
    fn a_secret_in_a_line_without_end_is_masked_where_the_line_is_cut() {
        let secret = "s3cret-of-some-length";
        for before in MAX_LINE_BYTES - 30..MAX_LINE_BYTES + 30 {
            let line = format!("{}{secret}{}", "x".repeat(before), "y".repeat(40_000));
            let text = logged(&[secret], &[line.as_bytes()]);
            assert!(!text.contains("s3cret") && !text.contains("length") && text.contains("***"));
            assert_eq!(text.len(), line.len() - secret.len() + MASK.len() + 1);
        }
    }

    #[test]
    fn the_tail_is_the_last_that_was_printed() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(&folder.path().join("log"), Mask::of(["x1"])).unwrap();
        log.follow(&b"first\n"[..]);
        log.clear_tail();
        log.follow("line x1\n".repeat(2000).as_bytes());
        let tail = log.tail();
        assert!(tail.len() <= TAIL_BYTES && tail.ends_with("line ***") && !tail.contains("first"));
        assert_eq!(log.mask("x1!"), "***!");
    }
}
