//! Dependencies: counting those that are open or dead, and finding cycles.
//!
//! A submission that would close a cycle is turned down. Two peers may still each accept half of
//! one: then the merge finds it, and every task on it is shown as failed, on every peer alike.
//! Nothing of this is ever written; it follows from the records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::Class;
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
        let from: Vec<u64> = depends_on.iter().filter_map(|id| self.live_key_of(id)).collect();
        let to = self.live_dependents_of(id);
        if to.is_empty() || !self.leads(&from, &to) {
            return None;
        }
        let mut came_from: BTreeMap<u64, Option<u64>> =
            from.iter().map(|key| (*key, None)).collect();
        let mut open = from;
        while let Some(key) = open.pop() {
            if to.contains(&key) {
                return Some(self.path_to(id, key, &came_from));
            }
            for next in self.live_dependencies_of(key) {
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
        let waits_for = self.live_dependencies_of(key);
        if self.entry(key).record.class != Class::Live || !self.leads(&waits_for, &[key]) {
            return Vec::new();
        }
        let found = self.cycles_from(&[key]);
        let new: Vec<u64> = found.difference(&self.cyclic).copied().collect();
        self.cyclic.extend(&new);
        new
    }

    /// Marks anew after a task on a cycle ended or got another spec. Returns the tasks that were
    /// marked or are: another spec may close a cycle that goes on from one that there was.
    pub(crate) fn find_cycles_again(&mut self) -> Vec<u64> {
        let mut marked = std::mem::take(&mut self.cyclic);
        self.find_all_cycles(&marked.iter().copied().collect::<Vec<_>>());
        marked.extend(&self.cyclic);
        marked.into_iter().collect()
    }

    /// Marks the tasks on all cycles among `keys` and what they wait for.
    pub(crate) fn find_all_cycles(&mut self, keys: &[u64]) {
        self.cyclic = self.cycles_from(keys);
    }

    /// Whether a way leads from one of `from`, through what each waits for, to one of `to`. Walks
    /// from both ends in turn, so that it takes no longer than twice the shorter walk.
    fn leads(&self, from: &[u64], to: &[u64]) -> bool {
        let mut forward = Walk::from(from);
        let mut backward = Walk::from(to);
        loop {
            let Some(key) = forward.open.pop() else { return false };
            if backward.seen.contains(&key) {
                return true;
            }
            forward.go_on(self.live_dependencies_of(key));
            let Some(key) = backward.open.pop() else { return false };
            if forward.seen.contains(&key) {
                return true;
            }
            backward.go_on(self.live_dependents_of(&self.entry(key).record.spec.task_id));
        }
    }

    /// The tasks on cycles among `keys` and what they wait for: the strongly connected components
    /// of more than one task (Tarjan, "Depth-first search and linear graph algorithms", 1972), without
    /// recursion. Looks at what is reached, never at all tasks.
    fn cycles_from(&self, keys: &[u64]) -> BTreeSet<u64> {
        let mut cyclic = BTreeSet::new();
        let mut numbers: BTreeMap<u64, u32> = BTreeMap::new();
        let mut component: Vec<u64> = Vec::new();
        let mut path: Vec<Step> = Vec::new();
        let mut count = 0;
        let live = |key: &&u64| self.entry(**key).record.class == Class::Live;
        for &start in keys.iter().filter(live) {
            let mut enter = (!numbers.contains_key(&start)).then_some(start);
            loop {
                if let Some(key) = enter.take() {
                    count += 1;
                    numbers.insert(key, count);
                    component.push(key);
                    let ahead = self.live_dependencies_of(key);
                    path.push(Step { key, number: count, lowest: count, ahead });
                }
                let Some(step) = path.last_mut() else { break };
                if let Some(next) = step.ahead.pop() {
                    match numbers.get(&next) {
                        None => enter = Some(next),
                        Some(number) => step.lowest = step.lowest.min(*number),
                    }
                    if next == step.key {
                        cyclic.insert(next);
                    }
                    continue;
                }
                let Some(Step { key, number, lowest, .. }) = path.pop() else { break };
                if let Some(before) = path.last_mut() {
                    before.lowest = before.lowest.min(lowest);
                }
                if lowest == number {
                    let first = component.iter().rposition(|other| *other == key).unwrap_or(0);
                    let closed = component.split_off(first);
                    numbers.extend(closed.iter().map(|key| (*key, CLOSED)));
                    if closed.len() > 1 {
                        cyclic.extend(closed);
                    }
                }
            }
        }
        cyclic
    }

    fn live_key_of(&self, id: &str) -> Option<u64> {
        self.key_of(id).filter(|key| self.entry(*key).record.class == Class::Live)
    }

    /// Known dependencies that have not ended.
    fn live_dependencies_of(&self, key: u64) -> Vec<u64> {
        let depends_on = &self.entry(key).record.spec.depends_on;
        depends_on.iter().filter_map(|id| self.live_key_of(id)).collect()
    }

    /// Dependents that have not ended.
    fn live_dependents_of(&self, id: &str) -> Vec<u64> {
        let all = self.dependents_of(id);
        all.filter(|key| self.entry(*key).record.class == Class::Live).collect()
    }
}

/// In Tarjan's numbering: its component is complete.
const CLOSED: u32 = u32::MAX;

/// A task on Tarjan's way, and the lowest number that it reaches.
struct Step {
    key: u64,
    number: u32,
    lowest: u32,
    ahead: Vec<u64>,
}

/// What a walk has seen, and where it goes on.
struct Walk {
    seen: BTreeSet<u64>,
    open: Vec<u64>,
}

impl Walk {
    fn from(keys: &[u64]) -> Self {
        Walk { seen: keys.iter().copied().collect(), open: keys.to_vec() }
    }

    fn go_on(&mut self, keys: Vec<u64>) {
        self.open.extend(keys.into_iter().filter(|key| self.seen.insert(*key)));
    }
}
