//! The node in its swarm: what peers say goes to the core. What the core says to them is in `outbox`.
//!
//! ```text
//!   core ── outgoing ──▶ wait until on disk ─▶ fill in texts ─▶ encode ─▶ swarm
//!   core ◀── receive ◀── decode ◀── events ◀────────────────────────────── swarm
//! ```
//! A message is a request in the swarm; the answer is empty, or says why the message was refused.
//! `wire` has the form of both.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::scheduler::{Message, Now, P2PWorkflowScheduler, Refused};
use crate::swarm::{Answer, Event, Multiaddr, PeerId, Refusal, Why};

use super::CallError;
use super::pairing::Pairing;
use super::running::{Core, Node};
use super::wire::{self, Unreadable};

/// What the core must be told again if it is taken up anew.
pub(super) struct Joined {
    connected: BTreeSet<Arc<str>>,
    /// Who is blocked.
    excluded: BTreeSet<Arc<str>>,
}

impl Joined {
    pub(super) fn new(excluded: BTreeSet<Arc<str>>) -> Self {
        Joined { connected: BTreeSet::new(), excluded }
    }

    /// Begins a run of the core in the swarm.
    pub(super) fn begin(&self, scheduler: &mut P2PWorkflowScheduler, now: Now) {
        scheduler.replicate(now, now.wall);
        for peer in &self.connected {
            scheduler.connected(now, peer);
        }
        for peer in &self.excluded {
            scheduler.exclude(now, peer);
        }
    }

    /// These peers, and no others, are not wanted from now on.
    pub(super) fn exclude(
        &mut self,
        scheduler: &mut P2PWorkflowScheduler,
        now: Now,
        excluded: BTreeSet<Arc<str>>,
    ) {
        for peer in self.excluded.difference(&excluded) {
            scheduler.include(peer);
        }
        for peer in excluded.difference(&self.excluded) {
            scheduler.exclude(now, peer);
        }
        self.excluded = excluded;
    }
}

impl Node {
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

/// Takes in what happens in the swarm, until the node is closed or leaves it.
pub(super) async fn follow(node: Node, mut events: UnboundedReceiver<Event>) {
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
                if let Some(joined) = &mut core.joined {
                    joined.connected.insert(peer);
                }
            };
            node.apply(connected).await.map(drop)
        }
        Event::Disconnected { peer } => {
            tracing::info!("disconnected from {peer}");
            if let Some(network) = &*node.place().network() {
                network.forget(&name(peer));
            }
            let lost = |core: &mut Core, now| {
                let peer = name(peer);
                core.scheduler.connection_lost(now, &peer);
                if let Some(joined) = &mut core.joined {
                    joined.connected.remove(&peer);
                }
            };
            node.apply(lost).await.map(drop)
        }
        Event::Request { peer, bytes, answer } => received(node, peer, &bytes, answer).await,
        Event::Learned { peer, addresses } => {
            // Nobody waits for a disk here: what others say comes after this.
            tokio::spawn(remember(node.clone(), peer, addresses));
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
            let reason = refusal.reason();
            let Refusal { peer, address, .. } = refusal;
            let peer = peer.map_or_else(|| "a peer".to_owned(), |peer| peer.to_string());
            let address = address.map_or_else(String::new, |address| format!(" at {address}"));
            tracing::warn!("{peer}{address}: {reason}");
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
    let refused = match wire::decode(bytes) {
        Ok(message) => taken_in(node, peer, message).await?.err().map(|why| refusal(peer, &why)),
        Err(error @ Unreadable::OtherVersion(_)) => {
            Some((Some(Why::OtherVersion), error.to_string()))
        }
        Err(error) => Some((Some(Why::Malformed), error.to_string())),
    };
    let reason = refused.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default();
    if let Some((why, reason)) = refused {
        tracing::debug!("a message of {peer} was refused: {reason}");
        if let (Some(why), Some(swarm)) = (why, node.place().swarm()) {
            swarm.refuse(peer, why, reason);
        }
    }
    if let Err(error) = answer.send(reason.into_bytes()) {
        tracing::debug!("{peer} was not answered: {error}");
    }
    Ok(())
}

/// How a refusal by the core counts, if it is the peer's fault, and what the peer is told.
fn refusal(peer: PeerId, refused: &Refused) -> (Option<Why>, String) {
    let why = match refused {
        Refused::Version { .. } => Some(Why::OtherVersion),
        Refused::TooMany { .. } | Refused::Malformed { .. } => Some(Why::Malformed),
        Refused::Record { .. } | Refused::TextMissing { .. } => Some(Why::BadRecord),
        Refused::Full { .. } => Some(Why::Overloaded),
        // It ended, or has just come up.
        Refused::NotConnected => None,
        Refused::OwnWrites { .. } => {
            tracing::warn!("{peer}: {refused}. It goes on under a new name.");
            None
        }
    };
    (why, refused.to_string())
}

async fn taken_in(
    node: &Node,
    peer: PeerId,
    message: Message,
) -> Result<Result<(), Refused>, CallError> {
    let receive = |core: &mut Core, now| core.scheduler.receive(now, &name(peer), message);
    Ok(node.apply(receive).await?.0)
}

async fn remember(node: Node, peer: PeerId, addresses: Vec<Multiaddr>) {
    let _changing = node.place().changing.lock().await;
    let folder = node.place().folder.clone();
    let kept = move || Pairing::remember(&folder, peer, addresses);
    match tokio::task::spawn_blocking(kept).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("a peer's addresses are not kept: {error}"),
        Err(panicked) => tracing::error!("a peer's addresses are not kept: {panicked}"),
    }
}

/// What the core calls a peer.
pub(super) fn name(peer: PeerId) -> Arc<str> {
    peer.to_string().into()
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
