//! What callers ask of the scheduler and what they are answered: plain values, checked here.
//!
//! A call that is turned down returns a [`Rejection`] and has changed nothing.

use std::fmt;
use std::sync::Arc;

use super::clock::ClockOrder;
use super::hash::Hash256;
use super::limits::{self, MAX_DEPENDENCIES, MAX_LABELS, MAX_PAYLOAD_BYTES};
use super::rejection::Rejection;
use super::tags::{TagSet, WorkflowTag};

/// The time of a call, read once by whoever drives the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch: for what is shown or stored.
    pub wall: u64,
    /// Milliseconds on a clock that never goes back: for deadlines.
    pub monotonic: u64,
}

/// A task as it is handed in.
///
/// The id is the idempotency key: submitting the same task again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct P2PTask {
    /// 1–256 characters without control characters, unique in the swarm.
    pub task_id: String,
    /// The group the task belongs to, 1–256 characters.
    pub workflow_id: String,
    /// What a person reads, 1–256 characters.
    pub name: String,
    /// What kind of work this is.
    pub tags: TagSet,
    /// 1–10, larger first.
    pub priority: u8,
    /// The task's input: a JSON text of at most 256 KiB.
    pub payload: Option<String>,
    /// Ids of tasks that must be completed first, at most 256.
    pub depends_on: Vec<String>,
    /// What a worker must be capable of, at most 64 names.
    pub requires: Vec<String>,
    /// How long the task waits before it may be claimed, in milliseconds.
    pub delay: u64,
    /// How many attempts may fail before the task does; 0 means no limit.
    pub max_attempts: u32,
    /// How long a lease on time lasts, in milliseconds; 0 means the taker's default.
    pub lease_duration: u64,
    /// Whether a dependency that is not known here turns the submission down. Otherwise it may
    /// arrive later.
    pub dependencies_must_exist: bool,
}

impl P2PTask {
    /// Priority of a task that asks for none.
    pub const DEFAULT_PRIORITY: u8 = 5;
    /// Attempts of a task that says nothing of them.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;

    /// A task with everything optional left at its default.
    #[must_use]
    pub fn new(task_id: &str, workflow_id: &str, name: &str, tags: TagSet) -> Self {
        P2PTask {
            task_id: task_id.into(),
            workflow_id: workflow_id.into(),
            name: name.into(),
            tags,
            priority: Self::DEFAULT_PRIORITY,
            payload: None,
            depends_on: Vec::new(),
            requires: Vec::new(),
            delay: 0,
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
            lease_duration: 0,
            dependencies_must_exist: false,
        }
    }

    /// Checks every field against the limits.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), Rejection> {
        limits::check_name("task_id", &self.task_id)?;
        limits::check_name("workflow_id", &self.workflow_id)?;
        limits::check_name("name", &self.name)?;
        limits::check_priority(self.priority)?;
        limits::check_count("depends_on", self.depends_on.len(), MAX_DEPENDENCIES)?;
        limits::check_count("requires", self.requires.len(), MAX_LABELS)?;
        for id in &self.depends_on {
            limits::check_name("depends_on", id)?;
        }
        for capability in &self.requires {
            limits::check_name("requires", capability)?;
        }
        limits::check_duration("delay_seconds", self.delay, limits::MAX_DELAY)?;
        limits::check_lease(self.lease_duration)?;
        if let Some(payload) = &self.payload {
            limits::check_size("payload", payload.len(), MAX_PAYLOAD_BYTES)?;
        }
        if self.depends_on.contains(&self.task_id) {
            return Err(Rejection::DependencyCycle {
                path: vec![self.task_id.clone(), self.task_id.clone()],
            });
        }
        Ok(())
    }
}

/// What users see of where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Ready, or waiting for its time.
    Pending,
    /// A dependency is not completed.
    Blocked,
    /// Held by a worker.
    Assigned,
    /// Done.
    Completed,
    /// Out of attempts, or a dependency can no longer be completed.
    Failed,
    /// Called off.
    Cancelled,
}

impl State {
    /// All of them, in the order a task may pass through them.
    pub const ALL: [State; 6] = [
        State::Pending,
        State::Blocked,
        State::Assigned,
        State::Completed,
        State::Failed,
        State::Cancelled,
    ];

    /// The word users read and write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Blocked => "blocked",
            State::Assigned => "assigned",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who calls: the worker whose leases it may complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Made at random by a session, or the name that `shared` callers have in common.
    pub worker: Arc<str>,
    /// Whether callers that know nothing of each other are this worker: commands, each its own
    /// process, and requests without a session. A task that was leased more than once is then
    /// reported on with its fence only.
    pub shared: bool,
}

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// False where the same task was already there.
    pub created: bool,
    /// SHA-256 of `task_id:workflow_id`.
    pub task_hash: Hash256,
    /// The priority in force.
    pub priority: u8,
    /// Where it stands now.
    pub state: State,
    /// The peer whose turn is first.
    pub owner: Arc<str>,
    /// Dependencies not known here. They may arrive later.
    pub unknown_dependencies: Vec<String>,
}

/// What a worker will take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// What the worker is capable of; tasks that require more are left.
    pub capabilities: Vec<String>,
    /// Only tasks with one of these; empty means any.
    pub tags: TagSet,
    /// Only tasks of this workflow.
    pub workflow_id: Option<String>,
    /// Only tasks of workflows whose ids begin with one of these; empty means any.
    pub workflow_prefixes: Vec<String>,
    /// How the lease ends.
    pub lease: LeaseTerm,
}

/// How a lease ends when its holder says nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseTerm {
    /// It lasts as long as the worker's session is attached, and a short grace longer.
    #[default]
    Session,
    /// It expires this many milliseconds after it was taken or renewed; 0 means what the task
    /// says, or [`limits::DEFAULT_LEASE`].
    Timed(u64),
}

/// Why this peer may run a task that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is the owner.
    Owned,
    /// The holder went down.
    TakenOver,
    /// The owner let its turn pass.
    Offered,
}

/// Who owns a task, and how far this peer is from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The peer whose turn is first.
    pub owner: Arc<str>,
    /// This peer's place in the ranking, counted from 0, the owner's.
    pub rank: u32,
    /// Hamming distance of the combined hash to this peer's, 0–256.
    pub distance: u32,
    /// Why this peer was given the task.
    pub reason: Reason,
    /// What the distances are measured from: SHA-256 of the head and the task's hash.
    pub combined: Hash256,
    /// Who had the first turns, the owner first, at most [`limits::MAX_TURNS_GIVEN`]; empty where
    /// this peer is the only candidate.
    pub turns: Vec<Turn>,
    /// Whether the peers in reach are no majority of the swarm: those out of reach may be given the
    /// same task.
    pub provisional: bool,
}

/// A candidate's place in the ranking of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The candidate.
    pub peer: Arc<str>,
    /// Hamming distance of the combined hash to the candidate's, 0–256.
    pub distance: u32,
}

/// Why a task goes to whom it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The task as it is shown.
    pub task: TaskView,
    /// The submitter's clock head that the task was stamped with.
    pub head: Hash256,
    /// See [`Ownership::combined`].
    pub combined: Hash256,
    /// Which time the task is given out, counted from 1: the turns begin one place further down the
    /// ranking each time.
    pub epoch: u32,
    /// The candidates as this peer sees them, the owner first, at most [`limits::MAX_TURNS_SHOWN`].
    pub turns: Vec<Turn>,
    /// How many candidates there are.
    pub candidates: u64,
    /// How long each turn lasts, in milliseconds.
    pub turn: u64,
    /// See [`Ownership::provisional`].
    pub provisional: bool,
}

/// A task given to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The task, held by the caller.
    pub task: TaskView,
    /// The fencing token that completes it.
    pub fence: u64,
    /// When the lease ends, in milliseconds since the Unix epoch; `None` while a session renews it.
    pub expires_at: Option<u64>,
    /// Why this peer.
    pub ownership: Ownership,
}

/// Why there was nothing to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NothingReady {
    /// One sentence.
    pub reason: String,
    /// When to ask again at the earliest, in milliseconds, where that is known.
    pub retry_after: Option<u64>,
}

/// What a holder reports of a task, or a person asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Done, with a JSON text of at most 256 KiB.
    Completed {
        /// The task's output.
        result: Option<String>,
    },
    /// The attempt failed.
    Failed {
        /// Why, at most [`limits::MAX_ERROR_BYTES`].
        error: Option<String>,
        /// Output of the failed attempt.
        result: Option<String>,
        /// Whether another attempt may follow.
        retry: bool,
    },
    /// Handed back without having been run.
    Released,
    /// Still at it: renews the lease.
    InProgress {
        /// How far it is.
        note: Option<String>,
    },
    /// Called off. Anyone may.
    Cancelled {
        /// Why.
        error: Option<String>,
    },
}

/// The answer to a [`Mark`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Where the task stands now.
    pub state: State,
    /// Which attempt this was.
    pub attempt: u32,
    /// Ids of tasks that became ready by it, at most [`limits::MAX_UNBLOCKED_SHOWN`].
    pub unblocked: Vec<String>,
    /// When the next attempt may start, in milliseconds since the Unix epoch.
    pub next_attempt_at: Option<u64>,
    /// When the lease ends now, for a renewal of one on time.
    pub expires_at: Option<u64>,
}

/// Everything shown of one task but the texts of payload and result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// The store's key, rising in the order of arrival; pages are resumed after it.
    pub key: u64,
    /// See [`P2PTask::task_id`].
    pub task_id: Arc<str>,
    /// See [`P2PTask::workflow_id`].
    pub workflow_id: Arc<str>,
    /// See [`P2PTask::name`].
    pub name: String,
    /// See [`P2PTask::tags`].
    pub tags: TagSet,
    /// The priority in force.
    pub priority: u8,
    /// Where it stands.
    pub state: State,
    /// Why it stands there, where that is not plain: what it waits for, why it failed.
    pub reason: Option<String>,
    /// SHA-256 of `task_id:workflow_id`.
    pub task_hash: Hash256,
    /// Who holds it, or completed it.
    pub assigned_peer: Option<Arc<str>>,
    /// The worker at that peer.
    pub worker: Option<Arc<str>>,
    /// The fence of the lease in force.
    pub fence: Option<u64>,
    /// Which attempt this is or was, counted from 1.
    pub attempt: u32,
    /// See [`P2PTask::max_attempts`].
    pub max_attempts: u32,
    /// See [`P2PTask::depends_on`].
    pub depends_on: Vec<Arc<str>>,
    /// See [`P2PTask::requires`].
    pub requires: Vec<Arc<str>>,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    /// Not to be claimed before, in milliseconds since the Unix epoch.
    pub not_before: Option<u64>,
    /// When it was completed or cancelled, in milliseconds since the Unix epoch.
    pub ended_at: Option<u64>,
    /// When the lease ends, in milliseconds since the Unix epoch; `None` while a session renews it.
    pub expires_at: Option<u64>,
    /// What the holder last said.
    pub note: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Whether the store has a payload for it.
    pub has_payload: bool,
    /// Whether the store has a result for it.
    pub has_result: bool,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this one.
    pub task_id: Option<String>,
    /// Only tasks of this workflow.
    pub workflow_id: Option<String>,
    /// Only tasks that stand here.
    pub state: Option<State>,
    /// At most so many, 1–100.
    pub limit: usize,
    /// Only tasks whose key is greater.
    pub after: Option<u64>,
}

/// One page of tasks, in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// Where to go on; `None` at the end. A page may be short and still have a next one.
    pub next: Option<u64>,
}

/// Ids that can be offered to whoever began to write one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Of tasks.
    Tasks,
    /// Of workflows.
    Workflows,
}

/// The ids that begin in a certain way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The first of them in order, at most [`limits::MAX_OFFERED`].
    pub ids: Vec<Arc<str>>,
    /// How many there are; `None` for more than anyone counts.
    pub total: Option<usize>,
}

/// Counts and the clock's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This peer.
    pub peer_id: Arc<str>,
    /// How many tasks stand where, in the order of [`State::ALL`].
    pub counts: [u64; 6],
    /// Tasks that this peer may claim now.
    pub queue_size: u64,
    /// Members, this peer among them.
    pub known_peers: u64,
    /// Members that are alive, this peer among them.
    pub alive_peers: u64,
    /// Whether the others count this peer as one that runs tasks: see
    /// [`P2PWorkflowScheduler::takes_work`](super::P2PWorkflowScheduler::takes_work).
    pub takes_work: bool,
    /// Hex.
    pub merkle_root: String,
    /// Whether all connected peers hold the same records.
    pub in_sync: bool,
    /// Specs that lost against another under the same id.
    pub conflicts: u64,
    /// Second runs that were found.
    pub duplicates: u64,
}

impl Status {
    /// How many tasks stand there.
    #[must_use]
    pub fn count(&self, state: State) -> u64 {
        self.counts[state as usize]
    }
}

/// The answer to a peer's reported clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUpdated {
    /// The peer's clock, seen from ours before they were merged.
    pub order: ClockOrder,
    /// Our root after.
    pub merkle_root: String,
}

/// What tags mean for a GitHub workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagCheck {
    /// The known ones.
    pub tags: TagSet,
    /// The others, as given.
    pub unknown: Vec<String>,
}

impl TagCheck {
    /// Sorts `names` into known and unknown tags.
    #[must_use]
    pub fn of(names: &[String]) -> Self {
        let mut check = TagCheck { tags: TagSet::default(), unknown: Vec::new() };
        for name in names {
            match name.parse::<WorkflowTag>() {
                Ok(tag) => {
                    check.tags.insert(tag);
                }
                Err(_) => check.unknown.push(name.clone()),
            }
        }
        check
    }

    /// The tags, if all are known.
    ///
    /// # Errors
    /// [`Rejection::UnknownTag`] naming the others.
    pub fn all_known(self) -> Result<TagSet, Rejection> {
        match self.unknown.is_empty() {
            true => Ok(self.tags),
            false => Err(Rejection::UnknownTag { tags: self.unknown }),
        }
    }
}
