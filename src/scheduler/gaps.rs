//! How the replication vector rises, also where writes came before those that they follow: pushes may
//! be lost, and overtake one another.
//!
//! The vector counts an actor's writes up to the first that is missing. What lies beyond that gap is
//! remembered here, so that the vector rises over it once the gap closes. A gap that stays for a
//! heartbeat will not close by itself: its push was lost.
//!
//! ```text
//!   actor   1 2 3 4 . . 7 8 9 . 11        have 4, beyond the gap [7, 9] and [11, 11]
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::calls::Now;
use super::machine::P2PWorkflowScheduler;
use super::record::Dot;

/// Ranges that are remembered of one actor. Where there are more, the vector waits for a pull.
const MAX_RANGES: usize = 64;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    actors: BTreeMap<Arc<str>, Beyond>,
}

/// What came of one actor beyond a gap.
#[derive(Debug)]
struct Beyond {
    /// First counters, with the last ones. No two of them touch.
    ranges: BTreeMap<u64, u64>,
    /// The vector's counter at the last heartbeat, or when the gap opened after that.
    have: u64,
    /// Whether there was a heartbeat since.
    is_old: bool,
}

impl Gaps {
    /// A write came of whose actor the vector has only `have`, and not the write before it.
    pub(super) fn open(&mut self, dot: &Dot, have: u64) {
        let new = || Beyond { ranges: BTreeMap::new(), have, is_old: false };
        let beyond = self.actors.entry(dot.actor.clone()).or_insert_with(new);
        beyond.add(dot.counter);
    }

    /// The write came that is next in line. Returns up to where the actor's writes are here now.
    pub(super) fn close(&mut self, dot: &Dot) -> u64 {
        let Some(beyond) = self.actors.get_mut(&dot.actor) else { return dot.counter };
        let last = beyond.ranges.remove(&(dot.counter + 1)).unwrap_or(dot.counter);
        if beyond.ranges.is_empty() {
            self.actors.remove(&dot.actor);
        }
        last
    }

    /// To be called once a heartbeat. Returns whether there is a gap that did not begin to close since
    /// the last time.
    pub(super) fn stay(&mut self, have: &BTreeMap<Arc<str>, u64>) -> bool {
        let mut stay = false;
        self.actors.retain(|actor, beyond| {
            let have = have.get(actor).copied().unwrap_or(0);
            // A pull may have brought what is here as well.
            beyond.ranges.retain(|_, last| *last > have);
            stay |= beyond.is_old && beyond.have == have && !beyond.ranges.is_empty();
            (beyond.have, beyond.is_old) = (have, true);
            !beyond.ranges.is_empty()
        });
        stay
    }
}

impl Beyond {
    fn add(&mut self, counter: u64) {
        let before = self.ranges.range(..=counter).next_back().map(|(first, last)| (*first, *last));
        let (first, last) = match before {
            Some((_, last)) if last >= counter => return,
            Some((first, last)) if last + 1 == counter => (first, counter),
            _ => (counter, counter),
        };
        let after = self.ranges.remove(&(counter + 1));
        self.ranges.insert(first, after.unwrap_or(last));
        if self.ranges.len() > MAX_RANGES {
            self.ranges.pop_last();
        }
    }
}

impl P2PWorkflowScheduler {
    /// Whether a write was not seen yet.
    pub(super) fn is_new(&self, dot: &Dot) -> bool {
        self.have.get(&dot.actor).copied().unwrap_or(0) < dot.counter
    }

    /// A new write was seen: the vector rises if it is the next in line (rule 7).
    pub(super) fn follow_vector(&mut self, dot: &Dot) {
        let seen = self.have.get(&dot.actor).copied().unwrap_or(0);
        if dot.counter == seen + 1 {
            let last = match &mut self.replication {
                Some(replication) => replication.gaps.close(dot),
                None => dot.counter,
            };
            self.vector_rose(&Dot { actor: dot.actor.clone(), counter: last });
        } else if let Some(replication) = &mut self.replication {
            replication.gaps.open(dot, seen);
        }
    }

    /// All writes by that actor up to this one are held.
    pub(super) fn vector_rose(&mut self, dot: &Dot) {
        self.have.insert(dot.actor.clone(), dot.counter);
        self.changes.have.push(dot.clone());
        let Some(replication) = &mut self.replication else { return };
        let first = Dot { actor: dot.actor.clone(), counter: 0 };
        while let Some(within) = replication.beyond.range(&first..=dot).next().cloned() {
            replication.beyond.remove(&within);
            replication.records = replication.records.wrapping_sub(within.fingerprint());
        }
    }

    /// Pulls what a push that was lost has left out: nothing else brings it before the interval is over.
    pub(super) fn mend_gaps(&mut self, now: Now) {
        let Some(replication) = &mut self.replication else { return };
        if replication.gaps.stay(&self.have) {
            replication.next_pull = now.monotonic;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(counter: u64) -> Dot {
        Dot { actor: "a/1".into(), counter }
    }

    fn opened(counters: &[u64]) -> Gaps {
        let mut gaps = Gaps::default();
        counters.iter().for_each(|counter| gaps.open(&dot(*counter), 1));
        gaps
    }

    #[test]
    fn the_vector_rises_over_what_came_early_whatever_its_order() {
        for counters in [[3, 4, 5, 7], [5, 4, 3, 7], [7, 3, 5, 4], [4, 7, 3, 5]] {
            let mut gaps = opened(&counters);
            gaps.open(&dot(4), 1);
            assert_eq!(gaps.close(&dot(2)), 5, "{counters:?}");
            assert_eq!(gaps.close(&dot(6)), 7);
            assert!(gaps.actors.is_empty());
            assert_eq!(gaps.close(&dot(8)), 8);
        }
    }

    #[test]
    fn a_gap_stays_that_a_whole_heartbeat_did_not_begin_to_close() {
        let have = |counter| BTreeMap::from([("a/1".into(), counter)]);
        let mut gaps = opened(&[3, 9]);
        assert!(!gaps.stay(&have(1)), "it has only just opened");
        assert!(gaps.stay(&have(1)));
        assert!(!gaps.stay(&have(5)), "it is closing");
        assert!(gaps.stay(&have(5)));
        assert!(!gaps.stay(&have(9)), "a pull closed it");
        assert!(gaps.actors.is_empty());
    }

    #[test]
    fn what_comes_in_more_pieces_than_are_remembered_is_left_to_a_pull() {
        let pieces: Vec<u64> = (2..1000).map(|n| 2 * n).collect();
        let mut gaps = opened(&pieces);
        assert_eq!(gaps.actors.values().next().unwrap().ranges.len(), MAX_RANGES);
        assert_eq!(gaps.close(&dot(3)), 4);
    }
}
