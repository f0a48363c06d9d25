//! What is left of a task that ended long ago: its id, and where it stood in the order of records.
//!
//! A tombstone takes part in merges as its record did, answers those that depend on it, and makes a
//! repeated submission the same as before.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::calls::State;
use super::hash::Hash256;
use super::record::{Class, Dot, Record, Standing};

/// See the module's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The task's id.
    pub task_id: Arc<str>,
    /// See [`Record::born`].
    pub born: Dot,
    /// Where its record stood.
    pub standing: Standing,
}

impl Tombstone {
    pub(super) fn of(record: &Record) -> Self {
        let (task_id, born) = (record.spec.task_id.clone(), record.born().clone());
        Tombstone { task_id, born, standing: record.standing() }
    }

    /// Compares it with a record of the same task.
    #[must_use]
    pub fn order(&self, record: &Record) -> Ordering {
        self.standing.cmp(&record.standing())
    }

    /// How the task ended.
    #[must_use]
    pub fn state(&self) -> State {
        match self.standing.class {
            Class::Completed => State::Completed,
            Class::Live | Class::Cancelled => State::Cancelled,
        }
    }

    /// The hash of the spec that was asked for.
    #[must_use]
    pub fn spec_hash(&self) -> Hash256 {
        self.standing.spec_hash
    }

    /// Roughly how long it is on the wire.
    pub(super) fn size(&self) -> usize {
        300 + self.task_id.len()
    }

    /// The write that made its record.
    #[must_use]
    pub fn dot(&self) -> &Dot {
        &self.standing.dot
    }
}

/// Tombstones by the keys that their tasks had, and by id.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    by_key: BTreeMap<u64, Tombstone>,
    by_id: BTreeMap<Arc<str>, u64>,
}

impl Tombstones {
    pub(crate) fn of(tombstones: Vec<(u64, Tombstone)>) -> Self {
        let ids = tombstones.iter().map(|(key, it)| (it.task_id.clone(), *key));
        Tombstones { by_id: ids.collect(), by_key: tombstones.into_iter().collect() }
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Tombstone> {
        self.by_key.get(&key)
    }

    pub(crate) fn find(&self, id: &str) -> Option<(u64, &Tombstone)> {
        let key = *self.by_id.get(id)?;
        Some((key, self.by_key.get(&key)?))
    }

    /// The keys from `key` on, as they rise.
    pub(crate) fn keys_from(&self, key: u64) -> impl Iterator<Item = u64> {
        self.by_key.range(key..).map(|(key, _)| *key)
    }

    pub(crate) fn insert(&mut self, key: u64, tombstone: Tombstone) {
        self.by_id.insert(tombstone.task_id.clone(), key);
        self.by_key.insert(key, tombstone);
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<Tombstone> {
        let tombstone = self.by_key.remove(&key)?;
        self.by_id.remove(&tombstone.task_id);
        Some(tombstone)
    }
}
