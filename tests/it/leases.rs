//! Leases: how they last, how they end, and who may report on them.

use std::sync::Arc;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::*;

use crate::support::*;

const GRACE: u64 = 5 * S;

fn session() -> Want {
    Want::default()
}

fn worker(name: &str) -> Arc<str> {
    name.into()
}

/// A scheduler with one task, held by the attached session "agent".
fn held_by_session() -> (P2PWorkflowScheduler, Claimed) {
    let mut s = scheduler("me");
    s.submit(at(0), task("t")).unwrap();
    s.attach(at(0), &worker("agent"), None);
    let claimed = s.claim(at(0), &caller("agent"), &session()).unwrap();
    (s, claimed)
}

/// Lets time pass as a driver does: a call at each deadline.
fn run_until(s: &mut P2PWorkflowScheduler, end: u64) {
    let mut now = 0;
    while let Some(next) = s.next_deadline().filter(|next| *next <= end) {
        now = next.max(now);
        s.advance(at(now));
        assert!(s.next_deadline().is_none_or(|next| next > now), "it must not be called in a loop");
    }
    s.advance(at(end));
}

#[test]
fn an_attached_sessions_lease_does_not_run_out() {
    let (mut s, claimed) = held_by_session();
    assert_eq!(claimed.expires_at, None);
    assert_eq!(s.next_deadline(), None);
    s.advance(at(365 * 24 * 3600 * S));
    assert_eq!(state(&s, at(0), "t"), State::Assigned);
}

#[test]
fn a_detached_sessions_lease_lasts_for_the_grace() {
    let (mut s, _) = held_by_session();
    s.detach(at(10 * S), &worker("agent"));
    s.advance(at(10 * S + GRACE - 1));
    assert_eq!(state(&s, at(0), "t"), State::Assigned);
    run_until(&mut s, 10 * S + GRACE);
    let view = s.show(at(10 * S + GRACE), "t").unwrap();
    assert_eq!((view.state, view.attempt), (State::Pending, 1), "no attempt is used up");
}

#[test]
fn a_session_that_returns_within_the_grace_keeps_its_leases() {
    let (mut s, claimed) = held_by_session();
    s.detach(at(S), &worker("agent"));
    s.attach(at(2 * S), &worker("agent"), Some(&[("t".into(), claimed.fence)]));
    s.advance(at(3600 * S));
    let now = at(3600 * S);
    s.mark(now, &caller("agent"), "t", done(), Some(claimed.fence)).unwrap();
    assert_eq!(state(&s, now, "t"), State::Completed);
}

#[test]
fn a_dismissed_sessions_leases_end_at_once() {
    let (mut s, _) = held_by_session();
    s.dismiss(at(S), &worker("agent"));
    assert_eq!(state(&s, at(S), "t"), State::Pending);
    assert!(s.claim(at(S), &caller("other"), &session()).is_ok());
}

#[test]
fn a_session_that_returns_gives_back_what_it_never_learned_of() {
    let (mut s, claimed) = held_by_session();
    s.submit(at(0), task("lost")).unwrap();
    s.claim(at(0), &caller("agent"), &session()).unwrap();
    s.attach(at(S), &worker("agent"), Some(&[("t".into(), claimed.fence)]));
    assert_eq!(state(&s, at(S), "t"), State::Assigned);
    assert_eq!(state(&s, at(S), "lost"), State::Pending);
    assert_eq!(s.show(at(S), "lost").unwrap().attempt, 1);
}

/// After a restart the index of leases by worker was empty: the session came back, its lease ran
/// out after the grace all the same, and its task ran twice.
#[test]
fn a_session_that_returns_after_a_restart_keeps_its_leases() {
    let (mut s, claimed) = held_by_session();
    let mut disk = Disk::default();
    disk.keep(&s.take_changes());
    let mut s = disk.restore("me", at(10 * S));
    s.attach(at(11 * S), &worker("agent"), Some(&[("t".into(), claimed.fence)]));
    s.advance(at(3600 * S));
    s.mark(at(3600 * S), &caller("agent"), "t", done(), None).unwrap();
}

#[test]
fn a_session_that_does_not_return_after_a_restart_loses_its_leases_after_the_grace() {
    let (mut s, _) = held_by_session();
    let mut disk = Disk::default();
    disk.keep(&s.take_changes());
    let mut s = disk.restore("me", at(10 * S));
    s.advance(at(10 * S + GRACE - 1));
    assert_eq!(state(&s, at(0), "t"), State::Assigned);
    run_until(&mut s, 10 * S + GRACE);
    assert_eq!(state(&s, at(0), "t"), State::Pending);
}

#[test]
fn a_lease_on_time_starts_again_after_a_restart() {
    let mut s = scheduler("me");
    s.submit(at(0), task("t")).unwrap();
    s.claim(at(0), &caller("w"), &timed(60 * S)).unwrap();
    let mut disk = Disk::default();
    disk.keep(&s.take_changes());
    let mut s = disk.restore("me", at(50 * S));
    assert_eq!(s.next_deadline(), Some(110 * S));
    s.advance(at(110 * S - 1));
    assert_eq!(state(&s, at(0), "t"), State::Assigned);
    run_until(&mut s, 110 * S);
    assert_ne!(state(&s, at(0), "t"), State::Assigned);
}

#[test]
fn an_expired_lease_is_a_failed_attempt_and_backs_off() {
    let mut s = scheduler("me");
    s.submit(at(0), task("t")).unwrap();
    let mut now = 0;
    for (attempt, backoff) in [(1, 500), (2, 1000)] {
        let claimed = s.claim(at(now), &caller("w"), &timed(10 * S)).unwrap();
        assert_eq!(claimed.task.attempt, attempt);
        assert_eq!(claimed.expires_at, Some(at(now + 10 * S).wall));
        now += 10 * S;
        run_until(&mut s, now);
        let view = s.show(at(now), "t").unwrap();
        assert_eq!((view.state, view.not_before), (State::Pending, Some(at(now + backoff).wall)));
        assert!(view.error.unwrap().contains("expired"));
        s.advance(at(now + backoff - 1));
        assert!(s.claim(at(now + backoff - 1), &caller("w"), &timed(S)).is_err());
        now += backoff;
        run_until(&mut s, now);
    }
    s.claim(at(now), &caller("w"), &timed(10 * S)).unwrap();
    run_until(&mut s, now + 10 * S);
    assert_eq!(state(&s, at(0), "t"), State::Failed, "three attempts were all it had");
    s.requeue(at(now + 11 * S), "t").unwrap();
    assert_eq!(s.claim(at(now + 11 * S), &caller("w"), &timed(S)).unwrap().task.attempt, 1);
}

#[test]
fn renewing_starts_a_lease_on_time_again_and_a_new_priority_does_not() {
    let mut s = scheduler("me");
    s.submit(at(0), task("t")).unwrap();
    s.claim(at(0), &caller("w"), &timed(10 * S)).unwrap();
    let note = Some("half way".to_owned());
    let renewed = s.mark(at(8 * S), &caller("w"), "t", Mark::InProgress { note }, None).unwrap();
    assert_eq!(renewed.expires_at, Some(at(18 * S).wall));
    assert_eq!(s.show(at(8 * S), "t").unwrap().note.as_deref(), Some("half way"));
    s.reprioritize(at(16 * S), "t", 9).unwrap();
    s.advance(at(18 * S - 1));
    assert_eq!(state(&s, at(0), "t"), State::Assigned);
    run_until(&mut s, 18 * S);
    assert_eq!(state(&s, at(0), "t"), State::Pending);
}

/// A priority changed at another peer came back as a record of this node's own lease. It was taken
/// for a lease from before a restore, and a running session lost its task after the grace.
#[test]
fn a_priority_changed_elsewhere_does_not_shorten_a_lease() {
    let (mut s, claimed) = held_by_session();
    let mut other = scheduler("other");
    push(&mut other, at(0), &s.take_changes());
    other.take_changes();
    other.reprioritize(at(S), "t", 9).unwrap();
    push(&mut s, at(2 * S), &other.take_changes());
    assert_eq!(s.show(at(2 * S), "t").unwrap().priority, 9);
    s.advance(at(3600 * S));
    s.mark(at(3600 * S), &caller("agent"), "t", done(), Some(claimed.fence)).unwrap();
}

/// A record that is new to this node named it as the holder, and the lease was indexed under the
/// peer's name instead of the worker's: its own session could not keep it.
#[test]
fn an_own_lease_that_comes_back_from_a_peer_ends_after_the_grace_unless_its_session_is_there() {
    for returns in [true, false] {
        let (mut s, claimed) = held_by_session();
        let mut after_loss =
            P2PWorkflowScheduler::new("me", "me/2", Config::default(), Box::new(|| 0));
        let mut changes = s.take_changes();
        changes.tasks.remove(0); // the submission never arrives, only the claim
        push(&mut after_loss, at(S), &changes);
        if returns {
            after_loss.attach(at(2 * S), &worker("agent"), Some(&[("t".into(), claimed.fence)]));
        }
        run_until(&mut after_loss, S + GRACE);
        let expected = if returns { State::Assigned } else { State::Pending };
        assert_eq!(state(&after_loss, at(0), "t"), expected);
    }
}

#[test]
fn a_stale_fence_changes_nothing_whatever_it_reports() {
    let mut s = scheduler("me");
    s.submit(at(0), task("t")).unwrap();
    let first = s.claim(at(0), &caller("w"), &timed(60 * S)).unwrap();
    s.mark(at(0), &caller("w"), "t", Mark::Released, Some(first.fence)).unwrap();
    let second = s.claim(at(S), &caller("w"), &timed(60 * S)).unwrap();
    assert!(second.fence > first.fence);
    s.take_changes();
    let before = views(&s, at(S));
    for mark in [done(), failed(), Mark::Released, Mark::InProgress { note: None }] {
        for who in ["w", "stranger"] {
            let answer = s.mark(at(S), &caller(who), "t", mark.clone(), Some(first.fence));
            assert!(
                matches!(answer, Err(Rejection::StaleFence { .. })),
                "{who} {mark:?}: {answer:?}"
            );
        }
        let answer = s.mark(at(S), &caller("stranger"), "t", mark, Some(second.fence));
        assert!(matches!(answer, Err(Rejection::NotHolder { .. })), "the number alone: {answer:?}");
    }
    assert!(s.take_changes().is_empty());
    assert_eq!(views(&s, at(S)), before);
}

#[test]
fn commands_need_the_fence_once_the_task_was_leased_here_twice() {
    let mut s = scheduler("me");
    s.submit(at(0), task("t")).unwrap();
    let command = caller(COMMAND_LINE);
    s.claim(at(0), &command, &timed(60 * S)).unwrap();
    s.mark(at(S), &command, "t", Mark::InProgress { note: None }, None).unwrap();
    s.mark(at(S), &command, "t", Mark::Released, None).unwrap();
    let second = s.claim(at(S), &command, &timed(60 * S)).unwrap();
    let answer = s.mark(at(S), &command, "t", done(), None);
    assert_eq!(answer.unwrap_err().code(), "invalid_argument");
    let mut disk = Disk::default();
    disk.keep(&s.take_changes());
    let mut s = disk.restore("me", at(S));
    assert!(s.mark(at(S), &command, "t", done(), None).is_err(), "it is remembered on disk");
    s.mark(at(S), &command, "t", done(), Some(second.fence)).unwrap();
}

#[test]
fn a_repeated_report_is_answered_alike_and_changes_nothing() {
    let retried = failed();
    let for_good = Mark::Failed { error: None, result: Some("{}".into()), retry: false };
    let completed = Mark::Completed { result: Some("{}".into()) };
    let cancelled = Mark::Cancelled { error: None };
    for mark in [completed, retried, for_good, Mark::Released, cancelled] {
        let mut s = scheduler("me");
        s.submit(at(0), task("t")).unwrap();
        let fence = s.claim(at(0), &caller("w"), &timed(60 * S)).unwrap().fence;
        for given in [Some(fence), None] {
            let first = s.mark(at(0), &caller("w"), "t", mark.clone(), given).unwrap();
            s.take_changes();
            let again = s.mark(at(0), &caller("w"), "t", mark.clone(), given).unwrap();
            assert!(s.take_changes().is_empty(), "{mark:?}");
            assert_eq!(first, again, "{mark:?}");
        }
    }
}

#[test]
fn reports_on_tasks_that_ended_say_so() {
    let mut s = scheduler("me");
    for id in ["done", "off", "late"] {
        s.submit(at(0), task(id)).unwrap();
    }
    run_one(&mut s, at(0));
    s.mark(at(0), &caller("anyone"), "off", Mark::Cancelled { error: None }, None).unwrap();
    s.claim(at(0), &caller("w"), &timed(S)).unwrap();
    run_until(&mut s, S);
    s.take_changes();
    let code = |s: &mut P2PWorkflowScheduler, id: &str, mark| {
        s.mark(at(S), &caller("w"), id, mark, None).unwrap_err().code()
    };
    assert_eq!(code(&mut s, "done", done()), "already_completed");
    assert_eq!(code(&mut s, "done", Mark::Cancelled { error: None }), "already_completed");
    assert_eq!(code(&mut s, "off", done()), "already_cancelled");
    assert_eq!(code(&mut s, "late", done()), "lease_expired");
    assert_eq!(code(&mut s, "nowhere", done()), "task_not_found");
    assert_eq!(s.requeue(at(S), "late").unwrap_err().code(), "invalid_argument");
    assert!(s.take_changes().is_empty());
}

#[test]
fn a_task_whose_workers_vanish_again_and_again_fails_in_the_end() {
    let mut s = scheduler("me");
    s.submit(at(0), P2PTask { max_attempts: 1, ..task("t") }).unwrap();
    for n in 0..limits::MAX_LOSSES {
        assert_eq!(state(&s, at(0), "t"), State::Pending, "after {n} losses");
        let name = format!("agent-{n}");
        s.attach(at(0), &worker(&name), None);
        s.claim(at(0), &caller(&name), &session()).unwrap();
        s.dismiss(at(0), &worker(&name));
    }
    let view = s.show(at(0), "t").unwrap();
    assert_eq!(view.state, State::Failed);
    assert!(view.error.unwrap().contains("went away"));
}

/// A command that had lost its lease said again, without its fence, that the task was complete,
/// and was told that it had completed it: the lease by which it was completed was that of another
/// command, which goes by the same name.
#[test]
fn a_command_without_a_fence_is_not_told_that_the_outcome_of_another_is_its_own() {
    let mut s = scheduler("me");
    let who = caller(COMMAND_LINE);
    s.submit(at(0), task("t")).unwrap();
    let first = s.claim(at(0), &who, &timed(60 * S)).unwrap();
    s.mark(at(0), &who, "t", Mark::Released, Some(first.fence)).unwrap();
    s.mark(at(0), &who, "t", Mark::Released, None).expect("there was one lease, so it is this one");
    let second = s.claim(at(S), &who, &timed(60 * S)).unwrap();
    s.mark(at(S), &who, "t", done(), Some(second.fence)).unwrap();
    let of_the_first = s.mark(at(2 * S), &who, "t", done(), None);
    assert!(matches!(of_the_first, Err(Rejection::AlreadyCompleted { .. })), "{of_the_first:?}");
    s.mark(at(2 * S), &who, "t", done(), Some(second.fence)).expect("it says so again");
}

/// A worker that runs the jobs of two repositories, whose workflows are many.
#[test]
fn a_worker_of_workflows_whose_ids_begin_alike_is_given_the_best_of_those_only() {
    let mut s = scheduler("me");
    let submitted =
        [("none", "other/x", 9), ("a-low", "a/1", 4), ("a-high", "a/2", 7), ("b", "b/1", 5)];
    for (id, workflow_id, priority) in submitted {
        s.submit(at(0), P2PTask { workflow_id: workflow_id.into(), priority, ..task(id) }).unwrap();
    }
    let want = |prefixes: &[&str]| Want {
        workflow_prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
        ..timed(60 * S)
    };
    let within_a = Want { workflow_id: Some("a/1".into()), ..want(&["b/"]) };
    assert!(s.claim(at(0), &caller("w"), &within_a).is_err(), "no task is of both");
    for id in ["a-high", "b", "a-low"] {
        let claimed = s.claim(at(0), &caller("w"), &want(&["b/", "a/"])).unwrap();
        assert_eq!(&*claimed.task.task_id, id);
    }
    let nothing = s.claim(at(0), &caller("w"), &want(&["b/", "a/"])).unwrap_err();
    assert!(nothing.reason.contains("1 task is ready"), "{}", nothing.reason);
    let wrong = want(&[""]).check().unwrap_err().to_string();
    assert!(wrong.contains("workflow_prefixes"), "{wrong}");
}
