//! `ipfs-accelerate/overview`: what somebody who watches is shown. A command of people's, as those in
//! [`commands`](super::commands), and bounded: it is asked for once a second.

use std::sync::Arc;

use p2p_workflow_scheduler::node::{CallError, Session};
use p2p_workflow_scheduler::scheduler::{Look, Overview, State, TaskView, WorkflowView};
use serde::{Deserialize, Serialize};

use super::Answer;
use super::fields::parse;
use super::scheduler_status::Standing;

/// Characters of a note, error or reason: a line of a large terminal. `show` has all of it.
const MAX_TEXT: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    workflow_id: Option<String>,
    state: Option<Standing>,
    /// In an id, a name or a worker.
    text: Option<String>,
}

/// Times are milliseconds since 1970.
#[derive(Serialize)]
struct Output {
    peer_id: Arc<str>,
    #[serde(flatten)]
    counts: Counts,
    known_peers: u64,
    alive_peers: u64,
    in_sync: bool,
    /// Tasks that this node saw completed since it started.
    completions: u64,
    known_workflows: u64,
    workflows: Vec<Workflow>,
    tasks: Vec<Task>,
    more_tasks: bool,
}

#[derive(Serialize)]
struct Counts {
    pending_tasks: u64,
    blocked_tasks: u64,
    assigned_tasks: u64,
    completed_tasks: u64,
    failed_tasks: u64,
    cancelled_tasks: u64,
}

#[derive(Serialize)]
struct Workflow {
    workflow_id: Arc<str>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Task {
    task_id: Arc<str>,
    workflow_id: Arc<str>,
    name: String,
    state: &'static str,
    priority: u8,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_peer: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Arc<str>>,
    /// Since when it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_since: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<u64>,
    /// What its worker said, why it failed, or what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

pub(crate) async fn overview<'s>(
    session: impl FnOnce() -> &'s Session,
    params: &str,
) -> Result<Answer, CallError> {
    let Input { workflow_id, state, text } = parse(params)?;
    let look = Look { workflow_id, state: state.map(State::from), text };
    let (overview, since) = session().overview(look).await?;
    let output = Output::new(overview, since);
    let words = format!(
        "{} workflows and {} tasks of those that matter now.",
        output.workflows.len(),
        output.tasks.len()
    );
    Ok(Answer::new(&output, words))
}

impl Output {
    fn new(overview: Overview, since: Vec<Option<u64>>) -> Self {
        let Overview { status, completions, known_workflows, workflows, tasks, more_tasks } =
            overview;
        Output {
            counts: Counts::new(&status.counts),
            peer_id: status.peer_id,
            known_peers: status.known_peers,
            alive_peers: status.alive_peers,
            in_sync: status.in_sync,
            completions,
            known_workflows,
            workflows: workflows.into_iter().map(Workflow::new).collect(),
            tasks: tasks
                .into_iter()
                .zip(since)
                .map(|(task, since)| Task::new(task, since))
                .collect(),
            more_tasks,
        }
    }
}

impl Counts {
    fn new(counts: &[u64; 6]) -> Self {
        let count = |state: State| counts[state as usize];
        Counts {
            pending_tasks: count(State::Pending),
            blocked_tasks: count(State::Blocked),
            assigned_tasks: count(State::Assigned),
            completed_tasks: count(State::Completed),
            failed_tasks: count(State::Failed),
            cancelled_tasks: count(State::Cancelled),
        }
    }
}

impl Workflow {
    fn new(view: WorkflowView) -> Self {
        Workflow { workflow_id: view.workflow_id, counts: Counts::new(&view.counts) }
    }
}

impl Task {
    fn new(task: TaskView, held_since: Option<u64>) -> Self {
        let is_held = task.state == State::Assigned;
        let text = if is_held { task.note } else { task.error.or(task.reason) };
        Task {
            task_id: task.task_id,
            workflow_id: task.workflow_id,
            name: task.name,
            state: task.state.as_str(),
            priority: task.priority,
            attempt: task.attempt,
            assigned_peer: task.assigned_peer.filter(|_| is_held),
            worker: task.worker.filter(|_| is_held),
            held_since,
            ended_at: task.ended_at,
            text: text.map(|text| text.chars().take(MAX_TEXT).collect()),
        }
    }
}
