//! Dependencies: counting those that are open or dead, and finding cycles.
//!
//! A submission that would close a cycle is turned down. Two peers may still each accept half of
//! one: then the merge finds it, and every task on it is shown as failed, on every peer alike.
//! Nothing of this is ever written; it follows from the records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::table::{Entry, Outlook, Table};

impl Entry {
    /// A dependency's outlook changed.
    pub(crate) fn count_dependency(&mut self, before: Outlook, after: Outlook) {
        if let Some(count) = self.count_of(before) {
            *count -= 1;
        }
        if let Some(count) = self.count_of(after) {
            *count += 1;
        }
    }

    fn count_of(&mut self, outlook: Outlook) -> Option<&mut u16> {
        match outlook {
            Outlook::Open => Some(&mut self.open_dependencies),
            Outlook::Dead => Some(&mut self.dead_dependencies),
            Outlook::Completed => None,
        }
    }
}

impl Table {
    /// Counts the task's dependencies from scratch.
    pub(crate) fn count_dependencies(&mut self, key: u64) {
        let spec = self.entry(key).record.spec.clone();
        let outlooks: Vec<Outlook> = spec.depends_on.iter().map(|id| self.outlook_of(id)).collect();
        let count = |wanted| outlooks.iter().filter(|outlook| **outlook == wanted).count() as u16;
        let (open, dead) = (count(Outlook::Open), count(Outlook::Dead));
        let entry = self.entry_mut(key);
        (entry.open_dependencies, entry.dead_dependencies) = (open, dead);
    }

    /// The way from `id` back to itself that these dependencies would close, if there is one.
    pub(crate) fn path_back(&self, id: &str, depends_on: &[Arc<str>]) -> Option<Vec<String>> {
        if self.dependents_of(id).is_empty() {
            return None; // nobody waits for it, so no way leads back
        }
        let mut came_from: BTreeMap<u64, Option<u64>> = BTreeMap::new();
        let mut open: Vec<u64> = depends_on.iter().filter_map(|id| self.key_of(id)).collect();
        came_from.extend(open.iter().map(|key| (*key, None)));
        while let Some(key) = open.pop() {
            let spec = &self.entry(key).record.spec;
            if spec.depends_on.iter().any(|next| **next == *id) {
                return Some(self.path_to(id, key, &came_from));
            }
            for next in self.open_dependencies_of(key) {
                came_from.entry(next).or_insert_with(|| {
                    open.push(next);
                    Some(key)
                });
            }
        }
        None
    }

    fn path_to(&self, id: &str, last: u64, came_from: &BTreeMap<u64, Option<u64>>) -> Vec<String> {
        let mut path = vec![id.to_owned()];
        let mut step = Some(last);
        while let Some(key) = step {
            path.push(self.entry(key).record.spec.task_id.to_string());
            step = came_from.get(&key).copied().flatten();
        }
        path.push(id.to_owned());
        path.reverse();
        path
    }

    /// Marks the tasks on cycles through `key`, and returns those newly marked.
    pub(crate) fn find_cycle(&mut self, key: u64) -> Vec<u64> {
        let id = self.entry(key).record.spec.task_id.clone();
        if self.outlook_of(&id) == Outlook::Completed || self.dependents_of(&id).is_empty() {
            return Vec::new();
        }
        let forward = reach(key, |key| self.open_dependencies_of(key));
        if !forward.contains(&key) {
            return Vec::new();
        }
        let backward = reach(key, |key| self.open_dependents_of(key));
        let on_cycle = forward.intersection(&backward).copied();
        let new: Vec<u64> = on_cycle.filter(|key| !self.cyclic.contains(key)).collect();
        self.cyclic.extend(&new);
        new
    }

    /// Marks anew after a task on a cycle was completed or got another spec. Returns the tasks
    /// that were marked.
    pub(crate) fn find_cycles_again(&mut self) -> BTreeSet<u64> {
        let before = std::mem::take(&mut self.cyclic);
        for key in &before {
            self.find_cycle(*key);
        }
        before
    }

    /// Marks the tasks on all cycles among `keys`, in time linear in the dependencies.
    ///
    /// Takes away, again and again, what waits for nothing left, then what nothing left waits for
    /// (Kahn's algorithm from both ends). What remains lies on cycles, or between two of them.
    pub(crate) fn find_all_cycles(&mut self, keys: &[u64]) {
        let open = |key: &&u64| {
            let spec = &self.entry(**key).record.spec;
            !spec.depends_on.is_empty() && self.outlook_of(&spec.task_id) != Outlook::Completed
        };
        let mut left: BTreeSet<u64> = keys.iter().filter(open).copied().collect();
        peel(&mut left, |key| self.open_dependencies_of(key), |key| self.open_dependents_of(key));
        peel(&mut left, |key| self.open_dependents_of(key), |key| self.open_dependencies_of(key));
        self.cyclic = left;
    }

    /// Known dependencies that are not completed.
    fn open_dependencies_of(&self, key: u64) -> Vec<u64> {
        let spec = &self.entry(key).record.spec;
        let known = spec.depends_on.iter().filter_map(|id| self.key_of(id));
        known.filter(|key| Outlook::from(self.entry(*key).state) != Outlook::Completed).collect()
    }

    /// Dependents that are not completed.
    fn open_dependents_of(&self, key: u64) -> Vec<u64> {
        let id = &self.entry(key).record.spec.task_id;
        let all = self.dependents_of(id).iter().copied();
        all.filter(|key| Outlook::from(self.entry(*key).state) != Outlook::Completed).collect()
    }
}

/// Everything that can be reached from `start` in at least one step.
fn reach(start: u64, next: impl Fn(u64) -> Vec<u64>) -> BTreeSet<u64> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(key) = open.pop() {
        for key in next(key) {
            if reached.insert(key) {
                open.push(key);
            }
        }
    }
    reached
}

/// Takes away what has no `before` left, until everything left has one.
fn peel(
    left: &mut BTreeSet<u64>,
    before: impl Fn(u64) -> Vec<u64>,
    after: impl Fn(u64) -> Vec<u64>,
) {
    let count = |left: &BTreeSet<u64>, key| before(key).iter().filter(|k| left.contains(k)).count();
    let mut counts: BTreeMap<u64, usize> =
        left.iter().map(|key| (*key, count(left, *key))).collect();
    let mut free: Vec<u64> =
        counts.iter().filter(|(_, count)| **count == 0).map(|(key, _)| *key).collect();
    while let Some(key) = free.pop() {
        left.remove(&key);
        for next in after(key) {
            if let Some(count) = counts.get_mut(&next).filter(|_| left.contains(&next)) {
                *count -= 1;
                if *count == 0 {
                    free.push(next);
                }
            }
        }
    }
}
