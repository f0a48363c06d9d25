//! What leaves for the swarm, in groups, once all that it shows is on disk (protocol rule 9).
//!
//! One task, the pump, takes out what the core has to say, waits until what goes before is on disk,
//! and sends. Meanwhile more gathers in the core: so a busy node pushes once for each sync, not once
//! for each call.
//!
//! * Heartbeats leave at once, also while the disk is waited for.
//! * The request for the next page of a pull leaves before its page is on disk. The pump took it only
//!   when the page before was, so one page is on its way to the disk while one is on its way here.
//! * Messages may be lost at every step: the core asks again. So nothing waits here without bound:
//!   beyond [`MAX_LEAVING`], and beyond what a peer may be asked at a time, messages are left out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::scheduler::{Content, Outgoing, P2PWorkflowScheduler, Text};
use crate::store::{ReadError, Reader};
use crate::swarm::{PeerId, RequestError, Swarm, Why};

use super::CallError;
use super::network::text;
use super::running::{Core, Node};

/// Messages on their way out but for heartbeats: a few for each peer that there may be.
const MAX_LEAVING: usize = 256;
/// How long the last messages are waited for.
const FAREWELL: Duration = Duration::from_secs(1);

/// The way out.
pub(super) struct Network {
    pub(super) swarm: Swarm,
    /// Whether the core may have something to say.
    news: Notify,
    /// Whether it has a heartbeat to send.
    beats: Notify,
    closed: AtomicBool,
    leaving: Arc<Semaphore>,
}

impl Network {
    pub(super) fn new(swarm: Swarm) -> Self {
        Network {
            swarm,
            news: Notify::new(),
            beats: Notify::new(),
            closed: AtomicBool::new(false),
            leaving: Arc::new(Semaphore::new(MAX_LEAVING)),
        }
    }

    /// Wakes the pump if there is something for it.
    pub(super) fn tell(&self, scheduler: &P2PWorkflowScheduler) {
        if scheduler.has_heartbeats() {
            self.beats.notify_one();
        }
        if scheduler.has_outgoing() {
            self.news.notify_one();
        }
    }

    /// Ends the pump, closes the connections, and listens no longer.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.news.notify_one();
        self.swarm.close().await;
    }

    /// Sends what may leave now.
    fn send(&self, node: &Node, outgoing: impl IntoIterator<Item = Outgoing>) {
        for message in outgoing {
            let place = match message.may_leave_at_once() {
                true => None,
                false => match self.leaving.clone().try_acquire_owned() {
                    Ok(place) => Some(place),
                    Err(_) => {
                        tracing::debug!("peers take messages too slowly; some were left out");
                        continue;
                    }
                },
            };
            tokio::spawn(leave(node.clone(), self.swarm.clone(), message, place));
        }
    }
}

impl Node {
    /// Says to all peers that this one leaves for good, and waits until they know, or will not.
    pub(super) async fn say_farewell(&self) -> Result<(), CallError> {
        let Some(network) = self.place().network().clone() else { return Ok(()) };
        let leave_swarm = |core: &mut Core, now| {
            core.scheduler.leave(now);
            core.scheduler.take_heartbeats()
        };
        let (beats, _) = self.apply(leave_swarm).await?;
        let sent =
            beats.into_iter().map(|beat| leave(self.clone(), network.swarm.clone(), beat, None));
        let all: Vec<_> = sent.map(tokio::spawn).collect();
        let arrived = async {
            for sent in all {
                // Whether it arrived is not known of a heartbeat.
                drop(sent.await);
            }
        };
        if tokio::time::timeout(FAREWELL, arrived).await.is_err() {
            tracing::debug!("a peer did not take its last message");
        }
        Ok(())
    }

    /// Closes the connections, and listens no longer.
    pub(super) async fn close_swarm(&self) {
        let network = self.place().network().take();
        if let Some(network) = network {
            network.close().await;
        }
    }
}

/// Sends what the core has to say, until the node is closed or leaves the swarm.
pub(super) async fn pump(node: Node, network: Arc<Network>) {
    loop {
        tokio::select! {
            () = network.news.notified() => {}
            () = network.beats.notified() => {}
        }
        if network.closed.load(Ordering::Acquire) {
            return;
        }
        match pump_once(&node, &network).await {
            Ok(()) => {}
            Err(CallError::Stopping) => return,
            Err(error) => tracing::debug!("messages to peers were lost: {error}"),
        }
    }
}

async fn pump_once(node: &Node, network: &Network) -> Result<(), CallError> {
    let (outgoing, ticket) = node.take_messages().await?;
    let may_leave = |message: &Outgoing| message.may_leave_at_once() || message.is_next_page();
    let (early, late): (VecDeque<_>, VecDeque<_>) = outgoing.into_iter().partition(may_leave);
    network.send(node, early);
    if late.is_empty() {
        return Ok(());
    }
    let kept = node.kept(ticket);
    tokio::pin!(kept);
    loop {
        tokio::select! {
            kept = &mut kept => {
                kept?;
                network.send(node, late);
                return Ok(());
            }
            () = network.beats.notified() => {
                let (beats, _) = node.apply(|core, _| core.scheduler.take_heartbeats()).await?;
                network.send(node, beats);
            }
        }
    }
}

async fn leave(node: Node, swarm: Swarm, outgoing: Outgoing, _place: Option<OwnedSemaphorePermit>) {
    let to = outgoing.to.clone();
    if let Err(why) = try_leave(&node, &swarm, outgoing).await {
        tracing::debug!("a message to {to} was lost: {why}");
    }
}

async fn try_leave(node: &Node, swarm: &Swarm, mut outgoing: Outgoing) -> Result<(), String> {
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
    if !answer.is_empty() {
        swarm.refuse(peer, Why::RefusedOurs, String::from_utf8_lossy(&answer).into_owned());
    }
    Ok(())
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
