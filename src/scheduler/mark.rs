//! What holders report of their tasks, and what people ask for: completed, failed, released,
//! renewed, cancelled, requeued, reprioritised.
//!
//! A report is accepted only for the caller's own lease that is in force. A report that was
//! accepted before, and whose answer was lost, is answered again without a change.

use std::sync::Arc;

use super::calls::{Caller, Mark, Marked, Now, State};
use super::limits::{
    self, BACKOFF_FIRST, BACKOFF_LONGEST, MAX_ERROR_BYTES, MAX_PAYLOAD_BYTES, MAX_UNBLOCKED_SHOWN,
};
use super::machine::P2PWorkflowScheduler;
use super::record::{Body, Class, Lease, Outcome, Phase};
use super::rejection::Rejection;
use super::table::{Entry, Waiting};

impl Mark {
    /// Checks every field against the limits.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), Rejection> {
        let (result, error) = match self {
            Mark::Completed { result } => (result, &None),
            Mark::Failed { error, result, .. } => (result, error),
            Mark::InProgress { note } => (&None, note),
            Mark::Cancelled { error } => (&None, error),
            Mark::Released => (&None, &None),
        };
        if let Some(result) = result {
            limits::check_size("result", result.len(), MAX_PAYLOAD_BYTES)?;
        }
        if let Some(error) = error {
            limits::check_size("error", error.len(), MAX_ERROR_BYTES)?;
        }
        Ok(())
    }
}

impl P2PWorkflowScheduler {
    /// Takes a report of, or a request for, a task.
    ///
    /// # Errors
    /// A [`Rejection`]; nothing was changed.
    pub fn mark(
        &mut self,
        now: Now,
        caller: &Caller,
        task_id: &str,
        mark: Mark,
        fence: Option<u64>,
    ) -> Result<Marked, Rejection> {
        mark.check()?;
        let key = self.known(task_id)?;
        self.check_in_doubt()?;
        let record = &self.table.entry(key).record;
        let mut attempt = record.attempt();
        self.unblocked.clear();
        if let Mark::Cancelled { error } = mark {
            self.cancel(now, key, error)?;
        } else if self.was_accepted_before(key, caller, &mark, fence) {
            if matches!(mark, Mark::Failed { .. }) {
                attempt = record.failures.max(1);
            }
        } else {
            self.check_lease(key, caller, &mark, fence)?;
            self.apply(now, key, mark);
        }
        Ok(self.marked(now, key, attempt))
    }

    /// Puts a failed task back into the queue with all its attempts.
    ///
    /// # Errors
    /// A [`Rejection`] if it has not failed itself; nothing was changed.
    pub fn requeue(&mut self, now: Now, task_id: &str) -> Result<Marked, Rejection> {
        let key = self.known(task_id)?;
        self.check_in_doubt()?;
        let entry = self.table.entry(key);
        if let Some(ended) = Rejection::ended(entry.record.class, task_id) {
            return Err(ended);
        }
        if entry.record.phase != Phase::Failed {
            let why = self.reason(now, key).map_or(String::new(), |why| format!(" ({why})"));
            return Err(limits::invalid(format!(
                "task {task_id:?} is {}{why}. Only a task whose own attempts failed can be requeued; those that depend on it then wait for it again.",
                entry.state
            )));
        }
        let mut record = entry.record.clone();
        record.phase = Phase::Pending;
        record.epoch += 1;
        (record.rev, record.failures) = (0, 0);
        (record.losses, record.not_before) = (0, 0);
        record.dot = self.next_dot();
        self.unblocked.clear();
        self.tick();
        self.put(now, key, record, None);
        Ok(self.marked(now, key, 1))
    }

    /// Changes the priority in force of a task that has not ended.
    ///
    /// # Errors
    /// A [`Rejection`]; nothing was changed.
    pub fn reprioritize(
        &mut self,
        now: Now,
        task_id: &str,
        priority: u8,
    ) -> Result<Marked, Rejection> {
        limits::check_priority(priority)?;
        let key = self.known(task_id)?;
        self.check_in_doubt()?;
        let mut record = self.table.entry(key).record.clone();
        if let Some(ended) = Rejection::ended(record.class, task_id) {
            return Err(ended);
        }
        self.unblocked.clear();
        let attempt = record.attempt();
        if record.priority != priority {
            record.priority = priority;
            record.rev += 1;
            record.dot = self.next_dot();
            self.tick();
            self.put(now, key, record, None);
        }
        Ok(self.marked(now, key, attempt))
    }

    pub(super) fn known(&self, task_id: &str) -> Result<u64, Rejection> {
        let missing = || match self.table.tombstones.find(task_id) {
            Some((_, tombstone)) => Rejection::ended(tombstone.standing.class, task_id),
            None => None,
        };
        let unknown = || Rejection::TaskNotFound { task_id: task_id.into() };
        self.table.key_of(task_id).ok_or_else(|| missing().unwrap_or_else(unknown))
    }

    fn cancel(&mut self, now: Now, key: u64, error: Option<String>) -> Result<(), Rejection> {
        let mut record = self.table.entry(key).record.clone();
        match record.class {
            Class::Cancelled => return Ok(()),
            Class::Completed => {
                let task_id = record.spec.task_id.to_string();
                return Err(Rejection::AlreadyCompleted { task_id });
            }
            Class::Live => {}
        }
        record.class = Class::Cancelled;
        record.not_before = now.wall;
        let error = error.map(Into::into);
        record.outcome = Some(Arc::new(Outcome { error, ..Outcome::default() }));
        record.dot = self.next_dot();
        self.tick();
        self.put(now, key, record, None);
        Ok(())
    }

    /// Whether the caller's own lease ended by this very report, so that it is only a repetition.
    fn was_accepted_before(
        &self,
        key: u64,
        caller: &Caller,
        mark: &Mark,
        fence: Option<u64>,
    ) -> bool {
        let entry = self.table.entry(key);
        let record = &entry.record;
        let own = record.lease.as_ref().is_some_and(|lease| self.is_own(lease, caller))
            && match fence {
                Some(fence) => Some(fence) == record.fence(),
                None => !is_ambiguous(entry, caller),
            };
        own && matches!(
            (record.class, record.phase, mark),
            (Class::Completed, _, Mark::Completed { .. })
                | (Class::Live, Phase::Pending, Mark::Failed { .. } | Mark::Released)
                | (Class::Live, Phase::Failed, Mark::Failed { .. })
        )
    }

    fn is_own(&self, lease: &Lease, caller: &Caller) -> bool {
        lease.holder == self.peer && lease.worker == caller.worker
    }

    /// Whether the caller holds the task under a lease that is in force.
    fn check_lease(
        &self,
        key: u64,
        caller: &Caller,
        mark: &Mark,
        fence: Option<u64>,
    ) -> Result<(), Rejection> {
        let entry = self.table.entry(key);
        let record = &entry.record;
        let task_id = record.spec.task_id.to_string();
        if let Some(ended) = Rejection::ended(record.class, &task_id) {
            return Err(ended);
        }
        let own = record.lease.as_ref().is_some_and(|lease| self.is_own(lease, caller));
        let same_fence = fence.is_none() || fence == record.fence();
        let Some(lease) = record.held() else {
            return Err(match fence {
                _ if own && same_fence && *mark != Mark::Released => {
                    Rejection::LeaseExpired { task_id }
                }
                Some(given) if !same_fence => Rejection::StaleFence { task_id, given },
                _ => Rejection::NotHolder { task_id, standing: entry.state.to_string() },
            });
        };
        if let Some(given) = fence.filter(|_| !same_fence) {
            return Err(Rejection::StaleFence { task_id, given });
        }
        if !own && self.members.is_down(&lease.holder) {
            return Err(Rejection::HolderDown { task_id, peer: lease.holder.to_string() });
        }
        if !own {
            let standing = match lease.holder == self.peer {
                true => format!("held by worker {:?} of this node", lease.worker),
                false => format!("held by peer {:?}", lease.holder),
            };
            return Err(Rejection::NotHolder { task_id, standing });
        }
        if fence.is_none() && is_ambiguous(entry, caller) {
            return Err(limits::invalid(format!(
                "task {task_id:?} was leased here {} times, so its fence is needed to tell which \
                 attempt this is. Give the fence that came with the task.",
                entry.leases_here
            )));
        }
        Ok(())
    }

    fn apply(&mut self, now: Now, key: u64, mark: Mark) {
        match mark {
            Mark::Completed { result } => self.complete(now, key, result.map(Arc::from)),
            Mark::Failed { error, result, retry } => {
                self.tick();
                self.fail(now, key, retry, error.map(Into::into), result.map(Arc::from));
            }
            Mark::Released => self.give_back(now, key, None),
            Mark::InProgress { note } => self.renew(now, key, note.map(Into::into)),
            Mark::Cancelled { .. } => unreachable!("cancelled by anyone, without a lease"),
        }
    }

    fn complete(&mut self, now: Now, key: u64, result: Option<Arc<str>>) {
        let mut record = self.table.entry(key).record.clone();
        record.class = Class::Completed;
        record.not_before = now.wall;
        record.outcome = result
            .as_deref()
            .map(|text| Arc::new(Outcome { result: Some(Body::of(text)), ..Outcome::default() }));
        record.dot = self.next_dot();
        self.tick();
        self.put(now, key, record, result);
    }

    /// An attempt failed: the next one waits, or the attempts are used up.
    pub(super) fn fail(
        &mut self,
        now: Now,
        key: u64,
        retry: bool,
        error: Option<Box<str>>,
        result: Option<Arc<str>>,
    ) {
        let mut record = self.table.entry(key).record.clone();
        record.failures += 1;
        record.losses = 0;
        let body = result.as_deref().map(Body::of);
        record.outcome = Some(Arc::new(Outcome { result: body, error, note: None }));
        let limit = record.spec.max_attempts;
        if retry && (limit == 0 || record.failures < limit) {
            record.phase = Phase::Pending;
            record.epoch += 1;
            record.rev = 0;
            record.not_before = now.wall.saturating_add(self.backoff(record.failures));
        } else {
            record.phase = Phase::Failed;
        }
        record.dot = self.next_dot();
        self.put(now, key, record, result);
    }

    /// Exponential backoff with equal jitter: between half and all of the doubled wait, so that
    /// tasks that failed together do not come back together.
    fn backoff(&mut self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        let wait = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_LONGEST);
        let half = wait / 2;
        half + (self.jitter)() % (half + 1)
    }

    fn renew(&mut self, now: Now, key: u64, note: Option<Box<str>>) {
        let entry = self.table.entry(key);
        let mut record = entry.record.clone();
        record.rev += 1;
        if note.is_some() {
            let outcome = record.outcome.as_deref().cloned().unwrap_or_default();
            record.outcome = Some(Arc::new(Outcome { note, ..outcome }));
        }
        record.dot = self.next_dot();
        // A lease on time starts again with its full duration.
        self.table.entry_mut(key).waiting = Waiting::Nothing;
        self.put(now, key, record, None);
    }

    fn marked(&mut self, now: Now, key: u64, attempt: u32) -> Marked {
        let unblocked = std::mem::take(&mut self.unblocked);
        let named = unblocked.iter().take(MAX_UNBLOCKED_SHOWN);
        let entry = self.table.entry(key);
        let not_before = Some(entry.record.not_before).filter(|at| *at > now.wall);
        Marked {
            unblocked: named
                .map(|key| self.table.entry(*key).record.spec.task_id.to_string())
                .collect(),
            state: entry.state,
            attempt,
            next_attempt_at: not_before.filter(|_| entry.state == State::Pending),
            expires_at: self.expires_at(now, key),
        }
    }
}

/// Whether callers of this name may have had several leases of the task, so that only a fence tells
/// which of them is meant.
fn is_ambiguous(entry: &Entry, caller: &Caller) -> bool {
    caller.shared && entry.leases_here > 1
}
