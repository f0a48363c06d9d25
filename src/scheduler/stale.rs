//! What this peer does not do while what it holds may be out of date.
//!
//! * **It settles** after it started in a swarm, or stood still for a while (a lid was closed):
//!   others may have done meanwhile what waits here. Nothing is given out until one pull that began
//!   since is through, or [`Config::settle_after`](super::Config::settle_after) has passed without
//!   any: then it is on its own, like any part of a swarm that is cut off.
//! * **It is in doubt** after its store was put back to an older state, if it heard of nobody for
//!   nearly as long as members are remembered, or if it had left and joins again. Then others may have dropped the tombstones of tasks
//!   that live here (see `pruning`), and whatever it wrote of such a task would bring the task back
//!   to life everywhere. It changes nothing until one *audit* is through: a pull in which the peer
//!   lists all that it holds as well. What that peer has seen, and does not hold, is gone there, and
//!   goes here (protocol rule 11).
//!
//! An audit also mends what should not be: peers with equal vectors whose live tasks differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::calls::Now;
use super::foreign::Carried;
use super::machine::P2PWorkflowScheduler;
use super::record::{Class, Dot, fingerprint};
use super::rejection::Rejection;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// Until then, on the monotonic clock, nothing is given out.
    settling_until: Option<u64>,
    doubtful: bool,
}

impl Stale {
    pub(super) fn kept(doubtful: bool) -> Self {
        Stale { settling_until: None, doubtful }
    }
}

impl P2PWorkflowScheduler {
    /// How long nothing is given out yet, in milliseconds, since others may have done it; 0 is not
    /// at all. See the page of `stale`.
    #[must_use]
    pub fn settles_in(&self, now: Now) -> u64 {
        // A pull that is under way is waited for beyond that, but not promised.
        self.stale.settling_until.map_or(0, |at| at.saturating_sub(now.monotonic).max(1))
    }

    pub(super) fn is_settling(&self) -> bool {
        self.stale.settling_until.is_some()
    }

    /// Whether nothing may be changed.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.stale.doubtful && self.replication.is_some() && self.members.has_swarm()
    }

    /// Turns a call down that would change something.
    pub(super) fn check_in_doubt(&self) -> Result<(), Rejection> {
        match self.is_in_doubt() {
            true => Err(Rejection::Overloaded {
                what:
                    "this machine's tasks may be out of date, as after a restore from a backup: it \
                       first compares all of them with another machine of its swarm (`swarm peers` \
                       shows who is there, `swarm leave` gives the others up)"
                        .into(),
            }),
            false => Ok(()),
        }
    }

    /// The time at which settling ends by itself.
    pub(super) fn next_settling(&self) -> Option<u64> {
        let at = self.stale.settling_until?;
        let pull = self.replication.as_ref().and_then(|replication| replication.pull.as_ref());
        Some(pull.map_or(at, |pull| at.max(pull.gives_up_at)))
    }

    /// Lets time pass: settling ends.
    pub(super) fn advance_settling(&mut self, now: Now) {
        if self.next_settling().is_some_and(|at| at <= now.monotonic) {
            self.settled();
        }
    }

    pub(super) fn settled(&mut self) {
        self.stale.settling_until = None;
        self.became_ready |= self.ready.len() > 0;
    }

    /// Others may have done something meanwhile.
    pub(super) fn settle_with_peers(&mut self, now: Now) {
        if !self.members.has_swarm() {
            return;
        }
        self.stale.settling_until = Some(now.monotonic.saturating_add(self.config.settle_after));
        self.end_pull(now);
        let Some(replication) = &mut self.replication else { return };
        // What they said before counts no longer.
        replication.connected.values_mut().for_each(|remote| remote.roots = None);
    }

    /// Whether this peer stood still since `before`: it had something to do every second.
    pub(super) fn notice_sleep(&mut self, before: Now, now: Now) {
        let replication = self.replication.as_ref();
        if replication.is_none_or(|replication| replication.connected.is_empty()) {
            return;
        }
        let passed = now.monotonic.saturating_sub(before.monotonic);
        let passed_on_the_wall = now.wall.saturating_sub(before.wall);
        if passed.max(passed_on_the_wall) > self.config.suspect_after {
            self.settle_with_peers(now);
        }
    }

    /// What is held may be older than what others have forgotten.
    pub(super) fn doubt(&mut self) {
        if !self.stale.doubtful && self.members.has_swarm() {
            self.stale.doubtful = true;
            self.changes.doubtful = Some(true);
        }
    }

    /// Doubts what is held if others may have given up waiting for a peer that they last heard of,
    /// as it did of them, at this time.
    pub(super) fn doubt_if_forgotten(&mut self, now: Now, heard_at: Option<u64>) {
        // Their clocks and this one may differ.
        let nearly = self.config.forget_member_after / 10 * 9;
        if heard_at.is_some_and(|at| at.saturating_add(nearly) <= now.wall) {
            self.doubt();
        }
    }

    /// An audit is through: the peer with this vector holds what is listed, and no more.
    pub(super) fn audited(
        &mut self,
        now: Now,
        have: &BTreeMap<Arc<str>, u64>,
        listed: &BTreeSet<u64>,
        lesser: impl Iterator<Item = Carried>,
    ) {
        self.drop_what_is_gone(now, have, listed);
        if self.stale.doubtful {
            self.take_what_is_lesser(now, have, lesser);
            self.stale.doubtful = false;
            self.changes.doubtful = Some(false);
            self.became_ready |= self.ready.len() > 0;
        }
    }

    /// Takes records that the peer with this vector holds although it has seen the greater ones here:
    /// the tasks ended, were forgotten, and were submitted again.
    fn take_what_is_lesser(
        &mut self,
        now: Now,
        have: &BTreeMap<Arc<str>, u64>,
        lesser: impl Iterator<Item = Carried>,
    ) {
        for Carried { record, payload, result } in lesser {
            let Some(key) = self.table.key_of(&record.spec.task_id) else { continue };
            let Dot { actor, counter } = &self.table.entry(key).record.dot;
            if have.get(actor).is_some_and(|seen| seen >= counter) {
                self.leave_nothing(now, key);
                self.take_anew(now, record, payload, result);
            }
        }
    }

    /// Drops what the peer with this vector has seen, and does not hold.
    fn drop_what_is_gone(
        &mut self,
        now: Now,
        have: &BTreeMap<Arc<str>, u64>,
        listed: &BTreeSet<u64>,
    ) {
        let seen =
            |actor: &Arc<str>, counter: u64| have.get(actor).is_some_and(|it| *it >= counter);
        let is_gone = |key: &u64| {
            let record = &self.table.entry(*key).record;
            seen(&record.dot.actor, record.dot.counter)
                && !listed.contains(&fingerprint(record.spec.task_id.as_bytes()))
        };
        let gone: Vec<u64> = self.table.keys_after(None).filter(is_gone).collect();
        for key in gone {
            let record = &self.table.entry(key).record;
            if record.class == Class::Live {
                self.changes.forgotten.push(record.spec.task_id.clone());
            }
            self.leave_nothing(now, key);
        }
        let is_gone = |key: &u64| {
            self.table.tombstones.get(*key).is_some_and(|tombstone| {
                seen(&tombstone.dot().actor, tombstone.dot().counter)
                    && !listed.contains(&fingerprint(tombstone.task_id.as_bytes()))
            })
        };
        let gone: Vec<u64> = self.table.tombstones.keys_from(0).filter(is_gone).collect();
        gone.into_iter().for_each(|key| self.drop_tombstone(now, key));
    }
}
