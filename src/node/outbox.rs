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
//! * What is fresh is taken out [`PAUSE`] after the last of it, [`BUSY_PAUSE`] where that was much, and when the peers have taken that, or
//!   are not prompt about it: the busier a node and its peers are, the more goes into one push, which
//!   wakes half a dozen threads on either side and is one commit at the other. It is encoded once for
//!   all.
//! * Messages may be lost at every step: the core asks again. So nothing waits here without bound:
//!   what is on its way to one peer, or waits for its turn, has [`ROOM`], and what finds none is left
//!   out. A peer that takes nothing costs neither memory nor what the others are told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::scheduler::{Carried, Content, Outgoing, P2PWorkflowScheduler, Text};
use crate::store::{ReadError, Reader};
use crate::swarm::{PeerId, RequestError, Swarm, Why};

use super::CallError;
use super::network::text;
use super::running::{Core, Node};
use super::wire;

/// What may be on its way to one peer, but for heartbeats, in KiB: a few of the longest messages.
const ROOM: u32 = 4 * 1024;
/// Messages but heartbeats that are on their way to one peer at a time, of those that the swarm
/// allows. Fewer: a peer far away is told little in each round trip.
const AT_A_TIME: usize = 8;
/// Between two pushes. Shorter: each call is a push where one follows the other. Longer: so much later
/// do others hear of what is done by then.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two pushes of a node that has much to tell: fewer wake-ups and commits for the same records.
/// Longer: peers hear of a busy node's claims late, and merge in bursts.
const BUSY_PAUSE: Duration = Duration::from_millis(25);
/// Bytes of a push from which on a node has much to tell: some ten records.
const MUCH: usize = 4 * 1024;
/// How long the next push is held up by a peer that has not taken the last one: longer than one on
/// the LAN takes.
const PROMPT: Duration = Duration::from_millis(20);
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
    /// Pushes that hold up the next one.
    held_up_by: AtomicUsize,
    /// For each peer that something was sent to.
    lanes: Mutex<BTreeMap<Arc<str>, Lane>>,
}

/// The way to one peer.
struct Lane {
    /// What is left of the room.
    room: Arc<Semaphore>,
    /// The turns of messages that have room.
    turns: Arc<Semaphore>,
    /// Whether something was left out since the room was last whole. Then everything is, until it is
    /// whole again: one large gap costs the peer one pull, many small ones cost as much each.
    lags: bool,
}

/// A message, with the room that it has.
struct Letter {
    to: Arc<str>,
    content: Body,
    /// `None` for a heartbeat.
    place: Option<Place>,
}

/// The bytes of a message, which several peers may be sent.
type Encoded = Arc<Vec<u8>>;

enum Body {
    /// A push, which goes to several peers.
    Encoded(Encoded),
    Plain(Box<Outgoing>),
}

struct Place {
    _room: OwnedSemaphorePermit,
    turns: Arc<Semaphore>,
}

/// A push holds up the next one as long as this value is there.
struct HoldsUp(Arc<Network>);

impl HoldsUp {
    fn new(network: &Arc<Network>) -> Self {
        network.held_up_by.fetch_add(1, Ordering::AcqRel);
        HoldsUp(network.clone())
    }
}

impl Drop for HoldsUp {
    fn drop(&mut self) {
        if self.0.held_up_by.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.news.notify_one();
        }
    }
}

impl Network {
    pub(super) fn new(swarm: Swarm) -> Self {
        Network {
            swarm,
            news: Notify::new(),
            beats: Notify::new(),
            closed: AtomicBool::new(false),
            held_up_by: AtomicUsize::new(0),
            lanes: Mutex::default(),
        }
    }

    /// Wakes the pump if there is something for it.
    pub(super) fn tell(&self, scheduler: &P2PWorkflowScheduler) {
        if scheduler.has_heartbeats() {
            self.beats.notify_one();
        }
        let has_news = match self.is_held_up() {
            true => scheduler.has_outgoing_but_fresh(),
            false => scheduler.has_outgoing(),
        };
        if has_news {
            self.news.notify_one();
        }
    }

    /// Whether what is fresh gathers for now.
    fn is_held_up(&self) -> bool {
        self.held_up_by.load(Ordering::Acquire) > 0
    }

    /// Ends the pump, closes the connections, and listens no longer.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.news.notify_one();
        self.swarm.close().await;
    }

    /// A peer is connected no longer.
    pub(super) fn forget(&self, peer: &str) {
        self.lanes().remove(peer);
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what may leave now.
    fn send(self: &Arc<Self>, node: &Node, outgoing: impl IntoIterator<Item = Outgoing>) {
        let mut last_push: Option<(Arc<Vec<Carried>>, Encoded)> = None;
        for message in outgoing {
            let place = match message.may_leave_at_once() {
                true => None,
                false => match self.take_place(&message) {
                    Some(place) => Some(place),
                    None => {
                        self.left_out(&message.to);
                        continue;
                    }
                },
            };
            let to = message.to.clone();
            let Content::Push { records, .. } = &message.message.content else {
                let letter = Letter { to, content: Body::Plain(Box::new(message)), place };
                tokio::spawn(leave(node.clone(), self.swarm.clone(), letter));
                continue;
            };
            // What goes to several peers comes one after the other, and is the same for all.
            let bytes = match &last_push {
                Some((last, bytes)) if Arc::ptr_eq(last, records) => Arc::clone(bytes),
                _ => match wire::encode(&message.message) {
                    Ok(bytes) => Arc::new(bytes),
                    Err(error) => {
                        tracing::debug!("a push was lost: {error}");
                        continue;
                    }
                },
            };
            last_push = Some((records.clone(), bytes.clone()));
            let letter = Letter { to, content: Body::Encoded(bytes), place };
            let holds_up = HoldsUp::new(self);
            tokio::spawn(push(node.clone(), self.swarm.clone(), letter, holds_up));
        }
    }

    fn take_place(&self, message: &Outgoing) -> Option<Place> {
        let mut lanes = self.lanes();
        let lane = lanes.entry(message.to.clone()).or_insert_with(|| Lane {
            room: Arc::new(Semaphore::new(ROOM as usize)),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            lags: false,
        });
        lane.lags &= lane.room.available_permits() < ROOM as usize;
        if lane.lags && matches!(message.message.content, Content::Push { .. }) {
            return None;
        }
        let size = u32::try_from(message.size() / 1024 + 1).unwrap_or(ROOM);
        let room = lane.room.clone().try_acquire_many_owned(size.min(ROOM)).ok();
        lane.lags |= room.is_none();
        room.map(|room| Place { _room: room, turns: lane.turns.clone() })
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
        let letter = |beat: Outgoing| Letter {
            to: beat.to.clone(),
            content: Body::Plain(Box::new(beat)),
            place: None,
        };
        let sent = beats
            .into_iter()
            .map(|beat| tokio::spawn(leave(self.clone(), network.swarm.clone(), letter(beat))));
        let all: Vec<_> = sent.collect();
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

async fn pump_once(node: &Node, network: &Arc<Network>) -> Result<(), CallError> {
    let take = match network.is_held_up() {
        true => P2PWorkflowScheduler::take_outgoing_but_fresh,
        false => P2PWorkflowScheduler::take_outgoing,
    };
    let (outgoing, ticket) = node.take_messages(take).await?;
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

/// Sends a push, which holds up the next one for a pause, and until it has arrived or is not prompt.
async fn push(node: Node, swarm: Swarm, letter: Letter, holds_up: HoldsUp) {
    let is_much = matches!(&letter.content, Body::Encoded(bytes) if bytes.len() > MUCH);
    let pause = tokio::time::sleep(if is_much { BUSY_PAUSE } else { PAUSE });
    let sent = leave(node, swarm, letter);
    tokio::pin!(sent);
    let (prompt, ()) = tokio::join!(tokio::time::timeout(PROMPT, &mut sent), pause);
    drop(holds_up);
    if prompt.is_err() {
        sent.await;
    }
}

async fn leave(node: Node, swarm: Swarm, letter: Letter) {
    let to = letter.to.clone();
    if let Err(why) = try_leave(&node, &swarm, letter).await {
        tracing::debug!("a message to {to} was lost: {why}");
    }
}

async fn try_leave(node: &Node, swarm: &Swarm, letter: Letter) -> Result<(), String> {
    let peer: PeerId = letter.to.parse().map_err(text)?;
    let turns = letter.place.as_ref().map(|place| place.turns.clone());
    let _turn = match turns {
        Some(turns) => Some(turns.acquire_owned().await.map_err(text)?),
        None => None,
    };
    let bytes = match letter.content {
        Body::Encoded(bytes) => bytes,
        Body::Plain(outgoing) => Arc::new(encoded(node, *outgoing).await?),
    };
    let answer = match swarm.request(peer, bytes.to_vec()).await {
        // Where both sides dialled at once there were two connections, and one of them went.
        Err(RequestError::Disconnected) => swarm.request(peer, bytes.to_vec()).await,
        answer => answer,
    };
    let answer = answer.map_err(text)?;
    if !answer.is_empty() {
        swarm.refuse(peer, Why::RefusedOurs, String::from_utf8_lossy(&answer).into_owned());
    }
    Ok(())
}

async fn encoded(node: &Node, outgoing: Outgoing) -> Result<Vec<u8>, String> {
    let encoded = match outgoing.message.content {
        // On another thread, which reads its texts from the disk.
        Content::PullPage(_) => {
            let encoded = |outgoing: Outgoing| wire::encode(&outgoing.message);
            node.read(move |reader| filled(outgoing, reader).map(encoded)).await.map_err(text)?
        }
        _ => wire::encode(&outgoing.message),
    };
    encoded.map_err(text)
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
