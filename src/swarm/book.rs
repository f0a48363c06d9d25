//! The address book: which peers are known, where, and when to dial them again.
//!
//! A peer that is known and not connected is dialled after a delay that doubles with each failure,
//! with jitter, so that a swarm that comes back after a power cut does not dial in step. Where more
//! peers are due than may be dialled, chance decides among them: then the connections of a large
//! swarm form a random graph, which stays in one piece.
//!
//! mDNS shows both peers to each other at once. The one with the lower peer id dials; the other
//! waits [`TURN`] and dials only if nothing came. Anybody on the LAN can announce anything over
//! mDNS, and other programs' peers do. So a peer that only mDNS named, and that never was connected,
//! is dialled with pauses that grow to [`STRANGER_DELAY`], and forgotten when nobody announces it any
//! more, or when others need its room. Not before: mDNS tells of a peer once, however long it is out
//! of reach.
//!
//! No clock, no I/O: the time comes in, and whom to dial comes out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::invitation::without_peer;

/// The delay after the first failure.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest delay: how long a healed network may wait for its peers.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// How long the peer with the higher id waits for the other one's dial.
const TURN: Duration = Duration::from_secs(3);
/// A connection that lasted less was a failure: a peer that refuses us closes it at once.
const LASTING: Duration = Duration::from_secs(10);
/// The longest delay of a peer that only mDNS named: other programs' peers are not to be asked all day.
const STRANGER_DELAY: Duration = Duration::from_secs(300);
/// How many peers are known at most. More than a swarm of hundreds needs; bounds what others'
/// announcements can cost.
const MAX_PEERS: usize = 1024;
/// How many addresses of one peer are kept, the newest first.
const MAX_ADDRESSES: usize = 8;

/// How a peer became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The caller named it, or it was connected and said so itself.
    Trusted,
    /// It was announced on the LAN.
    Mdns,
}

#[derive(Debug)]
enum State {
    Waiting(Instant),
    Dialling,
    Connected(Instant),
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<Multiaddr>,
    source: Source,
    failures: u32,
    /// Whether it ended the last connection that we dialled before a word was said.
    hung_up: bool,
    state: State,
}

/// See the module's page.
pub(super) struct Book {
    me: PeerId,
    peers: BTreeMap<PeerId, Entry>,
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl Book {
    pub(super) fn new(me: PeerId, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Book { me, peers: BTreeMap::new(), random }
    }

    /// Adds what is new of a peer's addresses. Returns whether anything was.
    pub(super) fn add(
        &mut self,
        peer: PeerId,
        addresses: &[Multiaddr],
        source: Source,
        now: Instant,
    ) -> bool {
        if peer == self.me || !self.make_room_for(peer) {
            return false;
        }
        let my_turn = source == Source::Trusted || self.me < peer;
        let start = if my_turn { now } else { now + TURN };
        let entry = self.peers.entry(peer).or_insert_with(|| Entry {
            addresses: Vec::new(),
            source,
            failures: 0,
            hung_up: false,
            state: State::Waiting(start),
        });
        if source == Source::Trusted {
            entry.source = Source::Trusted;
        }
        let mut new = false;
        for address in addresses.iter().map(without_peer).filter(can_be_dialled) {
            if !entry.addresses.contains(&address) {
                entry.addresses.insert(0, address);
                new = true;
            }
        }
        entry.addresses.truncate(MAX_ADDRESSES);
        if new {
            entry.failures = 0;
            if let State::Waiting(at) = &mut entry.state {
                *at = start.min(*at);
            }
        }
        new
    }

    /// The addresses of a peer, the newest first.
    pub(super) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.peers.get(peer).map(|entry| entry.addresses.clone()).unwrap_or_default()
    }

    /// Whom to dial now, at most `places` peers. They count as being dialled from now on.
    pub(super) fn due(
        &mut self,
        now: Instant,
        places: usize,
        may: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due = Vec::new();
        for (peer, entry) in &mut self.peers {
            match entry.state {
                State::Waiting(at) if at <= now && may(peer) && !entry.addresses.is_empty() => {
                    due.push(*peer);
                }
                State::Waiting(at) if at <= now => {
                    entry.state = State::Waiting(now + LONGEST_DELAY);
                }
                _ => {}
            }
        }
        while due.len() > places {
            let chosen = (self.random)() % due.len() as u64;
            due.swap_remove(chosen as usize);
        }
        for peer in &due {
            self.dialling(peer);
        }
        due.into_iter().map(|peer| (peer, self.addresses(&peer))).collect()
    }

    /// When somebody is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self.peers.values().filter_map(|entry| match entry.state {
            State::Waiting(at) => Some(at),
            _ => None,
        });
        waiting.min()
    }

    /// A dial began.
    pub(super) fn dialling(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.get_mut(peer)
            && matches!(entry.state, State::Waiting(_))
        {
            entry.state = State::Dialling;
        }
    }

    /// The first connection to a peer stands.
    pub(super) fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.state = State::Connected(now);
        }
    }

    /// The last connection to a peer ended.
    pub(super) fn closed(&mut self, peer: &PeerId, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if let State::Connected(since) = entry.state {
            let lasted = now.saturating_duration_since(since) >= LASTING;
            entry.failures = if lasted { 0 } else { entry.failures + 1 };
            self.wait(peer, now);
        }
    }

    /// A dial failed.
    pub(super) fn failed(&mut self, peer: &PeerId, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if matches!(entry.state, State::Connected(_)) {
            return;
        }
        entry.failures += 1;
        entry.hung_up = false;
        self.wait(peer, now);
    }

    /// A peer closed a connection that we dialled before a word was said. Returns whether it did the
    /// last time too.
    pub(super) fn hung_up(&mut self, peer: &PeerId) -> bool {
        let entry = self.peers.get_mut(peer);
        entry.is_some_and(|entry| std::mem::replace(&mut entry.hung_up, true))
    }

    /// Nobody announces an address on the LAN any more. A peer that is known by nothing else is
    /// forgotten.
    pub(super) fn no_longer_announced(&mut self, peer: &PeerId, address: &Multiaddr) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if entry.source == Source::Trusted || matches!(entry.state, State::Connected(_)) {
            return;
        }
        let address = without_peer(address);
        entry.addresses.retain(|known| *known != address);
        if entry.addresses.is_empty() {
            self.peers.remove(peer);
        }
    }

    /// Somebody else answers at an address.
    pub(super) fn forget_address(&mut self, peer: &PeerId, address: &Multiaddr) {
        if let Some(entry) = self.peers.get_mut(peer) {
            let address = without_peer(address);
            entry.addresses.retain(|known| *known != address);
        }
    }

    /// The peer is who it says: it is kept, as if the caller had named it.
    pub(super) fn trust(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.get_mut(peer) {
            (entry.source, entry.hung_up) = (Source::Trusted, false);
        }
    }

    /// The network changed: whoever was given up for a while is tried again soon.
    pub(super) fn hurry(&mut self, now: Instant) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            let soon = now + self.jittered(FIRST_DELAY);
            if let Some(Entry { failures, state: State::Waiting(at), .. }) =
                self.peers.get_mut(&peer)
            {
                *failures = 0;
                *at = soon.min(*at);
            }
        }
    }

    fn wait(&mut self, peer: &PeerId, now: Instant) {
        let Some(entry) = self.peers.get(peer) else { return };
        let longest = match entry.source {
            Source::Trusted => LONGEST_DELAY,
            Source::Mdns => STRANGER_DELAY,
        };
        let doubled = FIRST_DELAY.saturating_mul(1 << entry.failures.saturating_sub(1).min(10));
        let at = now + self.jittered(doubled.min(longest));
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.state = State::Waiting(at);
        }
    }

    /// Between half of a delay and all of it.
    fn jittered(&mut self, delay: Duration) -> Duration {
        let half = delay / 2;
        half + Duration::from_millis((self.random)() % (half.as_millis() as u64 + 1))
    }

    /// Whether there is room for a peer; whoever failed most often makes it, strangers first.
    fn make_room_for(&mut self, peer: PeerId) -> bool {
        if self.peers.contains_key(&peer) || self.peers.len() < MAX_PEERS {
            return true;
        }
        let gone = self
            .peers
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Waiting(_)) && entry.failures > 0)
            .max_by_key(|(_, entry)| (entry.source == Source::Mdns, entry.failures))
            .map(|(peer, _)| *peer);
        gone.is_some_and(|gone| self.peers.remove(&gone).is_some())
    }
}

/// Whether an address is one of TCP on a certain machine.
fn can_be_dialled(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let machine = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return false,
    };
    let tcp = matches!(parts.next(), Some(Protocol::Tcp(port)) if port != 0);
    let somewhere = !machine.is_unspecified() && !machine.is_multicast();
    tcp && parts.next().is_none() && somewhere && !is_link_local(address)
}

/// Whether an address is one of IPv6 for one link alone: without the link's name, which no address
/// of ours has, it leads nowhere.
pub(super) fn is_link_local(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip6(ip)) if ip.is_unicast_link_local())
}

/// Those that are worth telling others: the loopback leads them back to themselves, and is left out
/// where there is anything else.
pub(super) fn for_others(mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    if !addresses.iter().all(is_loopback) {
        addresses.retain(|address| !is_loopback(address));
    }
    addresses
}

/// Whether an address leads back to the machine that dials it.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
