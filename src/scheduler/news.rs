//! What calls changed of what is shown, for whoever watches: also where no record changed and
//! nothing is to be kept, as with a task that a completed dependency unblocked.
//!
//! It may name a task whose view is the same as before (a superset costs a watcher one look), and
//! never leaves one out whose view changed. What only counts down with the time (the seconds that a
//! task still waits) is no change.

use std::sync::Arc;

use super::machine::P2PWorkflowScheduler;

/// What changed of what is shown since [`P2PWorkflowScheduler::take_changes`] was last called.
#[derive(Clone, Copy, Debug)]
pub struct News<'s> {
    /// Tasks by key, some of them more than once.
    pub tasks: &'s [u64],
    /// Workflows that lost a task: to another by a merge, or since it ended long ago.
    pub left: &'s [Arc<str>],
    /// Tasks that are shown no longer.
    pub gone: &'s [Arc<str>],
    /// Whether the shown clock rose.
    pub clock: bool,
    /// Whether a member came, went, or is in another standing. A mere heartbeat is no news.
    pub members: bool,
    /// Whether the newest workflows are others.
    pub workflows: bool,
    /// Whether there is something to keep.
    pub kept: bool,
}

impl News<'_> {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.gone.is_empty() && !self.members && !self.kept
    }
}

/// What is gathered for the [`News`].
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) tasks: Vec<u64>,
    pub(super) left: Vec<Arc<str>>,
    pub(super) gone: Vec<Arc<str>>,
}

impl P2PWorkflowScheduler {
    /// What changed of what is shown since [`P2PWorkflowScheduler::take_changes`] was last called.
    #[must_use]
    pub fn news(&self) -> News<'_> {
        News {
            tasks: &self.gathered.tasks,
            left: &self.gathered.left,
            gone: &self.gathered.gone,
            clock: !self.changes.clock.is_empty(),
            members: self.members.changed,
            workflows: self.table.newest_changed,
            // That a member was heard of is kept too, and shows nothing.
            kept: self.changes.shows_something(),
        }
    }

    /// The ids of a task and of its workflow.
    #[must_use]
    pub fn ids(&self, key: u64) -> Option<(&Arc<str>, &Arc<str>)> {
        let spec = &self.table.get(key)?.record.spec;
        Some((&spec.task_id, &spec.workflow_id))
    }

    pub(super) fn forget_news(&mut self) {
        self.gathered.tasks.clear();
        self.gathered.left.clear();
        self.gathered.gone.clear();
        (self.members.changed, self.table.newest_changed) = (false, false);
    }
}
