//! Connections that come up, fail and end, and who waits for them.

use std::time::Instant;

use libp2p::allow_block_list::{Blocked, NotAllowed};
use libp2p::connection_limits::Exceeded;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionDenied, ConnectionId, DialError as Failed};
use libp2p::{Multiaddr, PeerId, identify};

use super::super::book::{Source, is_loopback};
use super::super::codec::PROTOCOL;
use super::super::handle::{DialError, Event, cause};
use super::super::refusals::Why;
use super::{Driver, Reply, Waiter};

impl Driver {
    pub(super) fn dial_now(
        &mut self,
        peer: PeerId,
        addresses: &[Multiaddr],
        reply: Reply<Result<(), DialError>>,
    ) {
        self.book.add(peer, addresses, Source::Trusted, Instant::now());
        if self.links.get(&peer).is_some_and(|link| link.met) {
            drop(reply.send(Ok(())));
            return;
        }
        let addresses = self.book.addresses(&peer);
        if addresses.is_empty() {
            drop(reply.send(Err(DialError::NoAddress)));
            return;
        }
        self.dial(peer, addresses, Some(reply));
    }

    /// Dials, and tells how that ended to whoever waits.
    pub(super) fn dial(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: Option<Reply<Result<(), DialError>>>,
    ) {
        // A port of its own: where both sides dial from the port they listen on, TCP makes one
        // connection of the two, both take themselves for the one who dialled, and both fail.
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses.clone())
            .allocate_new_port()
            .build();
        let connection = options.connection_id();
        self.dials.insert(connection, addresses);
        self.waiters.extend(reply.map(|reply| Waiter { peer, connection, reply }));
        self.book.dialling(&peer);
        if let Err(error) = self.network.dial(options) {
            self.dial_failed(Some(peer), connection, error);
        }
    }

    pub(super) fn opened(&mut self, peer: PeerId, connection: ConnectionId, remote: Multiaddr) {
        let now = Instant::now();
        self.end_dial(connection);
        self.book.add(peer, &[], Source::Trusted, now);
        if self.links.opened(peer, connection, remote, now) {
            self.book.connected(&peer, now);
        } else if self.links.get(&peer).is_some_and(|link| link.met) {
            end(&mut self.waiters, |waiter| waiter.peer == peer, &Ok(()));
        }
    }

    pub(super) fn closed(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        by_peer: bool,
    ) {
        if let Some(link) = self.links.closed(&peer, connection) {
            self.book.closed(&peer, Instant::now());
            if link.met {
                self.tell(Event::Disconnected { peer });
            } else if by_peer {
                self.hung_up(peer, link.remote, endpoint);
            }
            // Who waits for a dial that is still under way goes on waiting.
            let dials = &self.dials;
            let over =
                |waiter: &Waiter| waiter.peer == peer && !dials.contains_key(&waiter.connection);
            end(&mut self.waiters, over, &Err(DialError::Refused(Why::ByPeer)));
        }
    }

    /// A peer closed the connection before a word was said. Who refuses us does not dial us, and does
    /// it again when it is dialled again; a command that is a node for a moment has gone by then.
    fn hung_up(&mut self, peer: PeerId, remote: Multiaddr, endpoint: &ConnectedPoint) {
        if endpoint.is_dialer() && self.book.hung_up(&peer) {
            self.refused(Some(peer), Some(remote), Why::ByPeer);
        } else {
            tracing::info!("{peer} at {remote} went away again");
        }
    }

    pub(super) fn dial_failed(
        &mut self,
        peer: Option<PeerId>,
        connection: ConnectionId,
        error: Failed,
    ) {
        let answered = self.end_dial(connection);
        let mut text = cause(&error);
        let why = match error {
            Failed::Transport(errors) => {
                let causes = errors.iter().map(|(at, error)| format!("{at}: {}", cause(error)));
                text = causes.collect::<Vec<_>>().join("; ");
                answered.map(|address| (Some(address), Why::KeyMismatch(self.fingerprint)))
            }
            Failed::Denied { cause } => why_denied(&cause).map(|why| (None, why)),
            Failed::WrongPeerId { address, .. } | Failed::LocalPeerId { address } => {
                if let Some(peer) = &peer {
                    self.book.forget_address(peer, &address);
                }
                Some((Some(address), Why::OtherPeer))
            }
            _ => None,
        };
        if let Some(peer) = &peer {
            self.book.failed(peer, Instant::now());
        }
        let error = match why {
            None => DialError::Unreachable(text),
            Some((address, why)) => {
                self.refused(peer, address, why);
                DialError::Refused(why)
            }
        };
        tracing::debug!(?peer, %error, "a dial failed");
        end(&mut self.waiters, |waiter| waiter.connection == connection, &Err(error));
    }

    /// A dial's outcome is known. Returns an address at which somebody answered.
    fn end_dial(&mut self, connection: ConnectionId) -> Option<Multiaddr> {
        let addresses = self.dials.remove(&connection)?;
        // All are taken: what stays would be believed of the next dial.
        let answered: Vec<_> = addresses.into_iter().filter(|a| self.reached.take(a)).collect();
        answered.into_iter().next()
    }

    pub(super) fn identified(&mut self, peer: PeerId, info: &identify::Info) {
        let Some(link) = self.links.get(&peer) else { return };
        let remote = link.remote.clone();
        if !info.protocols.contains(&PROTOCOL) {
            self.refused(Some(peer), Some(remote), Why::OtherProtocol);
            let refused = Err(DialError::Refused(Why::OtherProtocol));
            end(&mut self.waiters, |waiter| waiter.peer == peer, &refused);
            self.disconnect(peer);
            return;
        }
        // What another machine calls loopback leads back to this one.
        let addresses: Vec<Multiaddr> = info
            .listen_addrs
            .iter()
            .filter(|address| !is_loopback(address) || is_loopback(&remote))
            .cloned()
            .collect();
        let new = self.book.add(peer, &addresses, Source::Trusted, Instant::now());
        self.meet(peer);
        if new {
            let addresses = self.book.addresses(&peer);
            self.tell(Event::Learned { peer, addresses });
        }
    }

    /// A peer said something under our protocol. Returns whether that was the first time.
    pub(super) fn meet(&mut self, peer: PeerId) -> bool {
        let Some(link) = self.links.get(&peer).filter(|link| !link.met) else { return false };
        link.met = true;
        self.book.trust(&peer);
        let addresses = self.book.addresses(&peer);
        self.tell(Event::Connected { peer, addresses });
        end(&mut self.waiters, |waiter| waiter.peer == peer, &Ok(()));
        true
    }
}

/// Tells those who waited how it ended.
fn end(
    waiters: &mut Vec<Waiter>,
    whose: impl Fn(&Waiter) -> bool,
    outcome: &Result<(), DialError>,
) {
    for waiter in waiters.extract_if(.., |waiter| whose(waiter)) {
        // Who waited may have gone.
        drop(waiter.reply.send(outcome.clone()));
    }
}

pub(super) fn why_denied(cause: &ConnectionDenied) -> Option<Why> {
    if cause.downcast_ref::<Blocked>().is_some() {
        Some(Why::Blocked)
    } else if cause.downcast_ref::<NotAllowed>().is_some() {
        Some(Why::NotAllowed)
    } else {
        cause.downcast_ref::<Exceeded>().map(|_| Why::Full)
    }
}
