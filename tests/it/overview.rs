//! What somebody who watches is shown. That the counts are right whatever happens, the simulator
//! checks at every step.

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::*;

use crate::support::*;

fn submit(s: &mut P2PWorkflowScheduler, id: &str, workflow_id: &str) {
    s.submit(at(0), P2PTask { workflow_id: workflow_id.into(), ..task(id) }).unwrap();
}

fn overview(s: &P2PWorkflowScheduler, look: Look) -> Overview {
    s.overview(at(0), &look)
}

fn ids(overview: &Overview) -> Vec<&str> {
    overview.tasks.iter().map(|task| &*task.task_id).collect()
}

fn workflows(overview: &Overview) -> Vec<&str> {
    overview.workflows.iter().map(|workflow| &*workflow.workflow_id).collect()
}

fn text(text: &str) -> Look {
    Look { text: Some(text.into()), ..Look::default() }
}

/// Takes a task of a workflow.
fn take(s: &mut P2PWorkflowScheduler, workflow_id: &str) -> Claimed {
    let want = Want { workflow_id: Some(workflow_id.into()), ..timed(60 * S) };
    s.claim(at(0), &caller("builder"), &want).unwrap()
}

fn mark(s: &mut P2PWorkflowScheduler, id: &str, mark: Mark) {
    s.mark(at(0), &caller("builder"), id, mark, None).unwrap();
}

#[test]
fn what_is_held_comes_first_and_what_ended_last() {
    let mut s = scheduler("me");
    for (id, workflow_id) in [("a", "done"), ("b", "held"), ("c", "waits"), ("d", "held")] {
        submit(&mut s, id, workflow_id);
    }
    take(&mut s, "done");
    mark(&mut s, "a", done());
    take(&mut s, "held");
    let all = overview(&s, Look::default());
    assert_eq!(ids(&all), ["b", "c", "d", "a"]);
    assert_eq!(workflows(&all), ["held", "waits", "done"]);
    assert_eq!((all.known_workflows, all.completions, all.more_tasks), (3, 1, false));
    assert_eq!(all.workflows[0].counts, [1, 0, 1, 0, 0, 0]);
    assert_eq!(all.status, s.status(at(0)));
}

#[test]
fn one_workflow_one_state_and_one_text_can_be_looked_at() {
    let mut s = scheduler("me");
    for (id, workflow_id) in [("a", "v"), ("b", "w"), ("ab", "w"), ("x/a", "w")] {
        submit(&mut s, id, workflow_id);
    }
    take(&mut s, "w");
    let of_w = Look { workflow_id: Some("w".into()), ..Look::default() };
    assert_eq!(ids(&overview(&s, of_w.clone())), ["b", "ab", "x/a"]);
    assert_eq!(workflows(&overview(&s, of_w.clone())), ["w"]);
    let pending = Look { state: Some(State::Pending), ..of_w };
    assert_eq!(ids(&overview(&s, pending)), ["ab", "x/a"]);
    let with_a = overview(&s, text("a"));
    assert_eq!(ids(&with_a), ["b", "a", "ab", "x/a"], "all are named \"a task\"");
    assert_eq!(ids(&overview(&s, text("ab"))), ["ab"]);
    assert_eq!(ids(&overview(&s, text("build"))), ["b"], "by its worker");
    assert_eq!(workflows(&overview(&s, text("v"))), ["v"]);
    let none = overview(&s, Look { workflow_id: Some("none".into()), ..Look::default() });
    assert_eq!((ids(&none).len(), workflows(&none).len(), none.more_tasks), (0, 0, false));
}

#[test]
fn an_overview_is_bounded_and_says_so_and_each_state_has_its_share() {
    let mut s = scheduler("me");
    for n in 0..15_000 {
        submit(&mut s, &format!("{n:05}"), &format!("w{}", n % 300));
    }
    for n in 0..150 {
        mark(&mut s, &format!("{n:05}"), Mark::Cancelled { error: None });
    }
    let all = overview(&s, Look::default());
    assert_eq!((all.tasks.len(), all.workflows.len(), all.known_workflows), (100, 100, 300));
    assert!(all.more_tasks);
    let cancelled = all.tasks.iter().filter(|task| task.state == State::Cancelled);
    let cancelled: Vec<&str> = cancelled.map(|task| &*task.task_id).collect();
    assert_eq!((cancelled.len(), cancelled[0]), (10, "00149"), "the last of them");
    // An id that is beyond what is looked through is found by how it begins.
    let one = overview(&s, text("14990"));
    assert_eq!((ids(&one), one.more_tasks), (vec!["14990"], true));
    let last = Look { workflow_id: Some("w299".into()), ..Look::default() };
    let last = overview(&s, last);
    assert_eq!((last.tasks.len(), last.more_tasks), (50, false));
}

/// The count of completed tasks falls as those that ended long ago go; a rate of it would be negative.
#[test]
fn completions_are_those_seen_here_by_whomever_and_never_fall() {
    let (mut s, mut other, mut disk) = (scheduler("me"), scheduler("other"), Disk::default());
    submit(&mut s, "a", "w");
    submit(&mut s, "b", "w");
    take(&mut s, "w");
    mark(&mut s, "a", done());
    let changes = s.take_changes();
    push(&mut other, at(0), &changes);
    disk.keep(&changes);
    for node in [&s, &other] {
        assert_eq!(overview(node, Look::default()).completions, 1);
    }
    let restored = disk.restore("me", at(0));
    assert_eq!(overview(&restored, Look::default()).completions, 0, "it sees none yet");
    let later = at(30 * 24 * 3600 * S);
    s.advance(later);
    let overview = s.overview(later, &Look::default());
    assert_eq!((overview.completions, overview.status.count(State::Completed)), (1, 0));
}
