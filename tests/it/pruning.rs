//! What ended long ago goes, comes back to life nowhere, and a peer that was away finds out before it
//! does anything.

use std::sync::Arc;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::*;

use crate::replication::{Net, name};
use crate::support::{
    COMMAND_LINE, Disk, S, at, caller, done, push, state, task, task_after, timed,
};

const RETENTION: u64 = 100 * S;

/// Connected peers that keep what ended for a short time.
fn net(peers: usize) -> Net {
    let mut net = Net::new(0, 5);
    net.config.retention = RETENTION;
    net.config.forget_member_after = 20 * RETENTION;
    (0..peers).for_each(|_| net.add_peer());
    net.link_all();
    net.pass(5 * S);
    net
}

/// Has a peer do a task, whoever's turn it is.
fn run(net: &mut Net, id: &str) {
    for _ in 0..100 {
        for p in 0..net.peers.len() {
            let (now, who) = (at(net.now), caller(COMMAND_LINE));
            let scheduler = &mut net.peers[p].scheduler;
            let claimed = scheduler.claim(now, &who, &timed(60 * S));
            if let Ok(claimed) = &claimed {
                let fence = Some(claimed.fence);
                scheduler.mark(now, &who, &claimed.task.task_id, done(), fence).unwrap();
            }
            net.take_out(p, None);
            if claimed.is_ok_and(|claimed| *claimed.task.task_id == *id) {
                return net.sync(10 * S);
            }
        }
        net.pass(S);
    }
    panic!("nobody was given {id:?}");
}

/// Nothing waits for a look at what ended, so a peer that is alone takes one with its next call.
fn nudge(net: &mut Net, p: usize) {
    net.peers[p].scheduler.advance(at(net.now));
    net.take_out(p, None);
    net.pass(S);
}

/// Whether the peer still knows that there was such a task.
fn remembers(net: &mut Net, p: usize, id: &str) -> bool {
    let mut copy = net.start(&name(p), &net.peers[p].disk.clone());
    // In a copy, and not in doubt there: so that nothing comes of it.
    copy.depart(at(net.now));
    !copy.submit(at(net.now), task(id)).unwrap().created
}

#[test]
fn a_task_that_ended_goes_after_its_retention_once_no_member_lacks_it() {
    let mut net = net(3);
    net.submit(0, task("t"));
    net.sync(10 * S);
    net.cut(0, 2);
    net.cut(1, 2);
    net.pass(20 * S);
    let (two, away) = (2, &name(2));
    for p in 0..two {
        assert_eq!(net.peers[p].scheduler.liveness(away), Some(Liveness::Down));
    }
    // The two do it while the third is away.
    net.cut(0, 1);
    net.link(0, 1);
    run_between(&mut net, "t");
    net.pass(2 * RETENTION);
    for p in 0..two {
        let shown = net.peers[p].scheduler.show(at(net.now), "t").unwrap_err();
        assert_eq!(shown.code(), "already_completed", "only a tombstone is left");
        assert_eq!(net.peers[p].scheduler.status(at(net.now)).count(State::Completed), 0);
        assert!(remembers(&mut net, p, "t"), "the third peer has not heard of it yet");
    }
    assert_eq!(state(&net.peers[two].scheduler, at(net.now), "t"), State::Pending);
    net.link_all();
    net.sync(30 * S);
    let shown = net.peers[two].scheduler.show(at(net.now), "t").unwrap_err();
    assert_eq!(shown.code(), "already_completed", "the tombstone tells it");
    net.pass(2 * RETENTION);
    for p in 0..3 {
        let shown = net.peers[p].scheduler.show(at(net.now), "t").unwrap_err();
        assert_eq!(shown.code(), "task_not_found");
        assert!(!remembers(&mut net, p, "t"));
    }
    net.sync(S);
}

fn run_between(net: &mut Net, id: &str) {
    for _ in 0..100 {
        for p in 0..2 {
            let (now, who) = (at(net.now), caller(COMMAND_LINE));
            let scheduler = &mut net.peers[p].scheduler;
            let claimed = scheduler.claim(now, &who, &timed(60 * S));
            if let Ok(claimed) = &claimed {
                scheduler.mark(now, &who, id, done(), Some(claimed.fence)).unwrap();
            }
            net.take_out(p, None);
            if claimed.is_ok() {
                return;
            }
        }
        net.pass(S);
    }
    panic!("nobody was given {id:?}");
}

#[test]
fn what_a_live_task_waits_for_is_kept_whole() {
    let mut net = net(1);
    net.submit(0, task("first"));
    net.submit(0, task("other"));
    net.submit(0, task_after("last", &["first", "other"]));
    run(&mut net, "first");
    net.pass(3 * RETENTION);
    run(&mut net, "other");
    assert_eq!(state(&net.peers[0].scheduler, at(net.now), "first"), State::Completed);
    run(&mut net, "last");
    net.pass(3 * RETENTION);
    nudge(&mut net, 0);
    net.submit(0, task("later"));
    for id in ["first", "other", "last"] {
        assert!(net.peers[0].scheduler.show(at(net.now), id).is_err(), "{id}");
    }
    assert_eq!(state(&net.peers[0].scheduler, at(net.now), "later"), State::Pending);
}

#[test]
fn a_dependency_of_which_a_tombstone_is_left_counts_as_it_ended() {
    let mut net = net(2);
    net.submit(0, task("first"));
    net.sync(10 * S);
    net.cut(0, 1); // so that the tombstone stays
    run_at(&mut net, 0, "first");
    net.pass(2 * RETENTION);
    nudge(&mut net, 0);
    assert!(net.peers[0].scheduler.show(at(net.now), "first").is_err());
    net.submit(0, task_after("last", &["first"]));
    assert_eq!(state(&net.peers[0].scheduler, at(net.now), "last"), State::Pending);
    let answer = net.peers[0].scheduler.submit(at(net.now), task("first")).unwrap();
    assert_eq!((answer.created, answer.state), (false, State::Completed));
    let other = net.peers[0].scheduler.submit(at(net.now), task_after("first", &["x"]));
    assert_eq!(other.unwrap_err().code(), "task_exists");
}

/// A peer on which a task was called off, and of which only a tombstone was left there, learned by
/// another tombstone that others had completed it. It took that for what it had known before: those
/// that wait for the task stayed failed there, after nothing, and ran everywhere else.
#[test]
fn a_tombstone_that_tells_of_a_better_end_frees_those_that_wait_for_the_task() {
    let mut net = net(2);
    net.submit(0, task("first"));
    net.sync(10 * S);
    net.cut(0, 1);
    net.pass(20 * S);
    let (now, who) = (at(net.now), caller(COMMAND_LINE));
    let claimed = net.peers[0].scheduler.claim(now, &who, &timed(60 * S)).unwrap();
    net.peers[0].scheduler.mark(now, &who, "first", done(), Some(claimed.fence)).unwrap();
    let cancel = Mark::Cancelled { error: None };
    net.peers[1].scheduler.mark(now, &who, "first", cancel, None).unwrap();
    (0..2).for_each(|p| net.take_out(p, None));
    net.pass(2 * RETENTION);
    (0..2).for_each(|p| nudge(&mut net, p));
    for (p, ended) in ["already_completed", "already_cancelled"].into_iter().enumerate() {
        let shown = net.peers[p].scheduler.show(at(net.now), "first").unwrap_err();
        assert_eq!(shown.code(), ended, "only a tombstone is left");
    }
    net.submit(1, task_after("last", &["first"]));
    net.pass(S);
    assert_eq!(state(&net.peers[1].scheduler, at(net.now), "last"), State::Failed);
    net.link(0, 1);
    net.pass(30 * S);
    for p in 0..2 {
        let shown = net.peers[p].scheduler.show(at(net.now), "last").unwrap();
        assert_eq!((shown.state, shown.reason), (State::Pending, None), "at {p}");
    }
}

/// A store that was put back compared all that it held with another peer, page by page. A task
/// changed there meanwhile: the change came by a push, the page with the task as it had been came after
/// it, and the last page's vector covered the change. So the task was taken for one that had ended and
/// been submitted again, and was put back to what it had been, while both vectors said the opposite.
#[test]
fn what_changes_during_an_audit_stays_changed() {
    let now = at(0);
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    let mut there = P2PWorkflowScheduler::new(&a, "a/1", Config::default(), Box::new(|| 0));
    there.replicate(now, 1);
    there.submit(now, task("t")).unwrap();
    for n in 0..limits::MAX_CARRIED {
        there.submit(now, task(&format!("other-{n}"))).unwrap();
    }
    let heard = Some(Heard { at: now.wall, have: None });
    let mut disk = Disk::default();
    disk.keep(&Changes { members: vec![(a.clone(), heard)], ..Changes::default() });
    let jitter = Box::new(|| 0);
    let mut here = disk.put_back().restore_as(&b, "b/2", Config::default(), now, jitter);
    here.replicate(now, 2);
    there.connected(now, &b);
    here.connected(now, &a);
    there.advance(now);
    hear(&mut here, &a, say(&mut there));
    here.advance(now);
    hear(&mut there, &b, say(&mut here));
    let first_page = say(&mut there);
    assert!(matches!(&first_page[..], [Content::PullPage(page)] if page.last.is_none()));
    there.reprioritize(now, "t", 9).unwrap();
    hear(&mut here, &a, say(&mut there));
    hear(&mut here, &a, first_page);
    hear(&mut there, &b, say(&mut here));
    let last_page = say(&mut there);
    assert!(matches!(&last_page[..], [Content::PullPage(page)] if page.last.is_some()));
    hear(&mut here, &a, last_page);
    assert_eq!(here.show(now, "t").unwrap().priority, 9);
    let (here, there) = (here.roots(), there.roots());
    assert_eq!((here.have, here.records), (there.have, there.records));
}

/// A peer that was cut off ran a task that others had completed and some of them had forgotten. They
/// took in its completion, though it was the lesser one: they had seen the write of the greater one, and
/// so were never sent it again. Which of the two results was shown depended on whom one asked.
#[test]
fn an_end_that_others_may_have_forgotten_is_told_again_to_those_that_learn_of_a_lesser_one() {
    let (a, now) = (Arc::<str>::from("a"), at(0));
    let [mut first, mut second, mut here] =
        ["first", "second", "here"].map(crate::support::scheduler);
    here.replicate(now, 1);
    first.submit(now, task("t")).unwrap();
    push(&mut second, now, &first.take_changes());
    let worker = caller("worker");
    first.claim(now, &worker, &timed(60 * S)).unwrap();
    first.mark(now, &worker, "t", done(), None).unwrap();
    second.claim(now, &worker, &timed(60 * S)).unwrap();
    second.mark(now, &worker, "t", Mark::Released, None).unwrap();
    second.claim(now, &worker, &timed(60 * S)).unwrap();
    second.mark(now, &worker, "t", done(), None).unwrap();
    here.connected(now, &a);
    let long_after = at(2 * Config::default().retention);
    push(&mut here, long_after, &second.take_changes());
    let greater = here.take_changes().tasks.pop().unwrap().record;
    push(&mut here, long_after, &first.take_changes());
    let told = here.take_changes().tasks.pop().expect("the greater end is told again").record;
    assert_eq!((told.class, told.epoch, told.rev), (Class::Completed, 2, greater.rev + 1));
    assert_eq!((&*told.dot.actor, &told.lease), ("here/1", &greater.lease));
}

/// What a scheduler has to say.
fn say(s: &mut P2PWorkflowScheduler) -> Vec<Content> {
    s.take_changes();
    s.take_outgoing().into_iter().map(|outgoing| outgoing.message.content).collect()
}

fn hear(s: &mut P2PWorkflowScheduler, from: &Arc<str>, said: Vec<Content>) {
    said.into_iter().for_each(|content| s.receive(at(0), from, content.into()).unwrap());
}

#[test]
fn a_backup_that_is_put_back_brings_no_task_back_to_life() {
    let mut net = net(3);
    net.submit(0, task("t"));
    net.submit(0, P2PTask { requires: vec!["nobody can".into()], ..task("stays") });
    net.sync(10 * S);
    let backup = net.peers[0].disk.clone();
    run(&mut net, "t");
    net.pass(3 * RETENTION);
    assert!(!remembers(&mut net, 1, "t"), "nobody has heard of it any more");
    net.peers[0].disk = backup.put_back();
    (1..3).for_each(|other| net.cut(0, other));
    net.crash(0);
    net.pass(60 * S);
    // Alone it changes nothing: it does not know what the others forgot.
    let (now, who) = (at(net.now), caller(COMMAND_LINE));
    let scheduler = &mut net.peers[0].scheduler;
    assert_eq!(state(scheduler, now, "t"), State::Pending);
    assert!(scheduler.claim(now, &who, &timed(S)).is_err());
    assert_eq!(scheduler.submit(now, task("new")).unwrap_err().code(), "overloaded");
    let cancel = Mark::Cancelled { error: None };
    assert_eq!(scheduler.mark(now, &who, "t", cancel, None).unwrap_err().code(), "overloaded");
    net.link_all();
    net.sync(30 * S);
    for p in 0..3 {
        let scheduler = &mut net.peers[p].scheduler;
        assert_eq!(scheduler.show(at(net.now), "t").unwrap_err().code(), "task_not_found");
        assert!(scheduler.show(at(net.now), "stays").is_ok());
    }
    assert!(net.peers[0].scheduler.submit(at(net.now), task("new")).unwrap().created);
    net.take_out(0, None);
    // And that it was put back is forgotten.
    net.pass(S);
    net.crash(0);
    net.pass(10 * S);
    assert!(net.peers[0].scheduler.submit(at(net.now), task("newer")).unwrap().created);
}

#[test]
fn a_member_that_was_silent_for_too_long_is_not_waited_for_and_doubts_itself() {
    let mut net = net(3);
    net.submit(0, task("t"));
    net.sync(10 * S);
    net.cut(0, 2);
    net.cut(1, 2);
    run_between(&mut net, "t");
    net.pass(22 * RETENTION);
    for p in 0..2 {
        assert!(!remembers(&mut net, p, "t"));
    }
    assert_eq!(state(&net.peers[2].scheduler, at(net.now), "t"), State::Pending);
    net.link_all();
    net.sync(30 * S);
    for p in 0..3 {
        let shown = net.peers[p].scheduler.show(at(net.now), "t").unwrap_err();
        assert_eq!(shown.code(), "task_not_found");
    }
}

#[test]
fn a_peer_that_starts_asks_the_others_before_it_gives_out_what_they_may_have_done() {
    let mut net = net(2);
    net.submit(0, task("t"));
    net.sync(10 * S);
    net.cut(0, 1);
    net.pass(20 * S);
    let (now, who) = (at(net.now), caller(COMMAND_LINE));
    let claimed = net.peers[1].scheduler.claim(now, &who, &timed(60 * S)).unwrap();
    net.peers[1].scheduler.mark(now, &who, "t", done(), Some(claimed.fence)).unwrap();
    net.take_out(1, None);
    net.crash(0);
    net.link(0, 1);
    let (now, scheduler) = (at(net.now), &mut net.peers[0].scheduler);
    let nothing = scheduler.claim(now, &who, &timed(S)).unwrap_err();
    assert_eq!(nothing.retry_after, Some(scheduler.settles_in(now)));
    net.pass(3 * S);
    assert_eq!(state(&net.peers[0].scheduler, at(net.now), "t"), State::Completed);
    assert_eq!(net.peers[0].scheduler.settles_in(at(net.now)), 0);
}

/// A laptop's lid was closed. Its node went on where it was, and gave out at once what the others
/// had done meanwhile.
#[test]
fn a_peer_that_stood_still_asks_the_others_before_it_goes_on() {
    let mut net = net(2);
    for id in ["a", "b", "c", "d"] {
        net.submit(0, task(id));
    }
    net.sync(10 * S);
    let later = Now { wall: at(net.now).wall + 3600 * S, ..at(net.now) };
    let scheduler = &mut net.peers[0].scheduler;
    assert_eq!(scheduler.settles_in(later), 0);
    scheduler.advance(later);
    assert!(scheduler.settles_in(later) > 0);
    assert!(scheduler.claim(later, &caller(COMMAND_LINE), &timed(S)).is_err());
    assert!(scheduler.status(later).count(State::Pending) > 0);
}

/// Two peers, of which one keeps what ended for as long as given, and sweeps when the other does not.
fn one_that_keeps_for(retention: u64) -> Net {
    let mut net = Net::new(0, 5);
    net.config.retention = 16_800 * S;
    net.config.forget_member_after = 20 * net.config.retention;
    net.add_peer();
    nudge(&mut net, 0);
    net.pass(50 * S);
    net.config.retention = retention;
    net.add_peer();
    net.link_all();
    net.pass(5 * S);
    net.submit(0, task("t"));
    run(&mut net, "t");
    net.pass(16_700 * S);
    while remembers(&mut net, 0, "t") {
        net.pass(S);
    }
    assert!(remembers(&mut net, 1, "t"));
    net
}

/// A weekly task was handed in again under its id, at the peer that had just forgotten the last one.
/// The other had not yet, and kept to its own record: the vectors were equal, what was held was not,
/// and once the other had forgotten too, an audit dropped the new task on both. Nobody ever ran it.
#[test]
fn an_id_that_is_used_again_is_taken_in_where_its_last_end_is_about_to_go() {
    let mut net = one_that_keeps_for(16_800 * S);
    net.submit(0, task("t"));
    net.sync(10 * S);
    net.pass(1_000 * S);
    for p in 0..2 {
        assert_eq!(state(&net.peers[p].scheduler, at(net.now), "t"), State::Pending);
    }
    run(&mut net, "t");
}

/// The same, where the other peer keeps what ended for much longer.
#[test]
fn an_id_that_is_used_again_is_answered_by_a_peer_that_keeps_its_last_end() {
    let mut net = one_that_keeps_for(100_000 * S);
    net.submit(0, task("t"));
    net.sync(30 * S);
    for p in 0..2 {
        assert_eq!(state(&net.peers[p].scheduler, at(net.now), "t"), State::Completed);
    }
    net.pass(1_000 * S);
    assert!(remembers(&mut net, 1, "t"));
    net.sync(10 * S);
}

/// An id was used again where its last end was forgotten. A peer that still knew wrote that end anew;
/// another took the word of one that had forgotten the task, and so never heard of the write.
#[test]
fn an_end_that_is_told_again_comes_by_way_of_those_that_have_forgotten_it() {
    let mut net = Net::new(0, 5);
    net.config.forget_member_after = 1_000_000 * S;
    for retention in [RETENTION, RETENTION, 100_000 * S, 100_000 * S] {
        net.config.retention = retention;
        net.add_peer();
    }
    net.link_all();
    net.pass(5 * S);
    net.submit(0, task("t"));
    run(&mut net, "t");
    net.pass(2 * RETENTION);
    while (0..2).any(|p| remembers(&mut net, p, "t")) {
        net.pass(S);
    }
    for (a, b) in [(0, 1), (0, 3), (2, 3)] {
        net.cut(a, b);
    }
    net.pass(S);
    net.submit(0, task("t"));
    net.sync(60 * S);
    let dot = |p: usize| net.peers[p].disk.records()["t"].dot.clone();
    assert!(dot(2).actor.starts_with(&*name(2)), "it is told again: {:?}", dot(2));
    assert_eq!(dot(3), dot(2));
}

/// A board without a clock of its own did tasks in the year 1970. Its peers took the results in, and
/// had thrown them away before anybody read them.
#[test]
fn an_end_that_comes_in_late_is_kept_whole_for_its_retention_from_then_on() {
    let mut net = Net::new(0, 5);
    net.config.forget_member_after = 1_000_000 * S;
    for retention in [100_000 * S, RETENTION] {
        net.config.retention = retention;
        net.add_peer();
    }
    net.link_all();
    net.submit(0, task("t"));
    net.sync(20 * S);
    net.cut(0, 1);
    run_at(&mut net, 0, "t");
    net.pass(3 * RETENTION);
    net.link(0, 1);
    net.sync(20 * S);
    net.pass(RETENTION / 2);
    assert_eq!(state(&net.peers[1].scheduler, at(net.now), "t"), State::Completed);
    net.pass(RETENTION);
    assert!(net.peers[1].scheduler.show(at(net.now), "t").is_err(), "a tombstone is left");
    assert_eq!(state(&net.peers[0].scheduler, at(net.now), "t"), State::Completed);
}

/// A store was put back and nobody said so. What it did before it met its peers got names that they
/// had seen already: the tasks got new ones, the tombstones did not, and the audit dropped them.
#[test]
fn what_ended_long_ago_in_a_store_that_was_put_back_is_told_to_the_others() {
    let mut net = net(2);
    net.submit(0, task("before"));
    run(&mut net, "before");
    let backup = net.peers[0].disk.clone();
    for id in ["1", "2", "3", "4", "5"] {
        net.submit(0, task(id));
    }
    net.sync(20 * S);
    net.cut(0, 1);
    net.peers[0].disk = backup;
    net.crash(0);
    net.pass(6 * S);
    net.submit(0, task("since"));
    net.pass(60 * S); // whoever's turn it is
    let (now, who) = (at(net.now), caller(COMMAND_LINE));
    let scheduler = &mut net.peers[0].scheduler;
    let claimed = scheduler.claim(now, &who, &timed(60 * S)).unwrap();
    assert_eq!(*claimed.task.task_id, *"since");
    scheduler.mark(now, &who, "since", done(), Some(claimed.fence)).unwrap();
    net.take_out(0, None);
    net.pass(2 * RETENTION);
    nudge(&mut net, 0);
    assert!(net.peers[0].scheduler.show(at(net.now), "since").is_err(), "a tombstone is left");
    net.link(0, 1);
    net.sync(30 * S);
    let told = net.peers[1].scheduler.show(at(net.now), "since").unwrap_err();
    assert_eq!(told.code(), "already_completed");
}

/// A machine left the swarm, kept its tasks, and joined again months later. Nobody had waited for it
/// with what was forgotten, and it gave out at once what the others had done.
#[test]
fn a_peer_that_left_and_joins_again_brings_no_task_back_to_life() {
    let mut net = net(2);
    net.submit(0, task("t"));
    net.sync(10 * S);
    net.peers[1].scheduler.leave(at(net.now));
    net.take_out(1, None);
    net.pass(S);
    net.cut(0, 1);
    net.peers[1].scheduler.depart(at(net.now));
    net.take_out(1, None);
    run_at(&mut net, 0, "t");
    net.pass(2 * RETENTION);
    nudge(&mut net, 0);
    nudge(&mut net, 0);
    assert!(!remembers(&mut net, 0, "t"));
    assert!(net.peers[1].scheduler.submit(at(net.now), task("alone")).unwrap().created);
    nudge(&mut net, 1);
    net.crash(1);
    net.link(0, 1);
    for _ in 0..100 {
        net.pass(100);
        let (now, who) = (at(net.now), caller(COMMAND_LINE));
        let Ok(claimed) = net.peers[1].scheduler.claim(now, &who, &timed(60 * S)) else { continue };
        assert_eq!(*claimed.task.task_id, *"alone");
        let released = net.peers[1].scheduler.mark(now, &who, "alone", Mark::Released, None);
        released.unwrap();
    }
    net.take_out(1, None);
    net.sync(10 * S);
    for p in 0..2 {
        let scheduler = &net.peers[p].scheduler;
        assert_eq!(scheduler.show(at(net.now), "t").unwrap_err().code(), "task_not_found");
        assert_eq!(state(scheduler, at(net.now), "alone"), State::Pending);
    }
}

/// The same for the peer that is there alone.
fn run_at(net: &mut Net, p: usize, id: &str) {
    net.pass(20 * S);
    let (now, who) = (at(net.now), caller(COMMAND_LINE));
    let scheduler = &mut net.peers[p].scheduler;
    let claimed = scheduler.claim(now, &who, &timed(60 * S)).unwrap();
    scheduler.mark(now, &who, id, done(), Some(claimed.fence)).unwrap();
    net.take_out(p, None);
}

/// The task that ended was on a cycle where it was not known to have ended. It was taken out, and what
/// waited for it there was shown as failed because of the cycle until the next start.
#[test]
fn a_tombstone_ends_a_cycle() {
    let mut net = net(2);
    net.cut(0, 1);
    net.submit(1, task("b"));
    run_at(&mut net, 1, "b");
    net.pass(2 * RETENTION);
    nudge(&mut net, 1);
    assert!(net.peers[1].scheduler.show(at(net.now), "b").is_err(), "a tombstone is left");
    net.submit(0, task_after("a", &["b"]));
    let mut other = P2PWorkflowScheduler::new("other", "other/1", net.config, Box::new(|| 0));
    other.submit(at(net.now), task_after("b", &["a"])).unwrap();
    push(&mut net.peers[0].scheduler, at(net.now), &other.take_changes());
    net.take_out(0, None);
    assert_eq!(state(&net.peers[0].scheduler, at(net.now), "a"), State::Failed);
    net.link(0, 1);
    net.sync(30 * S);
    for p in 0..2 {
        assert_eq!(state(&net.peers[p].scheduler, at(net.now), "a"), State::Pending);
    }
}

/// What was done after a task still counted it as completed when nothing was left of it. Once its id
/// was used again, one was taken off a count that was 0: a panic, or a count of 65,535.
#[test]
fn an_id_that_others_waited_for_can_be_used_again() {
    let mut net = net(1);
    net.submit(0, task("first"));
    run(&mut net, "first");
    net.pass(60 * S);
    net.submit(0, task_after("last", &["first"]));
    run(&mut net, "last");
    net.pass(60 * S);
    nudge(&mut net, 0);
    assert!(!remembers(&mut net, 0, "first"));
    assert_eq!(state(&net.peers[0].scheduler, at(net.now), "last"), State::Completed);
    net.submit(0, task("first"));
    run(&mut net, "first");
}

/// The same, where another end of it than the one of which a tombstone is left is heard of.
#[test]
fn a_completion_overtakes_the_tombstone_of_a_cancellation_for_those_that_wait_too() {
    let mut net = net(2);
    net.submit(0, task("first"));
    net.sync(10 * S);
    net.cut(0, 1);
    let cancel = Mark::Cancelled { error: None };
    let who = caller(COMMAND_LINE);
    net.peers[0].scheduler.mark(at(net.now), &who, "first", cancel, None).unwrap();
    net.take_out(0, None);
    net.pass(2 * RETENTION);
    nudge(&mut net, 0);
    assert!(net.peers[0].scheduler.show(at(net.now), "first").is_err(), "a tombstone is left");
    net.submit(0, task_after("last", &["first"]));
    assert_eq!(state(&net.peers[0].scheduler, at(net.now), "last"), State::Failed);
    run_at(&mut net, 1, "first");
    net.link(0, 1);
    net.sync(30 * S);
    for p in 0..2 {
        assert_eq!(state(&net.peers[p].scheduler, at(net.now), "last"), State::Pending);
    }
}

/// Two machines of three were put back from backups. Each took the other's word that nothing was
/// missing, and the third took the task that they brought back to life for a new one.
#[test]
fn what_two_restored_stores_bring_back_to_life_spreads_no_further() {
    let mut net = net(3);
    net.submit(0, task("t"));
    net.sync(10 * S);
    let backups = [0, 1].map(|p| net.peers[p].disk.clone());
    run(&mut net, "t");
    net.pass(3 * RETENTION);
    for (p, backup) in backups.into_iter().enumerate() {
        net.peers[p].disk = backup.put_back();
        net.cut(p, 2);
    }
    net.crash(0);
    net.crash(1);
    net.pass(60 * S);
    for p in 0..2 {
        let (now, who) = (at(net.now), caller(COMMAND_LINE));
        // Whichever of them gives it out again.
        net.peers[p].scheduler.claim(now, &who, &timed(600 * S)).ok();
        net.take_out(p, None);
    }
    net.link_all();
    net.sync(300 * S);
    for p in 0..3 {
        let shown = net.peers[p].scheduler.show(at(net.now), "t").unwrap_err();
        assert_eq!(shown.code(), "task_not_found", "at {p}");
    }
}

/// A swarm was split for longer than members are remembered, so that each half had given up the other.
#[test]
fn what_half_of_a_swarm_has_forgotten_stays_so_when_the_other_half_is_back() {
    let mut net = net(4);
    net.submit(0, task("t"));
    net.sync(10 * S);
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        net.cut(a, b);
    }
    run_between(&mut net, "t");
    net.pass(22 * RETENTION);
    net.link(0, 3);
    net.pass(1500);
    // The other half may give it out once more, and the first one does not take it in.
    for p in 2..4 {
        let (now, who) = (at(net.now), caller(COMMAND_LINE));
        net.peers[p].scheduler.claim(now, &who, &timed(600 * S)).ok();
        net.take_out(p, None);
    }
    net.link_all();
    net.sync(60 * S);
    for p in 0..4 {
        let shown = net.peers[p].scheduler.show(at(net.now), "t").unwrap_err();
        assert_eq!(shown.code(), "task_not_found", "at {p}");
    }
}

/// The wall clock of one peer jumped months ahead while the other was away for a minute. It gave the
/// other up, forgot the task that it had done, and then took it in again from the other.
#[test]
fn a_wall_clock_that_jumps_gives_nobody_up_and_brings_nothing_back_to_life() {
    let mut net = net(2);
    net.submit(0, task("t"));
    net.sync(10 * S);
    net.cut(0, 1);
    run_at(&mut net, 0, "t");
    let now = at(net.now);
    for second in 0..5 {
        let wall = now.wall + 30 * RETENTION + second * S;
        let monotonic = now.monotonic + second * S;
        net.peers[0].scheduler.advance(Now { wall, monotonic });
    }
    net.take_out(0, None);
    net.pass(30 * S);
    net.link(0, 1);
    net.sync(30 * S);
    for p in 0..2 {
        let shown = net.peers[p].scheduler.show(at(net.now), "t").unwrap_err();
        assert_eq!(shown.code(), "already_completed", "at {p}");
    }
}

/// Nobody was told that a snapshot was put back, and its peer had written nothing since it was taken:
/// so nothing gave that away.
#[test]
fn a_snapshot_that_nobody_tells_of_gives_out_nothing_that_was_forgotten() {
    let mut net = net(2);
    net.submit(0, task("t"));
    net.sync(10 * S);
    let snapshot = net.peers[1].disk.clone();
    run_at(&mut net, 0, "t");
    net.pass(3 * RETENTION);
    net.cut(0, 1);
    net.peers[1].disk = snapshot;
    net.crash(1);
    net.link(0, 1);
    for _ in 0..60 {
        net.pass(S / 5);
        let (now, who) = (at(net.now), caller(COMMAND_LINE));
        assert!(net.peers[1].scheduler.claim(now, &who, &timed(600 * S)).is_err());
    }
    net.sync(10 * S);
    let shown = net.peers[1].scheduler.show(at(net.now), "t").unwrap_err();
    assert_eq!(shown.code(), "task_not_found");
}

/// A peer joined while a member was away. Nobody told it of that member, so it soon forgot how a task
/// had ended, and told the member, when that was back, only that it had seen the end: the member kept
/// the task alive, and would have run it again.
#[test]
fn a_peer_that_joins_waits_for_members_that_were_away_when_it_came() {
    let mut net = net(3);
    net.submit(0, task("t"));
    net.sync(10 * S);
    net.cut(0, 2);
    net.cut(1, 2);
    net.pass(20 * S);
    run_between(&mut net, "t");
    net.pass(10 * S);
    net.add_peer();
    net.link(0, 3);
    net.link(1, 3);
    net.pass(3 * RETENTION);
    assert!(remembers(&mut net, 3, "t"), "the member that is away has not heard of it yet");
    net.cut(0, 3);
    net.cut(1, 3);
    net.link(2, 3);
    net.pass(60 * S);
    let shown = net.peers[2].scheduler.show(at(net.now), "t").unwrap_err();
    assert_eq!(shown.code(), "already_completed");
}

/// A task was submitted again where its end was forgotten, and ended there once more before a peer
/// heard of it that still knew the first end. Each kept to its own for good.
#[test]
fn an_id_that_was_used_again_has_one_outcome_where_two_ends_meet() {
    let mut net = one_that_keeps_for(100_000 * S);
    net.cut(0, 1);
    net.pass(20 * S);
    net.submit(0, task("t"));
    net.pass(120 * S); // whoever's turn it is
    let (now, who) = (at(net.now), caller(COMMAND_LINE));
    let scheduler = &mut net.peers[0].scheduler;
    let claimed = scheduler.claim(now, &who, &timed(60 * S)).unwrap();
    scheduler.mark(now, &who, "t", done(), Some(claimed.fence)).unwrap();
    net.take_out(0, None);
    net.link(0, 1);
    net.sync(60 * S);
    net.pass(10 * S);
    let record = |p: usize| net.peers[p].disk.records().get("t").cloned().unwrap();
    assert_eq!(record(0), record(1));
}

/// A store was put back to a time at which a task had just been submitted. The task had ended since,
/// was forgotten, and was submitted again: the store kept to the first submission for good.
#[test]
fn a_backup_that_is_put_back_takes_over_what_was_submitted_again() {
    for seed in 0..4 {
        let mut net = net(3);
        let payload = Some(format!("[{seed}]"));
        let t = || P2PTask { payload: payload.clone(), ..task_after("t", &["never"]) };
        net.submit(0, t());
        net.sync(10 * S);
        let backup = net.peers[2].disk.clone();
        let (now, who) = (at(net.now), caller(COMMAND_LINE));
        let cancel = Mark::Cancelled { error: None };
        net.peers[0].scheduler.mark(now, &who, "t", cancel, None).unwrap();
        net.take_out(0, None);
        net.pass(3 * RETENTION);
        assert!(!remembers(&mut net, 1, "t"));
        net.submit(1, t());
        net.sync(10 * S);
        net.peers[2].disk = backup.put_back();
        net.crash(2);
        net.sync(60 * S);
        let record = |p: usize| net.peers[p].disk.records().get("t").cloned().unwrap();
        assert_eq!(record(2), record(0), "seed {seed}");
    }
}
