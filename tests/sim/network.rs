//! The network: which peers are linked, what becomes of messages, how connections end and come back.
//!
//! A link is a pair of peers that know each other's address. While both run and can reach each
//! other it carries a connection, as TCP does: it ends at both sides at once where a process ends,
//! and is noticed late, by each side alone, where packets just stay away. A side that was told dials
//! again with a delay that doubles. Beyond what TCP would do, messages of a connection that stands
//! may be lost, doubled and out of order, for that is all that the protocol asks of its transport.

use std::collections::{BTreeMap, BTreeSet};

use p2p_workflow_scheduler::scheduler::Outgoing;

use super::events::{Event, Flight};
use super::trace::What;
use super::world::World;

/// How long it takes until a side notices that packets stay away, in milliseconds.
const SILENCE: std::ops::Range<u64> = 5_000..30_000;
/// How long it takes until a side is told that the other's process ended.
const RESET: std::ops::Range<u64> = 1..5;
/// The longest delay between two dials.
const LONGEST_DIAL_DELAY: u64 = 30_000;

/// Names a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(usize);

#[derive(Debug)]
struct Link {
    ends: [usize; 2],
    /// The connection that stands, if any.
    connection: Option<u64>,
    /// The connection that each side's node believes in.
    told: [Option<u64>; 2],
    dialling: bool,
    failures: u32,
    /// Milliseconds that a message takes at least.
    latency: u64,
}

impl Link {
    fn side(&self, peer: usize) -> usize {
        usize::from(self.ends[1] == peer)
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Network {
    links: Vec<Link>,
    between: BTreeMap<(usize, usize), LinkId>,
    connections: u64,
    /// Peers reach each other where these are equal.
    pub(crate) island: Vec<u64>,
    /// Peers whose cable is pulled.
    pub(crate) unplugged: BTreeSet<usize>,
    /// Pairs of which the first cannot send to the second.
    pub(crate) deaf: BTreeSet<(usize, usize)>,
}

impl Network {
    pub(crate) fn add_peer(&mut self) {
        self.island.push(0);
    }

    pub(crate) fn link(&mut self, a: usize, b: usize, latency: u64) -> LinkId {
        let next = LinkId(self.links.len());
        let id = *self.between.entry((a.min(b), a.max(b))).or_insert(next);
        if id == next {
            self.links.push(Link {
                ends: [a.min(b), a.max(b)],
                connection: None,
                told: [None; 2],
                dialling: false,
                failures: 0,
                latency,
            });
        }
        id
    }

    pub(crate) fn are_linked(&self, a: usize, b: usize) -> bool {
        self.between.contains_key(&(a.min(b), a.max(b)))
    }

    pub(crate) fn links_of(&self, peer: usize) -> Vec<LinkId> {
        let all = self.between.iter();
        all.filter(|((a, b), _)| [*a, *b].contains(&peer)).map(|(_, id)| *id).collect()
    }

    pub(crate) fn all_links(&self) -> Vec<LinkId> {
        self.between.values().copied().collect()
    }

    pub(crate) fn ends(&self, link: LinkId) -> [usize; 2] {
        self.links[link.0].ends
    }

    /// Whether packets from one peer come to the other.
    pub(crate) fn carries(&self, from: usize, to: usize) -> bool {
        self.island[from] == self.island[to]
            && !self.unplugged.contains(&from)
            && !self.unplugged.contains(&to)
            && !self.deaf.contains(&(from, to))
    }

    /// The peers that `peer`'s node believes to be connected to.
    pub(crate) fn believed(&self, peer: usize) -> Vec<usize> {
        let links = self.links.iter().filter(|link| link.ends.contains(&peer));
        let told = links.filter(|link| link.told[link.side(peer)].is_some());
        told.map(|link| link.ends[1 - link.side(peer)]).collect()
    }
}

impl World {
    /// Sends what a node said. It arrives or not, once or more often, at some time.
    pub(crate) fn send(&mut self, from: usize, outgoing: Outgoing) {
        let to = self.index(&outgoing.to);
        self.summary.messages += 1;
        let Some(&id) = self.network.between.get(&(from.min(to), from.max(to))) else { return };
        let link = &self.network.links[id.0];
        let Some(connection) = link.connection else { return };
        let (latency, weather) = (link.latency, self.weather);
        if self.counts_bytes {
            self.summary.wire.count(&outgoing.message);
        }
        if !self.network.carries(from, to) || self.random.percent(weather.loss) {
            return;
        }
        let flight = Flight { link: id, connection, to, message: outgoing.message };
        if self.random.percent(weather.doubled) {
            self.fly(latency, flight.clone());
        }
        self.fly(latency, flight);
    }

    fn fly(&mut self, latency: u64, flight: Flight) {
        let at = self.now + latency + self.random.spread(1..self.weather.delay + 2);
        self.events.plan(at, Event::Arrival(Box::new(flight)));
    }

    /// A message comes out of its connection, if that still stands.
    pub(crate) fn arrive(&mut self, flight: Flight) {
        let Flight { link, connection, to, message } = flight;
        let link = &self.network.links[link.0];
        let side = link.side(to);
        let from = link.ends[1 - side];
        let stands = link.connection == Some(connection) && link.told[side] == Some(connection);
        if stands && self.network.carries(from, to) {
            self.receive(from, to, message);
        }
    }

    /// Tries a link that is down, and again later if that fails.
    pub(crate) fn dial(&mut self, id: LinkId) {
        let link = &mut self.network.links[id.0];
        link.dialling = false;
        if link.connection.is_some() {
            return;
        }
        let [a, b] = link.ends;
        if self.peers[a].gone || self.peers[b].gone {
            return;
        }
        let both_run = self.peers[a].is_running() && self.peers[b].is_running();
        if !both_run || !self.network.carries(a, b) || !self.network.carries(b, a) {
            self.network.links[id.0].failures += 1;
            return self.plan_dial(id);
        }
        self.network.connections += 1;
        let connection = self.network.connections;
        let link = &mut self.network.links[id.0];
        (link.connection, link.failures) = (Some(connection), 0);
        let told = std::mem::replace(&mut link.told, [Some(connection); 2]);
        for (side, peer) in [a, b].into_iter().enumerate() {
            // A side that has not noticed the end of the last connection is told nothing.
            if told[side].is_none() {
                let other = [b, a][side];
                self.note(peer, What::Connected { other });
                self.connected(peer, other);
            }
        }
    }

    pub(crate) fn plan_dial(&mut self, id: LinkId) {
        let link = &mut self.network.links[id.0];
        if std::mem::replace(&mut link.dialling, true) {
            return;
        }
        let longest = (500 << link.failures.min(8)).min(LONGEST_DIAL_DELAY);
        let wait = self.random.within(longest / 2..longest + 1);
        self.events.plan(self.now + wait, Event::Dial { link: id });
    }

    /// Dials a link in a moment, whatever was planned.
    pub(crate) fn dial_soon(&mut self, id: LinkId) {
        let at = self.now + self.random.within(1..1_000);
        self.network.links[id.0].failures = 0;
        self.events.plan(at, Event::Dial { link: id });
    }

    /// One side learns that a connection is gone: if it is.
    pub(crate) fn notice(&mut self, id: LinkId, connection: u64, peer: usize) {
        let link = &self.network.links[id.0];
        let (side, [a, b]) = (link.side(peer), link.ends);
        if link.told[side] != Some(connection) {
            return;
        }
        if link.connection == Some(connection) {
            let both_run = self.peers[a].is_running() && self.peers[b].is_running();
            if both_run && self.network.carries(a, b) && self.network.carries(b, a) {
                return; // it came back in time
            }
            let other = [b, a][side];
            self.plan_notice(id, connection, other, SILENCE);
        }
        let link = &mut self.network.links[id.0];
        (link.connection, link.told[side]) = (None, None);
        let other = link.ends[1 - side];
        self.note(peer, What::Disconnected { other });
        self.disconnected(peer, other);
        self.plan_dial(id);
    }

    fn plan_notice(
        &mut self,
        link: LinkId,
        connection: u64,
        peer: usize,
        after: std::ops::Range<u64>,
    ) {
        let at = self.now + self.random.within(after);
        self.events.plan(at, Event::Notice { link, connection, peer });
    }

    /// A node closes its connection to a peer that it hears nothing of.
    pub(crate) fn close_connection(&mut self, peer: usize, other: usize) {
        let Some(&id) = self.network.between.get(&(peer.min(other), peer.max(other))) else {
            return;
        };
        let link = &mut self.network.links[id.0];
        let side = link.side(peer);
        let Some(connection) = link.told[side].take() else { return };
        if link.connection == Some(connection) {
            link.connection = None;
            // The other side is told, if the word comes through.
            let carries = self.network.carries(peer, other);
            self.plan_notice(id, connection, other, if carries { RESET } else { SILENCE });
        }
        self.note(peer, What::Disconnected { other });
        self.disconnected(peer, other);
        self.plan_dial(id);
    }

    /// A connection ends properly, at both sides at once.
    pub(crate) fn break_link(&mut self, id: LinkId) {
        let link = &mut self.network.links[id.0];
        let Some(connection) = link.connection.take() else { return };
        for peer in link.ends {
            self.plan_notice(id, connection, peer, RESET);
        }
    }

    /// Each side of each connection whose packets stay away will notice, unless they come back.
    pub(crate) fn silence(&mut self, links: &[LinkId]) {
        for id in links {
            let link = &self.network.links[id.0];
            let (Some(connection), [a, b]) = (link.connection, link.ends) else { continue };
            self.plan_notice(*id, connection, a, SILENCE);
            self.plan_notice(*id, connection, b, SILENCE);
        }
    }

    /// A process ended. The others learn of it at once, or late where its machine went down too.
    pub(crate) fn process_ended(&mut self, peer: usize, machine_too: bool) {
        for id in self.network.links_of(peer) {
            let link = &mut self.network.links[id.0];
            let side = link.side(peer);
            link.told[side] = None;
            let other = link.ends[1 - side];
            let connection = link.connection.take();
            if let Some(connection) = connection {
                let after = if machine_too { SILENCE } else { RESET };
                self.plan_notice(id, connection, other, after);
            }
        }
    }
}
