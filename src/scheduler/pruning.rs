//! How what ended long ago goes (protocol rules 10 and 11).
//!
//! A task that ended is kept whole for [`Config::retention`](super::Config::retention), so that
//! people and dependents can read it. Then it is *stripped*: name, payload, result and the rest go,
//! and a [`Tombstone`] stays, which merges as the record did. The tombstone goes when every known
//! member of the swarm is known to hold it: nobody is left who could bring the task back to life.
//! Nothing is stripped while a task that waits for it is live.
//!
//! None of it is a write: each peer strips by its own clock, and what is stripped on one merges with
//! what is whole on another. What a member holds is learned from its pulls and from the vectors that
//! members tell each other once in a sweep ([`Held`]).
//!
//! Members forget one after the other, so a task can be submitted again under its id where it is
//! forgotten, while others still know how it ended last. Those forget it as the submission comes in, if
//! they may; otherwise they write the end anew, so that all hold the same (see `merge`).
//!
//! A member that was silent for [`Config::forget_member_after`](super::Config::forget_member_after)
//! is not waited for; `stale` says what such a member does when it is back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::calls::{Now, State};
use super::changes::{Burial, Heard};
use super::clock::vector_root;
use super::hash::Hash256;
use super::limits::MAX_HELD_COUNTERS;
use super::machine::{P2PWorkflowScheduler, STEP};
use super::merge::is_another_end;
use super::messages::{Content, Held, Outgoing};
use super::push::some_of;
use super::record::{Dot, Record, Standing};
use super::refused::{Refused, is_name};
use super::table::{Entry, Outlook};
use super::tombstones::Tombstone;

/// Looks at all that ended, in one retention: late by one part in so many, at most.
const SWEEPS: u64 = 168;
/// The shortest time between two of them, in milliseconds.
const SHORTEST_SWEEP_INTERVAL: u64 = 1_000;
/// Sweeps after which a vector is told again although it is the same: someone may have missed it.
const TOLD_AGAIN_AFTER: u64 = 24;

type Vector = BTreeMap<Arc<str>, u64>;

/// How far the look at all that ended is.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    stage: Stage,
    /// When the next one begins, on the monotonic clock.
    next_at: u64,
    sweeps: u64,
    /// What was told last of this peer's vector: its root, and in which sweep.
    told: Option<(Hash256, u64)>,
    /// Tasks that came in with an end that seems long past, and when: whose clock that was may be
    /// wrong, and nobody has read the result yet.
    came_late: BTreeMap<u64, u64>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Waiting,
    /// Tasks that ended so, from this key on.
    Strip(State, u64),
    /// Tombstones from this key on. All members hold all up to this vector, if that is known.
    Drop(u64, Option<Vector>),
}

impl P2PWorkflowScheduler {
    /// When [`P2PWorkflowScheduler::advance_pruning`] has something to do. Nothing waits for a sweep
    /// to begin, so that comes along with other calls; one that began goes on.
    pub(super) fn next_pruning(&self, now: Now) -> Option<u64> {
        match self.pruning.stage {
            Stage::Waiting => None,
            Stage::Strip(..) | Stage::Drop(..) => Some(now.monotonic),
        }
    }

    /// Lets time pass: looks at a bounded number of tasks that ended.
    pub(super) fn advance_pruning(&mut self, now: Now) {
        if matches!(self.pruning.stage, Stage::Waiting) && self.pruning.next_at <= now.monotonic {
            let interval = (self.config.retention / SWEEPS).max(SHORTEST_SWEEP_INTERVAL);
            self.pruning.next_at = now.monotonic.saturating_add(interval);
            self.pruning.sweeps += 1;
            self.pruning.stage = Stage::Strip(State::Completed, 0);
        }
        let mut left = STEP;
        while left > 0 {
            self.pruning.stage = match std::mem::take(&mut self.pruning.stage) {
                Stage::Waiting => return,
                Stage::Strip(state, from) => self.strip_some(now, state, from, &mut left),
                Stage::Drop(from, held_by_all) => self.drop_some(now, from, held_by_all, &mut left),
            };
        }
    }

    fn strip_some(&mut self, now: Now, state: State, from: u64, left: &mut usize) -> Stage {
        let keys: Vec<u64> = self.table.in_state(state).from(from).take(*left).collect();
        *left -= keys.len();
        for key in &keys {
            let record = &self.table.entry(*key).record;
            if self.retention_is_over(now, record)
                && !self.came_lately(now, *key)
                && !self.table.is_waited_for(&record.spec.task_id)
            {
                self.strip(now, *key);
            }
        }
        match (keys.last(), state) {
            (Some(last), _) if *left == 0 => Stage::Strip(state, last + 1),
            (_, State::Completed) => Stage::Strip(State::Cancelled, 0),
            _ => {
                self.forget_silent_members(now);
                Stage::Drop(0, self.held_by_all())
            }
        }
    }

    fn drop_some(
        &mut self,
        now: Now,
        from: u64,
        held_by_all: Option<Vector>,
        left: &mut usize,
    ) -> Stage {
        if let Some(vector) = held_by_all {
            let keys: Vec<u64> = self.table.tombstones.keys_from(from).take(*left).collect();
            *left -= keys.len();
            for key in &keys {
                // Its submission must have been seen too: if that comes in again, from a store that was
                // put back, this peer knows by it that it has forgotten the task.
                let is_held = |it: &&Tombstone| {
                    let held = vector.get(&it.dot().actor);
                    held.is_some_and(|held| *held >= it.dot().counter) && !self.is_new(&it.born)
                };
                let gone = self.table.tombstones.get(*key).filter(is_held);
                if gone.is_some_and(|it| !self.table.is_waited_for(&it.task_id)) {
                    self.drop_tombstone(now, *key);
                }
            }
            if let Some(last) = keys.last().filter(|_| *left == 0) {
                return Stage::Drop(last + 1, Some(vector));
            }
        }
        self.tell_held();
        Stage::Waiting
    }

    /// Whether it ended, so long ago that nobody reads it any more.
    pub(super) fn retention_is_over(&self, now: Now, record: &Record) -> bool {
        let over = |at: u64| at.saturating_add(self.config.retention) <= now.wall;
        record.ended_at().is_some_and(over)
    }

    /// A record came in that is kept from now on. If it ended too long ago, it is kept as if it had
    /// ended now, in this run.
    pub(super) fn note_if_late(&mut self, now: Now, key: u64, record: &Record) {
        if self.retention_is_over(now, record) {
            self.pruning.came_late.insert(key, now.wall);
        }
    }

    fn came_lately(&self, now: Now, key: u64) -> bool {
        let lately = |at: &u64| at.saturating_add(self.config.retention) > now.wall;
        self.pruning.came_late.get(&key).is_some_and(lately)
    }

    /// Whether every known member of the swarm holds the write by which a task ended, and no task that
    /// is live waits for it.
    pub(super) fn is_lacked_by_nobody(&self, id: &str, dot: &Dot) -> bool {
        let holds = |have: &Vector| have.get(&dot.actor).is_some_and(|it| *it >= dot.counter);
        let mut members = self.members.vectors();
        holds(&self.have)
            && members.all(|have| have.is_some_and(holds))
            && !self.table.is_waited_for(id)
    }

    /// Whether a task that comes in is one that this peer has forgotten: it has seen how the task was
    /// submitted, and does not hold it. So it does not take the task in again, whoever brought it back
    /// to life, and tells that peer with the next audit; how it ended it takes in ([`Self::take_in_end`]).
    pub(super) fn has_forgotten(&self, id: &str, born: &Dot, dot: &Dot) -> bool {
        let is_known = self.table.key_of(id).is_some() || self.table.tombstones.find(id).is_some();
        !is_known && born != dot && !self.is_new(born)
    }

    /// Leaves nothing of a task but its tombstone.
    fn strip(&mut self, now: Now, key: u64) {
        let tombstone = Tombstone::of(&self.table.entry(key).record);
        self.take_out(now, key);
        self.bury(key, tombstone);
    }

    fn bury(&mut self, key: u64, tombstone: Tombstone) {
        self.changes.buried.push(Burial { key, tombstone: Some(tombstone.clone()) });
        self.table.tombstones.insert(key, tombstone);
    }

    /// Names a tombstone by another write.
    pub(super) fn write_tombstone_again(&mut self, key: u64, tombstone: Tombstone) {
        let Some(before) = self.table.tombstones.get(key).cloned() else { return };
        self.count_out(before.standing.class, before.dot());
        self.count_in(tombstone.standing.class, tombstone.dot());
        self.bury(key, tombstone);
        if let Some(replication) = &mut self.replication {
            replication.order.changed(key);
        }
    }

    /// Takes a task out of the table, and out of what is shown.
    fn take_out(&mut self, now: Now, key: u64) -> Entry {
        self.leave_queue(key);
        self.pruning.came_late.remove(&key);
        let was_cyclic = self.table.cyclic.contains(&key);
        let entry = self.table.remove(key, &self.peer);
        if was_cyclic {
            // The others may be on no cycle any more.
            let marked_anew = self.table.find_cycles_again();
            self.gathered.tasks.extend(&marked_anew);
            marked_anew.into_iter().for_each(|key| self.settle(now, key));
        }
        self.gathered.left.push(entry.record.spec.workflow_id.clone());
        self.gathered.gone.push(entry.record.spec.task_id.clone());
        entry
    }

    /// Leaves nothing at all: for those that waited for the task it is one that may still come.
    pub(super) fn drop_tombstone(&mut self, now: Now, key: u64) {
        let Some(tombstone) = self.table.tombstones.remove(key) else { return };
        self.left_nothing(key);
        let before = Outlook::from(tombstone.state());
        self.tell_waiting(now, &tombstone.task_id, before, Outlook::Open);
    }

    /// Leaves nothing of a task, as if it had never been.
    pub(super) fn leave_nothing(&mut self, now: Now, key: u64) {
        let entry = self.take_out(now, key);
        self.count_out(entry.record.class, &entry.record.dot);
        self.left_nothing(key);
        let before = Outlook::from(entry.state);
        self.tell_waiting(now, &entry.record.spec.task_id, before, Outlook::Open);
    }

    fn left_nothing(&mut self, key: u64) {
        self.changes.buried.push(Burial { key, tombstone: None });
        if let Some(replication) = &mut self.replication {
            replication.order.removed(key);
        }
    }

    /// Up to where every known member of the swarm holds all writes; `None` where that is not known
    /// of one of them.
    fn held_by_all(&self) -> Option<Vector> {
        let mut all = self.have.clone();
        for theirs in self.members.vectors() {
            let theirs = theirs?;
            all.retain(|actor, counter| {
                let held = theirs.get(actor).copied().unwrap_or(0);
                *counter = held.min(*counter);
                *counter > 0
            });
        }
        Some(all)
    }

    fn forget_silent_members(&mut self, now: Now) {
        for peer in self.members.silent_for(now, self.config.forget_member_after) {
            self.members.forget(&peer);
            self.changes.members.push((peer, None));
        }
    }

    /// Tells a few peers what this one holds, if that is news: their tombstones may wait for it, also
    /// where this peer has none.
    fn tell_held(&mut self) {
        let root = vector_root(&self.have);
        let sweeps = self.pruning.sweeps;
        let is_known = |(told, at): (Hash256, u64)| told == root && at + TOLD_AGAIN_AFTER > sweeps;
        if self.pruning.told.is_some_and(is_known) {
            return;
        }
        let Some(replication) = &mut self.replication else { return };
        let to = some_of(replication, &mut self.jitter, self.config.push_fanout, &[]);
        if to.is_empty() {
            return;
        }
        self.pruning.told = Some((root, sweeps));
        let held = Held {
            peer: self.peer.clone(),
            incarnation: replication.incarnation,
            number: sweeps,
            have: Arc::new(self.have.clone()),
        };
        let content = |peer| Outgoing::new(peer, Content::Held(held.clone()));
        replication.outgoing.extend(to.iter().map(content));
    }

    /// A member's vector came in, from itself or by way of others.
    pub(super) fn receive_held(
        &mut self,
        from: &Arc<str>,
        held: Held,
        now: Now,
    ) -> Result<(), Refused> {
        if !is_name(&held.peer) {
            return Err(Refused::Malformed { what: "member's vector" });
        }
        self.check_have(&held.have)?;
        let stamp = (held.incarnation, held.number);
        let have = Arc::new(self.with_shared_names(&held.have));
        if self.members.counters() + have.len() > MAX_HELD_COUNTERS
            || !self.members.held(&held.peer, stamp, &have)
        {
            return Ok(());
        }
        self.changes
            .members
            .push((held.peer.clone(), Some(Heard { at: now.wall, have: Some(have) })));
        let Some(replication) = &mut self.replication else { return Ok(()) };
        let to = some_of(
            replication,
            &mut self.jitter,
            self.config.push_fanout,
            std::slice::from_ref(from),
        );
        let content = |peer| Outgoing::new(peer, Content::Held(held.clone()));
        replication.outgoing.extend(to.iter().map(content));
        Ok(())
    }

    fn with_shared_names(&self, have: &BTreeMap<Arc<str>, u64>) -> BTreeMap<Arc<str>, u64> {
        let shared = |actor: &Arc<str>| match self.have.get_key_value(actor) {
            Some((shared, _)) => shared.clone(),
            None => actor.clone(),
        };
        have.iter().map(|(actor, counter)| (shared(actor), *counter)).collect()
    }

    /// Takes in a tombstone of a page.
    pub(super) fn take_in_tombstone(&mut self, now: Now, tombstone: Tombstone) {
        if !self.is_new(tombstone.dot()) {
            return;
        }
        self.follow_vector(tombstone.dot());
        self.take_in_end(now, tombstone);
    }

    /// Takes in how a task ended, by a write that was not seen yet; also of a task that is forgotten
    /// here. That does not bring it back to life, and whoever says to have seen the write has to pass
    /// it on: a peer that still knows how the task ended before may learn of it from nobody else.
    pub(super) fn take_in_end(&mut self, now: Now, tombstone: Tombstone) {
        let id = tombstone.task_id.clone();
        let known = self.table.tombstones.find(&id).map(|(key, it)| (key, it.clone()));
        let (key, before) = if let Some((key, known)) = known {
            if tombstone.standing < known.standing {
                if is_another_end(&tombstone.standing, &known.standing) {
                    self.tell_end_again(now, key);
                }
                return;
            }
            self.count_out(known.standing.class, known.dot());
            (key, Outlook::from(known.state()))
        } else if let Some(key) = self.table.key_of(&id) {
            let entry = self.table.entry(key);
            // The same, whole, stays for as long as this peer keeps it.
            if tombstone.order(&entry.record).is_le() {
                if is_another_end(&tombstone.standing, &entry.record.standing())
                    && self.retention_is_over(now, &entry.record)
                {
                    self.tell_end_again(now, key);
                }
                return;
            }
            let Standing { rev, dot, .. } = tombstone.standing.clone();
            let again = Record { rev, dot, ..entry.record.clone() };
            if again.standing() == tombstone.standing {
                return self.merge_known(now, key, again, None, None);
            }
            let before = Outlook::from(entry.state);
            let record = self.take_out(now, key).record;
            self.count_out(record.class, &record.dot);
            if record.spec.hash != tombstone.spec_hash() {
                self.note_conflict(key, record, None);
            }
            (key, before)
        } else {
            let key = self.table.next_key();
            self.table.skip_to(key + 1);
            (key, Outlook::Open)
        };
        self.count_in(tombstone.standing.class, tombstone.dot());
        let after = Outlook::from(tombstone.state());
        self.bury(key, tombstone);
        if let Some(replication) = &mut self.replication {
            replication.order.changed(key);
        }
        self.tell_waiting(now, &id, before, after);
    }
}
