//! What follows from a record: where its task stands, what its dependents wait for, whether it is in
//! the queue, and when time alone changes it.
//!
//! [`P2PWorkflowScheduler::settle`] may be called at any time, for any task, and changes nothing
//! where nothing changed. It never writes: everything here is derived again after a restart.

use super::calls::{Now, State};
use super::limits::BACKOFF_LONGEST;
use super::machine::P2PWorkflowScheduler;
use super::record::{Phase, Record};
use super::table::{Entry, NEVER, Outlook, Waiting};

/// The peers before this one whose turns are waited for, at most: bounds what members that are
/// not there can cost.
const LONGEST_QUEUE_OF_TURNS: usize = 6;

impl P2PWorkflowScheduler {
    /// Brings everything derived in line with the task's record, and its dependents with it.
    pub(super) fn settle(&mut self, now: Now, key: u64) {
        let mut unsettled = vec![key];
        while let Some(key) = unsettled.pop() {
            let entry = self.table.entry(key);
            let before = entry.state;
            let cyclic = self.table.cyclic.contains(&key);
            let state = entry.derive_state(cyclic, |peer| self.members.is_down(peer));
            if state != before {
                self.gathered.tasks.push(key);
                self.table.set_state(key, state);
                if before == State::Blocked && state == State::Pending {
                    self.unblocked.push(key);
                }
                let ended = matches!(state, State::Completed | State::Cancelled);
                if ended && self.table.cyclic.contains(&key) {
                    let marked_anew = self.table.find_cycles_again();
                    self.gathered.tasks.extend(&marked_anew);
                    unsettled.extend(marked_anew);
                }
                let outlooks = (Outlook::from(before), Outlook::from(state));
                if outlooks.0 != outlooks.1 {
                    let id = self.table.entry(key).record.spec.task_id.clone();
                    unsettled.extend(self.tell_dependents(&id, outlooks));
                }
            }
            self.wait_or_queue(now, key, state);
        }
    }

    /// Another outlook follows for a task that is not in the table, or not any more: settles those
    /// that depend on it.
    pub(super) fn tell_waiting(&mut self, now: Now, id: &str, before: Outlook, after: Outlook) {
        if before != after {
            for key in self.tell_dependents(id, (before, after)).into_iter().rev() {
                self.settle(now, key);
            }
        }
    }

    /// Counts a task's new outlook at those that depend on it, and returns them.
    fn tell_dependents(&mut self, id: &str, outlooks: (Outlook, Outlook)) -> Vec<u64> {
        let mut dependents: Vec<u64> = self.table.dependents_of(id).collect();
        for dependent in &dependents {
            self.table.entry_mut(*dependent).count_dependency(outlooks.0, outlooks.1);
        }
        // They say what they wait for, also those that go on waiting.
        self.gathered.tasks.extend(&dependents);
        // The first to have come is settled first, and so queued first.
        dependents.reverse();
        dependents
    }

    /// Sets what the task waits for, and whether it stands in the queue.
    fn wait_or_queue(&mut self, now: Now, key: u64, state: State) {
        let (waiting, wake) = match state {
            State::Pending => self.wait_of_pending(now, key),
            State::Assigned => self.wait_of_assigned(now, key),
            State::Blocked | State::Completed | State::Failed | State::Cancelled => {
                (Waiting::Nothing, NEVER)
            }
        };
        let is_ready = matches!(waiting, Waiting::Turn(_)) && wake <= now.monotonic;
        let entry = self.table.entry_mut(key);
        let delayed = matches!(entry.waiting, Waiting::Delay(_));
        let is_new = entry.waiting != waiting || entry.place.is_some() != is_ready;
        entry.waiting = waiting;
        let delays = matches!(waiting, Waiting::Delay(_));
        if delays != delayed {
            self.table.set_delayed(key, delays);
        }
        if is_new {
            self.gathered.tasks.push(key);
        }
        self.table.set_wake(key, if is_ready { NEVER } else { wake });
        match is_ready {
            true => self.join_queue(key),
            false => self.leave_queue(key),
        }
    }

    /// What a pending task waits for, and when that is over at the latest. A turn that has come
    /// makes it ready for this peer.
    fn wait_of_pending(&self, now: Now, key: u64) -> (Waiting, u64) {
        let entry = self.table.entry(key);
        let since = match entry.waiting {
            Waiting::Turn(since) => since,
            Waiting::Delay(until) => match self.is_over(now, entry, until) {
                true => now.monotonic,
                false => return (entry.waiting, until),
            },
            Waiting::Nothing | Waiting::Lease(_) => {
                let longest = entry.record.spec.delay.max(BACKOFF_LONGEST);
                let wait = entry.record.not_before.saturating_sub(now.wall).min(longest);
                let until = now.monotonic.saturating_add(wait);
                if !self.is_over(now, entry, until) {
                    return (Waiting::Delay(until), until);
                }
                now.monotonic
            }
        };
        (Waiting::Turn(since), since.saturating_add(self.turns_before(key)))
    }

    fn is_over(&self, now: Now, entry: &Entry, until: u64) -> bool {
        entry.record.not_before <= now.wall || until <= now.monotonic
    }

    /// How long the peers before this one in the task's ranking may take, in milliseconds.
    fn turns_before(&self, key: u64) -> u64 {
        let candidates = self.ranking();
        if candidates.len() == 1 {
            return 0;
        }
        let record = &self.table.entry(key).record;
        let epoch = self.claim_epoch(record);
        let rank = candidates.rank_of(&self.peer, &record.combined_hash(), u64::from(epoch));
        let turns = rank.unwrap_or(LONGEST_QUEUE_OF_TURNS).min(LONGEST_QUEUE_OF_TURNS);
        self.config.turn.saturating_mul(turns as u64)
    }

    /// The epoch that a claim of the task would have: the next one if it is taken over.
    pub(super) fn claim_epoch(&self, record: &Record) -> u32 {
        record.epoch + u32::from(record.phase == Phase::Leased)
    }

    /// The epoch of the task's next claim, or of the one that it is under.
    pub(super) fn epoch_of_turns(&self, entry: &Entry) -> u32 {
        match entry.state {
            State::Pending => self.claim_epoch(&entry.record),
            _ => entry.record.epoch,
        }
    }

    /// When the lease of an assigned task ends, if that is for this node to judge.
    fn wait_of_assigned(&self, now: Now, key: u64) -> (Waiting, u64) {
        let entry = self.table.entry(key);
        let Some(lease) = entry.record.held().filter(|lease| lease.holder == self.peer) else {
            return (Waiting::Nothing, NEVER);
        };
        let until = match entry.waiting {
            Waiting::Lease(until) => until,
            _ if lease.duration > 0 => now.monotonic.saturating_add(lease.duration),
            _ if self.attached.contains(&lease.worker) => NEVER,
            _ => now.monotonic.saturating_add(self.config.session_grace),
        };
        (Waiting::Lease(until), until)
    }

    fn join_queue(&mut self, key: u64) {
        let entry = self.table.entry_mut(key);
        if entry.place.is_none() {
            entry.place = Some(self.ready.insert(key, &entry.record));
            self.became_ready = true;
        }
    }

    /// Takes the task out of the queue, if it stands there.
    pub(super) fn leave_queue(&mut self, key: u64) {
        let entry = self.table.entry_mut(key);
        if let Some(place) = entry.place.take() {
            self.ready.remove(key, &entry.record.spec, place);
        }
    }
}
