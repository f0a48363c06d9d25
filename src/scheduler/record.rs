//! The task record: what is known of one task, whole, and the total order that merges it.
//!
//! Every peer holds one [`Record`] per task. Two records of the same task are merged by keeping
//! the greater one, whole, in a total order computed from the records alone, never from the local
//! view of the members. A maximum is commutative, associative and idempotent, so replicas converge
//! whatever the loss, order or duplication of messages.
//!
//! The order, lexicographic, larger wins:
//! `(class, epoch, phase, tie, rev, spec_hash, digest, dot)`.
//!
//! * `class`: live < cancelled < completed. A completion is never undone.
//! * `epoch`: rises whenever the task goes back to the queue, so later turns overtake earlier ones.
//! * `phase`: pending < leased < failed.
//! * `tie`: 0 without a holder, else larger for the closer holder (Hamming distance, then XOR).
//! * `rev`: counts renewals, notes and changed priorities within a phase.
//! * `spec_hash`, `digest`, `dot`: any fixed order will do; these make it total.
//!
//! Invariant, asserted by the scheduler: a local change is strictly greater than what it replaces.
//!
//! Payloads and results are not held here: a record carries their hash and size ([`Body`]), the
//! text itself travels beside it and lives in the store.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hash::Hash256;
use super::ownership::{task_hash, tie};
use super::tags::TagSet;

/// Fences are `epoch << FENCE_EPOCH_SHIFT | tie - 1`: they rise along the order of records.
const FENCE_EPOCH_SHIFT: u32 = 20;

/// The name of one write: the `counter`-th by `actor`.
///
/// An actor is a peer and one life of its store (`peer-id/epoch`): a store that was restored from
/// a backup gets a new epoch, so that it never names two writes alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who wrote: peer id, `/`, the epoch of its store.
    pub actor: Arc<str>,
    /// Which of its writes, counted from 1.
    pub counter: u64,
}

impl Dot {
    /// A number that hardly any other dot has: FNV-1a, mixed. For sums that tell whether two peers
    /// hold the same, not for what an attacker must not forge.
    pub(super) fn fingerprint(&self) -> u64 {
        fingerprint(self.actor.as_bytes().iter().chain(&self.counter.to_le_bytes()))
    }
}

/// FNV-1a, mixed: see [`Dot::fingerprint`].
pub(super) fn fingerprint<'b>(bytes: impl IntoIterator<Item = &'b u8>) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step);
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Hash and size of a JSON text that is kept in the store, not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// SHA-256 of the text.
    pub hash: Hash256,
    /// Length of the text in bytes.
    pub size: u32,
}

impl Body {
    /// The hash and size of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Body {
            hash: Hash256::of(text.as_bytes()),
            size: u32::try_from(text.len()).unwrap_or(u32::MAX),
        }
    }
}

/// What a submitter asked for, and the stamp it got. Never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The idempotency key of the submission, 1–256 characters.
    pub task_id: Arc<str>,
    /// The group the task belongs to, 1–256 characters.
    pub workflow_id: Arc<str>,
    /// What a person reads, 1–256 characters.
    pub name: Box<str>,
    /// What kind of work this is.
    pub tags: TagSet,
    /// The priority asked for, 1–10. [`Record::priority`] is the one in force.
    pub priority: u8,
    /// Length of the payload's text in bytes; 0 means there is none. Its content is in
    /// [`Spec::hash`].
    pub payload_size: u32,
    /// Ids of the tasks that must be completed first, sorted, each once.
    pub depends_on: Box<[Arc<str>]>,
    /// What a worker must be capable of, sorted, each once.
    pub requires: Box<[Arc<str>]>,
    /// How long the task waits after its submission, in milliseconds.
    pub delay: u64,
    /// How many attempts may fail before the task does; 0 means no limit.
    pub max_attempts: u32,
    /// How long a lease on time lasts, in milliseconds; 0 means the taker's default.
    pub lease_duration: u32,
    /// The submitter's clock head at submission: with the task's hash it decides the owner.
    pub head: Hash256,
    /// When it was submitted, in milliseconds since the Unix epoch, on the submitter's clock.
    pub created_at: u64,
    /// SHA-256 over the payload's text and all of the above but `head` and `created_at`, so that a
    /// client's retry on another peer is the same spec.
    pub hash: Hash256,
}

impl Spec {
    /// Fills in [`Spec::payload_size`] and [`Spec::hash`].
    #[must_use]
    pub fn sealed(mut self, payload: Option<&str>) -> Self {
        self.payload_size = u32::try_from(payload.map_or(0, str::len)).unwrap_or(u32::MAX);
        self.hash = self.hash_with(payload);
        self
    }

    /// What [`Spec::hash`] is with this payload.
    pub(super) fn hash_with(&self, payload: Option<&str>) -> Hash256 {
        let mut bytes = Canonical::default();
        bytes.text(&self.task_id).text(&self.workflow_id).text(&self.name);
        bytes.number(u64::from(self.tags.bits())).number(u64::from(self.priority));
        bytes.text(payload.unwrap_or_default());
        for list in [&self.depends_on, &self.requires] {
            bytes.number(list.len() as u64);
            for item in list {
                bytes.text(item);
            }
        }
        bytes
            .number(self.delay)
            .number(u64::from(self.max_attempts))
            .number(u64::from(self.lease_duration));
        bytes.finish()
    }

    /// Whether the other is the same but for its stamp, and so has the same hash.
    pub(super) fn asks_for_the_same(&self, other: &Self) -> bool {
        let Spec { head, created_at, .. } = *self;
        *self == Spec { head, created_at, ..other.clone() }
    }

    /// SHA-256 of `task_id:workflow_id`, as the original computes it.
    #[must_use]
    pub fn task_hash(&self) -> Hash256 {
        task_hash(&self.task_id, &self.workflow_id)
    }
}

/// How a task ended, or that it has not. Completed beats cancelled beats live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// Not ended for good: see [`Phase`].
    Live = 0,
    /// Called off.
    Cancelled = 1,
    /// Done.
    Completed = 2,
}

/// Where a live task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Waiting to be claimed.
    Pending = 0,
    /// Held by a worker.
    Leased = 1,
    /// Out of attempts. A requeue overtakes it.
    Failed = 2,
}

/// Where a record stands in the order of its task's records: all that the order looks at. See the
/// module's page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Standing {
    /// See [`Record::class`].
    pub class: Class,
    /// See [`Record::epoch`].
    pub epoch: u32,
    /// See [`Record::phase`].
    pub phase: Phase,
    /// 0 without a holder, else larger for the closer one.
    pub tie: u32,
    /// See [`Record::rev`].
    pub rev: u32,
    /// See [`Spec::hash`].
    pub spec_hash: Hash256,
    /// SHA-256 of what the other parts do not cover.
    pub digest: Hash256,
    /// See [`Record::dot`].
    pub dot: Dot,
}

/// The right to run a task, and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The peer whose node judges the lease's expiry.
    pub holder: Arc<str>,
    /// The worker at that peer, made at random by its session.
    pub worker: Arc<str>,
    /// The dot of the claim: the lease's identity.
    pub dot: Dot,
    /// How long it lasts from its claim or renewal, in milliseconds; 0 means as long as the
    /// worker's session.
    pub duration: u64,
}

/// What an attempt left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The task's output.
    pub result: Option<Body>,
    /// Why the last attempt failed, or the task was cancelled.
    pub error: Option<Box<str>>,
    /// What the holder last said of its progress.
    pub note: Option<Box<str>>,
}

/// What a record carries that a new one does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// See [`Record::born`]; `None` for a record that is still the first of its task.
    pub born: Option<Dot>,
    /// What a later version of this program wrote and this one does not know.
    #[serde(default)]
    pub more: More,
}

/// Optional fields by name, each a JSON text, that are kept and passed on as they came: the place for
/// what later versions add to a record. A version that knows a field still writes it here, so that
/// all compute the same order.
pub type More = BTreeMap<Box<str>, Box<str>>;

/// All that is known of one task. See the module's page for how two of them merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was asked for.
    pub spec: Arc<Spec>,
    /// Whether and how it ended.
    pub class: Class,
    /// Where it stands while live.
    pub phase: Phase,
    /// The priority in force, 1–10, larger first.
    pub priority: u8,
    /// Counts from 1; one more each time the task goes back to the queue.
    pub epoch: u32,
    /// Renewals, notes and changed priorities within the phase.
    pub rev: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// Attempts that ended without a word: the session or the node went away.
    pub losses: u8,
    /// While it is live: not to be claimed before this time, 0 is at once. Then: when it ended. In
    /// milliseconds since the Unix epoch.
    pub not_before: u64,
    /// Who holds it, held it last, or completed it.
    pub lease: Option<Arc<Lease>>,
    /// What the last attempt left behind.
    pub outcome: Option<Arc<Outcome>>,
    /// What it carries since it changed, or a later version wrote to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Arc<Rest>>,
    /// The write that made this record.
    pub dot: Dot,
}

impl Record {
    /// The fencing token of the record's lease, in force or past; `None` before the first claim.
    ///
    /// `epoch × 2^20 + tie − 1` of the claim's epoch: it rises along the order and stays below
    /// 2^53.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        let lease = self.lease.as_deref()?;
        let epoch = self.epoch_of_claim();
        let tie = tie(&self.combined_hash(), &Hash256::of(lease.holder.as_bytes()));
        Some((u64::from(epoch) << FENCE_EPOCH_SHIFT) + u64::from(tie) - 1)
    }

    /// The epoch in which the record's lease was claimed. Going back to the queue starts the next one
    /// and keeps the lease as the last.
    pub(super) fn epoch_of_claim(&self) -> u32 {
        self.epoch.saturating_sub(u32::from(self.phase == Phase::Pending))
    }

    /// The lease in force, if any.
    #[must_use]
    pub fn held(&self) -> Option<&Arc<Lease>> {
        match (self.class, self.phase) {
            (Class::Live, Phase::Leased) => self.lease.as_ref(),
            _ => None,
        }
    }

    /// Which attempt this is or was, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match (self.class, self.phase) {
            (Class::Live, Phase::Failed) => self.failures.max(1),
            _ => self.failures.saturating_add(1),
        }
    }

    /// SHA-256 of head and task hash: what peers' distances are measured from.
    #[must_use]
    pub fn combined_hash(&self) -> Hash256 {
        super::ownership::combined_hash(&self.spec.head, &self.spec.task_hash())
    }

    /// Compares two records of the same task in the total order of the module's page.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        (self.class, self.epoch, self.phase)
            .cmp(&(other.class, other.epoch, other.phase))
            .then_with(|| self.tie().cmp(&other.tie()))
            .then_with(|| self.rev.cmp(&other.rev))
            .then_with(|| self.spec.hash.cmp(&other.spec.hash))
            .then_with(|| self.digest().cmp(&other.digest()))
            .then_with(|| self.dot.cmp(&other.dot))
    }

    /// Its place in that order, by itself.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            class: self.class,
            epoch: self.epoch,
            phase: self.phase,
            tie: self.tie(),
            rev: self.rev,
            spec_hash: self.spec.hash,
            digest: self.digest(),
            dot: self.dot.clone(),
        }
    }

    /// The write by which the task was submitted. Whoever has seen it, and does not hold the task, has
    /// forgotten it.
    #[must_use]
    pub fn born(&self) -> &Dot {
        self.rest.as_ref().and_then(|rest| rest.born.as_ref()).unwrap_or(&self.dot)
    }

    /// Says by which write its task was submitted, as a record says that replaces the one of that write.
    pub(super) fn keep_born(&mut self, before: &Self) {
        if self.rest.as_ref().is_none_or(|rest| rest.born.is_none()) {
            let rest = self.rest.get_or_insert_default();
            Arc::make_mut(rest).born = Some(before.born().clone());
        }
    }

    /// What later versions wrote.
    pub(super) fn more(&self) -> impl Iterator<Item = (&str, &str)> {
        let more = self.rest.iter().flat_map(|rest| &rest.more);
        more.map(|(name, value)| (&**name, &**value))
    }

    /// When it ended, in milliseconds since the Unix epoch; `None` while it is live.
    #[must_use]
    pub fn ended_at(&self) -> Option<u64> {
        (self.class != Class::Live).then(|| self.not_before.max(self.spec.created_at))
    }

    /// 0 without a holder: a pending task's lease is only the last one.
    fn tie(&self) -> u32 {
        match &self.lease {
            Some(lease) if self.phase == Phase::Leased => {
                tie(&self.combined_hash(), &Hash256::of(lease.holder.as_bytes()))
            }
            _ => 0,
        }
    }

    /// SHA-256 over the fields that the order's other parts do not cover.
    fn digest(&self) -> Hash256 {
        let mut bytes = Canonical::default();
        bytes.bytes(&self.spec.head.to_bytes()).number(self.spec.created_at);
        bytes.number(u64::from(self.priority));
        bytes.number(u64::from(self.failures)).number(u64::from(self.losses));
        bytes.number(self.not_before);
        match &self.lease {
            None => bytes.number(0),
            Some(lease) => bytes
                .number(1)
                .text(&lease.holder)
                .text(&lease.worker)
                .text(&lease.dot.actor)
                .number(lease.dot.counter)
                .number(lease.duration),
        };
        let none = Outcome::default();
        let outcome = self.outcome.as_deref().unwrap_or(&none);
        bytes.body(outcome.result);
        for text in [&outcome.error, &outcome.note] {
            bytes.number(u64::from(text.is_some())).text(text.as_deref().unwrap_or_default());
        }
        if let Some(Dot { actor, counter }) = self.rest.as_ref().and_then(|it| it.born.as_ref()) {
            bytes.text(actor).number(*counter);
        }
        for (name, value) in self.more() {
            bytes.text(name).text(value);
        }
        bytes.finish()
    }
}

/// Bytes that two peers compute alike: numbers in eight bytes, texts with their length before them.
#[derive(Default)]
struct Canonical(Sha256);

impl Canonical {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64).bytes(text.as_bytes())
    }

    fn body(&mut self, body: Option<Body>) -> &mut Self {
        match body {
            None => self.number(0),
            Some(body) => self.number(1).bytes(&body.hash.to_bytes()),
        }
    }

    fn finish(self) -> Hash256 {
        self.0.into()
    }
}
