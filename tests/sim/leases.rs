//! When the leases that a node gave out come to their end (protocol rule 15), as the oracle knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::{Changes, Lease, TaskChange};

use super::asked::Asked;
use super::disk::Disk;
use super::node::Peer;

/// A point of the monotonic clock that never comes.
const NEVER: u64 = u64::MAX;
/// How late the end of a lease may come, in milliseconds: with the next call.
const SLACK: u64 = 1_000;

/// The leases of one node in force, and the sessions that are attached to it.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: BTreeMap<Arc<str>, Held>,
    attached: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Held {
    key: u64,
    lease: Arc<Lease>,
    /// On the monotonic clock.
    ends_at: u64,
}

impl Leases {
    /// A node is taken up: what it gave out starts again with its full duration, and what lasts as long
    /// as a session waits a grace for it.
    pub(crate) fn taken_up(name: &str, disk: &Disk, now: u64, grace: u64) -> Self {
        let mut leases = Leases::default();
        for (id, record) in disk.records() {
            if let Some(lease) = record.held().filter(|lease| *lease.holder == *name) {
                let (key, lease) = (disk.key(id).unwrap_or_default(), lease.clone());
                let ends_at = leases.full(&lease, now, grace);
                leases.held.insert(id.clone(), Held { key, lease, ends_at });
            }
        }
        leases
    }

    fn full(&self, lease: &Lease, now: u64, grace: u64) -> u64 {
        match lease.duration {
            0 if self.attached.contains(&lease.worker) => NEVER,
            0 => now + grace,
            duration => now + duration,
        }
    }

    /// A record changed. One that the node did not write itself may bring a lease of this node that it
    /// does not remember: that ends after the grace.
    pub(crate) fn follow(
        &mut self,
        peer: &Peer,
        change: &TaskChange,
        by_itself: bool,
        starts_anew: bool,
        now: u64,
        grace: u64,
    ) {
        let id = &change.record.spec.task_id;
        let held = change.record.held().filter(|lease| lease.holder == peer.name);
        let Some(lease) = held.cloned() else {
            self.held.remove(id);
            return;
        };
        let known = self.held.get(id);
        let goes_on = known.is_some_and(|known| known.key == change.key && known.lease == lease);
        let ends_at = match known {
            Some(known) if goes_on && !(by_itself && starts_anew) => known.ends_at,
            _ if by_itself => self.full(&lease, now, grace),
            _ => now + grace,
        };
        self.held.insert(id.clone(), Held { key: change.key, lease, ends_at });
    }

    /// What is gone is held no longer.
    pub(crate) fn bury(&mut self, changes: &Changes) {
        let is_buried = |key: u64| changes.buried.iter().any(|burial| burial.key == key);
        if !changes.buried.is_empty() {
            self.held.retain(|_, held| !is_buried(held.key));
        }
    }

    /// Sessions came and went.
    pub(crate) fn sessions(&mut self, asked: &[Asked], now: u64, grace: u64) {
        for asked in asked {
            let (worker, ends_at) = match asked {
                Asked::Attach(worker) => (worker, NEVER),
                Asked::Detach(worker) => (worker, now + grace),
                Asked::Dismiss(worker) => (worker, now),
                _ => continue,
            };
            match ends_at {
                NEVER => drop(self.attached.insert(worker.clone())),
                _ => drop(self.attached.remove(worker)),
            }
            let of_session =
                |held: &&mut Held| held.lease.duration == 0 && held.lease.worker == *worker;
            self.held.values_mut().filter(of_session).for_each(|held| held.ends_at = ends_at);
        }
    }

    /// Whether the node holds a lease of this task.
    pub(crate) fn holds(&self, id: &str) -> bool {
        self.held.contains_key(id)
    }

    /// Whether the time of its lease of this task is over.
    pub(crate) fn is_over(&self, id: &str, now: u64) -> bool {
        self.held.get(id).is_some_and(|held| held.ends_at <= now)
    }

    /// A task whose lease should have ended. A node in doubt ends none.
    pub(crate) fn overdue(&mut self, now: u64, in_doubt: bool) -> Option<Arc<str>> {
        if in_doubt {
            self.held.values_mut().for_each(|held| held.ends_at = held.ends_at.max(now));
            return None;
        }
        let is_overdue = |held: &Held| held.ends_at.saturating_add(SLACK) < now;
        self.held.iter().find(|(_, held)| is_overdue(held)).map(|(id, _)| id.clone())
    }
}
