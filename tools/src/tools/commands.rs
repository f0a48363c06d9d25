//! People's commands that are no tools, over doors that only this machine's user can open. They
//! answer in the shape of a tool's result.

use p2p_workflow_scheduler::node::{CallError, Session};
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

/// Says that the node stops.
pub(crate) fn stopping() -> Answer {
    Answer::new(&Stopping { success: true }, "The node stops.".to_owned())
}
