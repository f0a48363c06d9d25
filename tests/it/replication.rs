//! A few schedulers on a network in memory, driven only as the contract of replication says: what
//! changed goes to disk after a while, and messages leave after it. Messages are lost, late, doubled
//! and out of order, links break, peers crash with what was not on disk yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::limits::{MAX_CARRIED, MAX_CARRIED_BYTES, MAX_COUNTER};
use p2p_workflow_scheduler::scheduler::*;
use serde_json::Value;

use crate::support::{
    COMMAND_LINE, Disk, S, at, caller, done, failed, scheduler, task, timed, views,
};

/// Random numbers from a seed: SplitMix64.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the network and the disks do to whoever relies on them.
#[derive(Clone, Copy)]
struct Weather {
    /// Percent of messages that are lost, and of those that come twice.
    loss: u64,
    doubled: u64,
    /// Milliseconds that a message and a commit take at most.
    delay: u64,
    commit: u64,
}

const FAIR: Weather = Weather { loss: 0, doubled: 0, delay: 3, commit: 2 };
const FOUL: Weather = Weather { loss: 30, doubled: 10, delay: 900, commit: 200 };

/// What waits for the disk: changes, the messages that leave after them, and what a caller is told.
struct Waiting {
    on_disk_at: u64,
    changes: Changes,
    outgoing: Vec<Outgoing>,
    acknowledged: Option<(String, Class)>,
}

pub(crate) struct Peer {
    name: Arc<str>,
    pub(crate) scheduler: P2PWorkflowScheduler,
    pub(crate) disk: Disk,
    texts: BTreeMap<(bool, u64), Arc<str>>,
    waiting: VecDeque<Waiting>,
    /// Counts restarts: what was sent to an earlier life does not arrive.
    life: u64,
    /// Counts the actors that it took.
    actors: u64,
    /// Tasks it was given, with their fences.
    held: Vec<(Arc<str>, u64)>,
}

struct Flight {
    from: Arc<str>,
    to: usize,
    life: u64,
    message: Message,
}

pub(crate) struct Net {
    pub(crate) peers: Vec<Peer>,
    links: BTreeSet<(usize, usize)>,
    flights: BTreeMap<(u64, u64), Flight>,
    sent: u64,
    pub(crate) now: u64,
    random: Random,
    weather: Weather,
    acknowledged: BTreeMap<String, Class>,
    pages: Vec<usize>,
    /// Some of what was said, where that is looked at.
    heard: Option<Vec<Message>>,
    pub(crate) config: Config,
    /// How far the clocks of peers that start now were put back.
    put_back: u64,
}

pub(crate) fn name(index: usize) -> Arc<str> {
    format!("peer-{index}").into()
}

impl Net {
    pub(crate) fn new(peers: usize, seed: u64) -> Self {
        let mut net = Net {
            peers: Vec::new(),
            links: BTreeSet::new(),
            flights: BTreeMap::new(),
            sent: 0,
            now: 0,
            random: Random(seed),
            weather: FAIR,
            acknowledged: BTreeMap::new(),
            pages: Vec::new(),
            heard: None,
            config: Config::default(),
            put_back: 0,
        };
        for _ in 0..peers {
            net.add_peer();
        }
        net
    }

    pub(crate) fn add_peer(&mut self) {
        let name = name(self.peers.len());
        let scheduler = self.start(&name, &Disk::default());
        self.peers.push(Peer {
            name,
            scheduler,
            disk: Disk::default(),
            texts: BTreeMap::new(),
            waiting: VecDeque::new(),
            life: 0,
            actors: 0,
            held: Vec::new(),
        });
    }

    pub(crate) fn start(&mut self, peer: &str, disk: &Disk) -> P2PWorkflowScheduler {
        let mut random = Random(self.random.next());
        let jitter: Jitter = Box::new(move || random.next());
        let actor = format!("{peer}/1");
        let mut scheduler = disk.restore_as(peer, &actor, self.config, at(self.now), jitter);
        let number = at(self.now).wall - self.put_back;
        scheduler.replicate(at(self.now), number);
        scheduler
    }

    pub(crate) fn link_all(&mut self) {
        let count = self.peers.len();
        (0..count).for_each(|a| (a + 1..count).for_each(|b| self.link(a, b)));
    }

    pub(crate) fn link(&mut self, a: usize, b: usize) {
        if self.links.insert((a.min(b), a.max(b))) {
            for (here, there) in [(a, b), (b, a)] {
                let there = self.peers[there].name.clone();
                self.peers[here].scheduler.connected(at(self.now), &there);
                self.take_out(here, None);
            }
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a.min(b), a.max(b))) {
            for (here, there) in [(a, b), (b, a)] {
                let there = self.peers[there].name.clone();
                self.peers[here].scheduler.connection_lost(at(self.now), &there);
                self.take_out(here, None);
            }
        }
    }

    /// The driver's duty after each call.
    pub(crate) fn take_out(&mut self, p: usize, acknowledged: Option<(String, Class)>) {
        let commit = self.random.below(self.weather.commit);
        let Peer { scheduler, waiting, .. } = &mut self.peers[p];
        let changes = scheduler.take_changes();
        let (at_once, outgoing): (Vec<_>, Vec<_>) =
            scheduler.take_outgoing().into_iter().partition(Outgoing::may_leave_at_once);
        let before = waiting.back().map_or(0, |last| last.on_disk_at);
        let on_disk_at = before.max(self.now + commit);
        if !changes.is_empty() || !outgoing.is_empty() || acknowledged.is_some() {
            waiting.push_back(Waiting { on_disk_at, changes, outgoing, acknowledged });
        }
        at_once.into_iter().for_each(|outgoing| self.send(p, outgoing));
    }

    fn commit(&mut self, p: usize) {
        let Peer { disk, texts, waiting, .. } = &mut self.peers[p];
        let Some(Waiting { changes, mut outgoing, acknowledged, .. }) = waiting.pop_front() else {
            return;
        };
        disk.keep(&changes);
        for change in &changes.tasks {
            if change.spec_is_new {
                texts.remove(&(true, change.key));
            }
            let new = [(true, &change.payload), (false, &change.result)];
            for (is_payload, text) in new {
                texts.extend(text.iter().map(|text| ((is_payload, change.key), text.clone())));
            }
        }
        for outgoing in &mut outgoing {
            outgoing.fill(|text| match text {
                Text::Payload(key) => texts.get(&(true, key)).cloned(),
                Text::Result(key) => texts.get(&(false, key)).cloned(),
            });
        }
        if let Some((id, class)) = acknowledged {
            let known = self.acknowledged.entry(id).or_insert(class);
            *known = class.max(*known);
        }
        outgoing.into_iter().for_each(|outgoing| self.send(p, outgoing));
    }

    fn send(&mut self, p: usize, outgoing: Outgoing) {
        let to = self.peers.iter().position(|peer| peer.name == outgoing.to).unwrap();
        self.look_at(&outgoing.message);
        let copies = 1 + usize::from(self.random.percent(self.weather.doubled));
        for _ in 0..copies {
            if !self.links.contains(&(p.min(to), p.max(to)))
                || self.random.percent(self.weather.loss)
            {
                continue;
            }
            let at = self.now + 1 + self.random.below(self.weather.delay);
            self.sent += 1;
            let flight = Flight {
                from: self.peers[p].name.clone(),
                to,
                life: self.peers[to].life,
                message: outgoing.message.clone(),
            };
            self.flights.insert((at, self.sent), flight);
        }
    }

    /// A message is of bounded size, and is the same when it was written and read.
    fn look_at(&mut self, message: &Message) {
        self.heard.iter_mut().for_each(|heard| heard.push(message.clone()));
        let records = match &message.content {
            Content::Push { records, .. } => &**records,
            Content::PullPage(page) => {
                self.pages.push(page.records.len());
                &page.records
            }
            Content::Heartbeat(_) | Content::PullRequest(_) | Content::Held(_) => return,
        };
        assert!(records.len() <= MAX_CARRIED);
        let texts = records.iter().flat_map(|it| [&it.payload, &it.result]).flatten();
        let bytes = texts.map(|text| text.len()).sum::<usize>();
        assert!(bytes <= MAX_CARRIED_BYTES || records.len() == 1);
        if self.sent.is_multiple_of(16) {
            let written = serde_json::to_string(message).unwrap();
            assert_eq!(serde_json::from_str::<Message>(&written).unwrap(), *message);
        }
    }

    /// Brings the next thing that happens up to `until`. False if there is none.
    fn step(&mut self, until: u64) -> bool {
        let flight = self.flights.first_key_value().map(|((at, _), _)| *at);
        let commits = self.peers.iter().enumerate();
        let commit = commits.filter_map(|(p, it)| Some((it.waiting.front()?.on_disk_at, p))).min();
        let due = self.peers.iter().enumerate();
        let due = due.filter_map(|(p, it)| Some((it.scheduler.next_deadline()?, p))).min();
        let next = [flight, commit.map(|(at, _)| at), due.map(|(at, _)| at)];
        let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        if let Some((_, p)) = commit.filter(|(at, _)| *at == next) {
            self.commit(p);
        } else if flight == Some(next) {
            let (_, Flight { from, to, life, message }) = self.flights.pop_first().unwrap();
            let linked = self.linked(&from, to);
            if self.peers[to].life == life && linked {
                let peer = &mut self.peers[to];
                match peer.scheduler.receive(at(self.now), &from, message) {
                    Ok(()) => {}
                    Err(Refused::OwnWrites { .. }) => peer.actors += 1,
                    Err(refused) => panic!("{refused}"),
                }
                self.take_out(to, None);
            }
        } else if let Some((_, p)) = due {
            self.peers[p].scheduler.advance(at(self.now));
            self.take_out(p, None);
        }
        true
    }

    fn linked(&self, from: &str, to: usize) -> bool {
        let from = self.peers.iter().position(|peer| *peer.name == *from).unwrap();
        self.links.contains(&(from.min(to), from.max(to)))
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        let until = self.now + millis;
        while self.step(until) {}
    }

    /// Passes time until all peers hold the same.
    pub(crate) fn sync(&mut self, at_most: u64) {
        let until = self.now + at_most;
        while !self.is_in_sync() {
            assert!(self.now < until, "not in sync after {at_most} ms");
            self.pass(100);
        }
    }

    fn is_in_sync(&self) -> bool {
        let roots = self.peers[0].scheduler.roots();
        self.peers.iter().all(|it| it.waiting.is_empty() && it.scheduler.roots() == roots)
    }

    pub(crate) fn submit(&mut self, p: usize, task: P2PTask) {
        let id = task.task_id.clone();
        if self.peers[p].scheduler.submit(at(self.now), task).is_ok() {
            self.take_out(p, Some((id, Class::Live)));
        }
    }

    /// Loses what is not on disk, and starts again. Its peers see the connections drop.
    pub(crate) fn crash(&mut self, p: usize) {
        let others: Vec<usize> = (0..self.peers.len())
            .filter(|other| self.links.contains(&(p.min(*other), p.max(*other))))
            .collect();
        others.iter().for_each(|other| self.cut(p, *other));
        let (name, disk) = (self.peers[p].name.clone(), self.peers[p].disk.clone());
        let scheduler = self.start(&name, &disk);
        let peer = &mut self.peers[p];
        peer.scheduler = scheduler;
        peer.waiting.clear();
        peer.held.clear();
        peer.life += 1;
        others.iter().for_each(|other| self.link(p, *other));
    }

    /// Something that a worker or a person does.
    fn act(&mut self, p: usize, task_id: String) {
        let now = at(self.now);
        let who = caller(COMMAND_LINE);
        match self.random.below(10) {
            0..3 => {
                let payload = match self.random.below(8) {
                    0..3 => None,
                    // Few of these fill a page.
                    3 => Some(format!("\"{}\"", "x".repeat(200_000))),
                    _ => Some(format!("[{}]", self.random.next())),
                };
                let max_attempts = self.random.below(3) as u32;
                self.submit(p, P2PTask { payload, max_attempts, ..task(&task_id) });
            }
            3..6 => {
                if let Ok(claimed) = self.peers[p].scheduler.claim(now, &who, &timed(20 * S)) {
                    let held = (claimed.task.task_id, claimed.fence);
                    self.peers[p].held.push(held);
                }
                self.take_out(p, None);
            }
            6..9 => {
                let Some((id, fence)) = self.peers[p].held.pop() else { return };
                let result = self.random.percent(50).then(|| format!("{{\"n\":{fence}}}"));
                let mark = match self.random.below(4) {
                    0 => Mark::Failed { error: Some("no".into()), result, retry: true },
                    1 => Mark::InProgress { note: Some("half".into()) },
                    _ => Mark::Completed { result },
                };
                let completes = matches!(mark, Mark::Completed { .. });
                let marked = self.peers[p].scheduler.mark(now, &who, &id, mark, Some(fence));
                let class = if completes { Class::Completed } else { Class::Live };
                self.take_out(p, marked.is_ok().then(|| (id.to_string(), class)));
            }
            _ => {
                let mark = Mark::Cancelled { error: None };
                let cancel = self.random.percent(30);
                let marked = match cancel {
                    true => self.peers[p].scheduler.mark(now, &who, &task_id, mark, None),
                    false => self.peers[p].scheduler.requeue(now, &task_id),
                };
                let class = if cancel { Class::Cancelled } else { Class::Live };
                self.take_out(p, marked.is_ok().then_some((task_id, class)));
            }
        }
    }

    /// All hold the same, with all texts, and nothing that was acknowledged is lost.
    fn check(&self) {
        let first = self.peers[0].disk.records();
        let clock = self.peers[0].scheduler.clock().vector();
        for peer in &self.peers {
            let records = peer.disk.records();
            assert_eq!(records.len(), first.len());
            for (id, record) in &records {
                assert_eq!(*record, first[id], "at {}", peer.name);
            }
            assert_eq!(peer.scheduler.clock().vector(), clock);
            for (id, class) in &self.acknowledged {
                assert!(records[id.as_str()].class >= *class, "{id} was acknowledged: {class:?}");
            }
            let filter = Filter { limit: 100, ..Filter::default() };
            for view in peer.scheduler.list(at(self.now), &filter).unwrap().tasks {
                let record = &records[&view.task_id];
                let payload = peer.texts.get(&(true, view.key)).map(|text| &**text);
                if record.spec.payload_size > 0 {
                    let sealed = (*record.spec).clone().sealed(payload);
                    assert_eq!(sealed.hash, record.spec.hash, "the payload came along");
                }
                if let Some(body) = record.outcome.as_ref().and_then(|outcome| outcome.result) {
                    assert_eq!(Body::of(&peer.texts[&(false, view.key)]), body);
                }
            }
        }
    }
}

/// One life of a swarm in foul weather, and whether it heals.
fn live(seed: u64) {
    eprintln!("seed {seed}"); // shown where the test fails
    let peers = 3 + (seed % 4) as usize;
    let mut net = Net::new(peers, seed);
    net.link_all();
    net.weather = FOUL;
    for _ in 0..150 {
        let p = net.random.below(peers as u64) as usize;
        let other = net.random.below(peers as u64) as usize;
        match net.random.below(20) {
            0 => net.crash(p),
            1 | 2 if p != other => net.cut(p, other),
            3 if p != other => net.link(p, other),
            _ => {
                let task_id = format!("task-{}", net.random.below(25));
                net.act(p, task_id);
            }
        }
        let wait = net.random.below(1_500);
        net.pass(wait);
    }
    net.weather = FAIR;
    net.link_all();
    net.pass(2 * S);
    net.sync(300 * S);
    net.check();
    assert!(!net.acknowledged.is_empty(), "something was done");
}

/// A push of records that nobody else was told of.
fn push_of(records: Vec<Carried>) -> Message {
    let (records, clock, told) = (Arc::new(records), BTreeMap::new(), Vec::new());
    Content::Push { records, clock, told }.into()
}

#[test]
fn peers_converge_after_foul_weather_and_lose_nothing_acknowledged() {
    (0..24).for_each(live);
}

#[test]
fn a_fresh_record_reaches_all_connected_peers_at_once() {
    let mut net = Net::new(4, 1);
    net.link_all();
    net.pass(S);
    net.submit(2, P2PTask { payload: Some("[1]".into()), ..task("t") });
    net.pass(20);
    assert!(net.is_in_sync());
    net.check();
    net.pass(2 * S);
    assert!(net.peers.iter().all(|it| it.scheduler.status(at(net.now)).in_sync));
}

#[test]
fn records_and_heartbeats_go_along_a_chain() {
    let mut net = Net::new(4, 2);
    (0..3).for_each(|p| net.link(p, p + 1));
    net.submit(0, task("t"));
    net.sync(60 * S);
    net.submit(3, task("another"));
    net.pass(30);
    assert!(net.is_in_sync(), "pushed on from link to link");
    net.pass(60 * S);
    let far = net.peers[0].scheduler.liveness(&name(3));
    assert_eq!(far, Some(Liveness::Alive), "though it is three links away");
    net.crash(3);
    net.cut(2, 3);
    net.pass(60 * S);
    assert_eq!(net.peers[0].scheduler.liveness(&name(3)), Some(Liveness::Down));
}

#[test]
fn a_peer_that_starts_again_with_its_clock_put_back_is_believed_to_be_alive() {
    let mut net = Net::new(2, 12);
    net.link(0, 1);
    net.submit(0, task("before"));
    net.pass(30 * S);
    net.put_back = 3_600 * S;
    net.crash(0);
    net.submit(0, task("after"));
    net.pass(60 * S);
    assert_eq!(net.peers[1].scheduler.liveness(&name(0)), Some(Liveness::Alive));
    net.sync(20 * S);
    net.check();
}

#[test]
fn an_empty_peer_catches_up_in_pages_and_goes_on_where_it_stopped() {
    const TASKS: usize = 10_000;
    let mut net = Net::new(1, 3);
    for index in 0..TASKS {
        net.submit(0, task(&format!("task-{index}")));
    }
    net.pass(S);
    net.add_peer();
    net.link(0, 1);
    while net.pages.len() < 8 {
        assert!(net.now < 60 * S, "it pulls in pages");
        net.pass(1);
    }
    net.cut(0, 1);
    net.pass(S);
    let before: usize = net.pages.iter().sum();
    assert!(before < TASKS / 2);
    net.link(0, 1);
    net.sync(60 * S);
    net.check();
    let pulled: usize = net.pages.iter().sum();
    assert!(pulled <= TASKS + MAX_CARRIED, "{pulled} records were sent");
    assert_eq!(net.peers[1].disk.records().len(), TASKS);
}

#[test]
fn large_payloads_make_small_pages() {
    let mut net = Net::new(1, 4);
    for index in 0..12 {
        let payload = Some(format!("\"{}\"", "x".repeat(200_000)));
        net.submit(0, P2PTask { payload, ..task(&format!("task-{index}")) });
    }
    net.pass(S);
    net.add_peer();
    net.link(0, 1);
    net.sync(20 * S);
    net.check();
    assert!(net.pages.iter().all(|records| *records <= 5), "{:?}", net.pages);
}

#[test]
fn a_page_whose_text_cannot_be_read_advances_nobody() {
    let mut net = Net::new(1, 5);
    net.submit(0, task("first"));
    net.submit(0, P2PTask { payload: Some("[1]".into()), ..task("second") });
    net.pass(S);
    let text = net.peers[0].texts.remove(&(true, 1)).unwrap();
    net.add_peer();
    net.link(0, 1);
    net.pass(60 * S);
    assert!(net.peers[1].scheduler.show(at(net.now), "second").is_err());
    assert!(!net.is_in_sync());
    net.peers[0].texts.insert((true, 1), text);
    net.sync(60 * S);
    net.check();
}

/// A peer that could not read one of its texts was asked again and again before all others, since
/// nothing but a pull that came to its end put it back in line.
#[test]
fn a_peer_whose_pulls_fail_does_not_keep_others_from_being_asked() {
    let mut net = Net::new(0, 3);
    net.config.push_fanout = 0; // all comes by pulls
    net.add_peer();
    net.submit(0, P2PTask { payload: Some("[1]".into()), ..task("unreadable") });
    net.pass(S);
    net.peers[0].texts.clear();
    net.add_peer();
    net.add_peer();
    net.link(0, 2);
    net.link(1, 2);
    for step in 0..120 {
        net.submit(1, task(&format!("task-{step}"))); // it is never quiet
        net.pass(S);
    }
    assert!(net.peers[2].scheduler.show(at(net.now), "task-60").is_ok());
}

#[test]
fn peers_in_sync_say_nothing_but_heartbeats() {
    let mut net = Net::new(3, 6);
    net.link_all();
    net.submit(0, task("t"));
    net.sync(10 * S);
    net.pass(30 * S);
    let pages = net.pages.len();
    net.pass(300 * S);
    assert_eq!(net.pages.len(), pages);
}

#[test]
fn a_store_that_was_put_back_is_told_by_its_peers() {
    let mut net = Net::new(2, 7);
    net.link_all();
    net.submit(0, task("before"));
    net.sync(10 * S);
    let backup = net.peers[0].disk.clone();
    net.submit(0, task("after"));
    net.sync(10 * S);
    let mut restored = net.start("peer-0", &backup);
    let other = name(1);
    restored.connected(at(net.now), &other);
    let record = net.peers[1].disk.records()["after"].clone();
    let push = |record| push_of(vec![Carried { record, payload: None, result: None }]);
    let refused = restored.receive(at(net.now), &other, push(record.clone())).unwrap_err();
    assert_eq!(refused, Refused::OwnWrites { counter: 2, known: 1 });
    let have = Arc::new(net.peers[1].scheduler.have().clone());
    let pull = PullId { run: 1, number: 1 };
    let request = Content::PullRequest(PullRequest { pull, have, after: None, audit: false });
    assert!(restored.show(at(net.now), "after").is_err());
    let changes = restored.take_changes();
    let actor = changes.actor.clone().expect("it writes under another from now on");
    assert!(actor.starts_with("peer-0/") && *actor != *"peer-0/1");
    assert_eq!(
        changes,
        Changes {
            actor: Some(actor),
            have: changes.have.clone(),
            doubtful: Some(true),
            ..Changes::default()
        }
    );
    // The peer's writes are as good as any other's now.
    assert_eq!(restored.receive(at(net.now), &other, request.into()), Ok(()));
    assert_eq!(restored.receive(at(net.now), &other, push(record)), Ok(()));
    assert!(restored.show(at(net.now), "after").is_ok());
}

#[test]
fn a_restored_store_takes_a_new_actor_and_nothing_of_either_life_is_lost() {
    let mut net = Net::new(3, 11);
    net.link_all();
    net.submit(0, task("before"));
    net.sync(20 * S);
    let backup = net.peers[0].disk.clone();
    for id in ["lost-1", "lost-2", "lost-3"] {
        net.submit(0, task(id));
    }
    net.sync(20 * S);
    (1..3).for_each(|other| net.cut(0, other));
    net.peers[0].disk = backup;
    net.crash(0);
    // Under the names that the lost writes have.
    net.submit(0, P2PTask { payload: Some("[1]".into()), ..task("since-1") });
    // Without a peer in reach it is on its own after a while.
    net.pass(6 * S);
    let who = caller(COMMAND_LINE);
    let claimed = net.peers[0].scheduler.claim(at(net.now), &who, &timed(600 * S)).unwrap();
    net.take_out(0, None);
    net.pass(S);
    net.link_all();
    net.sync(60 * S);
    net.check();
    assert_eq!(net.peers[0].actors, 1);
    let records = net.peers[0].disk.records();
    assert_eq!(records.len(), 5, "of both lives: {:?}", records.keys());
    let dots: BTreeSet<&Dot> = records.values().map(|record| &record.dot).collect();
    assert_eq!(dots.len(), 5, "each write has a name of its own");
    let fence = Some(claimed.fence);
    let id = &claimed.task.task_id;
    net.peers[0].scheduler.mark(at(net.now), &who, id, done(), fence).unwrap();
    net.take_out(0, Some((id.to_string(), Class::Completed)));
    net.crash(0);
    net.sync(60 * S);
    net.check();
}

#[test]
fn what_no_peer_says_is_refused_and_changes_nothing() {
    let mut net = Net::new(2, 8);
    net.link(0, 1);
    net.submit(0, task("good"));
    net.submit(0, P2PTask { payload: Some("[1]".into()), ..task("with-payload") });
    net.pass(S);
    let records = net.peers[0].disk.records();
    let carried = |id: &str| Carried { record: records[id].clone(), payload: None, result: None };
    let mut receiver = net.start("receiver", &Disk::default());
    let from = name(0);
    let mut say = |message: Message| {
        let answer = receiver.receive(at(2 * S), &from, message);
        let changes = receiver.take_changes();
        (answer.map_err(|refused| refused.to_string()), changes.tasks.len())
    };
    let push = push_of;
    assert_eq!(
        say(push(vec![carried("good")])).0.unwrap_err(),
        "there is no connection to that peer"
    );

    let mut receiver = net.start("receiver", &Disk::default());
    receiver.connected(at(2 * S), &from);
    let mut say = |message: Message| {
        let answer = receiver.receive(at(2 * S), &from, message);
        let changes = receiver.take_changes();
        (answer.map_err(|refused| refused.to_string()), changes.tasks.len())
    };
    let mut bad = carried("good");
    bad.record.epoch = 0;
    let (answer, changed) = say(push(vec![carried("good"), bad]));
    assert!(answer.unwrap_err().contains("its epoch 0 is out of range"));
    assert_eq!(changed, 0, "not even the good one before it");
    let later = Message { version: 2, ..push(vec![carried("good")]) };
    assert!(say(later).0.unwrap_err().contains("version 2"));
    let many = vec![carried("good"); MAX_CARRIED + 1];
    assert!(say(push(many)).0.unwrap_err().contains("too many records"));
    assert_eq!(say(push(vec![carried("with-payload")])), (Ok(()), 0), "its text is not here");
    assert_eq!(say(push(vec![carried("good")])), (Ok(()), 1));
    assert_eq!(say(push(vec![carried("good")])), (Ok(()), 0), "it is known");
}

/// Puts something else in one random place of a message.
fn spoil(value: &mut Value, random: &mut Random) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            let chosen = random.below(items.len() as u64) as usize;
            match random.percent(10) {
                true => items.push(items[chosen].clone()),
                false => spoil(&mut items[chosen], random),
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let chosen = random.below(fields.len() as u64) as usize;
            spoil(fields.values_mut().nth(chosen).unwrap(), random);
        }
        Value::Number(_) => {
            let any = [0, 1, 2, 3, 255, 1 << 31, u64::from(u32::MAX), 1 << 53, u64::MAX];
            *value = any[random.below(any.len() as u64) as usize].into();
        }
        Value::String(_) => {
            let any = ["", "task-1", "peer-0", "peer-0/1", "receiver", "receiver/1", "\u{0}"];
            let phases = ["Live", "Completed", "Cancelled", "Pending", "Leased", "Failed"];
            let any = [&any[..], &phases[..]].concat();
            *value = any[random.below(any.len() as u64) as usize].into();
        }
        _ => *value = Value::Null,
    }
}

#[test]
fn spoilt_messages_never_bring_a_peer_down() {
    let mut net = Net::new(2, 13);
    net.heard = Some(Vec::new());
    net.link(0, 1);
    for _ in 0..60 {
        let (p, task_id) = (net.random.below(2) as usize, net.random.below(8));
        net.act(p, format!("task-{task_id}"));
        net.pass(200);
    }
    let heard = net.heard.take().unwrap();
    let written: Vec<Value> = heard.iter().map(|it| serde_json::to_value(it).unwrap()).collect();
    let mut random = Random(13);
    let mut receiver = net.start("receiver", &Disk::default());
    receiver.connected(at(net.now), &name(0));
    let (mut refused, mut taken) = (0, 0);
    for round in 0..6_000 {
        let mut value = written[random.below(written.len() as u64) as usize].clone();
        (0..1 + random.below(3)).for_each(|_| spoil(&mut value, &mut random));
        let Ok(message) = serde_json::from_value::<Message>(value) else { continue };
        let now = at(net.now + round);
        match receiver.receive(now, &name(0), message) {
            Ok(()) => taken += 1,
            Err(_refused) => refused += 1,
        }
        receiver.advance(now);
        if let Ok(claimed) = receiver.claim(now, &caller("worker"), &timed(2 * S)) {
            let (id, fence) = (&claimed.task.task_id, Some(claimed.fence));
            receiver.mark(now, &caller("worker"), id, failed(), fence).unwrap();
        }
        receiver.take_changes();
        receiver.take_outgoing();
        if round % 100 == 0 {
            views(&receiver, now);
        }
    }
    assert!(refused > 500 && taken > 500, "{refused} refused, {taken} taken");
}

/// On five real machines a few pushes were lost with a connection, and whatever depended on those
/// tasks stood still for up to fifteen seconds, until the next pull.
#[test]
fn what_a_push_lost_is_pulled_once_both_sides_are_quiet() {
    let mut net = Net::new(3, 13);
    net.link_all();
    for round in 0..8 {
        net.sync(4 * S);
        net.pass(S); // until no pull is under way that could be lost as well
        net.weather.loss = 100;
        net.submit(round % 3, task(&format!("t{round}")));
        net.pass(10);
        net.weather.loss = 0;
    }
    net.sync(4 * S);
    net.check();
}

#[test]
fn an_old_page_changes_nothing() {
    let mut net = Net::new(2, 9);
    net.submit(0, task("t"));
    net.link(0, 1);
    net.sync(10 * S);
    let page = PullPage {
        pull: PullId { run: 0, number: 1 },
        after: None,
        cursor: Cursor { run: 0, number: 9 },
        records: Vec::new(),
        tombstones: Vec::new(),
        listed: Vec::new(),
        remaining: 0,
        last: Some(Vectors {
            have: BTreeMap::from([("nobody/1".into(), 5)]),
            clock: BTreeMap::new(),
            members: BTreeMap::new(),
        }),
    };
    let roots = net.peers[1].scheduler.roots();
    let message = Content::PullPage(page).into();
    net.peers[1].scheduler.receive(at(net.now), &name(0), message).unwrap();
    assert_eq!(net.peers[1].scheduler.roots(), roots);
}

#[test]
fn a_claim_that_names_a_result_which_was_lost_comes_by_a_pull_with_it() {
    let mut net = Net::new(2, 10);
    net.link(0, 1);
    net.submit(0, task("t"));
    net.sync(20 * S);
    net.weather.loss = 100;
    let who = caller(COMMAND_LINE);
    net.pass(70 * S); // whoever owns it
    let claimed = net.peers[0].scheduler.claim(at(net.now), &who, &timed(60 * S)).unwrap();
    let mark = Mark::Failed { error: None, result: Some("[7]".into()), retry: true };
    net.peers[0].scheduler.mark(at(net.now), &who, "t", mark, Some(claimed.fence)).unwrap();
    net.take_out(0, None);
    net.pass(70 * S);
    net.weather.loss = 0;
    net.peers[0].scheduler.claim(at(net.now), &who, &timed(60 * S)).unwrap();
    net.take_out(0, None);
    net.pass(20);
    let before = &net.peers[1].disk.records()["t"];
    assert_eq!(before.epoch, 1, "the push of the claim alone is not enough");
    net.sync(30 * S);
    net.check();
}

#[test]
fn a_record_beyond_a_gap_that_its_writer_can_no_longer_fill_reaches_everybody() {
    let mut net = Net::new(3, 14);
    net.link(0, 1);
    net.link(1, 2);
    net.submit(0, task("known"));
    net.sync(30 * S);
    net.cut(1, 2);
    net.weather.loss = 100;
    net.submit(0, task("lost with its writer"));
    net.pass(50);
    net.weather.loss = 0;
    net.submit(0, task("beyond the gap"));
    net.pass(50);
    net.cut(0, 1);
    net.peers.remove(0);
    net.links = BTreeSet::new();
    assert!(net.peers[0].disk.records().contains_key("beyond the gap"));
    assert_eq!(net.peers[0].scheduler.have(), net.peers[1].scheduler.have());
    net.acknowledged.remove("lost with its writer");
    net.link(0, 1);
    net.sync(30 * S);
    net.pass(30 * S);
    assert!(net.peers[1].disk.records().contains_key("beyond the gap"));
    net.check();
}

/// Two peers that were apart each held as many tasks as they accept. The page that told one of the
/// other's was refused from then on, and with it all that came later, ends of its own tasks as well.
#[test]
fn peers_that_are_full_together_still_learn_from_each_other() {
    let mut net = Net::new(2, 16);
    net.config.max_live_tasks = 10;
    (0..2).for_each(|p| net.crash(p));
    for n in 0..12 {
        net.submit(0, task(&format!("a-{n}")));
        net.submit(1, task(&format!("b-{n}")));
    }
    net.pass(S);
    assert_eq!(net.acknowledged.len(), 20, "each turned down what was beyond its limit");
    net.link(0, 1);
    net.sync(60 * S);
    net.submit(0, task("one more"));
    net.pass(S);
    assert_eq!((net.acknowledged.len(), net.peers[0].disk.records().len()), (20, 20));
    net.check();
}

/// A tool reported 2^53 - 1 as a peer's counter. The peer took that over and counted its next
/// submission, and from then on nobody took in what it said, for no clock may count that far.
#[test]
fn a_peer_whose_counter_was_reported_at_its_limit_is_still_heard() {
    let mut net = Net::new(2, 15);
    net.link(0, 1);
    net.pass(2 * S);
    let vector = BTreeMap::from([("peer-1".to_owned(), MAX_COUNTER)]);
    let (now, root) = (at(net.now), vector_root(&vector).to_hex());
    net.peers[0].scheduler.update_peer(now, "peer-1", "peer-1", &vector, &root).unwrap();
    net.take_out(0, None);
    net.submit(0, task("t"));
    net.sync(60 * S);
    assert_eq!(net.peers[1].scheduler.clock().get("peer-1"), MAX_COUNTER);
    net.submit(1, task("another"));
    net.sync(60 * S);
    net.check();
}

/// A peer of this version stands between two of a later one that write a field which it does not
/// know.
#[test]
fn what_a_later_version_adds_to_a_record_is_kept_and_passed_on() {
    let mut net = Net::new(2, 14);
    net.submit(0, task("t"));
    net.pass(S);
    let now = at(net.now);
    let record = net.peers[0].disk.records()["t"].clone();
    let carried = Carried { record, payload: None, result: None };
    let mut message = serde_json::to_value(push_of(vec![carried])).unwrap();
    message["content"]["Push"]["records"][0]["record"]["rest"] =
        serde_json::json!({"born": null, "more": {"colour": "\"blue\""}});
    message["content"]["Push"]["hint"] = Value::Bool(true);
    let later = name(7);
    net.peers[1].scheduler.connected(now, &later);
    net.peers[1].scheduler.receive(now, &later, serde_json::from_value(message).unwrap()).unwrap();
    net.peers[1].scheduler.connection_lost(now, &later);
    net.take_out(1, None);
    net.pass(S);
    net.crash(1);
    let more = net.peers[1].disk.records()["t"].rest.clone().expect("it is kept").more.clone();
    assert_eq!(&*more["colour"], "\"blue\"");
    let who = caller(COMMAND_LINE);
    net.pass(10 * S);
    let claimed = net.peers[1].scheduler.claim(at(net.now), &who, &timed(60 * S)).unwrap();
    let changed = net.peers[1].scheduler.take_changes().tasks.remove(0).record;
    let kept = &changed.rest.expect("there is more").more;
    assert_eq!((&*claimed.task.task_id, kept), ("t", &more), "and goes on with it");
}

/// A node stayed on a machine where no agent worked. It owned every other task, each of which waited
/// there for its turn to pass.
#[test]
fn a_peer_owns_tasks_while_its_workers_ask_for_some() {
    let mut net = Net::new(2, 4);
    net.link(0, 1);
    net.pass(5 * S);
    let ask = |net: &mut Net, p: usize| {
        let (now, who) = (at(net.now), caller(COMMAND_LINE));
        let given = net.peers[p].scheduler.claim(now, &who, &timed(600 * S));
        net.take_out(p, None);
        given.map(|claimed| claimed.ownership.reason)
    };
    assert!(ask(&mut net, 1).is_err(), "nothing is there yet");
    net.pass(4 * S);
    let owners = |net: &Net, id: &str| {
        let why = |p: usize| net.peers[p].scheduler.why(at(net.now), id).unwrap();
        [0, 1].map(|p| why(p).turns.into_iter().map(|turn| turn.peer).collect::<Vec<_>>())
    };
    for n in 0..10 {
        let id = format!("t{n}");
        net.submit(0, task(&id));
        net.sync(5 * S);
        assert_eq!(owners(&net, &id), [vec![name(1)], vec![name(1)]], "{id}");
        assert_eq!(ask(&mut net, 1), Ok(Reason::Owned), "without a turn to wait for");
    }
    net.sync(5 * S);
    // Who asks is counted at once, also by the others.
    assert!(ask(&mut net, 0).is_err(), "all are taken");
    net.pass(S / 2);
    net.submit(0, task("both"));
    net.sync(5 * S);
    let [here, there] = owners(&net, "both");
    assert_eq!(here, there);
    assert_eq!(here.len(), 2);
    // Long after its last question it is as at first.
    for _ in 0..8 {
        drop(ask(&mut net, 1));
        let quarter = net.config.works_for / 4;
        net.pass(quarter);
    }
    net.submit(1, task("last"));
    net.sync(5 * S);
    assert_eq!(owners(&net, "last"), [vec![name(1)], vec![name(1)]]);
}

/// Workers began on five machines at once. Each machine knew of no other that took work, took every
/// task for its own, and the first ones ran twice.
#[test]
fn workers_that_begin_at_once_on_several_peers_take_no_task_twice() {
    let mut net = Net::new(5, 4);
    net.link_all();
    net.pass(5 * S);
    for n in 0..20 {
        net.submit(n % 5, task(&format!("t{n}")));
    }
    net.sync(5 * S);
    let mut taken = Vec::new();
    for p in 0..5 {
        // Nothing that one of them says is heard by the next.
        let (now, who) = (at(net.now), caller(COMMAND_LINE));
        while let Ok(claimed) = net.peers[p].scheduler.claim(now, &who, &timed(600 * S)) {
            taken.push(claimed.task.task_id);
        }
    }
    let count = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!((taken.len(), count), (20, 20), "each has an owner, and one only");
}

/// Peers that know of each other and hold nothing, all connected.
fn met<const N: usize>() -> [P2PWorkflowScheduler; N] {
    let mut peers: [_; N] = std::array::from_fn(|n| {
        let mut peer = scheduler(&name(n));
        peer.replicate(at(0), 1);
        peer
    });
    for (n, peer) in peers.iter_mut().enumerate() {
        (0..N).filter(|other| *other != n).for_each(|other| peer.connected(at(0), &name(other)));
    }
    for time in [0, 1] {
        peers.iter_mut().for_each(|peer| peer.advance(at(time)));
        exchange(&mut peers, time, |_, _| true);
    }
    peers
}

/// Delivers what peers have to say, and what that leads to, unless it is lost. Returns how many
/// messages there were.
fn exchange(
    peers: &mut [P2PWorkflowScheduler],
    now: u64,
    mut arrives: impl FnMut(usize, &Outgoing) -> bool,
) -> usize {
    let mut count = 0;
    loop {
        let said: Vec<(usize, Outgoing)> = (0..peers.len())
            .flat_map(|from| take_out(&mut peers[from]).into_iter().map(move |it| (from, it)))
            .collect();
        if said.is_empty() {
            return count;
        }
        count += said.len();
        for (from, outgoing) in said {
            if arrives(from, &outgoing) {
                let to = peers.iter().position(|peer| *peer.peer_id() == outgoing.to).unwrap();
                peers[to].receive(at(now), &name(from), outgoing.message).unwrap();
            }
        }
    }
}

fn take_out(peer: &mut P2PWorkflowScheduler) -> Vec<Outgoing> {
    peer.take_changes();
    peer.take_outgoing()
}

/// Once a write that overtook another left a gap in the vector, and all that came after it was sent
/// again by the next pull.
#[test]
fn pushes_that_overtake_one_another_leave_no_gap() {
    let [mut writer, mut reader] = met();
    let mut pushes = Vec::new();
    for number in 0..5 {
        writer.submit(at(S), task(&format!("t{number}"))).unwrap();
        pushes.extend(take_out(&mut writer));
    }
    assert_eq!(pushes.len(), 5);
    for number in [1, 4, 2, 0, 3] {
        reader.receive(at(S), &name(0), pushes[number].message.clone()).unwrap();
    }
    assert_eq!(reader.have(), writer.have());
    assert_eq!(reader.roots(), writer.roots());
}

/// Once what a lost push had carried was missing until the next pull came by its interval, ten seconds
/// on average, as long as the peers were busy.
#[test]
fn what_a_lost_push_left_out_is_pulled_soon_however_much_follows_it() {
    let mut peers = met::<2>();
    // The first pull, and the quiet after it.
    for time in 1..=20 {
        peers.iter_mut().for_each(|peer| peer.advance(at(time * S)));
        exchange(&mut peers, time * S, |_, _| true);
    }
    let mut lost = 0;
    for step in 0..30 {
        let now = 20 * S + step * 100;
        peers.iter_mut().for_each(|peer| peer.advance(at(now)));
        peers[0].submit(at(now), task(&format!("t{step}"))).unwrap();
        exchange(&mut peers, now, |from, outgoing| {
            let is_push = matches!(outgoing.message.content, Content::Push { .. });
            let is_lost = step == 0 && from == 0 && is_push;
            lost += usize::from(is_lost);
            !is_lost
        });
    }
    assert_eq!(lost, 1);
    assert!(peers[1].show(at(23 * S), "t0").is_ok(), "within three heartbeats");
    assert_eq!(peers[1].have(), peers[0].have());
}

#[test]
fn who_was_told_by_the_writer_is_not_told_again_by_others() {
    let mut peers = met::<4>();
    peers[0].submit(at(S), task("t")).unwrap();
    let mut pushes = 0;
    exchange(&mut peers, S, |_, outgoing| {
        pushes += usize::from(matches!(outgoing.message.content, Content::Push { .. }));
        true
    });
    assert_eq!(pushes, 3, "one to each of the others");
    assert!(peers.iter().all(|peer| peer.show(at(S), "t").is_ok()));
}
