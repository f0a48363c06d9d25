//! What came of the tasks: counted, and said on stderr one by one.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use super::slot::Taken;
use crate::cli::render::{done, refused};

/// Says something on stderr. Whoever listened there may be gone, which is no reason to stop.
pub(super) fn say(text: &str) {
    let _gone = anstream::stderr().write_all(text.as_bytes());
}

/// How the tasks that were taken ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    pub(super) completed: u64,
    /// For good.
    pub(super) failed: u64,
    /// Attempts that failed and are followed by another.
    pub(super) to_be_retried: u64,
    pub(super) released: u64,
    /// Taken over by others, or cancelled, while they ran here.
    pub(super) lost: u64,
}

/// How one did.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Completed,
    Failed {
        error: String,
        is_final: bool,
    },
    Released,
    /// The command said that it cannot be run here now.
    NotHere {
        error: String,
    },
    Lost {
        why: String,
    },
}

impl Tally {
    /// Counts a task, and says what came of it.
    pub(super) fn add(&mut self, task: &Taken, took: Duration, outcome: &Outcome) {
        let (count, said) = match outcome {
            Outcome::Completed => (&mut self.completed, "completed".to_owned()),
            Outcome::Failed { error, is_final: true } => {
                (&mut self.failed, format!("failed: {error}"))
            }
            Outcome::Failed { error, is_final: false } => {
                (&mut self.to_be_retried, format!("failed, and will be tried again: {error}"))
            }
            Outcome::Released => (&mut self.released, "released".to_owned()),
            Outcome::NotHere { error } => {
                (&mut self.released, format!("released, to be run elsewhere or later: {error}"))
            }
            Outcome::Lost { why } => (&mut self.lost, format!("is no longer this worker's: {why}")),
        };
        *count += 1;
        let attempt = match task.attempt() {
            1 => String::new(),
            attempt => format!(" (attempt {attempt})"),
        };
        let line = format!("{}{attempt} {said}", task.id());
        say(&match outcome {
            Outcome::Completed => done(&format!("{line} in {:.1} s", took.as_secs_f64())),
            _ => refused(&line),
        });
    }

    /// Whether no task ended otherwise.
    pub(super) fn all_completed(&self) -> bool {
        *self == Tally { completed: self.completed, ..Tally::default() }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} completed", self.completed)?;
        let others = [
            (self.failed, "failed"),
            (self.to_be_retried, "failed and to be tried again"),
            (self.released, "released"),
            (self.lost, "lost to others"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}
