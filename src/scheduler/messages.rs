//! What peers say to each other: plain values, for a codec to write and read.
//!
//! Whoever changes what a message means or holds counts [`VERSION`] up. A message of another
//! version is refused whole, with a reason; fields that a reader does not know are passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::foreign::Carried;
use super::hash::Hash256;
use super::member_view::Heartbeat;
use super::record::{Body, Record, Spec};
use super::tombstones::Tombstone;

/// The version of the messages that this crate writes and reads.
pub const VERSION: u16 = 1;

/// One message between two connected peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// [`VERSION`] of whoever wrote it.
    pub version: u16,
    /// What it says.
    pub content: Content,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Who is alive, and what the sender holds in one hash.
    Heartbeat(Beats),
    /// Fresh records (protocol rule 7).
    Push {
        /// In the order in which they were written. All peers that it goes to share them.
        records: Arc<Vec<Carried>>,
        /// The counters of the shown clock that rose with them.
        clock: BTreeMap<String, u64>,
        /// Whom they were pushed to so far, as far as the sender knows: they need not hear of them
        /// from the receiver.
        #[serde(default)]
        told: Vec<Arc<str>>,
    },
    /// Asks for one page of what the sender lacks (rule 8).
    PullRequest(PullRequest),
    /// One page of it.
    PullPage(PullPage),
    /// What a member holds, so that all know what nobody lacks any more (rule 11).
    Held(Held),
}

impl From<Content> for Message {
    fn from(content: Content) -> Self {
        Message { version: VERSION, content }
    }
}

/// The sender's heartbeat, and those that it heard of others lately: with them a member is known to
/// be alive to peers that are not connected to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beats {
    /// The sender's own.
    pub own: Heartbeat,
    /// Those of others, also the last that is known of the receiver.
    pub heard: Vec<(Arc<str>, Heartbeat)>,
    /// What the sender holds: a hint, for it may not be on disk yet.
    pub roots: Roots,
}

/// Equal roots: the same records, and the same clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// Of the replication vector.
    pub have: Hash256,
    /// Of the shown clock.
    pub clock: Hash256,
    /// Of the names of all live records, and of those that ended and lie beyond a gap in the vector,
    /// summed up: what the vectors do not tell.
    pub records: u64,
}

/// A place in the order of a responder's own changes, in one run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Names the run; another one numbers its changes anew.
    pub run: u64,
    /// The number of a change.
    pub number: u64,
}

/// The name of a pull, so that answers to an older one are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullId {
    /// Names the requester's run.
    pub run: u64,
    /// Which of its pulls.
    pub number: u64,
}

/// See [`Content::PullRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Which pull this is.
    pub pull: PullId,
    /// The requester's replication vector when the pull began.
    pub have: Arc<BTreeMap<Arc<str>, u64>>,
    /// Up to where the requester has followed this responder; `None` for a new one.
    pub after: Option<Cursor>,
    /// Whether to list what the requester has seen as well: an audit (see `stale`).
    #[serde(default)]
    pub audit: bool,
}

/// See [`Content::PullPage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullPage {
    /// Of the request.
    pub pull: PullId,
    /// Of the request.
    pub after: Option<Cursor>,
    /// Where the next page begins.
    pub cursor: Cursor,
    /// What the requester lacks, in the order of the responder's changes, texts included.
    pub records: Vec<Carried>,
    /// What is left of tasks that ended long ago, likewise.
    #[serde(default)]
    pub tombstones: Vec<Tombstone>,
    /// For an audit: fingerprints of the ids of the tasks that are held, and are not in the page.
    #[serde(default)]
    pub listed: Vec<u64>,
    /// How much is left of the responder's order behind this page: so many tasks come at most.
    #[serde(default)]
    pub remaining: u64,
    /// In the last page: what the requester holds with it.
    pub last: Option<Vectors>,
}

/// How far a peer is with taking in what the others hold, since it replicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatchUp {
    /// Tasks that pages brought.
    pub taken: u64,
    /// Tasks that are still to come from the peer that is asked, at most; 0 while nobody answered.
    pub remaining: u64,
    /// Whether all that some peer held is here: one pull reached its end, or none is needed.
    pub is_done: bool,
}

/// A peer's two vectors (rule 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vectors {
    /// The replication vector.
    pub have: BTreeMap<Arc<str>, u64>,
    /// The shown clock.
    pub clock: BTreeMap<String, u64>,
    /// The members of the swarm, with the time at which each was last heard of: whoever is new waits
    /// for those that are away as well with what is to be forgotten.
    #[serde(default)]
    pub members: BTreeMap<Arc<str>, u64>,
}

/// What a member holds on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Who.
    pub peer: Arc<str>,
    /// In which of its incarnations it said so.
    pub incarnation: u64,
    /// Rises within the incarnation.
    pub number: u64,
    /// Its replication vector.
    pub have: Arc<BTreeMap<Arc<str>, u64>>,
}

/// A message to be sent: see [`take_outgoing`](super::P2PWorkflowScheduler::take_outgoing) for when it
/// may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To this connected peer.
    pub to: Arc<str>,
    /// What is sent, once its texts are filled in.
    pub message: Message,
    /// Where the texts of a page's records are, record by record.
    pub(super) sources: Vec<Source>,
    /// See [`Outgoing::is_next_page`].
    pub(super) is_next_page: bool,
}

/// Where a record in a page came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The task's key.
    pub(super) key: u64,
    /// Its place in the order of changes.
    pub(super) number: u64,
}

/// A text that lies in the store, by the key of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The payload.
    Payload(u64),
    /// The result.
    Result(u64),
}

impl Outgoing {
    pub(super) fn new(to: &Arc<str>, content: Content) -> Self {
        let message = content.into();
        Outgoing { to: to.clone(), message, sources: Vec::new(), is_next_page: false }
    }

    /// Whether it may leave before anything is on disk: a heartbeat, which moves no vector.
    #[must_use]
    pub fn may_leave_at_once(&self) -> bool {
        matches!(self.message.content, Content::Heartbeat(_))
    }

    /// Whether it asks for the next page of a pull: that moves nothing, so it may leave while what
    /// the page before brought is on its way to the disk, but not further ahead, or a slow disk would
    /// be flooded.
    #[must_use]
    pub fn is_next_page(&self) -> bool {
        self.is_next_page
    }

    /// Roughly how many bytes it has on the wire, with its texts.
    #[must_use]
    pub fn size(&self) -> usize {
        let vector = |entries: usize| entries * 70;
        100 + match &self.message.content {
            Content::Heartbeat(beats) => vector(beats.heard.len()),
            Content::Push { records, clock, told } => {
                let vectors = vector(clock.len() + told.len());
                records.iter().map(size_carried).sum::<usize>() + vectors
            }
            Content::PullRequest(request) => vector(request.have.len()),
            Content::PullPage(page) => {
                let records = page.records.iter().map(|carried| size_with_texts(&carried.record));
                let tombstones = page.tombstones.iter().map(Tombstone::size);
                let last = page.last.as_ref().map_or(0, |it| it.have.len() + it.clock.len());
                let listed = page.listed.len() * 9;
                records.chain(tombstones).sum::<usize>() + listed + vector(last)
            }
            Content::Held(held) => vector(held.have.len()),
        }
    }

    /// Fills in the texts that its records need, each as it is on disk.
    ///
    /// Where a text is not there, or is not that of the record any more because the record changed
    /// meanwhile, the page ends before that record and is not the last one: so nobody believes to
    /// hold what did not come.
    pub fn fill(&mut self, mut read: impl FnMut(Text) -> Option<Arc<str>>) {
        let Content::PullPage(page) = &mut self.message.content else { return };
        for (index, source) in self.sources.iter().enumerate() {
            if !take_texts(&mut page.records[index], source.key, &mut read) {
                page.records.truncate(index);
                page.cursor.number = source.number - 1;
                page.last = None;
                return;
            }
        }
    }
}

fn take_texts(
    carried: &mut Carried,
    key: u64,
    read: &mut impl FnMut(Text) -> Option<Arc<str>>,
) -> bool {
    let Record { spec, outcome, .. } = &carried.record;
    if spec.payload_size > 0 {
        carried.payload = read(Text::Payload(key)).filter(|text| is_payload(spec, text));
    }
    let result = outcome.as_ref().and_then(|outcome| outcome.result);
    if let Some(body) = result {
        carried.result = read(Text::Result(key)).filter(|text| Body::of(text) == body);
    }
    carried.payload.is_some() == (spec.payload_size > 0)
        && carried.result.is_some() == result.is_some()
}

fn is_payload(spec: &Spec, text: &str) -> bool {
    text.len() == spec.payload_size as usize && spec.hash_with(Some(text)) == spec.hash
}

/// Roughly how long a record is on the wire, but for its texts.
pub(super) fn size_without_texts(record: &Record) -> usize {
    let spec = &record.spec;
    let lists = [&spec.depends_on, &spec.requires];
    let lists: usize = lists.iter().flat_map(|list| list.iter()).map(|it| it.len() + 8).sum();
    let names = spec.task_id.len() + spec.workflow_id.len() + spec.name.len();
    let said = record.outcome.iter().flat_map(|outcome| [&outcome.error, &outcome.note]);
    let said: usize = said.flatten().map(|text| text.len()).sum();
    let more: usize = record.more().map(|(name, value)| name.len() + value.len() + 8).sum();
    400 + names + lists + said + more
}

/// Roughly how long a record is on the wire with those texts that are with it.
pub(super) fn size_carried(carried: &Carried) -> usize {
    let texts = [&carried.payload, &carried.result].into_iter().flatten();
    size_without_texts(&carried.record) + texts.map(|text| text.len()).sum::<usize>()
}

/// Roughly how long a record is on the wire with its texts.
pub(super) fn size_with_texts(record: &Record) -> usize {
    let result = record.outcome.as_ref().and_then(|outcome| outcome.result);
    let texts = record.spec.payload_size + result.map_or(0, |result| result.size);
    size_without_texts(record) + texts as usize
}
