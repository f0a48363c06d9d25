//! The table of tasks: each record with what is derived from it, and the indices over them.
//!
//! Tasks are held by integer keys that rise in the order of arrival, the same that the store uses.
//! Everything but the record is derived, and is never written anywhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map};
use std::ops::Bound;
use std::sync::Arc;

use super::calls::State;
use super::key_set::KeySet;
use super::limits::MAX_NEWEST_WORKFLOWS;
use super::ready::Place;
use super::record::{Class, Phase, Record};
use super::slots::Slots;
use super::tombstones::Tombstones;

/// A point on the monotonic clock that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a task is waiting for, as far as time matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Nothing that a clock decides.
    Nothing,
    /// Its delay: over at this point of the monotonic clock, or when the wall clock passes
    /// `not_before`, whichever is earlier.
    Delay(u64),
    /// Another peer's turn: ready since this point of the monotonic clock.
    Turn(u64),
    /// Its worker, here: the lease ends at this point of the monotonic clock.
    Lease(u64),
}

/// One task.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) waiting: Waiting,
    /// When time alone changes something, as registered in [`Table::wakes`]; or [`NEVER`].
    pub(crate) wake: u64,
    pub(crate) place: Option<Place>,
    /// How many leases this node gave out for it.
    pub(crate) leases_here: u32,
    /// Dependencies that are neither completed nor dead.
    pub(crate) open_dependencies: u16,
    /// Dependencies that can no longer be completed.
    pub(crate) dead_dependencies: u16,
    /// As counted in [`Table::by_state`].
    pub(crate) state: State,
}

impl Entry {
    pub(crate) fn new(record: Record, leases_here: u32) -> Self {
        Entry {
            record,
            waiting: Waiting::Nothing,
            wake: NEVER,
            place: None,
            leases_here,
            open_dependencies: 0,
            dead_dependencies: 0,
            state: State::Pending,
        }
    }

    /// Where the task stands. `cyclic`: it waits for itself through others. `holder_is_down` is
    /// asked only for a leased task.
    pub(crate) fn derive_state(
        &self,
        cyclic: bool,
        holder_is_down: impl Fn(&str) -> bool,
    ) -> State {
        match (self.record.class, self.record.phase) {
            (Class::Completed, _) => return State::Completed,
            (Class::Cancelled, _) => return State::Cancelled,
            (Class::Live, Phase::Failed) => return State::Failed,
            (Class::Live, Phase::Leased) => {
                let held = self.record.lease.as_ref();
                if !held.is_some_and(|lease| holder_is_down(&lease.holder)) {
                    return State::Assigned;
                }
            }
            (Class::Live, Phase::Pending) => {}
        }
        if self.dead_dependencies > 0 || cyclic {
            State::Failed
        } else if self.open_dependencies > 0 {
            State::Blocked
        } else {
            State::Pending
        }
    }
}

/// What a task means for those that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    Open,
    Completed,
    /// Failed or cancelled: not to be completed unless a person steps in.
    Dead,
}

impl From<State> for Outlook {
    fn from(state: State) -> Self {
        match state {
            State::Completed => Outlook::Completed,
            State::Failed | State::Cancelled => Outlook::Dead,
            State::Pending | State::Blocked | State::Assigned => Outlook::Open,
        }
    }
}

/// The tasks that belong together.
#[derive(Debug, Default)]
pub(crate) struct Workflow {
    /// In the order of arrival; the first to come are the first to go.
    pub(crate) tasks: VecDeque<u64>,
    /// How many stand where, in the order of [`State::ALL`].
    pub(crate) counts: [u32; 6],
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    /// By key.
    slots: Slots<Entry>,
    /// The key after the last that there was.
    next_key: u64,
    by_id: BTreeMap<Arc<str>, u64>,
    /// What is left of tasks that ended long ago.
    pub(crate) tombstones: Tombstones,
    /// Which tasks name an id in `depends_on`, also an id that is not known.
    dependents: BTreeMap<Arc<str>, VecDeque<u64>>,
    /// Tasks that wait for themselves through others. Submissions cannot make such a task; merges
    /// can.
    pub(crate) cyclic: BTreeSet<u64>,
    workflows: BTreeMap<Arc<str>, Workflow>,
    /// The workflows that came last, the newest in front.
    newest_workflows: VecDeque<Arc<str>>,
    /// Whether those are others than when this was last looked at.
    pub(crate) newest_changed: bool,
    by_state: [KeySet; 6],
    /// How often a task came to be completed since this table was made.
    completions: u64,
    /// When time alone changes a task: a point of the monotonic clock, and the task.
    wakes: BTreeSet<(u64, u64)>,
    /// Delayed tasks by `not_before`, on the wall clock.
    delayed: BTreeSet<(u64, u64)>,
    /// Leased tasks by the peer that holds them; those of this peer by worker. The names only
    /// narrow the search: whoever asks looks at the lease itself.
    held: BTreeMap<Arc<str>, BTreeSet<u64>>,
}

impl Table {
    /// A table that will hold `tasks` with sorted ids, made at once: cheaper than one by one.
    pub(crate) fn with_ids(mut ids: Vec<(Arc<str>, u64)>) -> Self {
        ids.sort_unstable();
        Table { by_id: ids.into_iter().collect(), ..Table::default() }
    }

    pub(crate) fn key_of(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Entry> {
        self.slots.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Entry> {
        self.slots.get_mut(key)
    }

    /// The task with a key that the table itself gave out.
    pub(crate) fn entry(&self, key: u64) -> &Entry {
        self.get(key).expect("keys in the indices name tasks that are there")
    }

    /// See [`Table::entry`].
    pub(crate) fn entry_mut(&mut self, key: u64) -> &mut Entry {
        self.get_mut(key).expect("keys in the indices name tasks that are there")
    }

    /// The key after the last that there was.
    pub(crate) fn next_key(&self) -> u64 {
        self.next_key
    }

    /// Adds a task under `key`, which must not be below [`Table::next_key`].
    pub(crate) fn insert(&mut self, key: u64, entry: Entry) {
        self.by_id.insert(entry.record.spec.task_id.clone(), key);
        self.insert_known(key, entry);
    }

    /// Adds a task whose id [`Table::with_ids`] knows already.
    pub(crate) fn insert_known(&mut self, key: u64, entry: Entry) {
        debug_assert!(key >= self.next_key(), "keys rise");
        self.by_state[entry.state as usize].insert(key);
        self.slots.insert(key, entry);
        self.next_key = key + 1;
        self.index_spec(key);
    }

    /// Leaves the keys below `key` that no task has unused.
    pub(crate) fn skip_to(&mut self, key: u64) {
        self.next_key = self.next_key.max(key);
    }

    /// Takes a task out, of the indices too. It stands in no queue any more.
    pub(crate) fn remove(&mut self, key: u64, me: &Arc<str>) -> Entry {
        if matches!(self.entry(key).waiting, Waiting::Delay(_)) {
            self.set_delayed(key, false);
        }
        self.set_wake(key, NEVER);
        self.set_held(key, me, false);
        self.unindex_spec(key);
        self.cyclic.remove(&key);
        let entry = self.slots.remove(key).expect("keys in the indices name tasks that are there");
        debug_assert!(entry.place.is_none(), "it left the queue");
        self.by_state[entry.state as usize].remove(key);
        self.by_id.remove(&entry.record.spec.task_id);
        entry
    }

    /// Enters the task's workflow and dependencies in the indices.
    pub(crate) fn index_spec(&mut self, key: u64) {
        let (spec, state) = (self.entry(key).record.spec.clone(), self.entry(key).state);
        let workflow = match self.workflows.entry(spec.workflow_id.clone()) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(new) => {
                self.newest_workflows.push_front(spec.workflow_id.clone());
                self.newest_workflows.truncate(MAX_NEWEST_WORKFLOWS);
                self.newest_changed = true;
                new.insert(Workflow::default())
            }
        };
        insert_sorted(&mut workflow.tasks, key);
        workflow.counts[state as usize] += 1;
        for id in &spec.depends_on {
            insert_sorted(self.dependents.entry(id.clone()).or_default(), key);
        }
    }

    /// Takes the task's workflow and dependencies out of the indices, before its spec is replaced.
    pub(crate) fn unindex_spec(&mut self, key: u64) {
        let (spec, state) = (self.entry(key).record.spec.clone(), self.entry(key).state);
        if let Some(workflow) = self.workflows.get_mut(&spec.workflow_id) {
            remove_sorted(&mut workflow.tasks, key);
            workflow.counts[state as usize] -= 1;
            if workflow.tasks.is_empty() {
                self.workflows.remove(&spec.workflow_id);
                self.newest_workflows.retain(|id| *id != spec.workflow_id);
                self.newest_changed = true;
            }
        }
        for id in &spec.depends_on {
            if let btree_map::Entry::Occupied(mut tasks) = self.dependents.entry(id.clone()) {
                remove_sorted(tasks.get_mut(), key);
                if tasks.get().is_empty() {
                    tasks.remove();
                }
            }
        }
    }

    /// One copy of a workflow's id serves all its tasks.
    pub(crate) fn shared_workflow_id(&self, id: &str) -> Arc<str> {
        self.workflows.get_key_value(id).map_or_else(|| id.into(), |(shared, _)| shared.clone())
    }

    /// The tasks that name `id` in `depends_on`.
    pub(crate) fn dependents_of(&self, id: &str) -> impl Iterator<Item = u64> + use<'_> {
        self.dependents.get(id).into_iter().flatten().copied()
    }

    /// Whether a task that has not ended waits for `id`.
    pub(crate) fn is_waited_for(&self, id: &str) -> bool {
        let mut waiting = self.dependents_of(id).map(|key| self.entry(key).record.class);
        waiting.any(|class| class == Class::Live)
    }

    /// What `id` means for those that depend on it. An unknown task may still come.
    pub(crate) fn outlook_of(&self, id: &str) -> Outlook {
        let state = match self.key_of(id) {
            Some(key) => Some(self.entry(key).state),
            None => self.tombstones.find(id).map(|(_, tombstone)| tombstone.state()),
        };
        state.map_or(Outlook::Open, Outlook::from)
    }

    /// Workflows that have tasks.
    pub(crate) fn known_workflows(&self) -> usize {
        self.workflows.len()
    }

    /// A workflow that has tasks, with its shared id.
    pub(crate) fn workflow_entry(&self, id: &str) -> Option<(&Arc<str>, &Workflow)> {
        self.workflows.get_key_value(id)
    }

    /// A workflow that has tasks.
    pub(crate) fn workflow(&self, id: &str) -> Option<&Workflow> {
        self.workflows.get(id)
    }

    /// The workflows that came last, the newest first, at most [`MAX_NEWEST_WORKFLOWS`].
    pub(crate) fn newest_workflows(&self) -> impl Iterator<Item = &Arc<str>> {
        self.newest_workflows.iter()
    }

    /// The ids of the tasks that begin with `prefix`, in order.
    pub(crate) fn ids_from(&self, prefix: &str) -> impl Iterator<Item = &Arc<str>> {
        starting_with(&self.by_id, prefix)
    }

    /// The ids of the workflows that begin with `prefix`, in order.
    pub(crate) fn workflows_from(&self, prefix: &str) -> impl Iterator<Item = &Arc<str>> {
        starting_with(&self.workflows, prefix)
    }

    pub(crate) fn in_state(&self, state: State) -> &KeySet {
        &self.by_state[state as usize]
    }

    pub(crate) fn counts(&self) -> [u64; 6] {
        State::ALL.map(|state| self.in_state(state).len() as u64)
    }

    /// Tasks that have not ended for good.
    pub(crate) fn live(&self) -> usize {
        [State::Pending, State::Blocked, State::Assigned, State::Failed]
            .map(|state| self.in_state(state).len())
            .iter()
            .sum()
    }

    /// Every task after `key`, in the order of arrival.
    pub(crate) fn keys_after(&self, key: Option<u64>) -> impl Iterator<Item = u64> {
        self.slots.keys_from(key.map_or(0, |key| key.saturating_add(1)))
    }

    pub(crate) fn set_state(&mut self, key: u64, state: State) {
        let before = std::mem::replace(&mut self.entry_mut(key).state, state);
        let workflow_id = self.entry(key).record.spec.workflow_id.clone();
        if let Some(workflow) = self.workflows.get_mut(&workflow_id) {
            workflow.counts[before as usize] -= 1;
            workflow.counts[state as usize] += 1;
        }
        self.by_state[before as usize].remove(key);
        self.by_state[state as usize].insert(key);
        if state == State::Completed && before != state {
            self.completions += 1;
        }
    }

    /// How often a task came to be completed since this table was made.
    pub(crate) fn completions(&self) -> u64 {
        self.completions
    }

    /// Registers when time alone changes the task, on the monotonic clock; [`NEVER`] for not at all.
    pub(crate) fn set_wake(&mut self, key: u64, wake: u64) {
        let before = std::mem::replace(&mut self.entry_mut(key).wake, wake);
        if before == wake {
            return;
        }
        if before != NEVER {
            self.wakes.remove(&(before, key));
        }
        if wake != NEVER {
            self.wakes.insert((wake, key));
        }
    }

    /// Registers or drops the task among those that wait for the wall clock.
    pub(crate) fn set_delayed(&mut self, key: u64, delayed: bool) {
        let at = (self.entry(key).record.not_before, key);
        match delayed {
            true => self.delayed.insert(at),
            false => self.delayed.remove(&at),
        };
    }

    /// The first point of the monotonic clock at which time alone changes a task.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// The first point of the wall clock at which a delay is over.
    pub(crate) fn next_delayed(&self) -> Option<u64> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// A task whose time has come, on either clock.
    pub(crate) fn due(&self, monotonic: u64, wall: u64) -> Option<u64> {
        let woken = self.wakes.first().filter(|(at, _)| *at <= monotonic);
        let delayed = self.delayed.first().filter(|(at, _)| *at <= wall);
        woken.or(delayed).map(|(_, key)| *key)
    }

    /// Enters the task among those that its holder has, or drops it, if it is held at all.
    pub(crate) fn set_held(&mut self, key: u64, me: &Arc<str>, held: bool) {
        let Some(lease) = self.entry(key).record.held().cloned() else { return };
        let name = if lease.holder == *me { &lease.worker } else { &lease.holder };
        if held {
            self.held.entry(name.clone()).or_default().insert(key);
        } else if let Some(tasks) = self.held.get_mut(name) {
            tasks.remove(&key);
            if tasks.is_empty() {
                self.held.remove(name);
            }
        }
    }

    /// The tasks that `holder` has.
    pub(crate) fn held_by(&self, holder: &str) -> Vec<u64> {
        self.held.get(holder).map_or_else(Vec::new, |tasks| tasks.iter().copied().collect())
    }
}

/// The ids that begin with `prefix`, in order.
fn starting_with<'t, T>(
    ids: &'t BTreeMap<Arc<str>, T>,
    prefix: &str,
) -> impl Iterator<Item = &'t Arc<str>> + use<'t, T> {
    let prefix: Box<str> = prefix.into();
    let from: (Bound<&str>, Bound<&str>) = (Bound::Included(&prefix), Bound::Unbounded);
    ids.range::<str, _>(from).map(|(id, _)| id).take_while(move |id| id.starts_with(&*prefix))
}

/// Enters a key among others that rise, where it mostly comes last.
fn insert_sorted(keys: &mut VecDeque<u64>, key: u64) {
    let place = keys.partition_point(|other| *other <= key);
    keys.insert(place, key);
}

/// Takes a key out, which mostly comes first: it costs the way to the nearer end.
fn remove_sorted(keys: &mut VecDeque<u64>, key: u64) {
    if let Ok(place) = keys.binary_search(&key) {
        keys.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_tasks_fit_in_memory() {
        // With the allocator's 8 bytes each: a step of 16 bytes is 16 MB of a million tasks.
        assert_eq!(size_of::<Entry>(), 136);
        assert_eq!(size_of::<crate::scheduler::Spec>(), 176);
    }
}
