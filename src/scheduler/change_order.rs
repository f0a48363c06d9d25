//! The order of a peer's own changes, which a pull follows: each task once, by its last change.
//!
//! Every change has a number that rises. A log holds the task of each number; a number is in force
//! if it is its task's last one, so a task that changes again moves to the end, and the place that
//! it leaves is passed over. Places that were left are reclaimed from the front as changes come: a
//! task that stands in front then moves to the end without having changed, which costs whoever
//! follows a second look at it, and nobody's place in the order is lost.
//!
//! It is made when a node first has a peer, from the tasks in the order of their keys, and is never
//! written: each run numbers its changes anew.

use std::collections::VecDeque;

use super::slots::Slots;

/// Places reclaimed with each change, at most: more than one comes, so the log stays bounded.
const RECLAIMED: usize = 4;
/// Left places that are always kept, so that few tasks do not move all the time.
const SLACK: usize = 1_024;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct ChangeOrder {
    /// The number of the first place in the log; numbers count from 1.
    first: u64,
    log: VecDeque<u64>,
    /// By key: the task's number in force.
    latest: Slots<u64>,
    tasks: usize,
}

impl ChangeOrder {
    /// All tasks in the order of `keys`, which rise.
    pub(crate) fn of(keys: impl Iterator<Item = u64>) -> Self {
        let (log, latest) = (VecDeque::new(), Slots::default());
        let mut order = ChangeOrder { first: 1, log, latest, tasks: 0 };
        for key in keys {
            order.append(key);
        }
        order
    }

    /// The task under `key` is new or changed: it moves to the end.
    pub(crate) fn changed(&mut self, key: u64) {
        self.append(key);
        let limit = self.tasks + self.tasks / 4 + SLACK;
        for _ in 0..RECLAIMED {
            if self.log.len() <= limit {
                return;
            }
            let number = self.first;
            let Some(key) = self.log.pop_front() else { return };
            self.first += 1;
            if self.latest.get(key) == Some(&number) {
                self.append(key);
            }
        }
    }

    /// The tasks whose last change has a greater number, and that number, in order.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = (u64, u64)> {
        let skipped = number.saturating_add(1).saturating_sub(self.first);
        let from = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.log.len());
        let numbered = (self.first + from as u64..).zip(self.log.range(from..).copied());
        numbered.filter(|(number, key)| self.latest.get(*key) == Some(number))
    }

    /// The number of the last change, 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.log.len() as u64 - 1
    }

    /// Nothing is left of the task under `key`.
    pub(crate) fn removed(&mut self, key: u64) {
        self.tasks -= usize::from(self.latest.remove(key).is_some());
    }

    fn append(&mut self, key: u64) {
        self.log.push_back(key);
        let number = self.last();
        self.tasks += usize::from(self.latest.insert(key, number).is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_after(order: &ChangeOrder, number: u64) -> Vec<u64> {
        order.after(number).map(|(_, key)| key).collect()
    }

    #[test]
    fn a_task_that_changes_moves_to_the_end() {
        let mut order = ChangeOrder::of(7..10);
        assert_eq!(keys_after(&order, 0), [7, 8, 9]);
        order.changed(8);
        order.changed(12);
        assert_eq!(keys_after(&order, 0), [7, 9, 8, 12]);
        assert_eq!(keys_after(&order, 3), [8, 12]);
        assert!(keys_after(&order, order.last()).is_empty());
        assert!(keys_after(&order, u64::MAX).is_empty(), "whatever a peer says");
        order.removed(9);
        assert_eq!(keys_after(&order, 0), [7, 8, 12]);
    }

    #[test]
    fn the_log_stays_bounded_and_nobody_who_follows_misses_a_change() {
        const TASKS: u64 = 5_000;
        let mut order = ChangeOrder::of(0..TASKS);
        let mut random = 1_u64;
        for round in 0..20 {
            let read_to = order.last();
            let mut changed: Vec<u64> = (0..TASKS)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // Mostly the same few.
                    (random >> 33) % if round % 2 == 0 { 10 } else { TASKS }
                })
                .collect();
            changed.iter().for_each(|key| order.changed(*key));
            let seen = keys_after(&order, read_to);
            changed.sort_unstable();
            changed.dedup();
            assert!(changed.iter().all(|key| seen.contains(key)));
            let mut all = keys_after(&order, 0);
            all.sort_unstable();
            assert_eq!(all, (0..TASKS).collect::<Vec<_>>(), "each once");
            assert!(order.log.len() <= 2 * TASKS as usize, "{}", order.log.len());
        }
    }
}
