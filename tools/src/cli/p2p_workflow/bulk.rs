//! `submit --file`: hands in every line of a JSONL file, in its order, many in flight.
//!
//! ```text
//! reader thread ── lines, at most 64 ahead ──► parse ── start_call ──► node
//!                                                └── at most 64 in flight ◄── answers
//! ```
//!
//! Neither the file nor the answers are held in memory: the reader waits when the queue is full,
//! and the oldest call is settled before the next one starts. A thread reads, since a pipe on
//! stdin may say nothing for hours. A line that is turned down is reported with its number and
//! does not hold up the others. Submitting is idempotent, so that a file whose submission broke
//! off is simply handed in again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;

use super::Failure;
use super::pipeline::{Pipeline, Settled};
use crate::cli::render::{Card, progress_bar, refused};
use crate::client::{Arguments, CallError, Client};

/// Lines read ahead of the calls.
const MAX_READ_AHEAD: usize = 64;
/// The longest line: what the node takes in one message.
const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// Submits the file `path` (`-` is stdin) and returns the summary.
pub(super) async fn submit(
    client: &mut Client,
    path: &Path,
    json: bool,
) -> Result<String, Failure> {
    let (source, size): (Box<dyn BufRead + Send>, _) = if path == Path::new("-") {
        (Box::new(BufReader::new(io::stdin())), None)
    } else {
        let cannot = |error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(cannot)?;
        let about = file.metadata().map_err(cannot)?;
        (Box::new(BufReader::new(file)), about.is_file().then_some(about.len()))
    };
    let mut run =
        Run { pipeline: Pipeline::new(client), bar: progress_bar(size), tally: Tally::default() };
    let result = run.submit_all(read_lines(source)).await;
    run.bar.finish_and_clear();
    match result {
        Ok(()) if run.tally.rejected == 0 => Ok(run.tally.summary(json)),
        Ok(()) => Err(Failure::SomeRejected { summary: run.tally.summary(json) }),
        Err(error) => Err(Failure::Failed(format!(
            "{error}\nBroke off after {}. Submit the file again: what is there already stays as it is.",
            run.tally
        ))),
    }
}

/// One line of the file, or why there is none.
struct Line {
    /// Counted from 1.
    number: u64,
    /// With its line end.
    bytes: u64,
    /// `None` for a blank line.
    task: Result<Option<Arguments>, String>,
}

/// Reads on a thread of its own.
fn read_lines(mut source: impl BufRead + Send + 'static) -> mpsc::Receiver<io::Result<Line>> {
    let (lines, receiver) = mpsc::channel(MAX_READ_AHEAD);
    thread::spawn(move || {
        for number in 1.. {
            let line = read_line(&mut source, number);
            let Some(line) = line.transpose() else { return };
            let failed = line.is_err();
            if lines.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// `None` at the end.
fn read_line(source: &mut impl BufRead, number: u64) -> io::Result<Option<Line>> {
    let mut text = Vec::new();
    let mut bytes = source.take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut text)? as u64;
    if bytes == 0 {
        return Ok(None);
    }
    let task = if text.len() > MAX_LINE_BYTES {
        bytes += source.skip_until(b'\n')? as u64;
        Err(format!("longer than {MAX_LINE_BYTES} bytes"))
    } else if text.trim_ascii().is_empty() {
        Ok(None)
    } else {
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| format!("not a JSON object: {error}"))
    };
    Ok(Some(Line { number, bytes, task }))
}

struct Run<'a> {
    /// Each call by the number of its line.
    pipeline: Pipeline<'a, u64>,
    bar: ProgressBar,
    tally: Tally,
}

impl Run<'_> {
    async fn submit_all(
        &mut self,
        mut lines: mpsc::Receiver<io::Result<Line>>,
    ) -> Result<(), BrokeOff> {
        while let Some(line) = lines.recv().await {
            let line = line.map_err(BrokeOff::Input)?;
            if let Some((number, settled)) = self.pipeline.make_room().await? {
                self.settle(number, settled);
            }
            self.bar.inc(line.bytes);
            match line.task {
                Ok(None) => {}
                Ok(Some(task)) => self.pipeline.submit(line.number, task).await?,
                Err(why) => self.reject(line.number, &format!("{why}\ncode: invalid_argument")),
            }
        }
        while let Some((number, settled)) = self.pipeline.settle_oldest().await? {
            self.settle(number, settled);
        }
        Ok(())
    }

    fn settle(&mut self, number: u64, settled: Settled) {
        match settled {
            Settled::Created => self.tally.submitted += 1,
            Settled::AlreadyThere => {
                self.tally.submitted += 1;
                self.tally.already_there += 1;
            }
            Settled::Rejected(text) => self.reject(number, &text),
        }
        self.bar.set_message(self.tally.to_string());
    }

    fn reject(&mut self, number: u64, text: &str) {
        self.tally.rejected += 1;
        let line = format!("line {number}: {}", text.replace('\n', " "));
        self.bar.suspend(|| anstream::eprint!("{}", refused(&line)));
    }
}

/// Why the rest of the file was not handed in.
#[derive(Debug, thiserror::Error)]
enum BrokeOff {
    #[error("cannot read on: {0}")]
    Input(io::Error),
    #[error(transparent)]
    Node(#[from] CallError),
}

#[derive(Debug, Default)]
struct Tally {
    submitted: u64,
    already_there: u64,
    rejected: u64,
}

impl Tally {
    fn summary(&self, json: bool) -> String {
        match json {
            true => format!(
                "{}\n",
                json!({"already_there": self.already_there, "rejected": self.rejected,
                       "submitted": self.submitted})
            ),
            false => Card::new(&self.to_string()).into_text(),
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} submitted", self.submitted)?;
        if self.already_there > 0 {
            write!(f, " ({} already there)", self.already_there)?;
        }
        if self.rejected > 0 {
            write!(f, ", {} rejected", self.rejected)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::Value;

    use super::super::pipeline::MAX_IN_FLIGHT;
    use super::super::submit;
    use super::super::testing::run;
    use super::*;
    use crate::client::fake::{self, Exchange, Peer};

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn task(number: usize) -> Value {
        json!({"task_id": format!("t{number}")})
    }

    fn accepted(number: usize) -> Exchange {
        fake::tool(submit::TOOL, task(number), json!({"success": true, "created": true}))
    }

    async fn run_file(text: &str, script: Vec<Exchange>) -> Result<String, Failure> {
        let file = file(text);
        run(&["submit", "--file", file.path().to_str().unwrap()], script).await
    }

    #[tokio::test]
    async fn lines_are_submitted_in_their_order() {
        let text: String = (0..200).map(|number| format!("{}\n\n", task(number))).collect();
        let summary = run_file(&text, (0..200).map(accepted).collect()).await.unwrap();
        assert_eq!(summary, "✓ 200 submitted\n");
    }

    #[tokio::test]
    async fn a_rejected_line_does_not_hold_up_the_others() {
        let text = format!("{}\n{}\n[1]\nnonsense\n{}", task(1), task(2), task(3));
        let script = vec![
            accepted(1),
            fake::rejected(submit::TOOL, task(2), "no.\ncode: task_exists"),
            fake::tool(submit::TOOL, task(3), json!({"success": true, "created": false})),
        ];
        let failure = run_file(&text, script).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.stdout().ends_with("2 submitted (1 already there), 3 rejected\n"));
    }

    #[tokio::test]
    async fn a_node_that_fails_ends_the_submission_with_3() {
        let text = format!("{}\n{}\n", task(1), task(2));
        let script = vec![
            accepted(1),
            fake::rejected(submit::TOOL, task(2), "the disk is full.\ncode: store_failed"),
        ];
        let failure = run_file(&text, script).await.unwrap_err();
        assert_eq!(failure.exit_code(), 3);
        assert!(failure.message().contains("Broke off after 1 submitted"));
    }

    #[tokio::test]
    async fn a_missing_file_is_wrong_usage() {
        let failure = run(&["submit", "--file", "/nowhere/tasks.jsonl"], Vec::new()).await;
        assert_eq!(failure.unwrap_err().exit_code(), 2);
    }

    /// A file of a million lines must neither flood the node nor fill the memory.
    #[tokio::test]
    async fn no_more_than_64_calls_are_in_flight() {
        let text: String = (0..100).map(|number| format!("{}\n", task(number))).collect();
        let file = file(&text);
        let (ours, theirs) = tokio::io::duplex(1024 * 1024);
        let node = tokio::spawn(async move {
            let mut peer = Peer::accept(theirs).await;
            let mut requests = Vec::new();
            for _ in 0..MAX_IN_FLIGHT {
                requests.push(peer.read().await.unwrap());
            }
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            assert_eq!(peer.read().now_or_never(), None, "the 65th waits for an answer");
            for answered in 0..100 {
                let request = requests[answered].clone();
                peer.reply(&request, json!({"structuredContent": {"created": true}})).await;
                if requests.len() < 100 {
                    requests.push(peer.read().await.unwrap());
                }
            }
            assert_eq!(peer.read().await, None);
        });
        let mut client = Client::attach(ours).await.unwrap();
        let summary = super::submit(&mut client, file.path(), true).await.unwrap();
        assert_eq!(summary, "{\"already_there\":0,\"rejected\":0,\"submitted\":100}\n");
        drop(client);
        node.await.unwrap();
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_whole() {
        let text = format!("{{\"a\": \"{}\"}}\n{}\n", "x".repeat(MAX_LINE_BYTES), task(2));
        let mut source = text.as_bytes();
        let long = read_line(&mut source, 1).unwrap().unwrap();
        assert!(long.task.unwrap_err().contains("longer"));
        let next = read_line(&mut source, 2).unwrap().unwrap();
        assert_eq!(json!(next.task.unwrap()), task(2));
        assert!(read_line(&mut source, 3).unwrap().is_none());
    }
}
