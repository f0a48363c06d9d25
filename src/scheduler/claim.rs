//! Taking a task to run, and how leases end.

use std::sync::Arc;

use super::calls::{
    Caller, Claimed, LeaseTerm, NothingReady, Now, Ownership, Reason, State, Turn, Want, Why,
};
use super::hash::Hash256;
use super::limits::{
    self, DEFAULT_LEASE, MAX_LABELS, MAX_LOSSES, MAX_TURNS_GIVEN, MAX_TURNS_SHOWN,
};
use super::machine::P2PWorkflowScheduler;
use super::ownership::Distance;
use super::record::{Lease, Outcome, Phase, Record};
use super::rejection::Rejection;
use super::table::{NEVER, Waiting};

impl Want {
    /// Checks every field against the limits.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), Rejection> {
        limits::check_count("capabilities", self.capabilities.len(), MAX_LABELS)?;
        for capability in &self.capabilities {
            limits::check_name("capabilities", capability)?;
        }
        if let Some(workflow_id) = &self.workflow_id {
            limits::check_name("workflow_id", workflow_id)?;
        }
        limits::check_count("workflow_prefixes", self.workflow_prefixes.len(), MAX_LABELS)?;
        for prefix in &self.workflow_prefixes {
            limits::check_name("workflow_prefixes", prefix)?;
        }
        match self.lease {
            LeaseTerm::Session => Ok(()),
            LeaseTerm::Timed(duration) => limits::check_lease(duration),
        }
    }
}

impl P2PWorkflowScheduler {
    /// Gives the caller the best task that this peer may claim now and the caller can run.
    ///
    /// # Errors
    /// [`NothingReady`], with the reason. A task that took too many nodes down may have failed
    /// by it; nothing else was changed.
    pub fn claim(
        &mut self,
        now: Now,
        caller: &Caller,
        want: &Want,
    ) -> Result<Claimed, NothingReady> {
        self.asked_for_work(now);
        let key = loop {
            let may_give = !self.is_settling() && !self.is_in_doubt();
            let Some(key) = self.ready.best(want).filter(|_| may_give) else {
                return Err(self.nothing_ready(now));
            };
            let losses = self.losses_by_now(&self.table.entry(key).record);
            if losses < MAX_LOSSES {
                break key;
            }
            self.give_up(now, key, losses);
        };
        let before = &self.table.entry(key).record;
        let ownership = self.ownership(before);
        let duration = match want.lease {
            LeaseTerm::Session => 0,
            LeaseTerm::Timed(0) if before.spec.lease_duration > 0 => {
                u64::from(before.spec.lease_duration)
            }
            LeaseTerm::Timed(0) => DEFAULT_LEASE,
            LeaseTerm::Timed(duration) => duration,
        };
        let mut record = before.clone();
        record.epoch = self.claim_epoch(before);
        record.losses = self.losses_by_now(before);
        record.phase = Phase::Leased;
        record.rev = 0;
        record.outcome = without_note(record.outcome);
        let dot = self.next_dot();
        let (holder, worker) = (self.peer.clone(), caller.worker.clone());
        record.lease = Some(Arc::new(Lease { holder, worker, dot: dot.clone(), duration }));
        record.dot = dot;
        self.table.entry_mut(key).leases_here += 1;
        self.put(now, key, record, None);
        let entry = self.table.entry(key);
        Ok(Claimed {
            fence: entry.record.fence().expect("a claimed task has a lease"),
            expires_at: (duration > 0).then(|| now.wall.saturating_add(duration)),
            task: self.view(now, key),
            ownership,
        })
    }

    /// Who owns the task as it would be claimed, and why this peer may have it.
    fn ownership(&self, record: &Record) -> Ownership {
        let candidates = self.ranking();
        let combined = record.combined_hash();
        let epoch = u64::from(self.claim_epoch(record));
        let rank = candidates.rank_of(&self.peer, &combined, epoch).unwrap_or(candidates.len());
        let owner = candidates.owner(&combined, epoch);
        let distance = match owner {
            Some((_, distance)) if rank == 0 => distance,
            _ => Distance::between(&combined, &Hash256::of(self.peer.as_bytes())),
        };
        let reason = match (record.phase, rank) {
            (Phase::Leased, _) => Reason::TakenOver,
            (_, 0) => Reason::Owned,
            _ => Reason::Offered,
        };
        Ownership {
            owner: owner.map_or_else(|| self.peer.clone(), |(peer, _)| peer.clone()),
            rank: u32::try_from(rank).unwrap_or(u32::MAX),
            distance: distance.hamming,
            reason,
            turns: match candidates.len() {
                1 => Vec::new(),
                _ => self.turns(&combined, epoch, MAX_TURNS_GIVEN),
            },
            combined,
            provisional: self.members.is_provisional(),
        }
    }

    fn turns(&self, combined: &Hash256, epoch: u64, at_most: usize) -> Vec<Turn> {
        let turns = self.owners().turns(combined, epoch).take(at_most);
        turns
            .map(|(peer, distance)| Turn { peer: peer.clone(), distance: distance.hamming })
            .collect()
    }

    /// Why a task goes to whom it goes, as this peer sees it.
    ///
    /// # Errors
    /// [`Rejection::TaskNotFound`].
    pub fn why(&self, now: Now, task_id: &str) -> Result<Why, Rejection> {
        let key = self.known(task_id)?;
        let entry = self.table.entry(key);
        let (record, combined) = (&entry.record, entry.record.combined_hash());
        let epoch = self.epoch_of_turns(entry);
        Ok(Why {
            task: self.view(now, key),
            head: record.spec.head,
            turns: self.turns(&combined, epoch.into(), MAX_TURNS_SHOWN),
            combined,
            epoch,
            candidates: self.owners().len() as u64,
            turn: self.config.turn,
            provisional: self.members.is_provisional(),
        })
    }

    /// Why there is nothing to give.
    #[must_use]
    pub fn nothing_ready(&self, now: Now) -> NothingReady {
        let count = |state| self.table.in_state(state).len();
        let pending = count(State::Pending);
        if let Err(doubt) = self.check_in_doubt() {
            return NothingReady { reason: doubt.to_string(), retry_after: None };
        }
        if self.is_settling() && pending > 0 {
            let reason = format!(
                "{pending} pending; this machine first asks the others of its swarm what they did while it was away."
            );
            return NothingReady { reason, retry_after: Some(self.settles_in(now)) };
        }
        if self.ready.len() > 0 {
            let n = self.ready.len();
            let reason = format!(
                "{n} {} ready, but none that you can take with these capabilities, tags and workflows.",
                if n == 1 { "task is" } else { "tasks are" }
            );
            return NothingReady { reason, retry_after: None };
        }
        if pending > 0 {
            let at = self.next_deadline();
            let wait = at.map(|at| at.saturating_sub(now.monotonic).max(1));
            let reason = format!(
                "{pending} pending, each waiting for its time or for the turn of a peer that is closer to it."
            );
            return NothingReady { reason, retry_after: wait };
        }
        let (assigned, blocked) = (count(State::Assigned), count(State::Blocked));
        let reason = match (assigned, blocked) {
            (0, 0) => "No task is waiting.".into(),
            (_, 0) => format!("No task is waiting; {assigned} assigned."),
            _ => {
                format!("No task is ready; {assigned} assigned, {blocked} blocked by dependencies.")
            }
        };
        NothingReady { reason, retry_after: None }
    }

    /// A worker's session is there: what it holds does not run out.
    ///
    /// A session that comes back after its node was replaced says which leases it knows of, as
    /// task id and fence: what it was given without learning of it goes back to the queue.
    pub fn attach(&mut self, now: Now, worker: &Arc<str>, known: Option<&[(String, u64)]>) {
        self.attached.insert(worker.clone());
        for key in self.session_leases(worker) {
            let record = &self.table.entry(key).record;
            let (id, fence) = (&record.spec.task_id, record.fence());
            let is_this = |(known, at): &(String, u64)| **known == **id && Some(*at) == fence;
            if known.is_some_and(|known| !known.iter().any(is_this)) && !self.is_in_doubt() {
                self.give_back(now, key, None);
            } else {
                self.table.entry_mut(key).waiting = Waiting::Lease(NEVER);
                self.gathered.tasks.push(key);
                self.settle(now, key);
            }
        }
    }

    /// A worker's session ended: what it holds goes back after the grace, in case it returns.
    pub fn detach(&mut self, now: Now, worker: &Arc<str>) {
        self.attached.remove(worker);
        let until = now.monotonic.saturating_add(self.config.session_grace);
        for key in self.session_leases(worker) {
            self.table.entry_mut(key).waiting = Waiting::Lease(until);
            self.gathered.tasks.push(key);
            self.settle(now, key);
        }
    }

    /// A worker's session ended for good: what it holds goes back at once.
    pub fn dismiss(&mut self, now: Now, worker: &Arc<str>) {
        self.attached.remove(worker);
        for key in self.session_leases(worker) {
            self.end_lease(now, key);
        }
    }

    /// The tasks that a session of this node holds, of those whose leases last as long as it.
    fn session_leases(&self, worker: &Arc<str>) -> Vec<u64> {
        let mut keys = self.table.held_by(worker);
        keys.retain(|key| {
            let held = self.table.entry(*key).record.held();
            held.is_some_and(|lease| {
                lease.holder == self.peer && lease.worker == *worker && lease.duration == 0
            })
        });
        keys
    }

    /// The time of a lease of this node is over.
    pub(super) fn end_lease(&mut self, now: Now, key: u64) {
        let record = &self.table.entry(key).record;
        let Some(lease) = record.held() else { return };
        if self.is_in_doubt() {
            self.table.entry_mut(key).waiting = Waiting::Lease(now.monotonic);
            return self.settle(now, key);
        }
        if lease.duration > 0 {
            let error = format!("the lease of {} s expired", lease.duration as f64 / 1000.0);
            self.fail(now, key, true, Some(error.into()), None);
            return;
        }
        let losses = record.losses + 1;
        if losses < MAX_LOSSES {
            self.give_back(now, key, Some(losses));
        } else {
            self.give_up(now, key, losses);
        }
    }

    /// Losses so far: a task that is free because its holder is down lost that one too.
    fn losses_by_now(&self, record: &Record) -> u8 {
        record.losses + u8::from(record.held().is_some())
    }

    /// Too many workers went away with the task: it may be what takes them down.
    fn give_up(&mut self, now: Now, key: u64, losses: u8) {
        let mut failed = self.table.entry(key).record.clone();
        failed.losses = losses;
        failed.phase = Phase::Failed;
        let error = format!("{losses} workers went away without a word while they held it");
        failed.outcome =
            Some(Arc::new(Outcome { error: Some(error.into()), ..Outcome::default() }));
        failed.dot = self.next_dot();
        self.put(now, key, failed, None);
    }

    /// Back to the queue in the next epoch, no attempt used up.
    pub(super) fn give_back(&mut self, now: Now, key: u64, losses: Option<u8>) {
        let mut record = self.table.entry(key).record.clone();
        record.losses = losses.unwrap_or(record.losses);
        record.outcome = without_note(record.outcome);
        record.phase = Phase::Pending;
        record.epoch += 1;
        record.rev = 0;
        record.not_before = 0;
        record.dot = self.next_dot();
        self.put(now, key, record, None);
    }
}

/// The error of the last attempt stays for people to see; its progress does not.
fn without_note(outcome: Option<Arc<Outcome>>) -> Option<Arc<Outcome>> {
    let outcome = outcome?;
    if outcome.note.is_none() {
        return Some(outcome);
    }
    let rest = Outcome { note: None, ..(*outcome).clone() };
    (rest != Outcome::default()).then(|| Arc::new(rest))
}
