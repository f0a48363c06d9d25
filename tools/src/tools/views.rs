//! What resources show: the same as the tools, as JSON texts.

use std::sync::Arc;

use p2p_workflow_scheduler::node::{CallError, Session};
use p2p_workflow_scheduler::scheduler::limits::MAX_PAGE;
use p2p_workflow_scheduler::scheduler::{MemberView, State, Status};
use serde::Serialize;

use super::scheduler_status::{self, Task};
use super::update_peer_state::Order;
use super::{get_merkle_clock, json_text};

/// What `p2p_scheduler_status` answers without a filter.
pub(crate) async fn status(session: &Session) -> Result<String, CallError> {
    Ok(scheduler_status::counts(session).await?.structured)
}

/// What `p2p_get_merkle_clock` answers.
pub(crate) async fn clock(session: &Session) -> Result<String, CallError> {
    Ok(get_merkle_clock::clock(session).await?.structured)
}

/// The task that `p2p_scheduler_status` shows for its id.
pub(crate) async fn task(session: &Session, task_id: &str) -> Result<String, CallError> {
    let (_status, shown) = session.show(task_id).await?;
    Ok(json_text(&Task::whole(shown)))
}

/// A workflow's counts and first tasks; `None` if it has no task.
pub(crate) async fn workflow(
    session: &Session,
    workflow_id: &str,
) -> Result<Option<String>, CallError> {
    let Some((counts, page)) = session.workflow(workflow_id, MAX_PAGE).await? else {
        return Ok(None);
    };
    let count = |state: State| counts[state as usize];
    let next_cursor = page.next.map(|key| key.to_string());
    Ok(Some(json_text(&Workflow {
        workflow_id,
        pending_tasks: count(State::Pending),
        blocked_tasks: count(State::Blocked),
        assigned_tasks: count(State::Assigned),
        completed_tasks: count(State::Completed),
        failed_tasks: count(State::Failed),
        cancelled_tasks: count(State::Cancelled),
        tasks: page.tasks.into_iter().map(Task::new).collect(),
        more: next_cursor.as_ref().map(|_| MORE),
        next_cursor,
    })))
}

/// The members, this peer first.
pub(crate) async fn peers(session: &Session) -> Result<String, CallError> {
    let (status, members) = session.members().await?;
    Ok(json_text(&Peers::new(status, members)))
}

/// How to read on where a workflow has more tasks than are shown.
const MORE: &str = "Call p2p_scheduler_status with this workflow_id and next_cursor as its cursor.";

#[derive(Serialize)]
struct Workflow<'a> {
    workflow_id: &'a str,
    pending_tasks: u64,
    blocked_tasks: u64,
    assigned_tasks: u64,
    completed_tasks: u64,
    failed_tasks: u64,
    cancelled_tasks: u64,
    /// In the order of arrival.
    tasks: Vec<Task>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<&'static str>,
}

#[derive(Serialize)]
struct Peers {
    peer_id: Arc<str>,
    known_peers: u64,
    alive_peers: u64,
    peers: Vec<Peer>,
}

#[derive(Serialize)]
struct Peer {
    peer_id: Arc<str>,
    this_peer: bool,
    alive: bool,
    takes_work: bool,
    /// By its heartbeats; null for one that was only reported.
    liveness: Option<&'static str>,
    /// How its last reported clock stood to ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_order: Option<Order>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_at: Option<u64>,
}

impl Peers {
    fn new(status: Status, members: Vec<MemberView>) -> Self {
        let this = Peer {
            peer_id: status.peer_id.clone(),
            this_peer: true,
            alive: true,
            takes_work: status.takes_work,
            liveness: Some("alive"),
            clock_order: None,
            heard_at: None,
        };
        Peers {
            peer_id: status.peer_id,
            known_peers: status.known_peers,
            alive_peers: status.alive_peers,
            peers: std::iter::once(this).chain(members.into_iter().map(Peer::new)).collect(),
        }
    }
}

impl Peer {
    fn new(member: MemberView) -> Self {
        Peer {
            this_peer: false,
            alive: member.alive,
            takes_work: member.takes_work,
            liveness: member.state(),
            peer_id: member.peer_id,
            clock_order: member.clock_order.map(Order::from),
            heard_at: member.heard_at,
        }
    }
}
