//! The task that runs a swarm: turns the handle's commands into libp2p's, and libp2p's events into
//! ours.
//!
//! It owns everything and awaits nothing but the next event, command or deadline, so a caller that
//! waits for one answer never keeps it from giving another.

mod connections;
mod messages;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::futures::StreamExt;
use libp2p::request_response::{OutboundRequestId, ResponseChannel};
use libp2p::swarm::{ConnectionId, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::admission::Admission;
use super::behaviour::{Behaviour, BehaviourEvent, Reached};
use super::book::{Book, Source, for_others};
use super::greeting::OtherKey;
use super::handle::{DialError, Event, Options, PeerInfo, RequestError};
use super::key::{Fingerprint, NetworkKey};
use super::links::Links;
use super::refusals::{Refusal, Refusals, Why};

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
    Admit { admission: Admission, reply: Reply<()> },
    Peers(Reply<Vec<PeerInfo>>),
    Listening(Reply<Vec<Multiaddr>>),
    Refuse { peer: PeerId, why: Why, detail: String },
    Refusals(Reply<Vec<Refusal>>),
    Close(Reply<()>),
}

type Reply<T> = oneshot::Sender<T>;

/// A request of ours that is under way.
struct Asked {
    peer: PeerId,
    reply: Reply<Result<Vec<u8>, RequestError>>,
}

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
    admission: Admission,
    book: Book,
    links: Links,
    refusals: Refusals,
    reached: Reached,
    /// The addresses of the dials that are under way.
    dials: HashMap<ConnectionId, Vec<Multiaddr>>,
    waiters: Vec<Waiter>,
    asked: HashMap<OutboundRequestId, Asked>,
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
            admission: options.admission.clone(),
            book,
            links: Links::new(me),
            refusals: Refusals::default(),
            reached,
            dials: HashMap::new(),
            waiters: Vec::new(),
            asked: HashMap::new(),
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
            let (admission, links) = (&self.admission, &self.links);
            let may = |peer: &PeerId| !links.has(peer) && admission.lets_in(peer);
            for (peer, addresses) in self.book.due(now, places, may) {
                self.dial(peer, addresses, None);
                places -= 1;
            }
        }
        let redial = if places > 0 { self.book.deadline() } else { None };
        [redial, self.links.deadline()].into_iter().flatten().min()
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
            Command::Refuse { peer, why, detail } => {
                let address = self.links.get(&peer).map(|link| link.remote.clone());
                self.count_refusal(Some(peer), address, why, Some(&detail));
                return false;
            }
            Command::Refusals(reply) => drop(reply.send(self.refusals.all())),
            Command::Dial { peer, addresses, reply } => self.dial_now(peer, &addresses, reply),
            Command::Disconnect(peer) => self.disconnect(peer),
            Command::Admit { admission, reply } => {
                self.admit(admission);
                // Who decided may not wait.
                let _gone = reply.send(());
            }
            Command::Close(_) => unreachable!("closing ends the loop that calls this"),
        }
        true
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let met = self.links.iter().filter(|(_, link)| link.met);
        met.map(|(peer, link)| PeerInfo {
            peer: *peer,
            addresses: for_others(self.book.addresses(peer)),
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
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Expired(gone))) => {
                for (peer, address) in gone {
                    self.book.no_longer_announced(&peer, &address);
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.opened(peer_id, connection_id, endpoint.get_remote_address().clone());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, endpoint, cause, .. } => {
                self.closed(peer_id, connection_id, &endpoint, cause.is_some());
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                self.dial_failed(peer_id, connection_id, error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, peer_id, .. } => {
                tracing::debug!(%send_back_addr, %error, "a connection did not come up");
                let why = match error {
                    ListenError::Transport(error) if OtherKey::is_cause_of(&error) => {
                        Some(Why::KeyMismatch(self.fingerprint))
                    }
                    ListenError::Denied { cause } => connections::why_denied(&cause),
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

    fn refused(&mut self, peer: Option<PeerId>, address: Option<Multiaddr>, why: Why) {
        self.count_refusal(peer, address, why, None);
    }

    fn count_refusal(
        &mut self,
        peer: Option<PeerId>,
        address: Option<Multiaddr>,
        why: Why,
        detail: Option<&str>,
    ) {
        if let Some(refusal) = self.refusals.count(peer, address, why, detail) {
            self.tell(Event::Refused(refusal));
        }
    }

    fn admit(&mut self, admission: Admission) {
        let behaviour = self.network.behaviour_mut();
        behaviour.blocked = admission.blocking();
        behaviour.allowed = admission.trusting().into();
        let connected = self.network.connected_peers();
        let others: Vec<PeerId> =
            connected.filter(|peer| !admission.lets_in(peer)).copied().collect();
        for peer in others {
            self.disconnect(peer);
        }
        self.admission = admission;
        self.book.hurry(Instant::now());
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
