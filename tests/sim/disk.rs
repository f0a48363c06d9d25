//! What a peer has on disk: the store's tables, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::{
    Burial, Changes, Conflict, Dot, Hash256, Heard, Kept, KeptTask, Record, Standing, TaskChange,
    Text, Tombstone,
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
    tombstones: BTreeMap<u64, Tombstone>,
    pub(crate) members: BTreeMap<Arc<str>, Heard>,
    pub(crate) doubtful: bool,
    /// Tasks of which only a tombstone is or was left.
    pub(crate) stripped: BTreeSet<Arc<str>>,
    /// Tasks of which nothing is left, or was for a while.
    pub(crate) dropped: BTreeSet<Arc<str>>,
    conflicts: u64,
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
        // A task that is back under another key is not gone with its old one.
        changes.buried.iter().for_each(|burial| self.bury(burial));
        for (peer, heard) in &changes.members {
            let before = self.members.remove(peer);
            if let Some(heard) = heard {
                let have = heard.have.clone().or(before.and_then(|before| before.have));
                self.members.insert(peer.clone(), Heard { have, ..heard.clone() });
            }
        }
        self.doubtful = changes.doubtful.unwrap_or(self.doubtful);
        if let Some(actor) = &changes.actor {
            self.actor = actor.clone();
        }
        self.clock.extend(changes.clock.iter().map(|(peer, counter)| (peer.to_string(), *counter)));
        self.have.extend(changes.have.iter().map(|dot| (dot.actor.clone(), dot.counter)));
        self.conflicts += changes.conflicts.len() as u64;
        for Conflict { record, .. } in &changes.conflicts {
            self.lost_specs.insert((record.spec.task_id.clone(), record.spec.hash));
        }
        self.second_runs.extend(changes.duplicates.iter().map(|duplicate| duplicate.dot.clone()));
        self.second_runs.retain(|dot| changes.not_lost.iter().all(|run| run.dot != *dot));
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

    fn bury(&mut self, Burial { key, tombstone }: &Burial) {
        let task = self.tasks.remove(key).map(|task| task.record.spec.task_id.clone());
        let before = self.tombstones.remove(key).map(|tombstone| tombstone.task_id);
        self.texts.retain(|(_, of), _| of != key);
        if let Some(id) = task.or(before)
            && self.keys.get(&id) == Some(key)
        {
            self.keys.remove(&id);
            self.dropped.insert(id);
        }
        if let Some(tombstone) = tombstone {
            // Where its id was submitted again meanwhile, that is the later one.
            let latest = self.keys.entry(tombstone.task_id.clone()).or_insert(*key);
            *latest = (*latest).max(*key);
            self.dropped.remove(&tombstone.task_id);
            self.stripped.insert(tombstone.task_id.clone());
            self.tombstones.insert(*key, tombstone.clone());
        }
    }

    /// A backup that is put back, and known to be one.
    pub(crate) fn put_back(self, actor: &Arc<str>) -> Self {
        Disk { doubtful: true, actor: actor.clone(), ..self }
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
            lost_runs: self.second_runs.clone(),
            tombstones: self.tombstones.clone().into_iter().collect(),
            members: self.members.clone(),
            doubtful: self.doubtful,
            next_key: self.last_key().map_or(0, |key| key + 1),
        }
    }

    fn last_key(&self) -> Option<u64> {
        self.tasks.keys().last().max(self.tombstones.keys().last()).copied()
    }

    pub(crate) fn key(&self, task_id: &str) -> Option<u64> {
        self.keys.get(task_id).copied()
    }

    /// Of all tasks of which at least a tombstone is left.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.keys.keys()
    }

    /// Of the task with this key.
    pub(crate) fn id(&self, key: u64) -> Option<&Arc<str>> {
        let record = self.tasks.get(&key).map(|task| &task.record.spec.task_id);
        record.or_else(|| Some(&self.tombstones.get(&key)?.task_id))
    }

    /// Whether a tombstone stands under this key.
    pub(crate) fn is_tombstone(&self, key: u64) -> bool {
        self.tombstones.contains_key(&key)
    }

    /// The task's record, unless nothing or only a tombstone is left of it.
    pub(crate) fn record(&self, task_id: &str) -> Option<&Record> {
        self.tasks.get(self.keys.get(task_id)?).map(|task| &task.record)
    }

    /// Where the task stands, also if only a tombstone is left.
    pub(crate) fn standing(&self, task_id: &str) -> Option<Standing> {
        let key = self.keys.get(task_id)?;
        let tombstone = || self.tombstones.get(key).map(|tombstone| tombstone.standing.clone());
        self.tasks.get(key).map(|task| task.record.standing()).or_else(tombstone)
    }

    /// All records.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&Arc<str>, &Record)> {
        self.tasks.values().map(|task| (&task.record.spec.task_id, &task.record))
    }
}
