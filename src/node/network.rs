//! The node in its swarm: what the core has to say goes to its peers, what they say to the core.
//!
//! ```text
//!   core ── outgoing ──▶ wait until on disk ─▶ fill in texts ─▶ encode ─▶ swarm
//!   core ◀── receive ◀── decode ◀── events ◀────────────────────────────── swarm
//! ```
//! A message is one JSON text in a request; the answer is empty, or says why the message was
//! refused. Messages may be lost at every step (the core asks again), so nothing waits here without
//! bound: beyond [`MAX_LEAVING`] what is to leave is left out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::scheduler::{
    Content, MemberView, Message, Now, Outgoing, P2PWorkflowScheduler, Refused, Run, Text, VERSION,
};
use crate::store::{ReadError, Reader};
use crate::swarm::{
    self, Answer, DialError, Event, Fingerprint, Identity, Invitation, Multiaddr, PeerId, PeerInfo,
    Refusal, RequestError, StartError, Swarm,
};

use super::CallError;
use super::committer::Ticket;
use super::pairing::{Pairing, PairingError};
use super::running::{Core, Node};

/// Messages on their way out: a few for each peer that there may be.
const MAX_LEAVING: usize = 256;

/// Why a node does not enter, or leave, a swarm.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// What is kept of the swarm cannot be read, or says otherwise.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// The swarm's engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node is on its way out, or its disk fails.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Where this machine stands to its swarm.
#[derive(Clone, Debug)]
pub struct Here {
    /// This peer.
    pub peer_id: String,
    /// What may be shown of the swarm's key; `None` outside of a swarm.
    pub swarm: Option<Fingerprint>,
    /// Where others reach this machine.
    pub addresses: Vec<Multiaddr>,
}

/// What a node needs to enter a swarm, and the swarm that it is in.
pub(super) struct Place {
    folder: PathBuf,
    identity: Identity,
    network: Mutex<Option<Arc<Network>>>,
}

impl Place {
    pub(super) fn new(folder: PathBuf, identity: Identity) -> Self {
        Place { folder, identity, network: Mutex::default() }
    }

    fn network(&self) -> MutexGuard<'_, Option<Arc<Network>>> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The swarm, as long as this node is in one.
    fn swarm(&self) -> Option<Swarm> {
        Some(self.network().as_ref()?.swarm.clone())
    }
}

/// What the core must be told again if it is taken up anew.
#[derive(Default)]
pub(super) struct Joined {
    connected: BTreeSet<Arc<str>>,
}

impl Joined {
    /// Begins a run of the core in the swarm.
    pub(super) fn begin(&self, scheduler: &mut P2PWorkflowScheduler, now: Now) {
        scheduler.replicate(now, Run { number: now.wall, takes_work: true });
        for peer in &self.connected {
            scheduler.connected(now, peer);
        }
    }
}

/// The way out.
struct Network {
    swarm: Swarm,
    leaving: Arc<Semaphore>,
}

impl Node {
    /// Enters the swarm that the data folder names, if it names one.
    pub(super) async fn enter_swarm(&self) -> Result<(), SwarmError> {
        let place = self.place();
        let Some(pairing) = Pairing::read(&place.folder)? else { return Ok(()) };
        let (swarm, events) = start(&place.identity, pairing)?;
        let begin = |core: &mut Core, now| {
            let joined = core.joined.insert(Joined::default());
            joined.begin(&mut core.scheduler, now);
        };
        self.apply(begin).await?;
        let leaving = Arc::new(Semaphore::new(MAX_LEAVING));
        *place.network() = Some(Arc::new(Network { swarm, leaving }));
        tokio::spawn(follow(self.clone(), events));
        Ok(())
    }

    /// Where this machine stands to its swarm.
    pub async fn swarm_here(&self) -> Here {
        let peer_id = self.place().identity.peer_id();
        let Some(swarm) = self.place().swarm() else {
            return Here { peer_id, swarm: None, addresses: Vec::new() };
        };
        Here { peer_id, swarm: Some(swarm.fingerprint()), addresses: swarm.reached_at().await }
    }

    /// Makes a swarm of this machine alone, and enters it. Returns what may be shown of its key.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_init(&self) -> Result<String, SwarmError> {
        let fingerprint = Pairing::init(&self.place().folder)?;
        self.enter_swarm().await?;
        Ok(fingerprint.to_string())
    }

    /// The line that lets another machine join. A secret.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_invite(&self) -> Result<String, SwarmError> {
        let pairing = Pairing::read(&self.place().folder)?.ok_or(PairingError::NotJoined)?;
        let swarm = self.place().swarm().ok_or(PairingError::NotJoined)?;
        let addresses = swarm.reached_at().await;
        let invitation = Invitation { key: pairing.key, peer: swarm.peer_id(), addresses };
        Ok(invitation.to_secret_line())
    }

    /// Joins the swarm of an invitation. Returns who invited, and whether it was reached.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_join(
        &self,
        line: &str,
    ) -> Result<(PeerId, Result<(), DialError>), SwarmError> {
        let invitation = Pairing::join(&self.place().folder, line)?;
        self.enter_swarm().await?;
        let swarm = self.place().swarm().ok_or(PairingError::NotJoined)?;
        let reached = swarm.dial(invitation.peer, invitation.addresses).await;
        Ok((invitation.peer, reached))
    }

    /// Leaves the swarm. The tasks stay.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_leave(&self) -> Result<(), SwarmError> {
        Pairing::leave(&self.place().folder)?;
        self.close_swarm().await;
        let leave = |core: &mut Core, now| {
            for peer in core.joined.take().unwrap_or_default().connected {
                core.scheduler.connection_lost(now, &peer);
            }
        };
        self.apply(leave).await?;
        Ok(())
    }

    /// The connected peers, and all members that the core knows.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_peers(&self) -> Result<(Vec<PeerInfo>, Vec<MemberView>), SwarmError> {
        let swarm = self.place().swarm().ok_or(PairingError::NotJoined)?;
        let members = self.call(|scheduler, now| scheduler.members(now)).await?;
        Ok((swarm.peers().await, members))
    }

    /// Closes the connections, and listens no longer.
    pub(super) async fn close_swarm(&self) {
        let network = self.place().network().take();
        if let Some(network) = network {
            network.swarm.close().await;
        }
    }

    /// Sends messages once all up to `ticket` is on disk.
    pub(super) fn send(&self, outgoing: Vec<Outgoing>, ticket: &Ticket) {
        let Some(network) = self.place().network().clone() else { return };
        for message in outgoing {
            let Ok(place) = network.leaving.clone().try_acquire_owned() else {
                tracing::debug!("peers take messages too slowly; some were left out");
                return;
            };
            let (node, swarm) = (self.clone(), network.swarm.clone());
            tokio::spawn(leave(node, swarm, message, ticket.clone(), place));
        }
    }

    /// Closes the connections to peers that fell silent, behind a pulled cable perhaps, which shows
    /// nowhere else: what is sent to them is lost, and others are asked instead. They are dialled
    /// again.
    pub(super) fn disconnect(&self, silent: Vec<Arc<str>>) {
        if silent.is_empty() {
            return;
        }
        let Some(swarm) = self.place().swarm() else { return };
        for name in silent {
            match name.parse() {
                Ok(peer) => {
                    tracing::info!("{name} fell silent; the connection to it is made anew");
                    swarm.disconnect(peer);
                }
                Err(error) => tracing::debug!("{name} fell silent and is no peer id: {error}"),
            }
        }
    }
}

/// Listens at the port that the others know, or at another if that is taken.
fn start(
    identity: &Identity,
    pairing: Pairing,
) -> Result<(Swarm, UnboundedReceiver<Event>), StartError> {
    let Pairing { key, port, known } = pairing;
    let listen = |port: u16| {
        let addresses = [format!("/ip4/0.0.0.0/tcp/{port}"), format!("/ip6/::/tcp/{port}")];
        addresses.map(|address| address.parse().expect("an address")).to_vec()
    };
    let options = swarm::Options { listen: listen(port), known, ..swarm::Options::default() };
    match Swarm::start(identity, &key, &options) {
        Err(error) if port != 0 => {
            tracing::warn!("{error} The swarm is reached at another port until the next start.");
            Swarm::start(identity, &key, &swarm::Options { listen: listen(0), ..options })
        }
        started => started,
    }
}

async fn leave(
    node: Node,
    swarm: Swarm,
    outgoing: Outgoing,
    ticket: Ticket,
    _place: OwnedSemaphorePermit,
) {
    let to = outgoing.to.clone();
    if let Err(why) = try_leave(&node, &swarm, outgoing, ticket).await {
        tracing::debug!("a message to {to} was lost: {why}");
    }
}

async fn try_leave(
    node: &Node,
    swarm: &Swarm,
    mut outgoing: Outgoing,
    ticket: Ticket,
) -> Result<(), String> {
    if !outgoing.may_leave_at_once() {
        node.kept(ticket).await.map_err(|error| error.to_string())?;
    }
    if matches!(outgoing.message.content, Content::PullPage(_)) {
        outgoing = node.read(move |reader| filled(outgoing, reader)).await.map_err(text)?;
    }
    let peer: PeerId = outgoing.to.parse().map_err(text)?;
    let bytes = serde_json::to_vec(&outgoing.message).map_err(text)?;
    let answer = match swarm.request(peer, bytes.clone()).await {
        // Where both sides dialled at once there were two connections, and one of them went.
        Err(RequestError::Disconnected) => swarm.request(peer, bytes).await,
        answer => answer,
    };
    let answer = answer.map_err(text)?;
    match answer.is_empty() {
        true => Ok(()),
        false => Err(format!("refused: {}", String::from_utf8_lossy(&answer))),
    }
}

fn filled(mut outgoing: Outgoing, reader: &Reader) -> Result<Outgoing, ReadError> {
    let mut failed = None;
    outgoing.fill(|text| {
        let read = match text {
            Text::Payload(key) => reader.payload(key),
            Text::Result(key) => reader.result(key),
        };
        match read {
            Ok(text) => text.map(Into::into),
            Err(error) => {
                failed.get_or_insert(error);
                None
            }
        }
    });
    failed.map_or(Ok(outgoing), Err)
}

async fn follow(node: Node, mut events: UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        if let Err(CallError::Stopping) = told(&node, event).await {
            return;
        }
    }
}

async fn told(node: &Node, event: Event) -> Result<(), CallError> {
    match event {
        Event::Connected { peer, .. } => {
            tracing::info!("connected to {peer}");
            let connected = |core: &mut Core, now| {
                let peer = name(peer);
                core.scheduler.connected(now, &peer);
                core.joined.get_or_insert_default().connected.insert(peer);
            };
            node.apply(connected).await.map(drop)
        }
        Event::Disconnected { peer } => {
            tracing::info!("disconnected from {peer}");
            let lost = |core: &mut Core, now| {
                let peer = name(peer);
                core.scheduler.connection_lost(now, &peer);
                core.joined.get_or_insert_default().connected.remove(&peer);
            };
            node.apply(lost).await.map(drop)
        }
        Event::Request { peer, bytes, answer } => received(node, peer, &bytes, answer).await,
        Event::Learned { peer, addresses } => {
            remember(node, peer, addresses).await;
            Ok(())
        }
        Event::ListeningOn(address) => {
            tracing::info!("the swarm is reached at {address}");
            Ok(())
        }
        Event::NotListeningOn(address) => {
            tracing::warn!("the swarm is no longer reached at {address}");
            Ok(())
        }
        Event::Refused(refusal) => {
            let Refusal { peer, address, why, .. } = refusal;
            let peer = peer.map_or_else(|| "a peer".to_owned(), |peer| peer.to_string());
            let address = address.map_or_else(String::new, |address| format!(" at {address}"));
            tracing::warn!("{peer}{address}: {why}");
            Ok(())
        }
    }
}

async fn received(
    node: &Node,
    peer: PeerId,
    bytes: &[u8],
    answer: Answer,
) -> Result<(), CallError> {
    let why = match decoded(bytes) {
        Ok(message) => match taken_in(node, peer, message).await? {
            Ok(()) => String::new(),
            Err(refused) => {
                if let Refused::OwnWrites { .. } = refused {
                    tracing::warn!("{peer}: {refused}. It goes on under a new name.");
                }
                refused.to_string()
            }
        },
        Err(why) => why,
    };
    if !why.is_empty() {
        tracing::debug!("a message of {peer} was refused: {why}");
    }
    if let Err(error) = answer.send(why.into_bytes()) {
        tracing::debug!("{peer} was not answered: {error}");
    }
    Ok(())
}

async fn taken_in(
    node: &Node,
    peer: PeerId,
    message: Message,
) -> Result<Result<(), Refused>, CallError> {
    let receive = |core: &mut Core, now| core.scheduler.receive(now, &name(peer), message);
    Ok(node.apply(receive).await?.0)
}

async fn remember(node: &Node, peer: PeerId, addresses: Vec<Multiaddr>) {
    let folder = node.place().folder.clone();
    let kept = move || Pairing::remember(&folder, peer, addresses);
    match tokio::task::spawn_blocking(kept).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("a peer's addresses are not kept: {error}"),
        Err(panicked) => tracing::error!("a peer's addresses are not kept: {panicked}"),
    }
}

/// Reads a message. One of another version need not have this one's content.
fn decoded(bytes: &[u8]) -> Result<Message, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u16,
    }
    let Versioned { version } = serde_json::from_slice(bytes).map_err(text)?;
    if version != VERSION {
        return Err(Refused::Version { theirs: version }.to_string());
    }
    serde_json::from_slice(bytes).map_err(text)
}

fn name(peer: PeerId) -> Arc<str> {
    peer.to_string().into()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
