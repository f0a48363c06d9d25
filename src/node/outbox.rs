//! What leaves for the swarm, in groups, once all that it shows is on disk (protocol rule 9).
//!
//! One task, the pump, takes out what the core has to say, waits until what goes before is on disk,
//! and sends. Meanwhile more gathers in the core: so a busy node pushes once for each sync, not once
//! for each call.
//!
//! * Heartbeats leave at once, also while the disk is waited for.
//! * The request for the next page of a pull leaves before the page that it follows is on disk, but
//!   takes out nothing more before that is. So one page is on its way to the disk while one is on its
//!   way here, and a slow disk is not flooded.
//! * Messages may be lost at every step: the core asks again. So nothing waits here without bound:
//!   what is on its way to one peer has [`ROOM`], and what finds none is left out. A peer that takes
//!   nothing costs neither memory nor what the others are told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::scheduler::{Content, Outgoing, P2PWorkflowScheduler, Text};
use crate::store::{ReadError, Reader};
use crate::swarm::{PeerId, RequestError, Swarm, Why};

use super::CallError;
use super::network::text;
use super::running::{Core, Node};
use super::wire;

/// What may be on its way to one peer, but for heartbeats, in KiB: a few of the longest messages.
const ROOM: u32 = 4 * 1024;
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
    /// For each peer that something was sent to, the room that is left.
    rooms: Mutex<BTreeMap<Arc<str>, Arc<Semaphore>>>,
}

impl Network {
    pub(super) fn new(swarm: Swarm) -> Self {
        Network {
            swarm,
            news: Notify::new(),
            beats: Notify::new(),
            closed: AtomicBool::new(false),
            rooms: Mutex::default(),
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

    /// A peer is connected no longer.
    pub(super) fn forget(&self, peer: &str) {
        self.rooms().remove(peer);
    }

    fn rooms(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Semaphore>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what may leave now.
    fn send(&self, node: &Node, outgoing: impl IntoIterator<Item = Outgoing>) {
        for message in outgoing {
            let room = match message.may_leave_at_once() {
                true => None,
                false => match self.take_room(&message) {
                    Some(room) => Some(room),
                    None => {
                        self.left_out(&message.to);
                        continue;
                    }
                },
            };
            tokio::spawn(leave(node.clone(), self.swarm.clone(), message, room));
        }
    }

    fn take_room(&self, message: &Outgoing) -> Option<OwnedSemaphorePermit> {
        let mut rooms = self.rooms();
        let room = match rooms.get(&message.to) {
            Some(room) => room.clone(),
            None => {
                let room = Arc::new(Semaphore::new(ROOM as usize));
                rooms.insert(message.to.clone(), room.clone());
                room
            }
        };
        let size = u32::try_from(message.size() / 1024 + 1).unwrap_or(ROOM);
        room.try_acquire_many_owned(size.min(ROOM)).ok()
    }

    fn left_out(&self, to: &str) {
        tracing::debug!("{to} takes messages too slowly; one was left out");
        if let Ok(peer) = to.parse() {
            self.swarm.refuse(peer, Why::TooSlow, String::new());
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
    let waits = !late.is_empty() || early.iter().any(Outgoing::is_next_page);
    network.send(node, early);
    if !waits {
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

async fn leave(node: Node, swarm: Swarm, outgoing: Outgoing, _room: Option<OwnedSemaphorePermit>) {
    let to = outgoing.to.clone();
    if let Err(why) = try_leave(&node, &swarm, outgoing).await {
        tracing::debug!("a message to {to} was lost: {why}");
    }
}

async fn try_leave(node: &Node, swarm: &Swarm, outgoing: Outgoing) -> Result<(), String> {
    let peer: PeerId = outgoing.to.parse().map_err(text)?;
    let bytes = match outgoing.message.content {
        // On another thread, which reads its texts from the disk.
        Content::PullPage(_) => {
            let encoded = |outgoing: Outgoing| wire::encode(&outgoing.message);
            node.read(move |reader| filled(outgoing, reader).map(encoded)).await.map_err(text)?
        }
        _ => wire::encode(&outgoing.message),
    };
    let bytes = bytes.map_err(text)?;
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
    reader.at_once(|reader| {
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
    })?;
    failed.map_or(Ok(outgoing), Err)
}
