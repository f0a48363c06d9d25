//! People's commands that are no tools, over doors that only this machine's user can open. They
//! answer in the shape of a tool's result.

use std::path::PathBuf;
use std::sync::Arc;

use p2p_workflow_scheduler::node::{CallError, Event, Session};
use serde::{Deserialize, Serialize};

use super::Answer;
use super::fields::parse;
use super::mark_task_complete::answer;
use super::submit_task::priority_of;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requeue {
    task_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reprioritize {
    task_id: String,
    priority: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskWhy {
    task_id: String,
}

#[derive(Serialize)]
struct Why {
    task_id: Arc<str>,
    state: &'static str,
    /// Where that is not plain: what it waits for, why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_peer: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<u64>,
    /// The submitter's clock head at submission.
    head: String,
    task_hash: String,
    /// SHA-256 of head and task hash: distances are measured from it.
    combined_hash: String,
    /// Which time it is given out: the turns begin one place further each time.
    epoch: u32,
    /// In the order of their turns.
    turns: Vec<Turn>,
    candidates: u64,
    turn_seconds: f64,
    provisional: bool,
}

#[derive(Serialize)]
struct Turn {
    peer_id: Arc<str>,
    this_peer: bool,
    /// Hamming distance, 0-256.
    distance: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskHistory {
    task_id: String,
}

#[derive(Serialize)]
struct History {
    task_id: String,
    /// The oldest first.
    history: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    /// Milliseconds since 1970.
    at: u64,
    what: &'static str,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Event> for Change {
    fn from(event: Event) -> Self {
        let Event { at, what, peer, worker, attempt, reason } = event;
        Change { at, what: what.as_str(), peer, worker, attempt, reason }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskBackup {
    file: PathBuf,
}

#[derive(Serialize)]
struct BackedUp {
    success: bool,
    file: PathBuf,
    bytes: u64,
}

#[derive(Serialize)]
struct Stopping {
    success: bool,
}

/// Puts a failed task back to the queue.
pub(crate) async fn requeue<'s>(
    session: impl FnOnce() -> &'s Session,
    params: &str,
) -> Result<Answer, CallError> {
    let Requeue { task_id } = parse(params)?;
    let marked = session().requeue(&task_id).await?;
    let text = format!("Task {task_id:?} is back in the queue ({}).", marked.state);
    Ok(answer(task_id, marked, text))
}

/// Gives a task another priority.
pub(crate) async fn reprioritize<'s>(
    session: impl FnOnce() -> &'s Session,
    params: &str,
) -> Result<Answer, CallError> {
    let Reprioritize { task_id, priority } = parse(params)?;
    let priority = priority_of(priority)?;
    let marked = session().reprioritize(&task_id, priority).await?;
    let text = format!("Task {task_id:?} has priority {priority} ({}).", marked.state);
    Ok(answer(task_id, marked, text))
}

/// Says why a task goes to whom it goes.
pub(crate) async fn why<'s>(
    session: impl FnOnce() -> &'s Session,
    params: &str,
) -> Result<Answer, CallError> {
    let AskWhy { task_id } = parse(params)?;
    let session = session();
    let why = session.why(&task_id).await?;
    let me = session.status().await?.peer_id;
    let turns = why.turns.into_iter().map(|turn| Turn {
        this_peer: turn.peer == me,
        peer_id: turn.peer,
        distance: turn.distance,
    });
    let shown = Why {
        task_id: why.task.task_id,
        state: why.task.state.as_str(),
        reason: why.task.reason,
        assigned_peer: why.task.assigned_peer,
        fence: why.task.fence,
        head: why.head.to_hex(),
        task_hash: why.task.task_hash.to_hex(),
        combined_hash: why.combined.to_hex(),
        epoch: why.epoch,
        turns: turns.collect(),
        candidates: why.candidates,
        turn_seconds: why.turn as f64 / 1000.0,
        provisional: why.provisional,
    };
    let owner = shown.turns.first().map_or("nobody", |turn| &turn.peer_id);
    let text = format!("Task {task_id:?} is {}; the first turn is that of {owner}.", shown.state);
    Ok(Answer::new(&shown, text))
}

/// Says what happened to a task, as this peer saw it.
pub(crate) async fn history<'s>(
    session: impl FnOnce() -> &'s Session,
    params: &str,
) -> Result<Answer, CallError> {
    let AskHistory { task_id } = parse(params)?;
    let history: Vec<Change> =
        session().history(&task_id).await?.into_iter().map(Change::from).collect();
    let text = format!("{} changes of task {task_id:?} are known.", history.len());
    Ok(Answer::new(&History { task_id, history }, text))
}

/// Writes all tasks into a new file.
pub(crate) async fn backup<'s>(
    session: impl FnOnce() -> &'s Session,
    params: &str,
) -> Result<Answer, CallError> {
    let AskBackup { file } = parse(params)?;
    let bytes = session().node().backup(file.clone()).await?;
    let text = format!("{} has all tasks, in {bytes} bytes.", file.display());
    Ok(Answer::new(&BackedUp { success: true, file, bytes }, text))
}

/// Says that the node stops.
pub(crate) fn stopping() -> Answer {
    Answer::new(&Stopping { success: true }, "The node stops.".to_owned())
}
