//! Whose turn it is: the ranking of the members, its rotation with each epoch, and what becomes of
//! tasks whose owner is busy, silent or gone.

use p2p_workflow_scheduler::scheduler::*;

use crate::support::*;

const TURN: u64 = 10 * S;

/// Peers that hear each other every second, and push what they change.
struct Swarm {
    peers: Vec<P2PWorkflowScheduler>,
    alive: Vec<bool>,
    now: u64,
    beats: u64,
}

impl Swarm {
    fn of(count: usize) -> Self {
        let peers = (0..count).map(|n| scheduler(&format!("peer-{n}"))).collect();
        let mut swarm = Swarm { peers, alive: vec![true; count], now: 0, beats: 0 };
        swarm.beat();
        swarm
    }

    fn living(&self) -> Vec<usize> {
        (0..self.peers.len()).filter(|peer| self.alive[*peer]).collect()
    }

    fn beat(&mut self) {
        self.beats += 1;
        let beat = Heartbeat { incarnation: 1, counter: self.beats, presence: Presence::Works };
        for from in self.living() {
            let name = self.peers[from].peer_id().clone();
            for to in self.living() {
                self.peers[to].heartbeat(at(self.now), &name, beat);
            }
        }
    }

    /// Lets time pass second by second.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now = end.min(self.now + S);
            self.beat();
            for peer in self.living() {
                self.peers[peer].advance(at(self.now));
            }
        }
    }

    /// Pushes what each peer changed to all others. Returns the last record that changed.
    fn gossip(&mut self) -> Record {
        let living = self.living();
        let said: Vec<(usize, Changes)> =
            living.iter().map(|peer| (*peer, self.peers[*peer].take_changes())).collect();
        for to in living {
            for (_, changes) in said.iter().filter(|(from, _)| *from != to) {
                push(&mut self.peers[to], at(self.now), changes);
            }
            self.peers[to].take_changes();
        }
        let mut changed = said.iter().flat_map(|(_, changes)| &changes.tasks);
        changed.next_back().unwrap().record.clone()
    }

    fn submit(&mut self, id: &str) -> Record {
        self.peers[0].submit(at(self.now), task(id)).unwrap();
        self.gossip()
    }

    fn claim(&mut self, peer: usize) -> Option<Claimed> {
        self.peers[peer].claim(at(self.now), &caller("w"), &timed(3600 * S)).ok()
    }

    /// The peers by their place in a task's ranking.
    fn ranking(&self, record: &Record, epoch: u64) -> Vec<usize> {
        let mut candidates = Candidates::default();
        for peer in &self.peers {
            candidates.insert(peer.peer_id().clone());
        }
        let combined = record.combined_hash();
        let rank =
            |n: &usize| candidates.rank_of(self.peers[*n].peer_id(), &combined, epoch).unwrap();
        let mut ranking: Vec<usize> = (0..self.peers.len()).collect();
        ranking.sort_by_key(rank);
        ranking
    }
}

#[test]
fn each_peer_waits_one_turn_for_each_one_before_it() {
    let mut swarm = Swarm::of(5);
    let record = swarm.submit("t");
    let ranking = swarm.ranking(&record, 1);
    for (rank, peer) in ranking.iter().enumerate() {
        let mut alone = Swarm::of(5);
        let again = alone.submit("t");
        assert_eq!(again.spec.head, record.spec.head);
        if rank > 0 {
            alone.pass(rank as u64 * TURN - 1);
            assert!(alone.claim(*peer).is_none(), "place {rank} is before its time");
            assert_eq!(alone.peers[*peer].status(at(alone.now)).queue_size, 0);
            let reason = alone.peers[*peer].show(at(alone.now), "t").unwrap().reason.unwrap();
            assert!(reason.contains(&format!("peer-{}", ranking[0])), "{reason}");
            alone.pass(1);
        }
        let claimed = alone.claim(*peer).unwrap();
        assert_eq!(claimed.ownership.rank, rank as u32);
        assert_eq!(*claimed.ownership.owner, *format!("peer-{}", ranking[0]));
        let expected = if rank == 0 { Reason::Owned } else { Reason::Offered };
        assert_eq!(claimed.ownership.reason, expected);
    }
}

#[test]
fn each_epoch_starts_one_place_further_down_the_ranking() {
    let mut swarm = Swarm::of(5);
    let record = swarm.submit("t");
    let first = swarm.ranking(&record, 1);
    for epoch in 0..7 {
        let owner = first[epoch % 5];
        assert_eq!(swarm.ranking(&record, epoch as u64 + 1)[0], owner);
        for peer in swarm.living().into_iter().filter(|peer| *peer != owner) {
            assert!(swarm.claim(peer).is_none(), "epoch {epoch}");
        }
        let claimed = swarm.claim(owner).unwrap();
        let report = Mark::Released;
        let now = at(swarm.now);
        swarm.peers[owner].mark(now, &caller("w"), "t", report, Some(claimed.fence)).unwrap();
        swarm.gossip();
    }
}

#[test]
fn nobody_waits_more_than_six_turns() {
    let mut swarm = Swarm::of(10);
    let record = swarm.submit("t");
    let last = swarm.ranking(&record, 1)[9];
    swarm.pass(6 * TURN - 1);
    assert!(swarm.claim(last).is_none());
    swarm.pass(1);
    assert_eq!(swarm.claim(last).unwrap().ownership.rank, 9);
}

#[test]
fn a_renewed_or_reprioritised_task_does_not_start_its_turns_again() {
    let mut swarm = Swarm::of(5);
    let record = swarm.submit("t");
    let second = swarm.ranking(&record, 1)[1];
    swarm.pass(TURN - S);
    swarm.peers[0].reprioritize(at(swarm.now), "t", 9).unwrap();
    swarm.gossip();
    swarm.pass(S);
    assert!(swarm.claim(second).is_some());
}

#[test]
fn what_a_dead_peer_held_is_taken_over_by_the_next_in_the_ranking_first() {
    let mut swarm = Swarm::of(5);
    let record = swarm.submit("t");
    let ranking = swarm.ranking(&record, 1);
    let lost = swarm.claim(ranking[0]).unwrap();
    swarm.gossip();
    swarm.alive[ranking[0]] = false;
    let config = Config::default();
    swarm.pass(config.suspect_after + config.down_after - S);
    for peer in swarm.living() {
        assert!(swarm.claim(peer).is_none(), "it may still be there");
    }
    swarm.pass(S);
    // Without the dead peer the second moves up, and the next epoch starts one place further down.
    let next = ranking[2];
    for peer in swarm.living().into_iter().filter(|peer| *peer != next) {
        assert!(swarm.claim(peer).is_none(), "one survivor takes it, not all");
        let view = swarm.peers[peer].show(at(swarm.now), "t").unwrap();
        assert!(view.reason.unwrap().contains(&format!("peer-{next}")));
    }
    let claimed = swarm.claim(next).unwrap();
    assert!(claimed.fence > lost.fence);
    assert_eq!((claimed.ownership.reason, claimed.task.attempt), (Reason::TakenOver, 1));

    // It was only slow. Its late report changes nothing anywhere, and it learns that it lost.
    let taken = swarm.peers[next].take_changes();
    let late = &mut swarm.peers[ranking[0]];
    push(late, at(swarm.now), &taken);
    let answer = late.mark(at(swarm.now), &caller("w"), "t", done(), Some(lost.fence));
    assert_eq!(answer.unwrap_err().code(), "stale_fence");
}

#[test]
fn a_peer_that_speaks_up_again_keeps_what_nobody_took() {
    let mut swarm = Swarm::of(3);
    let record = swarm.submit("t");
    let holder = swarm.ranking(&record, 1)[0];
    swarm.claim(holder).unwrap();
    swarm.gossip();
    swarm.alive[holder] = false;
    swarm.pass(15 * S);
    let other = swarm.living()[0];
    assert_eq!(state(&swarm.peers[other], at(swarm.now), "t"), State::Pending);
    swarm.alive[holder] = true;
    swarm.beat();
    assert_eq!(state(&swarm.peers[other], at(swarm.now), "t"), State::Assigned);
    swarm.pass(100 * S);
    assert!(swarm.claim(other).is_none());
}

/// After a restart nothing was entered in the index of held leases: what a peer held that never
/// came back stayed with it for ever.
#[test]
fn a_holder_that_is_never_heard_of_again_after_a_restart_goes_down() {
    let mut gone = scheduler("gone");
    let mut s = scheduler("me");
    let mut disk = Disk::default();
    gone.submit(at(0), task("t")).unwrap();
    gone.claim(at(0), &caller("w"), &timed(S)).unwrap();
    push(&mut s, at(0), &gone.take_changes());
    disk.keep(&s.take_changes());
    for mut s in [s, disk.restore("me", at(0))] {
        assert_eq!(state(&s, at(0), "t"), State::Assigned);
        assert_eq!(s.next_deadline(), Some(8 * S));
        s.advance(at(8 * S));
        assert!(s.claim(at(8 * S), &caller("w"), &timed(S)).is_ok());
    }
}

/// Once the answer was that the dead machine's task was held by it, and nothing of what to do.
#[test]
fn who_reports_on_a_task_of_a_peer_that_is_down_is_told_to_take_it() {
    let gone_id = "12D3KooWGWTtibP31YJvCbwyNN38C712SA8kkueSZKgpBfxCr6pQ";
    let (mut gone, mut s) = (scheduler(gone_id), scheduler("me"));
    gone.submit(at(0), task("t")).unwrap();
    let claimed = gone.claim(at(0), &caller("w"), &timed(S)).unwrap();
    push(&mut s, at(0), &gone.take_changes());
    let report = |s: &mut P2PWorkflowScheduler, now| {
        s.mark(now, &caller("w"), "t", done(), Some(claimed.fence)).unwrap_err()
    };
    let held = report(&mut s, at(0));
    assert_eq!(held.code(), "not_holder");
    assert!(held.to_string().contains(&format!("held by peer {gone_id:?}")), "{held}");
    s.advance(at(8 * S));
    let held = report(&mut s, at(8 * S));
    assert_eq!(held.code(), "not_holder");
    let told = "was held by 12D3KooW…BfxCr6pQ, which is down. Take it with";
    assert!(held.to_string().contains(told), "{held}");
}

/// A peer known by a reported clock counted as known, so a lease of its was never given up.
#[test]
fn a_peer_known_by_its_reported_clock_goes_down_as_a_holder_too() {
    let mut gone = scheduler("gone");
    let mut s = scheduler("me");
    gone.submit(at(0), task("t")).unwrap();
    gone.claim(at(0), &caller("w"), &timed(S)).unwrap();
    let clock = gone.clock();
    s.update_peer(at(0), "gone", "gone", clock.vector(), &clock.merkle_root()).unwrap();
    push(&mut s, at(0), &gone.take_changes());
    s.advance(at(10 * S));
    assert_eq!(s.liveness("gone"), Some(Liveness::Down));
    s.advance(at(70 * S));
    assert!(s.claim(at(70 * S), &caller("w"), &timed(S)).is_ok());
}

#[test]
fn a_peer_known_by_its_reported_clock_is_a_candidate_for_300_seconds() {
    let mut s = scheduler("me");
    let reported = MerkleClock::new("reported");
    let (vector, root) = (reported.vector(), reported.merkle_root());
    s.update_peer(at(0), "reported", "reported", vector, &root).unwrap();
    let mut not_mine = None;
    for n in 0.. {
        let id = format!("t{n}");
        if *s.submit(at(0), task(&id)).unwrap().owner == *"reported" {
            not_mine = Some(id);
            break;
        }
        run_one(&mut s, at(0)).unwrap();
    }
    let id = not_mine.unwrap();
    assert!(s.claim(at(0), &caller("w"), &timed(S)).is_err());
    let status = s.status(at(0));
    assert_eq!((status.known_peers, status.alive_peers), (2, 2));
    s.advance(at(TURN));
    assert_eq!(s.claim(at(TURN), &caller("w"), &timed(S)).unwrap().task.task_id, id.into());

    s.advance(at(300 * S - 1));
    assert_eq!(s.status(at(300 * S - 1)).alive_peers, 2);
    s.advance(at(300 * S));
    let status = s.status(at(300 * S));
    assert_eq!((status.known_peers, status.alive_peers), (1, 1), "and then it is forgotten");
}

#[test]
fn a_sweep_ranks_all_waiting_tasks_anew_when_a_member_leaves() {
    let mut swarm = Swarm::of(2);
    let count = 12_000; // more than one step of the sweep
    for n in 0..count {
        swarm.peers[0].submit(at(0), task(&n.to_string())).unwrap();
    }
    let mine = swarm.peers[0].status(at(0)).queue_size;
    assert!(mine > 0 && mine < count, "{mine} of {count} belong to the first");
    swarm.peers[0].take_became_ready();
    let s = &mut swarm.peers[0];
    s.connection_lost(at(0), &"peer-1".into());
    // Before the first turn of a peer that is not down, so that nothing else can have done it.
    s.advance(at(8 * S - 1));
    assert_eq!(s.status(at(0)).queue_size, mine);
    let mut calls = 0;
    while s.next_deadline().is_some_and(|next| next <= 8 * S) {
        s.advance(at(8 * S));
        calls += 1;
    }
    assert_eq!(s.status(at(0)).queue_size, count);
    assert!(s.take_became_ready());
    assert!(calls <= 26, "{calls} calls");
}

#[test]
fn a_peer_that_takes_no_work_is_never_an_owner() {
    let mut s = scheduler("me");
    let beat = |counter, presence| Heartbeat { incarnation: 1, counter, presence };
    s.heartbeat(at(0), &"client".into(), beat(1, Presence::Watches));
    for n in 0..20 {
        assert_eq!(*s.submit(at(0), task(&n.to_string())).unwrap().owner, *"me");
    }
    assert_eq!(s.status(at(0)).queue_size, 20);
    s.heartbeat(at(S), &"client".into(), beat(2, Presence::Works));
    while s.next_deadline().is_some_and(|next| next <= S) {
        s.advance(at(S));
    }
    let mine = s.status(at(S)).queue_size;
    assert!(mine < 20, "it may take some now");
    s.heartbeat(at(2 * S), &"client".into(), beat(1, Presence::Watches));
    assert_eq!(s.status(at(2 * S)).queue_size, mine, "an old heartbeat changes nothing");
}

/// A process that was stopped for a while took all others for down as soon as it went on.
#[test]
fn a_stopped_process_hears_the_others_out_before_it_takes_them_for_down() {
    let mut s = scheduler("me");
    let beat = |counter| Heartbeat { incarnation: 1, counter, presence: Presence::Works };
    s.heartbeat(at(0), &"other".into(), beat(1));
    s.advance(at(3600 * S));
    assert_eq!(s.liveness("other"), Some(Liveness::Suspect));
    s.heartbeat(at(3600 * S), &"other".into(), beat(2));
    s.advance(at(3601 * S));
    assert_eq!(s.liveness("other"), Some(Liveness::Alive));
}

/// One of five machines was killed while it sent its heartbeats: those that got the last one passed it
/// on to those that did not, and there it counted as alive for five seconds more.
#[test]
fn a_heartbeat_that_was_under_way_when_its_sender_died_does_not_bring_it_back() {
    let mut s = scheduler("me");
    let beat = |incarnation, counter| Heartbeat { incarnation, counter, presence: Presence::Works };
    s.heartbeat(at(0), &"other".into(), beat(1, 7));
    s.connection_lost(at(S), &"other".into());
    s.heartbeat(at(2 * S), &"other".into(), beat(1, 8));
    assert_eq!(s.liveness("other"), Some(Liveness::Suspect));
    s.advance(at(9 * S));
    assert_eq!(s.liveness("other"), Some(Liveness::Down));
    // What it said later, or says in another run, does.
    s.heartbeat(at(10 * S), &"other".into(), beat(1, 9));
    assert_eq!(s.liveness("other"), Some(Liveness::Alive));
    s.connection_lost(at(11 * S), &"other".into());
    s.heartbeat(at(12 * S), &"other".into(), beat(2, 1));
    assert_eq!(s.liveness("other"), Some(Liveness::Alive));
}

#[test]
fn a_task_that_takes_one_node_after_the_other_down_fails_in_the_end() {
    let mut previous = scheduler("node-0");
    previous.submit(at(0), task("t")).unwrap();
    previous.claim(at(0), &caller("w"), &timed(3600 * S)).unwrap();
    let mut changes = previous.take_changes();
    for n in 1..=limits::MAX_LOSSES {
        let mut next = scheduler(&format!("node-{n}"));
        push(&mut next, at(0), &changes);
        next.advance(at(10 * S)); // the holder is not heard of again
        let given = next.claim(at(10 * S), &caller("w"), &timed(3600 * S));
        assert_eq!(given.is_ok(), n < limits::MAX_LOSSES, "node {n}");
        if given.is_err() {
            let view = next.show(at(10 * S), "t").unwrap();
            assert_eq!(view.state, State::Failed);
            assert!(view.error.unwrap().contains("went away"));
        }
        changes = next.take_changes();
        changes.tasks.retain(|change| change.record.lease.is_some());
    }
}

#[test]
fn what_is_given_out_is_provisional_unless_most_of_the_swarm_is_in_reach() {
    let mut s = scheduler("me");
    let provisional = |s: &mut P2PWorkflowScheduler, now: u64| {
        let id = format!("at {now}");
        s.submit(at(now), task(&id)).unwrap();
        s.why(at(now), &id).unwrap().provisional
    };
    assert!(!provisional(&mut s, 0), "alone");
    for peer in ["a", "b"] {
        let beat = Heartbeat { incarnation: 1, counter: 1, presence: Presence::Works };
        s.heartbeat(at(0), &peer.into(), beat);
    }
    assert!(!provisional(&mut s, 1));
    s.connection_lost(at(2), &"a".into());
    s.advance(at(9 * S));
    assert!(!provisional(&mut s, 9 * S), "two of three");
    s.connection_lost(at(9 * S), &"b".into());
    s.advance(at(20 * S));
    assert!(provisional(&mut s, 20 * S), "one of three");
    // Who left for good, or was sent away, does not count.
    let left = Heartbeat { incarnation: 1, counter: 2, presence: Presence::Left };
    s.heartbeat(at(21 * S), &"a".into(), left);
    assert!(provisional(&mut s, 22 * S), "one of two");
    s.exclude(at(23 * S), &"b".into());
    assert!(!provisional(&mut s, 24 * S));
}

#[test]
fn why_names_the_candidates_in_the_order_of_their_turns() {
    let mut swarm = Swarm::of(3);
    swarm.peers[0].submit(at(0), task("t")).unwrap();
    let why = swarm.peers[0].why(at(0), "t").unwrap();
    assert_eq!((why.epoch, why.candidates, why.turn), (1, 3, 10 * S));
    assert_eq!(why.combined, combined_hash(&why.head, &task_hash("t", "w")));
    let owner = &why.turns[0];
    assert_eq!(swarm.peers[0].submit(at(0), task("t")).unwrap().owner, owner.peer);
    assert!(why.turns.is_sorted_by_key(|turn| turn.distance), "{:?}", why.turns);
    let hash = Hash256::of(owner.peer.as_bytes());
    assert_eq!(Distance::between(&why.combined, &hash).hamming, owner.distance);
    let unknown = swarm.peers[0].why(at(0), "unknown").unwrap_err();
    assert_eq!(unknown.code(), "task_not_found");
}
