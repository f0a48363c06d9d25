//! A swarm in which nothing happens: what it costs that its peers know of each other.
//!
//! Peers are connected as nodes are (see `swarm::Options`). Each hands in one task at the start, so
//! that vectors name all of them; when all tasks are done and all peers hold the same, the counting
//! begins.

use std::fmt;
use std::ops::Range;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::{Liveness, TagSet};

use super::random::Random;
use super::scenario::{Profile, Scenario};
use super::wire::Wire;
use super::world::World;

/// Connections that a node opens, and that it takes.
const OUTGOING: usize = 16;
const INCOMING: usize = 64;
/// For how long peers get to know each other, and tasks are done, in milliseconds.
const MEETING: u64 = 10_000;
const START: u64 = 10 * 60_000;
/// What the start leaves behind is over after this.
const AFTERMATH: u64 = 30_000;
/// How often somebody looks whether a peer is taken to be down, in milliseconds.
const LOOK_INTERVAL: u64 = 500;

/// What a swarm said in which nothing happened.
#[derive(Debug)]
pub(crate) struct Idle {
    peers: usize,
    /// The fewest and the most that a peer has, and how many there are.
    degrees: Range<usize>,
    connections: usize,
    started_in: u64,
    millis: u64,
    wire: Wire,
    /// What went wrong, although nothing should.
    pub(crate) wrong: Option<String>,
}

/// Runs such a swarm for so many milliseconds.
pub(crate) fn idle(scenario: &Scenario, millis: u64) -> Idle {
    let mut random = Random::new(scenario.seed);
    let mut profile = Profile::quiet(millis, 0, &mut random);
    (profile.degree, profile.workers) = (0, 1);
    let mut world = World::with(scenario, profile, random);
    let peers = world.peers.len();
    let connections = world.link_as_nodes_do();
    let degrees: Vec<usize> = (0..peers).map(|p| world.network.links_of(p).len()).collect();
    (0..peers).for_each(|p| world.start_node(p));
    let mut wrong = world.start_idle();
    let started_in = world.now;
    world.summary.wire = Wire::default();
    wrong = wrong.or_else(|| world.idle_for(millis));
    let degrees =
        degrees.iter().copied().min().unwrap_or(0)..degrees.iter().copied().max().unwrap_or(0);
    let wire = world.summary.wire;
    Idle { peers, degrees, connections, started_in, millis, wire, wrong }
}

impl World {
    /// Each peer dials others by chance until it has as many connections as it opens; who has as many
    /// as it takes refuses. Returns how many there are.
    fn link_as_nodes_do(&mut self) -> usize {
        let peers = self.peers.len();
        let (mut taken, mut all) = (vec![0; peers], 0);
        for p in 0..peers {
            let mut others: Vec<usize> = (0..peers).filter(|other| *other != p).collect();
            self.random.shuffle(&mut others);
            let mut opened = 0;
            for other in others {
                let is_new = !self.network.are_linked(p, other);
                if opened < OUTGOING && is_new && taken[other] < INCOMING {
                    let latency = self.random.spread(1..50);
                    self.network.link(p, other, latency);
                    (opened, taken[other], all) = (opened + 1, taken[other] + 1, all + 1);
                }
            }
        }
        all
    }

    /// Peers meet, and each hands in a task that somebody does.
    fn start_idle(&mut self) -> Option<String> {
        self.calm_from_the_start();
        let mut wrong = self.idle_for(MEETING);
        for p in 0..self.peers.len() {
            let id = format!("task-{p}");
            self.submit(p, P2PTask::new(&id, "a workflow", "a task", TagSet::default()));
        }
        while wrong.is_none() && !self.is_well() {
            wrong = self.idle_for(LOOK_INTERVAL);
            if self.now > START {
                return Some(format!("not all tasks are done and known to all after {START} ms"));
            }
        }
        wrong.or_else(|| self.idle_for(AFTERMATH))
    }

    /// Lets time pass, and looks whether a peer is taken to be down.
    fn idle_for(&mut self, millis: u64) -> Option<String> {
        let until = self.now + millis;
        while self.now < until {
            self.pass(until.min(self.now + LOOK_INTERVAL));
            if let Some(violation) = &self.oracle.violation {
                return Some(violation.what.clone());
            }
            let down = self.taken_to_be_down();
            if let Some((p, other)) = down {
                let at = self.now;
                return Some(format!("p{p} takes p{other} to be down at {at} ms"));
            }
        }
        None
    }

    fn taken_to_be_down(&self) -> Option<(usize, usize)> {
        self.peers.iter().enumerate().find_map(|(p, peer)| {
            let core = &peer.node.as_ref()?.core;
            let mut others = self.peers.iter();
            let other = others.position(|it| core.liveness(&it.name) == Some(Liveness::Down))?;
            Some((p, other))
        })
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Idle { peers, degrees, connections, started_in, millis, wire, wrong } = self;
        let (started_in, minutes) = (*started_in as f64 / 60_000.0, *millis as f64 / 60_000.0);
        writeln!(
            f,
            "{peers} peers with {} to {} connections each, {connections} in all; nothing happened for \
             {minutes:.1} virtual minutes, after a start of {started_in:.1}",
            degrees.start, degrees.end
        )?;
        write!(
            f,
            "  {:<14}{:>12}{:>14}{:>12}",
            "a peer, a second", "messages", "bytes", "bytes each"
        )?;
        wire.table(f, *peers as f64 * *millis as f64 / 1000.0)?;
        match wrong {
            None => write!(f, "\nNobody was ever taken to be down."),
            Some(wrong) => write!(f, "\n{wrong}"),
        }
    }
}
