//! What a peer has on disk: the store's tables, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::{
    Changes, Conflict, Dot, Hash256, Kept, KeptTask, Record, TaskChange, Text,
};

/// One peer's store. A clone is a backup.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// The name that the store's writes go by.
    pub(crate) actor: Arc<str>,
    clock: BTreeMap<String, u64>,
    pub(crate) have: BTreeMap<Arc<str>, u64>,
    tasks: BTreeMap<u64, KeptTask>,
    keys: BTreeMap<Arc<str>, u64>,
    texts: BTreeMap<(Column, u64), Arc<str>>,
    conflicts: u64,
    duplicates: u64,
    /// Specs that lost: task id, spec hash.
    pub(crate) lost_specs: BTreeSet<(Arc<str>, Hash256)>,
    /// Runs that were reported as second ones, by the claim that they began with.
    pub(crate) second_runs: BTreeSet<Dot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Payload,
    Result,
}

impl Disk {
    pub(crate) fn new(actor: &str) -> Self {
        Disk { actor: actor.into(), ..Disk::default() }
    }

    /// One transaction.
    pub(crate) fn commit(&mut self, changes: &Changes) {
        changes.tasks.iter().for_each(|change| self.keep(change));
        self.clock.extend(changes.clock.iter().map(|(peer, counter)| (peer.to_string(), *counter)));
        self.have.extend(changes.have.iter().map(|dot| (dot.actor.clone(), dot.counter)));
        self.conflicts += changes.conflicts.len() as u64;
        self.duplicates += changes.duplicates.len() as u64;
        for Conflict { record, .. } in &changes.conflicts {
            self.lost_specs.insert((record.spec.task_id.clone(), record.spec.hash));
        }
        self.second_runs.extend(changes.duplicates.iter().map(|duplicate| duplicate.dot.clone()));
    }

    fn keep(&mut self, change: &TaskChange) {
        let TaskChange { key, record, leases_here, .. } = change.clone();
        self.keys.insert(record.spec.task_id.clone(), key);
        if change.spec_is_new {
            self.texts.remove(&(Column::Payload, key));
        }
        if let Some(text) = &change.payload {
            self.texts.insert((Column::Payload, key), text.clone());
        }
        if let Some(text) = &change.result {
            self.texts.insert((Column::Result, key), text.clone());
        }
        self.tasks.insert(key, KeptTask { key, record, leases_here });
    }

    pub(crate) fn text(&self, text: Text) -> Option<Arc<str>> {
        let place = match text {
            Text::Payload(key) => (Column::Payload, key),
            Text::Result(key) => (Column::Result, key),
        };
        self.texts.get(&place).cloned()
    }

    /// All that a core is taken up from.
    pub(crate) fn load(&self) -> Kept {
        Kept {
            clock: self.clock.clone(),
            have: self.have.clone(),
            tasks: self.tasks.values().cloned().collect(),
            conflicts: self.conflicts,
            duplicates: self.duplicates,
            next_key: self.tasks.keys().last().map_or(0, |key| key + 1),
        }
    }

    pub(crate) fn key(&self, task_id: &str) -> Option<u64> {
        self.keys.get(task_id).copied()
    }

    pub(crate) fn record(&self, task_id: &str) -> Option<&Record> {
        Some(&self.tasks[self.keys.get(task_id)?].record)
    }

    /// All records, by task id.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&Arc<str>, &Record)> {
        self.keys.iter().map(|(id, key)| (id, &self.tasks[key].record))
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }
}
