//! The swarm's handle: what a node says to it and hears from it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::request_response::ResponseChannel;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::Identity;
use super::admission::Admission;
use super::behaviour::{self, Reached};
use super::book::{for_others, is_link_local, is_loopback};
use super::codec::MAX_MESSAGE;
use super::driver::{Command, Driver};
use super::key::{Fingerprint, NetworkKey};
use super::refusals::{Refusal, Why};

/// How long a dial is waited for: a handshake, and a word.
const DIAL: Duration = Duration::from_secs(20);

/// How long after the start an address that others can reach is waited for: there may be none.
const NAMED: Duration = Duration::from_millis(500);
/// Between two looks at the addresses.
const LOOK: Duration = Duration::from_millis(20);

/// How a swarm listens, and whom it knows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen. Port 0 lets the operating system choose, and then others have to be told
    /// anew after a restart. Default: every address of the machine, port 0.
    pub listen: Vec<Multiaddr>,
    /// Peers to dial, with their addresses: what [`Event::Learned`] said before.
    pub known: Vec<(PeerId, Vec<Multiaddr>)>,
    /// Whether peers are found and announced on the LAN. Default: yes.
    pub mdns: bool,
    /// Connections that we open. Too low and a large swarm falls into pieces, too high and each
    /// peer's memory pays (90 KB a connection). Default: 16.
    pub max_outgoing: u32,
    /// Connections that we take. Default: 64.
    pub max_incoming: u32,
    /// Who is let in, beside having the key. Default: everybody who has it.
    pub admission: Admission,
}

impl Options {
    /// Every address of the machine, at one port.
    #[must_use]
    pub fn everywhere(port: u16) -> Vec<Multiaddr> {
        let mut listen = vec![Multiaddr::from(Ipv4Addr::UNSPECIFIED)];
        // A machine without IPv6 refuses it.
        if TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok() {
            listen.push(Multiaddr::from(Ipv6Addr::UNSPECIFIED));
        }
        for address in &mut listen {
            address.push(Protocol::Tcp(port));
        }
        listen
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: Options::everywhere(0),
            known: Vec::new(),
            mdns: true,
            max_outgoing: 16,
            max_incoming: 64,
            admission: Admission::default(),
        }
    }
}

/// What happens in the swarm.
#[derive(Debug)]
pub enum Event {
    /// We listen at an address, from now on.
    ListeningOn(Multiaddr),
    /// We no longer listen at an address: the link went down, or the listener failed.
    NotListeningOn(Multiaddr),
    /// A peer is connected and speaks our protocol. Comes before its first request. A peer that
    /// restarts and is back before its old connection was seen to end is not told again.
    Connected {
        /// Who.
        peer: PeerId,
        /// Where it can be reached, as far as is known.
        addresses: Vec<Multiaddr>,
    },
    /// The last connection to a peer ended.
    Disconnected {
        /// Who.
        peer: PeerId,
    },
    /// A connected peer can be reached at these addresses: worth keeping for [`Options::known`].
    Learned {
        /// Who.
        peer: PeerId,
        /// Everything known, the newest first.
        addresses: Vec<Multiaddr>,
    },
    /// A peer asks.
    Request {
        /// Who.
        peer: PeerId,
        /// What.
        bytes: Vec<u8>,
        /// Where the answer goes. Dropped, it tells the peer that there is none.
        answer: Answer,
    },
    /// Somebody was refused, for the first time for this reason. [`Swarm::refusals`] counts.
    Refused(Refusal),
}

/// The way back to the peer that asked.
#[derive(Debug)]
pub struct Answer {
    pub(super) channel: ResponseChannel<Vec<u8>>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    /// One of the requests that may wait for an answer at a time.
    pub(super) _place: OwnedSemaphorePermit,
}

/// A message over [`MAX_MESSAGE`]. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes is too long: {MAX_MESSAGE} are allowed. Send it in pieces.")]
pub struct TooLong {
    /// Its length.
    pub bytes: usize,
}

impl Answer {
    /// Answers. Whether it arrives is not known; a peer that went away asks again.
    ///
    /// # Errors
    /// [`TooLong`], and then the peer is told that there is no answer.
    pub fn send(self, bytes: Vec<u8>) -> Result<(), TooLong> {
        check(&bytes)?;
        let answer = Command::Answer { channel: self.channel, bytes };
        // A swarm that was closed has no peers to tell.
        let _closed = self.commands.send(answer);
        Ok(())
    }
}

/// Why a request has no answer. Unless it says otherwise, the peer may have acted on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It was not sent.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// It was not sent.
    #[error("the peer is not connected. It is dialled again by itself.")]
    NotConnected,
    /// It was not sent: the peer has 32 of ours open.
    #[error("the peer has too many requests of ours open. Wait for an answer.")]
    Busy,
    /// No answer came in 30 s.
    #[error("the peer did not answer in time. Ask again, or disconnect it.")]
    TimedOut,
    /// The connection ended, or was one of two and the other stayed.
    #[error("the connection ended before the answer came. Ask again.")]
    Disconnected,
    /// The peer would not answer: the request was too long for it, or it is overloaded.
    #[error("the peer gave no answer ({0}). Ask less at a time.")]
    NoAnswer(String),
    /// What came was no answer, or too long.
    #[error("the peer's answer is malformed or too long: {0}")]
    Malformed(String),
    /// The peer speaks another protocol.
    #[error("the peer does not speak our protocol. Run the same version on both.")]
    Unsupported,
    /// The swarm was closed.
    #[error("the swarm was left")]
    Closed,
}

/// Why a dial led to no connection. The peer is dialled again by itself all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No address is one of TCP with a number for the machine and for the port.
    #[error("no address is like /ip4/192.168.1.5/tcp/4001 or /ip6/…/tcp/…")]
    NoAddress,
    /// Nobody answered.
    #[error("the peer cannot be reached: {0}. Check that it runs, and firewalls.")]
    Unreachable(String),
    /// We refused the peer, or it us.
    #[error("refused: {0}.")]
    Refused(Why),
    /// The swarm was closed.
    #[error("the swarm was left")]
    Closed,
}

/// Why a swarm did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// libp2p could not be set up: the LAN's discovery, mostly.
    #[error("the swarm could not be set up: {0}")]
    Setup(#[from] io::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}. Choose another address or port.")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// Why.
        reason: String,
    },
}

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Where it can be reached.
    pub addresses: Vec<Multiaddr>,
    /// Of the last ping; they are 15 s apart.
    pub round_trip: Option<Duration>,
    /// How many connections there are: more than one only for a moment after both sides dialled.
    pub connections: usize,
}

/// A running swarm. Its clones are the same one; it ends when the last is dropped.
#[derive(Clone, Debug)]
pub struct Swarm {
    me: PeerId,
    fingerprint: Fingerprint,
    started: Instant,
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

impl Swarm {
    /// Listens, dials whom it knows, and tells what happens. Without a key there is no swarm.
    ///
    /// The events must be taken: they wait without bound, though only 256 requests do. Dropping
    /// their receiver ends the swarm.
    ///
    /// # Errors
    /// See [`StartError`]; then nothing listens.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        identity: &Identity,
        key: &NetworkKey,
        options: &Options,
    ) -> Result<(Swarm, mpsc::UnboundedReceiver<Event>), StartError> {
        Self::start_with(identity, key, options, MAX_MESSAGE)
    }

    /// The tests start a peer that keeps to no cap.
    pub(super) fn start_with(
        identity: &Identity,
        key: &NetworkKey,
        options: &Options,
        longest: usize,
    ) -> Result<(Swarm, mpsc::UnboundedReceiver<Event>), StartError> {
        let reached = Reached::default();
        let mut network = behaviour::build(&identity.0, key, options, reached.clone(), longest)?;
        let refused = |address: &Multiaddr, error: &dyn std::error::Error| StartError::Listen {
            address: address.clone(),
            reason: cause(error),
        };
        // First all are looked at: IPv6 in the check takes the port of IPv4 too.
        for address in &options.listen {
            behaviour::check_free(address).map_err(|error| refused(address, &error))?;
        }
        for address in &options.listen {
            network.listen_on(address.clone()).map_err(|error| refused(address, &error))?;
        }
        let me = *network.local_peer_id();
        let (commands, queue) = mpsc::unbounded_channel();
        let (tell, events) = mpsc::unbounded_channel();
        let driver = Driver::new(network, key, options, reached, commands.downgrade(), tell);
        tokio::spawn(driver.run(queue));
        let (fingerprint, started) = (key.fingerprint(), Instant::now());
        Ok((Swarm { me, fingerprint, started, commands }, events))
    }

    /// Who we are.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.me
    }

    /// What may be shown of the swarm's key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Asks a connected peer.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(&self, peer: PeerId, bytes: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        check(&bytes)?;
        let command = |reply| Command::Request { peer, bytes, reply };
        self.ask(command).await.unwrap_or(Err(RequestError::Closed))
    }

    /// Adds addresses of a peer, dials it now unless it is connected, and waits for how that ends,
    /// at most 20 s. From now on it is dialled by itself whenever it is not connected.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<(), DialError> {
        let command = |reply| Command::Dial { peer, addresses, reply };
        let outcome = tokio::time::timeout(DIAL, self.ask(command)).await;
        let silent = || DialError::Unreachable("it is silent".to_owned());
        outcome.map_err(|_| silent())?.unwrap_or(Err(DialError::Closed))
    }

    /// Closes all connections to a peer, for one that is suspected to be gone: a pulled cable does
    /// not show by itself. It is dialled again after a while.
    pub fn disconnect(&self, peer: PeerId) {
        self.tell(Command::Disconnect(peer));
    }

    /// Decides anew who is let in, and closes the connections of all others. Done when it returns.
    pub async fn admit(&self, admission: Admission) {
        // A swarm that was closed has no peers.
        let _closed = self.ask(|reply| Command::Admit { admission, reply }).await;
    }

    /// The connected peers, by peer id.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// Where we listen.
    pub async fn listening(&self) -> Vec<Multiaddr> {
        self.ask(Command::Listening).await.unwrap_or_default()
    }

    /// Where others can reach us; this machine's own loopback only where there is nothing else. The
    /// operating system names the addresses one by one just after the start; they are waited for.
    pub async fn reached_at(&self) -> Vec<Multiaddr> {
        let named = async {
            let mut before = Vec::new();
            loop {
                let addresses = self.listening().await;
                if addresses == before && !addresses.iter().all(is_loopback) {
                    return;
                }
                before = addresses;
                tokio::time::sleep(LOOK).await;
            }
        };
        // A machine without a network has its loopback alone.
        let until = self.started + NAMED;
        let _alone = tokio::time::timeout_at(until.into(), named).await;
        let mut addresses = self.listening().await;
        addresses.retain(|address| !is_link_local(address));
        for_others(addresses)
    }

    /// Counts a message of a peer that was refused, or one of ours that it refused. `detail` says
    /// more than `why`; the first one is told.
    pub fn refuse(&self, peer: PeerId, why: Why, detail: String) {
        self.tell(Command::Refuse { peer, why, detail });
    }

    /// Who was refused, why and how often, since the start.
    pub async fn refusals(&self) -> Vec<Refusal> {
        self.ask(Command::Refusals).await.unwrap_or_default()
    }

    /// Closes all connections and stops listening. Done when it returns.
    pub async fn close(&self) {
        // A swarm that has ended has nothing to close.
        let _ended = self.ask(Command::Close).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).ok()?;
        answer.await.ok()
    }

    fn tell(&self, command: Command) {
        // A swarm that was closed has no peers.
        let _closed = self.commands.send(command);
    }
}

fn check(bytes: &[u8]) -> Result<(), TooLong> {
    if bytes.len() > MAX_MESSAGE { Err(TooLong { bytes: bytes.len() }) } else { Ok(()) }
}

/// The innermost cause of an error: libp2p wraps them, and only the last says what happened.
pub(super) fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
