//! What comes from other peers: records, and reported clocks.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::calls::{Now, PeerUpdated};
use super::changes::{Changes, Conflict, Duplicate};
use super::clock::{MerkleClock, vector_root};
use super::limits::{self, MAX_CLOCK_ENTRIES, MAX_COUNTER};
use super::machine::P2PWorkflowScheduler;
use super::push::Pushed;
use super::record::{Class, Record, Standing};
use super::rejection::Rejection;
use super::table::{Entry, Waiting};
use super::tombstones::Tombstone;

impl P2PWorkflowScheduler {
    /// Takes in a record that a peer pushed, with the texts of its payload and result.
    ///
    /// The greater record stays, whole, with its own dot. A record that this peer has seen, or
    /// seen overtaken, changes nothing; the vector rises only by a record that is next in line
    /// (protocol rules 4 and 7).
    pub fn merge(
        &mut self,
        now: Now,
        record: Record,
        payload: Option<Arc<str>>,
        result: Option<Arc<str>>,
    ) {
        if !self.is_new(&record.dot) {
            return;
        }
        self.follow_vector(&record.dot);
        if self.replication.is_some()
            && self.has_forgotten(&record.spec.task_id, record.born(), &record.dot)
        {
            if record.class != Class::Live {
                self.take_in_end(now, Tombstone::of(&record));
            }
            return;
        }
        match self.end_to_forget(now, &record) {
            Some(key) if self.table.get(key).is_some() => self.leave_nothing(now, key),
            Some(key) => self.drop_tombstone(now, key),
            None => {}
        }
        match self.table.key_of(&record.spec.task_id) {
            None => {
                if let Some((buried, tombstone)) = self.table.tombstones.find(&record.spec.task_id)
                {
                    let Standing { class, dot, .. } = tombstone.standing.clone();
                    if tombstone.order(&record) == Ordering::Greater {
                        if *record.born() != tombstone.born
                            || is_another_end(&record.standing(), &tombstone.standing)
                        {
                            self.tell_end_again(now, buried);
                        }
                        return;
                    }
                    self.count_out(class, &dot);
                    self.drop_tombstone(now, buried);
                }
                self.take_anew(now, record, payload, result);
            }
            Some(key) => self.merge_known(now, key, record, payload, result),
        }
        // Nobody is answered what a merge unblocked.
        self.unblocked.clear();
    }

    /// Takes in a record of a task of which nothing is here.
    pub(super) fn take_anew(
        &mut self,
        now: Now,
        record: Record,
        payload: Option<Arc<str>>,
        result: Option<Arc<str>>,
    ) {
        let key = self.table.next_key();
        self.note_if_late(now, key, &record);
        self.keep(key, &record, Some(payload), result);
        self.add(now, key, Entry::new(record, 0));
        self.doubt_own_lease(now, key);
    }

    /// A lease of this node that it does not remember, from before a restore perhaps, ends after
    /// the grace (protocol rule 15).
    fn doubt_own_lease(&mut self, now: Now, key: u64) {
        let entry = self.table.entry_mut(key);
        if entry.record.held().is_some_and(|lease| lease.holder == self.peer) {
            entry.waiting = Waiting::Lease(now.monotonic.saturating_add(self.config.session_grace));
            self.gathered.tasks.push(key);
            self.settle(now, key);
        }
    }

    pub(super) fn merge_known(
        &mut self,
        now: Now,
        key: u64,
        mut record: Record,
        payload: Option<Arc<str>>,
        result: Option<Arc<str>>,
    ) {
        let before = self.table.entry(key).record.clone();
        if record.spec == before.spec {
            record.spec = before.spec.clone(); // one copy in memory
        }
        let other_spec = before.spec.hash != record.spec.hash;
        let wins = record.order(&before) == Ordering::Greater;
        let (winner, loser) = if wins { (&record, &before) } else { (&before, &record) };
        if other_spec {
            let payload = if wins { None } else { payload.clone() };
            self.note_conflict(key, loser.clone(), payload);
        }
        if let Some(run) = second_run(winner, loser) {
            self.note_second_run(run);
        }
        self.note_run_that_counts(winner);
        if !wins {
            let may_be_forgotten = || {
                is_another_end(&record.standing(), &before.standing())
                    && self.retention_is_over(now, &before)
            };
            let is_over = before.class != Class::Live;
            if is_over && (is_another_submission(&record, &before) || may_be_forgotten()) {
                self.tell_end_again(now, key);
            }
            return;
        }
        self.keep(key, &record, other_spec.then_some(payload), result);
        if before.class == Class::Live {
            self.note_if_late(now, key, &record);
        }
        let other_lease = before.lease != record.lease;
        if other_spec {
            self.replace_with_other_spec(now, key, record);
        } else {
            self.replace(now, key, record);
        }
        if other_lease {
            self.doubt_own_lease(now, key);
        }
    }

    /// Tells of a run as a second one, once.
    fn note_second_run(&mut self, run: Duplicate) {
        if self.lost_runs.insert(run.dot.clone()) {
            let Changes { duplicates, not_lost, .. } = &mut self.changes;
            if not_lost.extract_if(.., |other| other.dot == run.dot).next().is_none() {
                duplicates.push(run);
            }
        }
    }

    /// A run whose claim lost a tie may have completed before it heard of the other one. Its record
    /// stands then, wherever the claim came first, and the other run is the second one.
    fn note_run_that_counts(&mut self, winner: &Record) {
        let Some(run) = run_of(winner) else { return };
        if self.lost_runs.remove(&run.dot) {
            let Changes { duplicates, not_lost, .. } = &mut self.changes;
            if duplicates.extract_if(.., |other| other.dot == run.dot).next().is_none() {
                not_lost.push(run);
            }
        }
    }

    /// The key of what is known of how a task ended, if that is to be forgotten now that it comes in as
    /// submitted once more: peers forget one after the other, and who forgot it first takes the new
    /// submission in.
    pub(super) fn end_to_forget(&self, now: Now, record: &Record) -> Option<u64> {
        self.replication.as_ref()?;
        let id = &record.spec.task_id;
        let (key, dot, born) = if let Some(key) = self.table.key_of(id) {
            let known = &self.table.entry(key).record;
            let is_over = is_another_submission(record, known)
                && self.retention_is_over(now, known)
                && known.order(record) == Ordering::Greater;
            is_over.then_some((key, &known.dot, known.born()))?
        } else {
            let (key, known) = self.table.tombstones.find(id)?;
            let is_over = known.born != *record.born() && known.order(record) == Ordering::Greater;
            is_over.then_some((key, known.dot(), &known.born))?
        };
        (self.is_lacked_by_nobody(id, dot) && !self.is_new(born)).then_some(key)
    }

    /// Writes anew how a task ended, since it was submitted once more, or run once more, where that is
    /// forgotten, or was not known yet.
    ///
    /// Who forgot it has seen its write, and would never be sent it again: each would keep to its own
    /// record, until an audit with a peer that forgot it as well drops the new submission.
    pub(super) fn tell_end_again(&mut self, now: Now, key: u64) {
        if self.replication.is_none() {
            return;
        }
        let pushed = self.set_pushed(Pushed::Anybody);
        let dot = self.next_dot();
        if let Some(tombstone) = self.table.tombstones.get(key) {
            let mut again = tombstone.clone();
            again.standing = Standing { rev: again.standing.rev + 1, dot, ..again.standing };
            self.write_tombstone_again(key, again);
        } else {
            let known = self.table.entry(key).record.clone();
            self.put(now, key, Record { rev: known.rev + 1, dot, ..known }, None);
        }
        self.set_pushed(pushed);
    }

    /// Keeps a spec that lost against another under the same id, each once.
    pub(super) fn note_conflict(&mut self, key: u64, record: Record, payload: Option<Arc<str>>) {
        if self.lost_specs.insert((key, record.spec.hash)) {
            self.conflicts += 1;
            self.changes.conflicts.push(Conflict { key, record, payload });
        }
    }

    fn replace_with_other_spec(&mut self, now: Now, key: u64, record: Record) {
        self.leave_queue(key);
        let left = &self.table.entry(key).record.spec.workflow_id;
        if *left != record.spec.workflow_id {
            self.gathered.left.push(left.clone());
        }
        self.table.unindex_spec(key);
        // The indices follow the spec, so it goes in before anything is derived from it.
        self.table.entry_mut(key).record.spec = record.spec.clone();
        self.table.index_spec(key);
        self.table.count_dependencies(key);
        self.replace(now, key, record);
        let mut unsettled = self.table.find_cycles_again();
        unsettled.extend(self.table.find_cycle(key));
        self.gathered.tasks.extend(&unsettled);
        for key in unsettled {
            self.settle(now, key);
        }
    }

    /// Takes in a clock that a peer reported through a tool. Merges it, never ticks, and counts
    /// the peer as a member for a while.
    ///
    /// # Errors
    /// A [`Rejection`]; nothing was changed.
    pub fn update_peer(
        &mut self,
        now: Now,
        peer_id: &str,
        node_id: &str,
        vector: &BTreeMap<String, u64>,
        merkle_root: &str,
    ) -> Result<PeerUpdated, Rejection> {
        limits::check_name("peer_id", peer_id)?;
        self.check_clock(peer_id, node_id, vector, merkle_root)?;
        if !self.members.knows(peer_id) && self.members.known() >= MAX_CLOCK_ENTRIES as u64 {
            let what = format!("this node already knows {MAX_CLOCK_ENTRIES} peers");
            return Err(Rejection::Overloaded { what });
        }
        let mut theirs = MerkleClock::new(node_id);
        theirs.merge(vector);
        let order = theirs.compare(&self.clock);
        self.merge_clock(vector);
        let peer: Arc<str> = peer_id.into();
        let before = self.members.sizes();
        self.members.reported(now, &self.config, &peer, order);
        self.membership_changed(now, &peer, before, false);
        Ok(PeerUpdated { order, merkle_root: self.clock.merkle_root() })
    }

    /// Takes the maximum of the shown clock and another.
    pub(super) fn merge_clock(&mut self, vector: &BTreeMap<String, u64>) {
        let risen: Vec<(Arc<str>, u64)> = vector
            .iter()
            // A peer at 0 is part of the root too.
            .filter(|(peer, counter)| self.clock.vector().get(*peer).is_none_or(|c| *counter > c))
            .map(|(peer, counter)| (peer.as_str().into(), *counter))
            .collect();
        self.clock.merge(vector);
        self.changes.clock.extend(risen);
    }

    fn check_clock(
        &self,
        peer_id: &str,
        node_id: &str,
        vector: &BTreeMap<String, u64>,
        merkle_root: &str,
    ) -> Result<(), Rejection> {
        let forged = |why: String| Err(Rejection::ForgedClock { why });
        limits::check_count("clock_data.vector", vector.len(), MAX_CLOCK_ENTRIES)?;
        if node_id != peer_id {
            return forged(format!("it is the clock of {node_id:?}, not of {peer_id:?}"));
        }
        for (peer, counter) in vector {
            limits::check_name("a peer id in clock_data.vector", peer)?;
            if *counter > MAX_COUNTER {
                return forged(format!("its counter of {peer:?} is {counter}, over 2^53 - 1"));
            }
        }
        let (own, known) =
            (vector.get(&*self.peer).copied().unwrap_or(0), self.clock.get(&self.peer));
        if own > known {
            return forged(format!(
                "it counts {own} for this peer, which has counted only {known}"
            ));
        }
        let root = vector_root(vector).to_hex();
        if root != merkle_root {
            return forged(format!("its merkle_root is not that of its vector, {root}"));
        }
        let new = vector.keys().filter(|peer| !self.clock.vector().contains_key(*peer)).count();
        let all = self.clock.vector().len() + new;
        limits::check_count("the merged clock", all, MAX_CLOCK_ENTRIES)
    }
}

/// Whether they stand for two submissions under one id: each has a stamp of its own.
fn is_another_submission(record: &Record, known: &Record) -> bool {
    record.born() != known.born()
}

/// Whether both ended, by different runs or words: not only one and the same end, told again.
pub(super) fn is_another_end(one: &Standing, other: &Standing) -> bool {
    let of = |it: &Standing| (it.class, it.epoch, it.phase, it.tie, it.spec_hash, it.digest);
    one.class != Class::Live && other.class != Class::Live && of(one) != of(other)
}

/// The run that the loser of a merge stands for, if the winner stands for another of the same attempt,
/// or both ran to their end.
fn second_run(winner: &Record, loser: &Record) -> Option<Duplicate> {
    let (won, lost) = (winner.lease.as_ref()?, loser.lease.as_ref()?);
    let both_completed = winner.class == Class::Completed && loser.class == Class::Completed;
    let claims_crossed = loser.held().is_some()
        && winner.epoch_of_claim() == loser.epoch
        && winner.class != Class::Cancelled;
    if won.dot == lost.dot || !(both_completed || claims_crossed) {
        return None;
    }
    run_of(loser)
}

/// The run that a record stands for: the last one of its task.
fn run_of(record: &Record) -> Option<Duplicate> {
    let lease = record.lease.as_ref()?;
    Some(Duplicate {
        task_id: record.spec.task_id.clone(),
        peer: lease.holder.clone(),
        worker: lease.worker.clone(),
        dot: lease.dot.clone(),
    })
}
