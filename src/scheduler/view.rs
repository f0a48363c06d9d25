//! What callers see: one task, pages of tasks, counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::calls::{Filter, Ids, Now, Offer, Page, State, Status, TaskView};
use super::limits::{self, DEFAULT_PAGE, MAX_OFFERED, MAX_PAGE, MAX_PAGE_SCAN};
use super::machine::P2PWorkflowScheduler;
use super::member_view::MemberView;
use super::record::{Class, Phase};
use super::rejection::Rejection;
use super::table::{NEVER, Outlook, Waiting};

/// Dependencies named in a reason; the rest are counted.
const MAX_NAMED: usize = 3;

impl P2PWorkflowScheduler {
    /// Counts, and the clock's root.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        Status {
            peer_id: self.peer.clone(),
            counts: self.table.counts(),
            queue_size: self.ready.len(),
            known_peers: self.members.known(),
            alive_peers: self.members.alive(now),
            takes_work: self.takes_work(),
            merkle_root: self.clock.merkle_root(),
            in_sync: self.in_sync(),
            conflicts: self.conflicts,
            duplicates: self.lost_runs.len() as u64,
        }
    }

    /// One task.
    ///
    /// # Errors
    /// [`Rejection::TaskNotFound`].
    pub fn show(&self, now: Now, task_id: &str) -> Result<TaskView, Rejection> {
        Ok(self.view(now, self.known(task_id)?))
    }

    /// One page of tasks, in the order of their arrival.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`] for a limit out of range.
    pub fn list(&self, now: Now, filter: &Filter) -> Result<Page, Rejection> {
        let limit = match filter.limit {
            0 => DEFAULT_PAGE,
            limit if limit <= MAX_PAGE => limit,
            limit => {
                return Err(limits::invalid(format!(
                    "limit {limit} is out of range. Give 1 to {MAX_PAGE}, and go on with next_cursor."
                )));
            }
        };
        let from = filter.after.map_or(0, |after| after.saturating_add(1));
        let Filter { task_id, workflow_id, state, .. } = filter;
        let keys: Box<dyn Iterator<Item = u64>> = match (task_id, workflow_id, state) {
            (Some(id), _, _) => {
                Box::new(self.table.key_of(id).into_iter().filter(move |key| *key >= from))
            }
            (None, Some(workflow_id), _) => {
                let workflow = self.table.workflow(workflow_id);
                let tasks = workflow.into_iter().flat_map(move |workflow| {
                    let first = workflow.tasks.partition_point(|key| *key < from);
                    workflow.tasks.range(first..).copied()
                });
                Box::new(tasks)
            }
            (None, None, Some(state)) => Box::new(self.table.in_state(*state).from(from)),
            (None, None, None) => Box::new(self.table.keys_after(filter.after)),
        };
        Ok(self.page(now, filter, limit, keys))
    }

    /// A workflow's counts, in the order of [`State::ALL`]; `None` if it has no task.
    #[must_use]
    pub fn workflow_counts(&self, workflow_id: &str) -> Option<[u64; 6]> {
        self.table.workflow(workflow_id).map(|workflow| workflow.counts.map(u64::from))
    }

    /// The workflows that came last, the newest first, at most [`limits::MAX_NEWEST_WORKFLOWS`].
    #[must_use]
    pub fn newest_workflows(&self) -> Vec<Arc<str>> {
        self.table.newest_workflows().cloned().collect()
    }

    /// The known ids that begin like that.
    #[must_use]
    pub fn offer(&self, ids: Ids, prefix: &str) -> Offer {
        match ids {
            Ids::Tasks => offer(self.table.ids_from(prefix)),
            Ids::Workflows => offer(self.table.workflows_from(prefix)),
        }
    }

    /// The members but this peer, in the order of their ids.
    #[must_use]
    pub fn members(&self, now: Now) -> Vec<MemberView> {
        self.members.views(now).collect()
    }

    /// How many tasks each peer holds that holds any.
    #[must_use]
    pub fn holders(&self) -> BTreeMap<Arc<str>, u64> {
        let mut holders = BTreeMap::new();
        for key in self.table.in_state(State::Assigned).from(0) {
            if let Some(lease) = self.table.entry(key).record.held() {
                *holders.entry(lease.holder.clone()).or_default() += 1;
            }
        }
        holders
    }

    fn page(
        &self,
        now: Now,
        filter: &Filter,
        limit: usize,
        keys: impl Iterator<Item = u64>,
    ) -> Page {
        let mut page = Page::default();
        let mut last = None;
        for (looked_at, key) in keys.enumerate() {
            if page.tasks.len() == limit || looked_at == MAX_PAGE_SCAN {
                page.next = last;
                break;
            }
            last = Some(key);
            if self.fits(filter, key) {
                page.tasks.push(self.view(now, key));
            }
        }
        page
    }

    fn fits(&self, filter: &Filter, key: u64) -> bool {
        let entry = self.table.entry(key);
        let workflow_id = &entry.record.spec.workflow_id;
        filter.state.is_none_or(|state| entry.state == state)
            && filter.workflow_id.as_ref().is_none_or(|id| **id == **workflow_id)
    }

    pub(super) fn view(&self, now: Now, key: u64) -> TaskView {
        let entry = self.table.entry(key);
        let (record, spec) = (&entry.record, &entry.record.spec);
        let outcome = record.outcome.as_deref();
        let lease = record.lease.as_deref().filter(|_| record.phase != Phase::Pending);
        let held = entry.state == State::Assigned;
        TaskView {
            key,
            task_id: spec.task_id.clone(),
            workflow_id: spec.workflow_id.clone(),
            name: spec.name.to_string(),
            tags: spec.tags,
            priority: record.priority,
            state: entry.state,
            reason: self.reason(now, key),
            task_hash: spec.task_hash(),
            assigned_peer: lease.map(|lease| lease.holder.clone()),
            worker: lease.map(|lease| lease.worker.clone()),
            fence: if held { record.fence() } else { None },
            attempt: record.attempt(),
            max_attempts: spec.max_attempts,
            depends_on: spec.depends_on.to_vec(),
            requires: spec.requires.to_vec(),
            created_at: spec.created_at,
            not_before: Some(record.not_before)
                .filter(|at| *at > now.wall && record.class == Class::Live),
            ended_at: record.ended_at(),
            expires_at: self.expires_at(now, key),
            note: outcome.and_then(|outcome| outcome.note.as_deref()).map(str::to_owned),
            error: outcome.and_then(|outcome| outcome.error.as_deref()).map(str::to_owned),
            has_payload: spec.payload_size > 0,
            has_result: outcome.is_some_and(|outcome| outcome.result.is_some()),
        }
    }

    /// When a lease of this node ends, on the wall clock; `None` while a session renews it.
    pub(super) fn expires_at(&self, now: Now, key: u64) -> Option<u64> {
        match self.table.entry(key).waiting {
            Waiting::Lease(NEVER) => None,
            Waiting::Lease(until) => {
                Some(now.wall.saturating_add(until.saturating_sub(now.monotonic)))
            }
            Waiting::Nothing | Waiting::Delay(_) | Waiting::Turn(_) => None,
        }
    }

    /// Why a task stands where it stands, where that is not plain.
    pub(super) fn reason(&self, now: Now, key: u64) -> Option<String> {
        let entry = self.table.entry(key);
        match entry.state {
            State::Blocked => Some(format!("waits for {}", self.dependencies(key, Outlook::Open))),
            State::Failed if entry.record.phase == Phase::Failed => None,
            State::Failed if self.table.cyclic.contains(&key) => {
                Some("its dependencies form a cycle; cancel the tasks on it and submit them anew under other ids".into())
            }
            State::Failed => Some(format!(
                "cannot run after {} failed or was cancelled",
                self.dependencies(key, Outlook::Dead)
            )),
            State::Pending => match entry.waiting {
                Waiting::Delay(_) => {
                    let wait = entry.record.not_before.saturating_sub(now.wall);
                    Some(format!("waits {} s", wait.div_ceil(1000)))
                }
                Waiting::Turn(_) if entry.place.is_none() => {
                    Some(format!("the turn of {} is first", self.owner_of(entry)))
                }
                _ => None,
            },
            State::Assigned | State::Completed | State::Cancelled => None,
        }
    }

    fn dependencies(&self, key: u64, outlook: Outlook) -> String {
        let ids = &self.table.entry(key).record.spec.depends_on;
        let mut matching = ids.iter().filter(|id| self.table.outlook_of(id) == outlook);
        let named: Vec<String> =
            matching.by_ref().take(MAX_NAMED).map(|id| format!("{id:?}")).collect();
        match matching.count() {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }

    /// Keys and shapes for whoever reads bodies from the store: the results of a task's
    /// dependencies, as (id, key) of those that have one.
    #[must_use]
    pub fn dependency_results(&self, key: u64) -> Vec<(Arc<str>, u64)> {
        let Some(entry) = self.table.get(key) else {
            return Vec::new();
        };
        let ids = entry.record.spec.depends_on.iter();
        ids.filter_map(|id| {
            let key = self.table.key_of(id)?;
            let record = &self.table.entry(key).record;
            let has_result = record.class == Class::Completed
                && record.outcome.as_ref().is_some_and(|outcome| outcome.result.is_some());
            has_result.then(|| (id.clone(), key))
        })
        .collect()
    }
}

fn offer<'t>(mut ids: impl Iterator<Item = &'t Arc<str>>) -> Offer {
    let offered: Vec<Arc<str>> = ids.by_ref().take(MAX_OFFERED).cloned().collect();
    let more = ids.take(MAX_PAGE_SCAN).count();
    Offer { total: (more < MAX_PAGE_SCAN).then_some(offered.len() + more), ids: offered }
}
