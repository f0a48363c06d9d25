//! The task that runs a swarm: turns the handle's commands into libp2p's, and libp2p's events into
//! ours.
//!
//! It owns everything and awaits nothing but the next event, command or deadline, so a caller that
//! waits for one answer never keeps it from giving another.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::allow_block_list::{Blocked, NotAllowed};
use libp2p::connection_limits::Exceeded;
use libp2p::futures::StreamExt;
use libp2p::request_response::{
    self, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionDenied, ConnectionId, DialError as Failed, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::behaviour::{Behaviour, BehaviourEvent, MAX_IN_FLIGHT, Reached};
use super::book::{Book, Source, is_loopback};
use super::codec::PROTOCOL;
use super::key::{Fingerprint, NetworkKey};
use super::links::Links;
use super::refusals::{Refusal, Refusals, Why};
use super::swarm::{Answer, DialError, Event, Options, PeerInfo, RequestError, cause};

/// Requests that may wait for our answers at a time, of all peers together: the memory they hold
/// is at most this many messages.
const MAX_WAITING: usize = 256;
/// How long the end waits for the connections to close.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the handle says.
#[derive(Debug)]
pub(super) enum Command {
    Request { peer: PeerId, bytes: Vec<u8>, reply: Reply<Result<Vec<u8>, RequestError>> },
    Answer { channel: ResponseChannel<Vec<u8>>, bytes: Vec<u8> },
    Dial { peer: PeerId, addresses: Vec<Multiaddr>, reply: Reply<Result<(), DialError>> },
    Disconnect(PeerId),
    Allow(PeerId),
    Block(PeerId),
    Peers(Reply<Vec<PeerInfo>>),
    Listening(Reply<Vec<Multiaddr>>),
    Refusals(Reply<Vec<Refusal>>),
    Close(Reply<()>),
}

type Reply<T> = oneshot::Sender<T>;

/// Somebody who waits for how a dial ends.
struct Waiter {
    peer: PeerId,
    connection: ConnectionId,
    reply: Reply<Result<(), DialError>>,
}

/// See the module's page.
pub(super) struct Driver {
    network: libp2p::Swarm<Behaviour>,
    fingerprint: Fingerprint,
    max_outgoing: usize,
    book: Book,
    links: Links,
    refusals: Refusals,
    reached: Reached,
    /// The addresses of the dials that are under way.
    dials: HashMap<ConnectionId, Vec<Multiaddr>>,
    waiters: Vec<Waiter>,
    requests: HashMap<OutboundRequestId, (PeerId, Reply<Result<Vec<u8>, RequestError>>)>,
    places: Arc<Semaphore>,
    /// Weak, so that the swarm ends when the last handle is dropped.
    commands: mpsc::WeakUnboundedSender<Command>,
    events: mpsc::UnboundedSender<Event>,
}

impl Driver {
    pub(super) fn new(
        network: libp2p::Swarm<Behaviour>,
        key: &NetworkKey,
        options: &Options,
        reached: Reached,
        commands: mpsc::WeakUnboundedSender<Command>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let me = *network.local_peer_id();
        let now = Instant::now();
        let mut book = Book::new(me, Box::new(random));
        for (peer, addresses) in &options.known {
            book.add(*peer, addresses, Source::Trusted, now);
        }
        Driver {
            network,
            fingerprint: key.fingerprint(),
            max_outgoing: options.max_outgoing as usize,
            book,
            links: Links::new(me),
            refusals: Refusals::default(),
            reached,
            dials: HashMap::new(),
            waiters: Vec::new(),
            requests: HashMap::new(),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
            commands,
            events,
        }
    }

    /// Runs until it is closed, or nobody is left who hears or says anything.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut deadline = self.tend();
        let farewell = loop {
            tokio::select! {
                event = self.network.select_next_some() => {
                    if self.on_event(event) {
                        deadline = self.tend();
                    }
                }
                command = commands.recv() => match command {
                    None => break None,
                    Some(Command::Close(reply)) => break Some(reply),
                    Some(command) => {
                        if self.on_command(command) {
                            deadline = self.tend();
                        }
                    }
                },
                () = sleep_until(deadline) => deadline = self.tend(),
                () = self.events.closed() => break None,
            }
        };
        self.leave().await;
        drop(self);
        if let Some(reply) = farewell {
            // Whoever closed it may not wait.
            let _nobody_waits = reply.send(());
        }
    }

    /// Closes the connections properly, so that the peers see it at once.
    async fn leave(&mut self) {
        let peers: Vec<PeerId> = self.network.connected_peers().copied().collect();
        for peer in peers {
            self.disconnect(peer);
        }
        let closing = async {
            while self.network.connected_peers().next().is_some() {
                self.network.select_next_some().await;
            }
        };
        if tokio::time::timeout(FAREWELL, closing).await.is_err() {
            tracing::debug!("a peer did not take leave");
        }
    }

    /// Does what is due. Returns when to do it again, if nothing happens before.
    fn tend(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for connection in self.links.take_surplus(now) {
            self.network.close_connection(connection);
        }
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        let counters = self.network.network_info();
        let counters = counters.connection_counters();
        let open = counters.num_established_outgoing() + counters.num_pending_outgoing();
        let mut places = self.max_outgoing.saturating_sub(open as usize);
        if places > 0 {
            let (behaviour, links) = (self.network.behaviour(), &self.links);
            let may = |peer: &PeerId| !links.has(peer) && is_let_in(behaviour, peer);
            for (peer, addresses) in self.book.due(now, places, may) {
                self.dial(peer, addresses, None);
                places -= 1;
            }
        }
        let redial = if places > 0 { self.book.deadline() } else { None };
        [redial, self.links.deadline()].into_iter().flatten().min()
    }

    /// Dials, and tells how that ended to whoever waits.
    fn dial(
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

    /// Returns whether there may be something to tend.
    fn on_command(&mut self, command: Command) -> bool {
        match command {
            Command::Request { peer, bytes, reply } => {
                self.request(peer, bytes, reply);
                return false;
            }
            Command::Answer { channel, bytes } => {
                if self.network.behaviour_mut().messages.send_response(channel, bytes).is_err() {
                    tracing::debug!("a peer went away before its answer");
                }
                return false;
            }
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Listening(reply) => {
                drop(reply.send(self.network.listeners().cloned().collect()));
            }
            Command::Refusals(reply) => drop(reply.send(self.refusals.all())),
            Command::Dial { peer, addresses, reply } => self.dial_now(peer, &addresses, reply),
            Command::Disconnect(peer) => self.disconnect(peer),
            Command::Allow(peer) => {
                let behaviour = self.network.behaviour_mut();
                behaviour.blocked.unblock_peer(peer);
                if let Some(allowed) = behaviour.allowed.as_mut() {
                    allowed.allow_peer(peer);
                }
                self.book.hurry(Instant::now());
            }
            Command::Block(peer) => {
                let behaviour = self.network.behaviour_mut();
                behaviour.blocked.block_peer(peer);
                if let Some(allowed) = behaviour.allowed.as_mut() {
                    allowed.disallow_peer(peer);
                }
            }
            Command::Close(_) => unreachable!("closing ends the loop that calls this"),
        }
        true
    }

    fn request(
        &mut self,
        peer: PeerId,
        bytes: Vec<u8>,
        reply: Reply<Result<Vec<u8>, RequestError>>,
    ) {
        let refused = match self.links.get(&peer) {
            None => RequestError::NotConnected,
            Some(link) if link.in_flight >= MAX_IN_FLIGHT => RequestError::Busy,
            Some(link) => {
                link.in_flight += 1;
                let id = self.network.behaviour_mut().messages.send_request(&peer, Ok(bytes));
                self.requests.insert(id, (peer, reply));
                return;
            }
        };
        drop(reply.send(Err(refused)));
    }

    fn dial_now(
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

    fn peers(&self) -> Vec<PeerInfo> {
        let met = self.links.iter().filter(|(_, link)| link.met);
        met.map(|(peer, link)| PeerInfo {
            peer: *peer,
            addresses: self.book.addresses(peer),
            round_trip: link.round_trip,
            connections: link.connections(),
        })
        .collect()
    }

    /// Returns whether there may be something to tend.
    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) -> bool {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Messages(event)) => {
                self.on_message(event);
                return false;
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping)) => {
                if let (Some(link), Ok(time)) = (self.links.get(&ping.peer), ping.result) {
                    link.round_trip = Some(time);
                }
                return false;
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => self.identified(peer_id, &info),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(found))) => {
                for (peer, address) in found {
                    self.book.add(peer, &[address], Source::Mdns, Instant::now());
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.opened(peer_id, connection_id, endpoint.get_remote_address().clone());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.closed(peer_id, connection_id, cause.is_some());
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                self.dial_failed(peer_id, connection_id, error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, peer_id, .. } => {
                let why = match error {
                    ListenError::Transport(_) => Some(Why::KeyMismatch(self.fingerprint)),
                    ListenError::Denied { cause } => why_denied(&cause),
                    _ => None,
                };
                if let Some(why) = why {
                    self.refused(peer_id, Some(send_back_addr), why);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.book.hurry(Instant::now());
                self.tell(Event::ListeningOn(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.tell(Event::NotListeningOn(address));
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "a listener of the swarm ended");
                for address in addresses {
                    self.tell(Event::NotListeningOn(address));
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener of the swarm failed for a moment");
            }
            _ => return false,
        }
        true
    }

    fn opened(&mut self, peer: PeerId, connection: ConnectionId, remote: Multiaddr) {
        let now = Instant::now();
        self.end_dial(connection);
        self.book.add(peer, &[], Source::Trusted, now);
        if self.links.opened(peer, connection, remote, now) {
            self.book.connected(&peer, now);
        } else if self.links.get(&peer).is_some_and(|link| link.met) {
            self.end_waiters(|waiter| waiter.peer == peer, &Ok(()));
        }
    }

    fn closed(&mut self, peer: PeerId, connection: ConnectionId, by_peer: bool) {
        if let Some(link) = self.links.closed(&peer, connection) {
            self.book.closed(&peer, Instant::now());
            if link.met {
                self.tell(Event::Disconnected { peer });
            } else if by_peer {
                self.refused(Some(peer), Some(link.remote), Why::ByPeer);
            }
        }
        let refused = Err(DialError::Refused(Why::ByPeer));
        self.end_waiters(|waiter| waiter.connection == connection, &refused);
    }

    fn dial_failed(&mut self, peer: Option<PeerId>, connection: ConnectionId, error: Failed) {
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
        self.end_waiters(|waiter| waiter.connection == connection, &Err(error));
    }

    /// A dial's outcome is known. Returns an address at which somebody answered.
    fn end_dial(&mut self, connection: ConnectionId) -> Option<Multiaddr> {
        let addresses = self.dials.remove(&connection)?;
        // All are taken: what stays would be believed of the next dial.
        let answered: Vec<_> = addresses.into_iter().filter(|a| self.reached.take(a)).collect();
        answered.into_iter().next()
    }

    fn end_waiters(&mut self, whose: impl Fn(&Waiter) -> bool, outcome: &Result<(), DialError>) {
        for waiter in self.waiters.extract_if(.., |waiter| whose(waiter)) {
            drop(waiter.reply.send(outcome.clone()));
        }
    }

    fn identified(&mut self, peer: PeerId, info: &identify::Info) {
        let Some(link) = self.links.get(&peer) else { return };
        let remote = link.remote.clone();
        if !info.protocols.contains(&PROTOCOL) {
            self.refused(Some(peer), Some(remote), Why::OtherProtocol);
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
        if !self.meet(peer) && new {
            let addresses = self.book.addresses(&peer);
            self.tell(Event::Learned { peer, addresses });
        }
    }

    /// A peer said something under our protocol. Returns whether that was the first time.
    fn meet(&mut self, peer: PeerId) -> bool {
        let Some(link) = self.links.get(&peer).filter(|link| !link.met) else { return false };
        link.met = true;
        self.book.trust(&peer);
        let addresses = self.book.addresses(&peer);
        self.tell(Event::Connected { peer, addresses });
        self.end_waiters(|waiter| waiter.peer == peer, &Ok(()));
        true
    }

    fn on_message(&mut self, event: request_response::Event<io::Result<Vec<u8>>, Vec<u8>>) {
        use request_response::Event as E;
        match event {
            E::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.asked(peer, request, channel);
            }
            E::Message { message: Message::Response { request_id, response }, .. } => {
                self.answered(request_id, Ok(response));
            }
            E::OutboundFailure { peer, request_id, error, .. } => {
                let error = request_failed(error);
                if matches!(error, RequestError::Malformed(_)) {
                    self.refused(Some(peer), None, Why::Malformed);
                }
                self.answered(request_id, Err(error));
            }
            E::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a request was not answered");
            }
            E::ResponseSent { .. } => {}
        }
    }

    /// Where the channel is dropped, the peer is told that there is no answer.
    fn asked(
        &mut self,
        peer: PeerId,
        request: io::Result<Vec<u8>>,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        self.meet(peer);
        let bytes = match request {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%peer, %error, "a request was malformed");
                return self.refused(Some(peer), None, Why::Malformed);
            }
        };
        let place = Arc::clone(&self.places).try_acquire_owned();
        match (place, self.commands.upgrade()) {
            (Ok(place), Some(commands)) => {
                let answer = Answer { channel, commands, _place: place };
                self.tell(Event::Request { peer, bytes, answer });
            }
            _ => self.refused(Some(peer), None, Why::Overloaded),
        }
    }

    fn answered(&mut self, id: OutboundRequestId, outcome: Result<Vec<u8>, RequestError>) {
        let Some((peer, reply)) = self.requests.remove(&id) else { return };
        if let Some(link) = self.links.get(&peer) {
            link.in_flight = link.in_flight.saturating_sub(1);
        }
        // Whoever asked may not wait any more.
        drop(reply.send(outcome));
    }

    fn refused(&mut self, peer: Option<PeerId>, address: Option<Multiaddr>, why: Why) {
        if let Some(refusal) = self.refusals.count(peer, address, why) {
            self.tell(Event::Refused(refusal));
        }
    }

    fn disconnect(&mut self, peer: PeerId) {
        if self.network.disconnect_peer_id(peer).is_err() {
            tracing::debug!(%peer, "was not connected");
        }
    }

    fn tell(&self, event: Event) {
        // The loop ends by itself where nobody hears.
        let _nobody_hears = self.events.send(event);
    }
}

fn is_let_in(behaviour: &Behaviour, peer: &PeerId) -> bool {
    let allowed = behaviour.allowed.as_ref();
    !behaviour.blocked.blocked_peers().contains(peer)
        && allowed.is_none_or(|allowed| allowed.allowed_peers().contains(peer))
}

fn why_denied(cause: &ConnectionDenied) -> Option<Why> {
    if cause.downcast_ref::<Blocked>().is_some() {
        Some(Why::Blocked)
    } else if cause.downcast_ref::<NotAllowed>().is_some() {
        Some(Why::NotAllowed)
    } else {
        cause.downcast_ref::<Exceeded>().map(|_| Why::Full)
    }
}

fn request_failed(error: OutboundFailure) -> RequestError {
    match error {
        OutboundFailure::DialFailure => RequestError::NotConnected,
        OutboundFailure::Timeout => RequestError::TimedOut,
        OutboundFailure::ConnectionClosed => RequestError::Disconnected,
        OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
        OutboundFailure::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            RequestError::Malformed(error.to_string())
        }
        OutboundFailure::Io(error) => RequestError::NoAnswer(error.to_string()),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// For jitter and choices; without randomness they are merely not spread.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
