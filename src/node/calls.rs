//! What a session is answered, beyond the scheduler's own values: the texts from the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scheduler::{Claimed, NothingReady, Rejection, TaskView};
use crate::store::{LostRun, LostSpec};

/// The answer to a worker that asked for a task.
#[derive(Clone, Debug)]
pub enum Next {
    /// A task, held by the worker.
    Given(Box<Given>),
    /// None, and why.
    Nothing(NothingReady),
}

/// A task with the texts that a worker needs to run it, all JSON.
#[derive(Clone, Debug)]
pub struct Given {
    /// The task and its lease.
    pub claimed: Claimed,
    /// The task's input.
    pub payload: Option<String>,
    /// The results of its dependencies by id; `None` for one that has no result.
    pub dependency_results: Vec<(Arc<str>, Option<String>)>,
    /// Dependencies whose results did not fit: read them one by one.
    pub omitted_results: Vec<Arc<str>>,
}

/// One task with its texts.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The task.
    pub task: TaskView,
    /// Its input, a JSON text.
    pub payload: Option<String>,
    /// Its output, a JSON text.
    pub result: Option<String>,
    /// Runs beside the one that counts.
    pub duplicates: Vec<LostRun>,
    /// What else was submitted under its id, on machines that were out of reach.
    pub conflicts: Vec<LostSpec>,
}

/// A clock as a peer reports it.
#[derive(Clone, Debug)]
pub struct ReportedClock {
    /// Whose clock it is.
    pub node_id: String,
    /// Counters per peer.
    pub vector: BTreeMap<String, u64>,
    /// Hex.
    pub merkle_root: String,
}

/// This peer's clock.
#[derive(Clone, Debug)]
pub struct ClockView {
    /// This peer.
    pub node_id: String,
    /// Counters per peer.
    pub vector: BTreeMap<String, u64>,
    /// Hex.
    pub merkle_root: String,
}

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// A legal "no". Nothing was changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The disk refused. Whether the change was kept shows when the store can be written again:
    /// the call may be repeated then, it is not done twice.
    #[error(
        "the store failed: {reason} Nothing more is accepted until it can be written again; then repeat the call."
    )]
    StoreFailed {
        /// Why, and what to do.
        reason: String,
    },
    /// The node is on its way out. Nothing was changed.
    #[error(
        "the node is stopping. Repeat the call: the next process that needs the node becomes it."
    )]
    Stopping,
}

impl CallError {
    /// The stable word for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            CallError::Rejected(rejection) => rejection.code(),
            CallError::StoreFailed { .. } => "store_failed",
            CallError::Stopping => "overloaded",
        }
    }
}
