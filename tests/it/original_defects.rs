//! What the original got wrong, one test for each: it must not come back.

use std::collections::{BTreeMap, BTreeSet};

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::*;

use crate::support::*;

const NOW: u64 = 0;

fn beat(s: &mut P2PWorkflowScheduler, from: &str, counter: u64, now: u64) {
    let beat = Heartbeat { incarnation: 1, counter, presence: Presence::Works };
    s.heartbeat(at(now), &from.into(), beat);
}

/// `count` peers that know each other, and hold the same `tasks` tasks.
fn swarm(count: usize, tasks: usize) -> Vec<P2PWorkflowScheduler> {
    let mut peers: Vec<_> = (0..count).map(|n| scheduler(&format!("peer-{n}"))).collect();
    for s in &mut peers {
        (0..count).for_each(|n| beat(s, &format!("peer-{n}"), 1, NOW));
    }
    for n in 0..tasks {
        peers[n % count].submit(at(NOW), task(&format!("t{n}"))).unwrap();
    }
    gossip(&mut peers);
    peers
}

/// Each peer hears what each other changed.
fn gossip(peers: &mut [P2PWorkflowScheduler]) {
    let said: Vec<Changes> = peers.iter_mut().map(P2PWorkflowScheduler::take_changes).collect();
    for (to, peer) in peers.iter_mut().enumerate() {
        for (from, changes) in said.iter().enumerate() {
            if from != to {
                push(peer, at(NOW), changes);
            }
        }
        peer.take_changes();
    }
}

fn run_all(s: &mut P2PWorkflowScheduler) -> BTreeSet<String> {
    std::iter::from_fn(|| run_one(s, at(NOW)).map(|id| id.to_string())).collect()
}

/// Everything that can be seen of a scheduler.
fn shown(s: &P2PWorkflowScheduler) -> (Vec<TaskView>, Status, MerkleClock) {
    (views(s, at(NOW)), s.status(at(NOW)), s.clock().clone())
}

fn report(
    s: &mut P2PWorkflowScheduler,
    peer: &str,
    vector: &[(&str, u64)],
) -> Result<PeerUpdated, Rejection> {
    let vector: BTreeMap<String, u64> =
        vector.iter().map(|(peer, counter)| ((*peer).to_owned(), *counter)).collect();
    let root = vector_root(&vector).to_hex();
    s.update_peer(at(NOW), peer, peer, &vector, &root)
}

/// A task whose owner is another peer was taken off the queue and dropped: of 100, 41 vanished.
#[test]
fn a_task_of_another_peer_stays_until_its_owner_or_the_next_takes_it() {
    let mut peers = swarm(2, 100);
    let mine = run_all(&mut peers[0]);
    assert!(!mine.is_empty() && mine.len() < 100);
    let status = peers[0].status(at(NOW));
    assert_eq!(status.count(State::Pending), 100 - mine.len() as u64);
    gossip(&mut peers);
    assert_eq!(run_all(&mut peers[1]).len() + mine.len(), 100);
}

/// The owner hung on the local clock's head: of 1,000 tasks 267 ran twice and 222 nowhere.
#[test]
fn clocks_that_tick_and_meet_change_no_owner() {
    let mut peers = swarm(2, 1000);
    let owners = |peers: &mut [P2PWorkflowScheduler]| -> Vec<String> {
        let again = |n| task(&format!("t{n}"));
        let owner = |s: &mut P2PWorkflowScheduler, n| s.submit(at(NOW), again(n)).unwrap().owner;
        let (a, b) = peers.split_at_mut(1);
        (0..1000)
            .map(|n| {
                let owner_here = owner(&mut a[0], n);
                assert_eq!(owner_here, owner(&mut b[0], n), "both name the same");
                owner_here.to_string()
            })
            .collect()
    };
    let before = owners(&mut peers);
    for _ in 0..3 {
        for (to, from) in [(0, 1), (1, 0)] {
            let clock = peers[from].clock().clone();
            let (id, root) = (clock.node_id(), clock.merkle_root());
            peers[to].update_peer(at(NOW), id, id, clock.vector(), &root).unwrap();
        }
        let done = run_one(&mut peers[0], at(NOW)).unwrap();
        assert!(!done.is_empty());
        gossip(&mut peers);
    }
    let after = owners(&mut peers);
    assert_eq!(before, after);
    let (first, second) = (run_all(&mut peers[0]), run_all(&mut peers[1]));
    assert!(first.is_disjoint(&second), "nothing runs twice");
    assert_eq!(first.len() + second.len(), 997, "nothing is left to nobody");
}

/// Receiving a clock ticked, so that two peers that only told each other their clocks never agreed.
#[test]
fn receiving_a_clock_or_a_record_never_ticks() {
    let mut peers = swarm(2, 10);
    for _ in 0..2 {
        for (to, from) in [(0, 1), (1, 0)] {
            let clock = peers[from].clock().clone();
            let (id, root) = (clock.node_id(), clock.merkle_root());
            peers[to].update_peer(at(NOW), id, id, clock.vector(), &root).unwrap();
        }
    }
    assert_eq!(peers[0].clock().merkle_root(), peers[1].clock().merkle_root());
    assert_eq!(peers[0].clock().get("peer-0"), 5);
}

/// Equally close peers came in the order of a dict, oneself first: up to 12 % of tasks ran twice.
#[test]
fn all_peers_name_the_same_owner_also_where_distances_tie() {
    let mut peers = swarm(16, 320);
    let mut ran = BTreeSet::new();
    let mut count = 0;
    for peer in &mut peers {
        let mine = run_all(peer);
        count += mine.len();
        ran.extend(mine);
    }
    assert_eq!((count, ran.len()), (320, 320), "each task has exactly one owner");
}

/// Every survivor took what a dead peer had held.
#[test]
fn what_a_dead_peer_held_goes_to_one_survivor_first() {
    let mut peers = swarm(5, 50);
    while peers[4].claim(at(NOW), &caller("w"), &timed(60 * S)).is_ok() {}
    gossip(&mut peers);
    peers.truncate(4);
    let before: usize = peers.iter_mut().map(|peer| run_all(peer).len()).sum();
    let lost = 50 - before;
    assert!(lost > 0);
    gossip(&mut peers);
    for second in 1..=15 {
        for s in &mut peers {
            (0..4).for_each(|n| beat(s, &format!("peer-{n}"), 1 + second, second * S));
            s.advance(at(second * S));
        }
    }
    let mut ran = BTreeSet::new();
    let mut runs = 0;
    for s in &mut peers {
        while let Some(id) = run_one(s, at(15 * S)) {
            ran.insert(id);
            runs += 1;
        }
    }
    assert_eq!((runs, ran.len()), (lost, lost));
}

/// There were no leases: a worker that crashed took its task with it.
#[test]
fn a_task_comes_back_when_its_worker_is_gone() {
    let mut s = scheduler("me");
    s.submit(at(NOW), task("t")).unwrap();
    s.claim(at(NOW), &caller("crashes"), &timed(10 * S)).unwrap();
    s.advance(at(10 * S));
    s.advance(at(11 * S));
    assert_eq!(s.claim(at(11 * S), &caller("w"), &timed(S)).unwrap().task.attempt, 2);
}

/// A peer did not learn what others had completed.
#[test]
fn a_completion_is_known_everywhere_with_its_result() {
    let mut peers = swarm(2, 1);
    let owner = usize::from(peers[0].status(at(NOW)).queue_size == 0);
    let claimed = peers[owner].claim(at(NOW), &caller("w"), &timed(60 * S)).unwrap();
    let result = Some(r#"{"answer":42}"#.to_owned());
    let mark = Mark::Completed { result };
    peers[owner].mark(at(NOW), &caller("w"), "t0", mark, Some(claimed.fence)).unwrap();
    let changes = peers[owner].take_changes();
    let other = &mut peers[1 - owner];
    push(other, at(NOW), &changes);
    let view = other.show(at(NOW), "t0").unwrap();
    assert_eq!((view.state, view.has_result), (State::Completed, true));
    let kept = other.take_changes();
    assert_eq!(kept.tasks.last().unwrap().result.as_deref(), Some(r#"{"answer":42}"#));
}

/// A completed id could be submitted again, and ran again.
#[test]
fn a_completed_task_submitted_again_does_not_run_again() {
    let mut s = scheduler("me");
    s.submit(at(NOW), task("t")).unwrap();
    run_one(&mut s, at(NOW)).unwrap();
    s.take_changes();
    let again = s.submit(at(NOW), task("t")).unwrap();
    assert_eq!((again.created, again.state), (false, State::Completed));
    let other = P2PTask { priority: 9, payload: Some("1".into()), ..task("t") };
    let answer = s.submit(at(NOW), other).unwrap_err();
    assert!(matches!(&answer, Rejection::TaskExists { differs, .. } if differs == "priority"));
    assert!(run_one(&mut s, at(NOW)).is_none());
    assert!(s.take_changes().is_empty());
}

/// Each command was a new scheduler: what was submitted was not there for the next.
#[test]
fn what_was_submitted_is_there_after_a_restart() {
    let mut s = scheduler("me");
    let mut disk = Disk::default();
    for n in 0..10 {
        s.submit(at(NOW), task(&format!("t{n}"))).unwrap();
    }
    run_one(&mut s, at(NOW)).unwrap();
    disk.keep(&s.take_changes());
    let mut restored = disk.restore("me", at(NOW));
    assert_eq!(shown(&restored), shown(&s));
    assert_eq!(run_one(&mut restored, at(NOW)), run_one(&mut s, at(NOW)));
    assert_eq!(restored.take_changes(), s.take_changes());
}

/// Tasks of one priority left in no order: of 2,000, 786 out of it.
#[test]
fn tasks_of_one_priority_leave_in_the_order_they_came() {
    let mut s = scheduler("me");
    let requires = |n: usize| if n.is_multiple_of(3) { vec!["gpu".to_owned()] } else { vec![] };
    for n in 0..2000 {
        let id = format!("t{n}");
        s.submit(at(NOW), P2PTask { requires: requires(n), ..task(&id) }).unwrap();
    }
    for n in 0..2000 {
        let want = Want { capabilities: vec!["gpu".into()], ..timed(60 * S) };
        let workflow_id = (n % 2 == 0).then(|| "w".into());
        let claimed = s.claim(at(NOW), &caller("w"), &Want { workflow_id, ..want }).unwrap();
        assert_eq!(*claimed.task.task_id, format!("t{n}"));
    }
}

/// `compare` said "before" for "after".
#[test]
fn a_reported_clock_is_compared_the_right_way_round() {
    let order = |vector: &[(&str, u64)]| {
        let mut s = scheduler("me");
        s.submit(at(NOW), task("t")).unwrap();
        report(&mut s, "seen", &[("seen", 3)]).unwrap();
        report(&mut s, "other", vector).unwrap().order
    };
    assert_eq!(order(&[("me", 1), ("seen", 3)]), ClockOrder::Equal);
    assert_eq!(order(&[("seen", 2)]), ClockOrder::Before);
    assert_eq!(order(&[("me", 1), ("seen", 3), ("other", 1)]), ClockOrder::After);
    assert_eq!(order(&[("other", 1)]), ClockOrder::Concurrent);
}

/// 10**9 and -5 were priorities.
#[test]
fn a_priority_out_of_range_is_turned_down() {
    let mut s = scheduler("me");
    s.submit(at(NOW), task("known")).unwrap();
    s.take_changes();
    let before = shown(&s);
    for priority in [0, 11, 255] {
        let answer = s.submit(at(NOW), P2PTask { priority, ..task("t") }).unwrap_err();
        assert_eq!(answer.code(), "invalid_argument");
        assert_eq!(s.reprioritize(at(NOW), "known", priority).unwrap_err(), answer);
    }
    assert!(s.take_changes().is_empty());
    assert_eq!(shown(&s), before);
}

/// A peer could set my own counter, forge a root, or break a merge half-way.
#[test]
fn a_clock_that_cannot_be_right_changes_nothing() {
    let mut s = scheduler("me");
    s.submit(at(NOW), task("t")).unwrap();
    s.take_changes();
    let before = shown(&s);
    let good = BTreeMap::from([("you".to_owned(), 5)]);
    let root = vector_root(&good).to_hex();
    let many: BTreeMap<String, u64> =
        (0..=limits::MAX_CLOCK_ENTRIES).map(|n| (n.to_string(), 1)).collect();
    let mut answers = vec![
        report(&mut s, "you", &[("me", 2), ("you", 5)]),
        report(&mut s, "you", &[("you", limits::MAX_COUNTER + 1)]),
        report(&mut s, "you", &[("a", 1), ("you\u{1b}[31m", 5)]),
        report(&mut s, "", &[("", 5)]),
        s.update_peer(at(NOW), "you", "somebody else", &good, &root),
        s.update_peer(at(NOW), "you", "you", &good, &root.replace(['0', '1'], "2")),
        s.update_peer(at(NOW), "you", "you", &good, ""),
        s.update_peer(at(NOW), "you", "you", &many, &vector_root(&many).to_hex()),
    ];
    let codes: Vec<_> = answers.drain(..).map(|answer| answer.unwrap_err().code()).collect();
    let (forged, invalid, large) = ("forged_clock", "invalid_argument", "too_large");
    assert_eq!(codes, [forged, forged, invalid, invalid, forged, forged, forged, large]);
    assert!(s.take_changes().is_empty());
    assert_eq!(shown(&s), before);
    report(&mut s, "you", &[("me", 1), ("you", limits::MAX_COUNTER)]).unwrap();
}

/// A peer reported at 0 is part of the root, but was not kept: the root was another after a
/// restart.
#[test]
fn a_clock_with_a_counter_of_0_has_the_same_root_after_a_restart() {
    let mut s = scheduler("me");
    report(&mut s, "you", &[("you", 0)]).unwrap();
    let mut disk = Disk::default();
    disk.keep(&s.take_changes());
    assert_eq!(disk.restore("me", at(NOW)).clock(), s.clock());
}

/// Each reported name became a member for ever.
#[test]
fn invented_peers_are_limited_and_forgotten() {
    let mut s = scheduler("me");
    let empty = vector_root(&BTreeMap::<String, u64>::new()).to_hex();
    let mut update = |n: usize, now| {
        let id = format!("invented-{n}");
        s.update_peer(at(now), &id, &id, &BTreeMap::new(), &empty).map_err(|no| no.code())
    };
    for n in 1..limits::MAX_CLOCK_ENTRIES {
        update(n, NOW).unwrap();
    }
    assert_eq!(update(0, NOW), Err("overloaded"));
    assert!(update(1, NOW).is_ok(), "a known one is heard");
    s.advance(at(300 * S));
    assert_eq!(s.status(at(300 * S)).known_peers, 1);
}

/// Unknown tags vanished without a word.
#[test]
fn unknown_tags_are_named_and_turned_down() {
    let names = ["P2P_ONLY", "p2p-onyl", "unit-test"].map(String::from);
    let check = TagCheck::of(&names);
    assert_eq!(check.unknown, ["p2p-onyl"]);
    assert_eq!(check.tags, TagSet::from_iter([WorkflowTag::P2pOnly, WorkflowTag::UnitTest]));
    let answer = check.all_known().unwrap_err();
    assert!(answer.to_string().contains("p2p-onyl") && answer.to_string().contains("p2p-only"));
}

/// Looking at the status wrote.
#[test]
fn looking_changes_nothing() {
    let mut s = scheduler("me");
    s.submit(at(NOW), task("t")).unwrap();
    s.take_changes();
    let (clock, deadline) = (s.clock().clone(), s.next_deadline());
    for _ in 0..2 {
        assert_eq!(s.status(at(NOW)).queue_size, 1);
        s.show(at(NOW), "t").unwrap();
        s.show(at(NOW), "none").unwrap_err();
        views(&s, at(NOW));
        assert_eq!(s.liveness("nobody"), None);
    }
    assert!(
        s.claim(at(NOW), &caller("w"), &Want { workflow_id: Some("x".into()), ..timed(S) })
            .is_err()
    );
    assert!(s.take_changes().is_empty());
    assert_eq!((s.clock(), s.next_deadline()), (&clock, deadline));
}

/// An error came back as an ordinary result; here each is a rejection with a code and a remedy.
#[test]
fn a_task_over_a_limit_is_turned_down_and_nothing_changed() {
    let long = |n: usize| "x".repeat(n);
    let names = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
    let mut s = scheduler("me");
    let cases = [
        (P2PTask { task_id: String::new(), ..task("t") }, "invalid_argument"),
        (P2PTask { task_id: long(257), ..task("t") }, "too_large"),
        (P2PTask { workflow_id: "a\nb".into(), ..task("t") }, "invalid_argument"),
        (P2PTask { name: long(257), ..task("t") }, "too_large"),
        (P2PTask { payload: Some(long(limits::MAX_PAYLOAD_BYTES + 1)), ..task("t") }, "too_large"),
        (P2PTask { depends_on: names(257), ..task("t") }, "too_large"),
        (P2PTask { requires: names(65), ..task("t") }, "too_large"),
        (P2PTask { delay: limits::MAX_DELAY + 1, ..task("t") }, "invalid_argument"),
        (P2PTask { lease_duration: 1, ..task("t") }, "invalid_argument"),
        (P2PTask { depends_on: vec!["t".into()], ..task("t") }, "dependency_cycle"),
    ];
    for (task, code) in cases {
        let answer = s.submit(at(NOW), task).unwrap_err();
        assert_eq!(answer.code(), code, "{answer}");
    }
    assert!(s.take_changes().is_empty());
    let limit = P2PTask { task_id: "ü".repeat(256), ..task("t") };
    assert!(s.submit(at(NOW), limit).unwrap().created);
}
