//! Dependencies: who waits for whom, what a failure means for those that wait, and cycles.

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::*;

use crate::support::*;

const NOW: u64 = 0;

fn submit(s: &mut P2PWorkflowScheduler, tasks: &[(&str, &[&str])]) {
    for (id, depends_on) in tasks {
        s.submit(at(NOW), task_after(id, depends_on)).unwrap();
    }
}

fn cancel(s: &mut P2PWorkflowScheduler, id: &str) {
    s.mark(at(NOW), &caller("anyone"), id, Mark::Cancelled { error: None }, None).unwrap();
}

/// Claims one task and reports `mark` for it.
fn run(s: &mut P2PWorkflowScheduler, mark: Mark) -> Marked {
    let claimed = s.claim(at(NOW), &caller("w"), &timed(60 * S)).unwrap();
    s.mark(at(NOW), &caller("w"), &claimed.task.task_id, mark, Some(claimed.fence)).unwrap()
}

fn for_good() -> Mark {
    Mark::Failed { error: Some("boom".into()), result: None, retry: false }
}

fn states(s: &P2PWorkflowScheduler, ids: &[&str]) -> Vec<State> {
    ids.iter().map(|id| state(s, at(NOW), id)).collect()
}

/// The same tasks, taken up from what was kept: derived anew, in one go.
fn assert_restores_alike(s: &mut P2PWorkflowScheduler, disk: &mut Disk) {
    disk.keep(&s.take_changes());
    let restored = disk.restore("me", at(NOW));
    assert_eq!(views(s, at(NOW)), views(&restored, at(NOW)));
}

#[test]
fn a_diamond_runs_from_its_top_to_its_bottom() {
    let mut s = scheduler("me");
    submit(&mut s, &[("top", &[]), ("left", &["top"]), ("right", &["top"])]);
    submit(&mut s, &[("bottom", &["right", "left", "left"])]);
    assert_eq!(s.status(at(NOW)).count(State::Blocked), 3);
    assert_eq!(s.show(at(NOW), "bottom").unwrap().reason.unwrap(), r#"waits for "left", "right""#);
    assert_eq!(run(&mut s, done()).unblocked, ["left", "right"]);
    assert_eq!(run(&mut s, done()).unblocked, [""; 0]);
    assert_eq!(run(&mut s, done()).unblocked, ["bottom"]);
    assert_eq!(run(&mut s, done()).state, State::Completed);
    assert_restores_alike(&mut s, &mut Disk::default());
}

#[test]
fn a_dependency_may_arrive_later() {
    let mut s = scheduler("me");
    let first = s.submit(at(NOW), task_after("b", &["a"])).unwrap();
    assert_eq!((first.state, first.unknown_dependencies), (State::Blocked, vec!["a".to_owned()]));
    submit(&mut s, &[("a", &[])]);
    assert_eq!(run(&mut s, done()).unblocked, ["b"]);

    let strict = P2PTask { dependencies_must_exist: true, ..task_after("d", &["b", "c"]) };
    let answer = s.submit(at(NOW), strict).unwrap_err();
    assert_eq!(answer, Rejection::UnknownDependency { ids: vec!["c".into()] });
}

#[test]
fn a_failed_dependency_fails_what_waits_for_it_until_it_is_requeued() {
    let mut s = scheduler("me");
    submit(&mut s, &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c", "x"])]);
    run(&mut s, for_good());
    assert_eq!(states(&s, &["a", "b", "c", "d"]), [State::Failed; 4]);
    let reason = s.show(at(NOW), "c").unwrap().reason.unwrap();
    assert_eq!(reason, r#"cannot run after "b" failed or was cancelled"#);
    let answer = s.requeue(at(NOW), "c").unwrap_err();
    assert_eq!(answer.code(), "invalid_argument", "only what failed itself is requeued");
    let mut disk = Disk::default();
    assert_restores_alike(&mut s, &mut disk);

    s.requeue(at(NOW), "a").unwrap();
    assert_eq!(states(&s, &["a", "b", "c", "d"])[1..], [State::Blocked; 3]);
    assert_restores_alike(&mut s, &mut disk);
    assert_eq!(run(&mut s, done()).unblocked, ["b"]);
}

#[test]
fn a_cancelled_dependency_fails_what_waits_for_it() {
    let mut s = scheduler("me");
    submit(&mut s, &[("b", &["a"]), ("c", &["b"]), ("a", &[])]);
    cancel(&mut s, "a");
    assert_eq!(states(&s, &["a", "b", "c"]), [State::Cancelled, State::Failed, State::Failed]);
    submit(&mut s, &[("late", &["a"])]);
    assert_eq!(state(&s, at(NOW), "late"), State::Failed);
    assert_restores_alike(&mut s, &mut Disk::default());
}

#[test]
fn ten_thousand_tasks_may_wait_for_one() {
    let mut s = scheduler("me");
    submit(&mut s, &[("root", &[])]);
    for n in 0..10_000 {
        s.submit(at(NOW), task_after(&format!("leaf-{n}"), &["root"])).unwrap();
    }
    assert_eq!(run(&mut s, done()).unblocked.len(), limits::MAX_UNBLOCKED_SHOWN);
    assert_eq!(s.status(at(NOW)).queue_size, 10_000);
    for n in 0..100 {
        assert_eq!(run_one(&mut s, at(NOW)).unwrap(), format!("leaf-{n}").into(), "first come");
    }
}

/// The ids of a chain: each waits for the one before.
fn chain(length: usize) -> impl DoubleEndedIterator<Item = (P2PTask, usize)> {
    (0..length).map(|n| match n {
        0 => (task("0"), n),
        _ => (task_after(&n.to_string(), &[&(n - 1).to_string()]), n),
    })
}

const LONG: usize = 100_000;

#[test]
fn a_chain_of_100_000_fails_heals_and_restores_without_recursion() {
    let mut s = scheduler("me");
    let mut disk = Disk::default();
    for (task, _) in chain(LONG) {
        s.submit(at(NOW), task).unwrap();
    }
    let rest = LONG as u64 - 1;
    assert_eq!(s.status(at(NOW)).count(State::Blocked), rest);
    run(&mut s, for_good());
    assert_eq!(s.status(at(NOW)).count(State::Failed), rest + 1);
    disk.keep(&s.take_changes());
    let mut restored = disk.restore("me", at(NOW));
    assert_eq!(restored.status(at(NOW)), s.status(at(NOW)));
    restored.requeue(at(NOW), "0").unwrap();
    assert_eq!(restored.status(at(NOW)).count(State::Blocked), rest);
}

/// A task that arrives between two long halves of a chain was searched for cycles along all that it
/// waits for: a chain whose links came in an unlucky order took minutes.
#[test]
fn a_long_chain_may_arrive_in_any_order() {
    let length = 4_000;
    let (even, odd): (Vec<_>, Vec<_>) = chain(length).partition(|(_, n)| n % 2 == 0);
    let unlucky: Vec<P2PTask> = even.into_iter().chain(odd).map(|(task, _)| task).collect();
    let backwards: Vec<P2PTask> = chain(length).rev().map(|(task, _)| task).collect();
    for order in [unlucky, backwards] {
        let mut s = scheduler("me");
        let mut other = scheduler("other");
        for task in order {
            s.submit(at(NOW), task).unwrap();
        }
        push(&mut other, at(NOW), &s.take_changes());
        for s in [&s, &other] {
            assert_eq!(s.status(at(NOW)).count(State::Blocked), length as u64 - 1);
        }
    }
}

#[test]
fn a_submission_that_closes_a_cycle_is_turned_down_with_the_way_round() {
    let mut s = scheduler("me");
    submit(&mut s, &[("a", &["b", "x"]), ("b", &["y", "c"])]);
    s.take_changes();
    let answer = s.submit(at(NOW), task_after("c", &["z", "a"])).unwrap_err();
    assert_eq!(
        answer,
        Rejection::DependencyCycle { path: ["c", "a", "b", "c"].map(String::from).to_vec() }
    );
    let answer = s.submit(at(NOW), task_after("self", &["self"])).unwrap_err();
    assert_eq!(answer.code(), "dependency_cycle");
    assert!(s.take_changes().is_empty());
}

/// What two peers have after each accepted one half of a cycle and they exchanged them.
fn peers_with_a_cycle() -> [(P2PWorkflowScheduler, Disk); 2] {
    let mut one = scheduler("one");
    let mut two = scheduler("two");
    submit(&mut one, &[("a", &["c"]), ("b", &["a"]), ("after", &["b"])]);
    submit(&mut two, &[("c", &["b"]), ("free", &[])]);
    exchange([(one, Disk::default()), (two, Disk::default())])
}

/// Each peer takes in what the other changed.
fn exchange(peers: [(P2PWorkflowScheduler, Disk); 2]) -> [(P2PWorkflowScheduler, Disk); 2] {
    let [(mut one, mut disk_one), (mut two, mut disk_two)] = peers;
    let (from_one, from_two) = (one.take_changes(), two.take_changes());
    push(&mut one, at(NOW), &from_two);
    push(&mut two, at(NOW), &from_one);
    let after = (one.take_changes(), two.take_changes());
    for changes in [&from_one, &after.0] {
        disk_one.keep(changes);
    }
    for changes in [&from_two, &after.1] {
        disk_two.keep(changes);
    }
    [(one, disk_one), (two, disk_two)]
}

fn assert_alike(peers: &[(P2PWorkflowScheduler, Disk); 2], expected: &[(&str, State)]) {
    for (peer, disk) in peers {
        let restored = disk.restore(peer.peer_id(), at(NOW));
        assert_eq!(views(&restored, at(NOW)), views(peer, at(NOW)));
        for (id, expected) in expected {
            assert_eq!(state(peer, at(NOW), id), *expected, "{id} at {}", peer.peer_id());
        }
    }
}

#[test]
fn a_cycle_that_two_peers_made_together_is_failed_on_both() {
    let mut peers = peers_with_a_cycle();
    let failed = ["a", "b", "c", "after"].map(|id| (id, State::Failed));
    assert_alike(&peers, &failed);
    assert_alike(&peers, &[("free", State::Pending)]);
    for id in ["a", "b", "c"] {
        let reason = peers[0].0.show(at(NOW), id).unwrap().reason.unwrap();
        assert!(reason.contains("cycle"), "{reason}");
    }
    let reason = peers[0].0.show(at(NOW), "after").unwrap().reason.unwrap();
    assert_eq!(reason, r#"cannot run after "b" failed or was cancelled"#);

    cancel(&mut peers[1].0, "b");
    let peers = exchange(peers);
    assert_alike(
        &peers,
        &[("a", State::Failed), ("b", State::Cancelled), ("after", State::Failed)],
    );
    for (peer, _) in &peers {
        let reason = peer.show(at(NOW), "c").unwrap().reason.unwrap();
        assert_eq!(reason, r#"cannot run after "b" failed or was cancelled"#);
    }
}

/// Two cycles with a task between them: what was kept showed that task on a cycle, the running
/// scheduler did not.
#[test]
fn a_task_between_two_cycles_is_on_neither() {
    let mut one = scheduler("one");
    let mut two = scheduler("two");
    submit(&mut one, &[("a", &["b"]), ("between", &["a"]), ("c", &["between", "d"])]);
    submit(&mut two, &[("b", &["a"]), ("d", &["c"])]);
    let peers = exchange([(one, Disk::default()), (two, Disk::default())]);
    assert_alike(&peers, &["a", "b", "between", "c", "d"].map(|id| (id, State::Failed)));
    let reason = peers[0].0.show(at(NOW), "between").unwrap().reason.unwrap();
    assert_eq!(reason, r#"cannot run after "a" failed or was cancelled"#);
}

#[test]
fn another_spec_that_wins_breaks_a_cycle() {
    let mut peers = peers_with_a_cycle();
    // A third peer knows "c" as a task that waits for nobody, and is further with it.
    let mut third = scheduler("third");
    submit(&mut third, &[("c", &[])]);
    third.claim(at(NOW), &caller("w"), &timed(60 * S)).unwrap();
    let other_spec = third.take_changes();
    push(&mut peers[0].0, at(NOW), &other_spec);
    push(&mut peers[1].0, at(NOW), &other_spec);
    let peers = exchange(peers);
    let waiting = [("c", State::Assigned), ("a", State::Blocked), ("b", State::Blocked)];
    assert_alike(&peers, &waiting);
    assert!(peers[0].0.status(at(NOW)).conflicts > 0);
}

#[test]
fn a_completion_breaks_a_cycle() {
    let mut peers = peers_with_a_cycle();
    let mut third = scheduler("third");
    submit(&mut third, &[("c", &[])]);
    run(&mut third, done());
    push(&mut peers[0].0, at(NOW), &third.take_changes());
    let (one, _) = &mut peers[0];
    assert_eq!(states(one, &["a", "b", "c"]), [State::Pending, State::Blocked, State::Completed]);
    assert!(one.status(at(NOW)).queue_size >= 1);
}

/// A large cycle was searched once for each of its tasks when it broke.
#[test]
fn a_cycle_of_20_000_breaks_in_one_go() {
    let mut one = scheduler("one");
    let length = 20_000;
    for (task, _) in chain(length).skip(1) {
        one.submit(at(NOW), task).unwrap();
    }
    let mut two = scheduler("two");
    submit(&mut two, &[("0", &[&(length - 1).to_string()])]);
    push(&mut one, at(NOW), &two.take_changes());
    assert_eq!(one.status(at(NOW)).count(State::Failed), length as u64);
    let mut third = scheduler("third");
    submit(&mut third, &[("0", &[])]);
    run(&mut third, done());
    push(&mut one, at(NOW), &third.take_changes());
    assert_eq!(one.status(at(NOW)).count(State::Blocked), length as u64 - 2);
    assert_eq!(state(&one, at(NOW), "1"), State::Pending);
}

/// Such a record cannot be submitted, but a peer may send anything: a cancelled task that waits for
/// itself was counted twice, and the count fell below zero.
#[test]
fn a_record_that_waits_for_itself_does_no_harm() {
    let mut two = scheduler("two");
    submit(&mut two, &[("a", &["b"])]);
    cancel(&mut two, "a");
    let mut record = two.take_changes().tasks.pop().unwrap().record;
    let mut spec = (*record.spec).clone();
    spec.depends_on = ["a".into()].into();
    record.spec = std::sync::Arc::new(spec.sealed(None));
    for class in [Class::Live, Class::Cancelled, Class::Completed] {
        record.class = class;
        record.dot.counter += 1;
        let mut one = scheduler("one");
        submit(&mut one, &[("after", &["a"])]);
        one.merge(at(NOW), record.clone(), None, None);
        let expected = match class {
            Class::Live => [State::Failed, State::Failed],
            Class::Cancelled => [State::Cancelled, State::Failed],
            Class::Completed => [State::Completed, State::Pending],
        };
        assert_eq!(states(&one, &["a", "after"]), expected);
    }
}
