//! Why a call is turned down: what happened, what to do, and a stable code.
//!
//! The texts are what agents and people read, so they name the field, the remedy and where to look.

use super::record::Class;
use super::tags::WorkflowTag;

/// Characters at the start and at the end of a peer id's short form.
const KEPT: usize = 8;

/// A legal "no". Nothing was changed.
///
/// The text says what happened and what to do; [`Rejection::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Another task has this id.
    #[error(
        "task {task_id:?} already exists with a different {differs}. Submit under another task_id, or leave the existing task as it is."
    )]
    TaskExists {
        /// The id.
        task_id: String,
        /// The fields that differ.
        differs: String,
    },
    /// No task has this id.
    #[error(
        "task {task_id:?} is not known here. Check the id with p2p_scheduler_status (or `p2p-workflow list`), or submit it first."
    )]
    TaskNotFound {
        /// The id.
        task_id: String,
    },
    /// The caller does not hold the task.
    #[error(
        "task {task_id:?} is {standing}, not held by you. Take tasks with p2p_get_next_task (or `p2p-workflow next`) and report only on those; a person may cancel it."
    )]
    NotHolder {
        /// The id.
        task_id: String,
        /// Where it stands, or who holds it.
        standing: String,
    },
    /// Another peer held the task, and is down.
    #[error(
        "task {task_id:?} was held by {}, which is down. Take it with p2p_get_next_task (or `p2p-workflow next`), then report on it.",
        short(peer)
    )]
    HolderDown {
        /// The id.
        task_id: String,
        /// Who held it.
        peer: String,
    },
    /// The fence is not that of the lease in force.
    #[error(
        "fence {given} of task {task_id:?} is stale: the lease in force has another. Stop working on it; your attempt was replaced. Take a task anew."
    )]
    StaleFence {
        /// The id.
        task_id: String,
        /// What the caller gave.
        given: u64,
    },
    /// The caller's lease ran out.
    #[error(
        "your lease of task {task_id:?} expired, and the task went back to the queue. Take it anew; renew long work with outcome \"in_progress\"."
    )]
    LeaseExpired {
        /// The id.
        task_id: String,
    },
    /// It was completed, and stays so.
    #[error(
        "task {task_id:?} is already completed; its first outcome stands. Nothing is left to do: read it with p2p_scheduler_status and task_id (or `p2p-workflow show`)."
    )]
    AlreadyCompleted {
        /// The id.
        task_id: String,
    },
    /// It was called off, and stays so.
    #[error(
        "task {task_id:?} is already cancelled. Stop working on it; submit a new task if the work is wanted after all."
    )]
    AlreadyCancelled {
        /// The id.
        task_id: String,
    },
    /// It would wait for itself.
    #[error("the dependencies form a cycle: {}. Drop one of these from depends_on.", path.join(" -> "))]
    DependencyCycle {
        /// From the task back to itself.
        path: Vec<String>,
    },
    /// A dependency is not known, and the caller asked for it to be.
    #[error("unknown dependencies: {}. Submit them first, or leave out dependencies_must_exist: they may arrive later.", ids.join(", "))]
    UnknownDependency {
        /// The ids.
        ids: Vec<String>,
    },
    /// No such tag.
    #[error("unknown tags: {}. The valid tags are: {}.", tags.join(", "), WorkflowTag::ALL.map(WorkflowTag::as_str).join(", "))]
    UnknownTag {
        /// As given.
        tags: Vec<String>,
    },
    /// A field is not what it must be.
    #[error("{what}")]
    InvalidArgument {
        /// Which field, what is wrong, what is right.
        what: String,
    },
    /// A field is over its limit.
    #[error(
        "{what} is {size} where at most {limit} is allowed. Send less, or store it elsewhere (IPFS, a file) and send its address."
    )]
    TooLarge {
        /// Which field, with its unit.
        what: String,
        /// How large.
        size: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A clock that its peer cannot have.
    #[error(
        "this clock cannot be right: {why}. Send the answer of that peer's own p2p_get_merkle_clock unchanged."
    )]
    ForgedClock {
        /// What gives it away.
        why: String,
    },
    /// Too much at once.
    #[error("{what}. Wait for running work to finish, then try again.")]
    Overloaded {
        /// Which limit is reached.
        what: String,
    },
}

impl Rejection {
    /// The stable word for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::TaskExists { .. } => "task_exists",
            Rejection::TaskNotFound { .. } => "task_not_found",
            Rejection::NotHolder { .. } | Rejection::HolderDown { .. } => "not_holder",
            Rejection::StaleFence { .. } => "stale_fence",
            Rejection::LeaseExpired { .. } => "lease_expired",
            Rejection::AlreadyCompleted { .. } => "already_completed",
            Rejection::AlreadyCancelled { .. } => "already_cancelled",
            Rejection::DependencyCycle { .. } => "dependency_cycle",
            Rejection::UnknownDependency { .. } => "unknown_dependency",
            Rejection::UnknownTag { .. } => "unknown_tag",
            Rejection::InvalidArgument { .. } => "invalid_argument",
            Rejection::TooLarge { .. } => "too_large",
            Rejection::ForgedClock { .. } => "forged_clock",
            Rejection::Overloaded { .. } => "overloaded",
        }
    }

    pub(crate) fn ended(class: Class, task_id: &str) -> Option<Self> {
        let task_id = task_id.to_owned();
        match class {
            Class::Live => None,
            Class::Cancelled => Some(Rejection::AlreadyCancelled { task_id }),
            Class::Completed => Some(Rejection::AlreadyCompleted { task_id }),
        }
    }
}

/// `12D3KooW…9bQKWJ9W`, as people are shown peers and may name them.
fn short(peer: &str) -> String {
    match (peer.get(..KEPT), peer.len().checked_sub(KEPT).and_then(|at| peer.get(at..))) {
        (Some(start), Some(end)) if peer.len() > 2 * KEPT => format!("{start}…{end}"),
        _ => peer.to_owned(),
    }
}
