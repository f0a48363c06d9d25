//! The connections that stand, and which of several to one peer goes.
//!
//! Where both sides dial at once, two connections come up. Each side closing the one it likes less
//! could close both; so one side decides. The peer with the lower id keeps the newest once that has
//! stood for [`SETTLED`], when both sides have it, and closes the others. The other peer does the
//! same only after [`LEFT_ALONE`]: then the lower one does not see the surplus, because it restarted
//! and what is old here is a connection to its former run. For that reason it is the newest that
//! stays.
//!
//! A peer counts as *met* once it said something under our protocol: a peer that blocks us, or is
//! full, completes the handshake and then closes. One that does neither is closed after [`SILENT`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

/// When the lower peer may close the older connections.
const SETTLED: Duration = Duration::from_secs(1);
/// When the higher peer does it itself.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// How long a peer may say nothing at first.
const SILENT: Duration = Duration::from_secs(15);

struct Connection {
    id: ConnectionId,
    since: Instant,
    /// Whether it was told to close.
    closing: bool,
}

/// The connections to one peer.
pub(super) struct Link {
    connections: Vec<Connection>,
    /// Where the newest connection leads.
    pub(super) remote: Multiaddr,
    /// Whether it said something.
    pub(super) met: bool,
    /// Of the last ping.
    pub(super) round_trip: Option<Duration>,
    /// Our requests that it has not answered.
    pub(super) in_flight: usize,
}

impl Link {
    /// How many connections there are, with those that are closing.
    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// When to choose among several connections.
    fn decided_at(&self, am_lower: bool) -> Option<Instant> {
        let mut staying = self.staying();
        let newest = staying.next_back()?.since;
        staying.next()?;
        Some(newest + if am_lower { SETTLED } else { LEFT_ALONE })
    }

    /// When to give up a peer that says nothing.
    fn silent_at(&self) -> Option<Instant> {
        let newest = self.staying().next_back().filter(|_| !self.met)?;
        Some(newest.since + SILENT)
    }

    /// The connections that were not told to close, the newest last.
    fn staying(&self) -> impl DoubleEndedIterator<Item = &Connection> {
        self.connections.iter().filter(|connection| !connection.closing)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }
}

/// See the module's page.
pub(super) struct Links {
    me: PeerId,
    peers: BTreeMap<PeerId, Link>,
}

impl Links {
    pub(super) fn new(me: PeerId) -> Self {
        Links { me, peers: BTreeMap::new() }
    }

    /// A connection stands. Returns whether it is the first to this peer.
    pub(super) fn opened(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        remote: Multiaddr,
        now: Instant,
    ) -> bool {
        let link = self.peers.entry(peer).or_insert_with(|| Link {
            connections: Vec::new(),
            remote: remote.clone(),
            met: false,
            round_trip: None,
            in_flight: 0,
        });
        link.remote = remote;
        link.connections.push(Connection { id: connection, since: now, closing: false });
        link.connections.len() == 1
    }

    /// A connection ended. Returns the link if it was the last to this peer.
    pub(super) fn closed(&mut self, peer: &PeerId, connection: ConnectionId) -> Option<Link> {
        let link = self.peers.get_mut(peer)?;
        link.connections.retain(|other| other.id != connection);
        if link.connections.is_empty() { self.peers.remove(peer) } else { None }
    }

    pub(super) fn get(&mut self, peer: &PeerId) -> Option<&mut Link> {
        self.peers.get_mut(peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Link)> {
        self.peers.iter()
    }

    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Which connections to close now. Each is named once.
    pub(super) fn take_surplus(&mut self, now: Instant) -> Vec<ConnectionId> {
        let mut surplus = Vec::new();
        for (peer, link) in &mut self.peers {
            let kept = if link.is_silent(now) {
                0
            } else if link.decided_at(self.me < *peer).is_some_and(|at| at <= now) {
                1
            } else {
                continue;
            };
            let staying: Vec<_> = link.connections.iter_mut().filter(|c| !c.closing).collect();
            let surplus_of_link = staying.len() - kept;
            for connection in staying.into_iter().take(surplus_of_link) {
                connection.closing = true;
                surplus.push(connection.id);
            }
        }
        surplus
    }

    /// When there is something to close next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let both =
            |(peer, link): (&PeerId, &Link)| [link.decided_at(self.me < *peer), link.silent_at()];
        self.peers.iter().flat_map(both).flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (PeerId, PeerId) {
        let (one, other) = (PeerId::random(), PeerId::random());
        (one.min(other), one.max(other))
    }

    fn link_twice(links: &mut Links, peer: PeerId, now: Instant) -> [ConnectionId; 2] {
        let ids = [7, 8].map(ConnectionId::new_unchecked);
        let first = links.opened(peer, ids[0], Multiaddr::empty(), now);
        let second = links.opened(peer, ids[1], Multiaddr::empty(), now);
        assert!(first && !second);
        ids
    }

    #[test]
    fn of_two_connections_the_lower_peer_closes_the_older_once_both_sides_have_both() {
        let (low, high) = two();
        let now = Instant::now();
        let mut links = Links::new(low);
        let [older, newer] = link_twice(&mut links, high, now);
        assert_eq!(links.take_surplus(now), []);
        assert_eq!(links.deadline(), Some(now + SETTLED));
        assert_eq!(links.take_surplus(now + SETTLED), [older]);
        assert!(links.closed(&high, older).is_none());
        links.get(&high).unwrap().met = true;
        assert_eq!(links.deadline(), None);
        assert!(links.closed(&high, newer).is_some());
    }

    #[test]
    fn a_peer_that_completes_the_handshake_and_says_nothing_is_closed() {
        let (low, high) = two();
        let now = Instant::now();
        let mut links = Links::new(low);
        let id = ConnectionId::new_unchecked(7);
        links.opened(high, id, Multiaddr::empty(), now);
        assert_eq!(links.deadline(), Some(now + SILENT));
        assert_eq!(links.take_surplus(now + SILENT), [id]);
        assert_eq!(links.deadline(), None);
        assert_eq!(links.take_surplus(now + SILENT), [], "each is named once");
        assert!(links.closed(&high, id).is_some());
        assert!(!links.has(&high));
    }

    #[test]
    fn the_higher_peer_leaves_that_to_the_lower_one_and_does_it_where_that_one_does_not() {
        let (low, high) = two();
        let now = Instant::now();
        let mut links = Links::new(high);
        let [older, _] = link_twice(&mut links, low, now);
        assert_eq!(links.take_surplus(now + SETTLED), []);
        assert_eq!(links.take_surplus(now + LEFT_ALONE), [older]);
    }
}
