//! The world: peers, network, and the order in which things happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::{Filter, Record, State};

use super::Totals;
use super::asked::Asked;
use super::clock::Clock;
use super::events::{Event, Events};
use super::network::Network;
use super::node::Peer;
use super::oracle::Oracle;
use super::random::Random;
use super::scenario::{Habits, Profile, Scenario, Weather};
use super::trace::{About, Summary, Trace, What};
use super::workers::Worker;

/// How long after the last fault its consequences may last.
const AFTERMATH: u64 = 60_000;
/// When all have met: nobody waits for a peer that it never heard of with what is to be forgotten.
const MET_AFTER: u64 = 10_000;
/// How long it may take after everything healed until all tasks are done and all peers hold the same.
const WELL_WITHIN: u64 = 15 * 60_000;

/// See the module's page.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) events: Events,
    pub(crate) random: Random,
    pub(crate) profile: Profile,
    pub(crate) weather: Weather,
    pub(crate) peers: Vec<Peer>,
    indices: BTreeMap<Arc<str>, usize>,
    pub(crate) network: Network,
    pub(crate) slow_disks: BTreeSet<usize>,
    pub(crate) broken_disks: BTreeSet<usize>,
    /// Peers whose store was put back, and who have not learned it yet.
    pub(crate) doubtful: BTreeSet<usize>,
    /// Peers at the beginning.
    pub(crate) at_first: usize,
    pub(crate) submitted: Vec<P2PTask>,
    /// Counts tasks, for their ids.
    pub(crate) tasks: u64,
    /// Counts the actors of stores that were put back, for their names.
    pub(crate) actors: u64,
    /// What was asked of the node whose call is under way.
    pub(crate) asked: Vec<Asked>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) summary: Totals,
    /// See [`Scenario::bytes`].
    pub(crate) counts_bytes: bool,
    disturbed_at: Option<u64>,
    calm: bool,
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut random = Random::new(scenario.seed);
        let profile = Profile::draw(scenario, &mut random);
        let mut world = World::with(scenario, profile, random);
        (0..scenario.peers).for_each(|p| world.start_node(p));
        world.events.plan(1, Event::Person);
        world.events.plan(MET_AFTER, Event::Fault);
        world
    }

    /// Peers whose nodes do not run yet, and nothing that will happen.
    pub(crate) fn with(scenario: &Scenario, profile: Profile, random: Random) -> Self {
        let mut world = World {
            now: 0,
            events: Events::default(),
            random,
            weather: profile.weather,
            profile,
            peers: Vec::new(),
            indices: BTreeMap::new(),
            network: Network::default(),
            slow_disks: BTreeSet::new(),
            broken_disks: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            at_first: scenario.peers,
            submitted: Vec::new(),
            tasks: 0,
            actors: 1,
            asked: Vec::new(),
            oracle: Oracle::default(),
            trace: Trace::default(),
            summary: Totals::default(),
            counts_bytes: scenario.bytes,
            disturbed_at: Some(0),
            calm: false,
        };
        for _ in 0..scenario.peers {
            world.add_peer();
        }
        world
    }

    /// A peer with an empty store. It knows some of those that are there.
    pub(crate) fn add_peer(&mut self) {
        let p = self.peers.len();
        let name: Arc<str> = match self.counts_bytes {
            true => format!("12D3KooW{p:044}").into(),
            false => format!("p{p}").into(),
        };
        let clock =
            Clock { skew: self.random.within(0..20_000) as i64 - 10_000, ..Clock::default() };
        let random = self.random.split();
        let mut peer = Peer::new(name.clone(), clock, random);
        for _ in 0..self.profile.workers {
            peer.workers.push(Worker::session(self.new_worker_name()));
        }
        peer.workers.push(Worker::command());
        self.indices.insert(name, p);
        self.peers.push(peer);
        self.network.add_peer();
        let mut known: Vec<usize> = (0..p).filter(|other| !self.peers[*other].gone).collect();
        self.random.shuffle(&mut known);
        known.truncate(self.profile.degree);
        for other in known {
            let latency = self.random.spread(1..50);
            self.network.link(p, other, latency);
        }
    }

    /// Everything from the beginning to the end.
    pub(crate) fn run(&mut self) {
        self.pass(self.profile.duration);
        if self.oracle.violation.is_none() {
            self.calm();
        }
        self.summary.virtual_millis = self.now;
        if self.counts_bytes {
            self.summary.shares = self.tasks * self.peers.len() as u64;
        }
        for peer in &self.peers {
            self.trace.count(peer.node.as_ref().map(|node| node.core.roots().have.0));
        }
        self.summary.hash = self.trace.hash();
    }

    /// Lets things happen up to a point of time, or until something is broken.
    pub(crate) fn pass(&mut self, until: u64) {
        while self.oracle.violation.is_none() {
            let Some((at, event)) = self.events.next(until) else {
                self.now = until;
                return;
            };
            self.now = at;
            self.summary.events += 1;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.postpone(event) else { return };
        self.trace.count((self.now, std::mem::discriminant(&event)));
        match event {
            Event::Arrival(flight) => self.arrive(*flight),
            Event::Wake { peer, life } => self.wake(peer, life),
            Event::Commit { peer, life } => self.end_commit(peer, life),
            Event::Dial { link } => self.dial(link),
            Event::Notice { link, connection, peer } => self.notice(link, connection, peer),
            Event::Worker { peer, slot, step } => self.worker_goes_on(peer, slot, step),
            Event::Person => self.person_acts(),
            Event::Fault => self.fault_strikes(),
            Event::End(end) => self.ends(end),
        }
    }

    /// What happens to a machine that stands still happens when it goes on.
    fn postpone(&mut self, event: Event) -> Option<Event> {
        let p = match &event {
            Event::Arrival(flight) => flight.to,
            Event::Wake { peer, .. }
            | Event::Commit { peer, .. }
            | Event::Notice { peer, .. }
            | Event::Worker { peer, .. } => *peer,
            Event::Dial { .. } | Event::Person | Event::Fault | Event::End(_) => {
                return Some(event);
            }
        };
        match &mut self.peers[p].stands_still {
            None => Some(event),
            Some(still) => {
                still.waiting.push(event);
                None
            }
        }
    }

    /// Everything heals, workers do what they should, and then all must be well.
    fn calm(&mut self) {
        self.calm = true;
        self.heal();
        if !self.pass_until(WELL_WITHIN, World::is_well) && self.oracle.violation.is_none() {
            match self.is_done() {
                false => self.complain_of_undone(),
                true => self.complain_of_roots(),
            }
        }
        if self.oracle.violation.is_none() {
            self.check_end();
        }
    }

    fn pass_until(&mut self, at_most: u64, is_so: fn(&World) -> bool) -> bool {
        let until = self.now + at_most;
        while !is_so(self) {
            if self.now >= until || self.oracle.violation.is_some() {
                return false;
            }
            self.pass(self.now + 500);
        }
        true
    }
}

/// What the peers are like.
impl World {
    pub(crate) fn index(&self, name: &str) -> usize {
        self.indices[name]
    }

    /// No faults, no people, and workers that do what they should.
    pub(crate) fn calm_from_the_start(&mut self) {
        self.calm = true;
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm
    }

    /// Whether what ended goes within the simulation.
    pub(crate) fn prunes(&self) -> bool {
        self.profile.config.retention < 24 * 3_600_000
    }

    pub(crate) fn habits(&self) -> Habits {
        if self.calm { Habits::GOOD } else { self.profile.habits }
    }

    /// A fault began or ended.
    pub(crate) fn disturbed(&mut self) {
        self.disturbed_at = Some(self.now);
    }

    /// Since when nothing has gone wrong, nor had consequences.
    pub(crate) fn quiet_since(&self) -> Option<u64> {
        self.disturbed_at.map(|at| at + AFTERMATH)
    }

    pub(crate) fn note(&mut self, p: usize, what: What) {
        self.trace.note(self.now, Some(p), what);
    }

    pub(crate) fn note_record(&mut self, p: usize, record: &Record, as_what: fn(Summary) -> What) {
        self.note(p, as_what(Summary::of(record)));
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = (usize, &Peer)> {
        self.peers.iter().enumerate().filter(|(_, peer)| !peer.gone)
    }

    /// Whether all is done, and all know it: what is known late may make a task ready that waited for
    /// another.
    pub(crate) fn is_well(&self) -> bool {
        self.is_done() && self.is_in_sync()
    }

    fn is_done(&self) -> bool {
        self.living().all(|(p, peer)| peer.is_kept() && self.undone(p).is_none())
    }

    /// A task of a peer that waits for a worker, or for one to be done.
    fn undone(&self, p: usize) -> Option<Arc<str>> {
        let node = self.peers[p].node.as_ref()?;
        [State::Pending, State::Assigned].into_iter().find_map(|state| {
            let filter = Filter { state: Some(state), limit: 1, ..Filter::default() };
            let page = node.core.list(self.time_at(p), &filter).ok()?;
            page.tasks.first().map(|task| task.task_id.clone())
        })
    }

    fn is_in_sync(&self) -> bool {
        let mut roots = self.living().map(|(p, peer)| {
            let node = peer.node.as_ref();
            let says_so = node.is_some_and(|node| node.core.status(self.time_at(p)).in_sync);
            (peer.is_kept() && says_so).then(|| node.map(|node| node.core.roots()))
        });
        let first = roots.next().flatten();
        first.is_some() && roots.all(|other| other == first)
    }

    fn complain_of_undone(&mut self) {
        let undone = self.living().find_map(|(p, _)| Some((p, self.undone(p)?)));
        let Some((p, task)) = undone else { return };
        let now = self.time_at(p);
        let view = self.peers[p].node.as_ref().map(|node| node.core.show(now, &task));
        let what = format!(
            "{task} is not done {WELL_WITHIN} ms after everything healed; at p{p} it is {view:?}"
        );
        self.oracle.broken(About::task(&task), what);
    }

    fn complain_of_roots(&mut self) {
        let all: Vec<&Peer> = self.living().map(|(_, peer)| peer).collect();
        let mut what = format!("not in sync {WELL_WITHIN} ms after everything healed");
        for (p, peer) in self.living() {
            let Some(node) = &peer.node else { continue };
            let status = node.core.status(self.time_at(p));
            let counts = status.counts;
            what += &format!("\np{p} holds {counts:?}, says in sync: {}", status.in_sync);
            what += &differences(all[0], peer);
        }
        self.oracle.broken(About::default(), what);
    }
}

/// How what one peer holds differs from what another does.
fn differences(a: &Peer, b: &Peer) -> String {
    let (Some(a_node), Some(b_node)) = (&a.node, &b.node) else { return String::new() };
    let mut text = String::new();
    let (a_have, b_have) = (a_node.core.have(), b_node.core.have());
    for actor in a_have.keys().chain(b_have.keys().filter(|actor| !a_have.contains_key(*actor))) {
        let of = |have: &BTreeMap<Arc<str>, u64>| have.get(actor).copied().unwrap_or(0);
        if of(a_have) != of(b_have) {
            let (here, there) = (of(a_have), of(b_have));
            text += &format!("\n  {} has {here} of {actor}, {} has {there}", a.name, b.name);
        }
    }
    let ids: BTreeSet<&Arc<str>> =
        a.disk.records().chain(b.disk.records()).map(|it| it.0).collect();
    for id in ids {
        let (here, there) = (a.disk.record(id), b.disk.record(id));
        if here != there {
            let shown = |record: Option<&Record>| {
                record.map_or("nothing".into(), |record| Summary::of(record).to_string())
            };
            text += &format!("\n  {} has {}", a.name, shown(here));
            text += &format!("\n  {} has {}", b.name, shown(there));
        }
    }
    text
}
