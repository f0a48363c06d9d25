//! What a call changed, for whoever keeps it: all of one [`Changes`] goes to disk in one
//! transaction, in the order in which they came, before anything that shows them is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Dot, Record};
use super::tombstones::Tombstone;

/// Everything that one or more calls changed. Later entries for the same key replace earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Records, new and changed.
    pub tasks: Vec<TaskChange>,
    /// Counters of the shown clock that rose: peer, counter.
    pub clock: Vec<(Arc<str>, u64)>,
    /// Counters of the replication vector that rose, or fell where this peer took a new actor.
    pub have: Vec<Dot>,
    /// The actor that names this peer's writes from now on, where it is another than before.
    pub actor: Option<Arc<str>>,
    /// Tasks that are a tombstone from now on, or nothing at all. A key that was buried never has a
    /// task again.
    pub buried: Vec<Burial>,
    /// Members of the swarm: what is known of one, or `None` for one that is none any more. Later
    /// entries replace earlier ones.
    pub members: Vec<(Arc<str>, Option<Heard>)>,
    /// Whether what is kept may be older than what peers have forgotten already: see
    /// [`Kept::doubtful`].
    pub doubtful: Option<bool>,
    /// Live tasks that are dropped since the others had seen their ends and forgotten them; not kept.
    pub forgotten: Vec<Arc<str>>,
    /// Specs that lost a merge against another under the same id.
    pub conflicts: Vec<Conflict>,
    /// Second runs that were found.
    pub duplicates: Vec<Duplicate>,
    /// Runs that were found to be second ones before, and count after all. None of them is among those
    /// above.
    pub not_lost: Vec<Duplicate>,
}

impl Changes {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Whether there is more than what is known of members.
    pub(super) fn shows_something(&self) -> bool {
        let Changes {
            tasks,
            clock,
            have,
            actor,
            buried,
            members: _,
            doubtful,
            forgotten: _,
            conflicts,
            duplicates,
            not_lost,
        } = self;
        let lists = [tasks.len(), clock.len(), have.len(), buried.len()];
        let found = [conflicts.len(), duplicates.len(), not_lost.len()];
        lists.iter().chain(&found).any(|len| *len > 0) || actor.is_some() || doubtful.is_some()
    }
}

/// One record to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskChange {
    /// The store's integer key: rises in the order of arrival, never used twice.
    pub key: u64,
    /// The record, whole.
    pub record: Record,
    /// How many leases this node gave out for it.
    pub leases_here: u32,
    /// Whether the spec is new under this key: the first record of a task, or another spec that
    /// won a merge. Otherwise only what can change has changed.
    pub spec_is_new: bool,
    /// The payload's text, where the spec is new and has one.
    pub payload: Option<Arc<str>>,
    /// The result's text, where this change brought one.
    pub result: Option<Arc<str>>,
}

/// The end of a task's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burial {
    /// The key that it had.
    pub key: u64,
    /// What is left of it.
    pub tombstone: Option<Tombstone>,
}

/// What is kept of a member of the swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When it was last heard of, to the hour, in milliseconds since the Unix epoch.
    pub at: u64,
    /// What it held then; `None` leaves what is kept as it is.
    pub have: Option<Arc<BTreeMap<Arc<str>, u64>>>,
}

/// A spec that lost against another under the same id. Kept and shown, never run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The task's key.
    pub key: u64,
    /// The losing record, whole.
    pub record: Record,
    /// The losing payload's text, where it came in; where it was here, it is kept under the key until
    /// now.
    pub payload: Option<Arc<str>>,
}

/// A run of a task beside the one that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The task.
    pub task_id: Arc<str>,
    /// The peer whose run does not count.
    pub peer: Arc<str>,
    /// The worker at that peer.
    pub worker: Arc<str>,
    /// The claim that it began with.
    pub dot: Dot,
}

/// A record as it was kept, for the scheduler to take up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptTask {
    /// See [`TaskChange::key`].
    pub key: u64,
    /// The record.
    pub record: Record,
    /// See [`TaskChange::leases_here`].
    pub leases_here: u32,
}

/// What was kept of a scheduler, to take it up again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The shown clock.
    pub clock: BTreeMap<String, u64>,
    /// The replication vector.
    pub have: BTreeMap<Arc<str>, u64>,
    /// In the order of their keys.
    pub tasks: Vec<KeptTask>,
    /// In the order of their keys.
    pub tombstones: Vec<(u64, Tombstone)>,
    /// The members of the swarm.
    pub members: BTreeMap<Arc<str>, Heard>,
    /// Whether the store was put back to an older state, or others forgot this peer, and none has told
    /// since what is gone.
    pub doubtful: bool,
    /// How many conflicts were found.
    pub conflicts: u64,
    /// The claims whose runs are told of as second ones.
    pub lost_runs: BTreeSet<Dot>,
    /// The first key that no task has had.
    pub next_key: u64,
}
