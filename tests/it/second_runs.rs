//! Claims of one task that cross, and which of the runs is told of as the second.

use std::collections::BTreeSet;

use p2p_workflow_scheduler::scheduler::*;

use crate::support::*;

/// Two peers that claim the same task without seeing each other, and what each of them wrote.
struct Crossing {
    /// The claims, of the one that wins a tie last.
    peers: [P2PWorkflowScheduler; 2],
    written: [Vec<TaskChange>; 2],
    submitted: Changes,
}

impl Crossing {
    fn new() -> Self {
        let mut submitter = scheduler("submitter");
        submitter.submit(at(0), task("t")).unwrap();
        let submitted = submitter.take_changes();
        let mut peers = ["one", "two"].map(scheduler);
        let written = peers.each_mut().map(|peer| {
            push(peer, at(0), &submitted);
            peer.take_changes();
            peer.claim(at(0), &caller("w"), &timed(3600 * S)).unwrap();
            peer.take_changes().tasks
        });
        let mut crossing = Crossing { peers, written, submitted };
        let [first, second] = &crossing.written;
        if first[0].record.order(&second[0].record).is_gt() {
            crossing.peers.reverse();
            crossing.written.reverse();
        }
        crossing
    }

    /// One of them reports, and has not heard of the other.
    fn report(&mut self, peer: usize, mark: Mark) {
        self.peers[peer].mark(at(S), &caller("w"), "t", mark, None).unwrap();
        self.written[peer].extend(self.peers[peer].take_changes().tasks);
    }

    fn claim_of(&self, peer: usize) -> Dot {
        self.written[peer][0].record.dot.clone()
    }

    /// What each of the two, and a third peer that hears of all in any order, tells of as second runs.
    fn told(self) -> BTreeSet<BTreeSet<Dot>> {
        let Crossing { peers, written, submitted } = self;
        let mut told = BTreeSet::new();
        for (peer, other) in peers.into_iter().zip([&written[1], &written[0]]) {
            told.insert(lost_at(peer, &mut Disk::default(), other));
        }
        let all: Vec<&TaskChange> = written.iter().flatten().collect();
        for order in orders(all.len()) {
            let mut third = scheduler("third");
            push(&mut third, at(0), &submitted);
            let mut disk = Disk::default();
            disk.keep(&third.take_changes());
            let changes: Vec<TaskChange> = order.iter().map(|n| all[*n].clone()).collect();
            // Half of it before a restart.
            let (early, late) = changes.split_at(changes.len() / 2);
            lost_at(third, &mut disk, early);
            let third = disk.restore("third", at(0));
            told.insert(lost_at(third, &mut disk, late));
        }
        told
    }
}

/// What a peer tells of as second runs after it heard of these changes.
fn lost_at(
    mut peer: P2PWorkflowScheduler,
    disk: &mut Disk,
    changes: &[TaskChange],
) -> BTreeSet<Dot> {
    for change in changes {
        let change = Changes { tasks: vec![change.clone()], ..Changes::default() };
        push(&mut peer, at(2 * S), &change);
        disk.keep(&peer.take_changes());
    }
    assert_eq!(peer.status(at(2 * S)).duplicates, disk.lost_runs().len() as u64);
    disk.lost_runs().clone()
}

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let insert = |order: Vec<usize>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    };
    orders(last).into_iter().flat_map(insert).collect()
}

#[test]
fn of_two_claims_that_cross_the_one_that_loses_the_tie_is_the_second_run_everywhere() {
    let crossing = Crossing::new();
    let lost = BTreeSet::from([crossing.claim_of(0)]);
    assert_eq!(crossing.told(), [lost].into());
}

/// Once both runs were told of as second ones: the one that lost the tie until its completion came,
/// and then the other as well.
#[test]
fn a_run_that_lost_the_tie_and_completed_is_no_second_run_and_the_other_is() {
    let mut crossing = Crossing::new();
    crossing.report(0, done());
    let lost = BTreeSet::from([crossing.claim_of(1)]);
    assert_eq!(crossing.told(), [lost].into());
}

/// Once both were told of at the peer whose completion lost, and one at the other.
#[test]
fn of_two_completions_the_one_that_lost_is_the_second_run_everywhere() {
    let mut crossing = Crossing::new();
    crossing.report(0, done());
    crossing.report(1, done());
    let lost = BTreeSet::from([crossing.claim_of(0)]);
    assert_eq!(crossing.told(), [lost].into());
}

/// Once nothing was told of where the attempt that stands had failed when the other claim came.
#[test]
fn a_run_beside_an_attempt_that_failed_is_a_second_run() {
    for mark in [failed(), Mark::Released] {
        let mut crossing = Crossing::new();
        crossing.report(0, mark);
        let lost = BTreeSet::from([crossing.claim_of(1)]);
        assert_eq!(crossing.told(), [lost].into());
    }
}
