//! What is shown beside tasks: the ids that begin in a certain way, the newest workflows, the
//! members, and the news of all that.

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::limits::{MAX_NEWEST_WORKFLOWS, MAX_OFFERED};
use p2p_workflow_scheduler::scheduler::*;

use crate::support::*;

fn ids(offer: &Offer) -> Vec<&str> {
    offer.ids.iter().map(|id| &**id).collect()
}

#[test]
fn ids_are_offered_by_how_they_begin() {
    let mut s = scheduler("me");
    for (id, workflow_id) in
        [("b", "w/2"), ("ab", "w/1"), ("äb", "w/1"), ("a", "v"), ("a/b", "w/2")]
    {
        s.submit(at(0), P2PTask { workflow_id: workflow_id.into(), ..task(id) }).unwrap();
    }
    let offer = |ids, prefix| s.offer(ids, prefix);
    assert_eq!(ids(&offer(Ids::Tasks, "a")), ["a", "a/b", "ab"]);
    assert_eq!(ids(&offer(Ids::Tasks, "")), ["a", "a/b", "ab", "b", "äb"]);
    assert_eq!(ids(&offer(Ids::Tasks, "ä")), ["äb"]);
    assert_eq!(offer(Ids::Tasks, "c"), Offer { ids: vec![], total: Some(0) });
    assert_eq!(ids(&offer(Ids::Workflows, "w/")), ["w/1", "w/2"]);
    assert_eq!(offer(Ids::Workflows, "").total, Some(3));
}

#[test]
fn an_offer_is_bounded_and_so_is_the_counting() {
    let mut s = scheduler("me");
    for n in 0..150 {
        s.submit(at(0), task(&format!("{n:06}"))).unwrap();
    }
    let offer = s.offer(Ids::Tasks, "0");
    assert_eq!((offer.ids.len(), offer.total), (MAX_OFFERED, Some(150)));
    for n in 150..20_000 {
        s.submit(at(0), task(&format!("{n:06}"))).unwrap();
    }
    let offer = s.offer(Ids::Tasks, "0");
    assert_eq!((offer.ids.len(), offer.total), (MAX_OFFERED, None));
    assert_eq!(s.offer(Ids::Tasks, "0199").total, Some(100));
}

#[test]
fn the_newest_workflows_come_first_and_the_same_after_a_restart() {
    let (mut s, mut disk) = (scheduler("me"), Disk::default());
    let submit = |s: &mut P2PWorkflowScheduler, id: &str, workflow_id: String| {
        s.submit(at(0), P2PTask { workflow_id, ..task(id) }).unwrap();
    };
    for n in 0..MAX_NEWEST_WORKFLOWS + 5 {
        submit(&mut s, &n.to_string(), format!("w{n}"));
        assert!(s.news().workflows);
        disk.keep(&s.take_changes());
    }
    submit(&mut s, "again", "w0".to_owned());
    assert!(!s.news().workflows, "an old workflow that has one more task is not a new one");
    disk.keep(&s.take_changes());
    let newest = s.newest_workflows();
    assert_eq!(newest.len(), MAX_NEWEST_WORKFLOWS);
    assert_eq!((&*newest[0], &*newest[MAX_NEWEST_WORKFLOWS - 1]), ("w104", "w5"));
    assert_eq!(disk.restore("me", at(0)).newest_workflows(), newest);
    assert_eq!(s.workflow_counts("w0"), Some([2, 0, 0, 0, 0, 0]));
    assert_eq!(s.workflow_counts("nothing"), None);
}

#[test]
fn a_member_is_shown_by_what_is_known_of_it() {
    let mut s = scheduler("me");
    let beat = |counter| Heartbeat { incarnation: 1, counter, presence: Presence::Watches };
    s.heartbeat(at(10), &"beats".into(), beat(1));
    let mut clock = MerkleClock::new("reported");
    clock.tick();
    let root = clock.merkle_root();
    s.update_peer(at(20), "reported", "reported", clock.vector(), &root).unwrap();
    assert!(s.news().members && s.news().clock);
    s.take_changes();
    let shown = |peer: &str, liveness, takes_work, heard_at, clock_order| MemberView {
        peer_id: peer.into(),
        liveness,
        has_left: false,
        alive: liveness != Some(Liveness::Down),
        takes_work,
        heard_at: Some(WALL_START + heard_at),
        clock_order,
    };
    let reported = shown("reported", None, true, 20, Some(ClockOrder::After));
    let beats = |liveness, heard_at| shown("beats", Some(liveness), false, heard_at, None);
    assert_eq!(s.members(at(30)), [beats(Liveness::Alive, 10), reported.clone()]);

    // One more heartbeat tells nothing new; silence does, step by step.
    s.heartbeat(at(S), &"beats".into(), beat(2));
    assert!(s.news().is_empty());
    assert_eq!(s.members(at(S)), [beats(Liveness::Alive, S), reported.clone()]);
    for (after, liveness) in [(6 * S, Liveness::Suspect), (14 * S, Liveness::Down)] {
        s.advance(at(after));
        assert!(s.news().members);
        s.take_changes();
        assert_eq!(s.members(at(after)), [beats(liveness, S), reported.clone()]);
        s.advance(at(after + 1));
        assert!(s.news().is_empty());
    }
    // And a reported peer is forgotten.
    s.advance(at(301 * S));
    assert!(s.news().members);
    assert_eq!(s.members(at(301 * S)), [beats(Liveness::Down, S)]);
}
