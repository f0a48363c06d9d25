//! The state machine: one way in per call, one deadline out, changes to keep.
//!
//! # How to drive it
//! Every call takes the time as an argument ([`Now`]) and is applied at once. What it changed is
//! taken out with [`P2PWorkflowScheduler::take_changes`] and must be on disk before anything that
//! shows it is answered. [`P2PWorkflowScheduler::next_deadline`] says when to call
//! [`P2PWorkflowScheduler::advance`]; an extra call does nothing. The same calls give the same
//! answers and changes, byte for byte.
//!
//! # How it works
//! A call replaces a task's record by a greater one (`put`), and `settle` brings everything that is
//! derived from it in line: where the task stands, what its dependents wait for, whether it is in
//! the queue, when time alone changes it. `settle` may be called at any time, for any task, and
//! changes nothing when nothing changed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::calls::{Now, State};
use super::changes::{Changes, Heard, Kept, KeptTask, TaskChange};
use super::clock::MerkleClock;
use super::config::Config;
use super::hash::Hash256;
use super::limits::MAX_COUNTER;
use super::member_view::{Heartbeat, Liveness, Presence};
use super::members::Members;
use super::news::Gathered;
use super::ownership::Candidates;
use super::pruning::Pruning;
use super::ready::Ready;
use super::record::{Dot, Record};
use super::replication::Replication;
use super::stale::Stale;
use super::table::{Entry, Table, Waiting};
use super::tombstones::Tombstones;

/// Tasks looked at anew in one call of [`P2PWorkflowScheduler::advance`], so that none holds the
/// lock for long: a few milliseconds, where a million may wait for the same point of time.
pub(super) const STEP: usize = 1_000;
/// How often the wall clock is looked at while a delay waits for it, in milliseconds: it may jump.
const WALL_CHECK_INTERVAL: u64 = 5_000;

/// A source of random numbers for the jitter of retries.
pub type Jitter = Box<dyn FnMut() -> u64 + Send>;

/// One peer's tasks, clock and view of the swarm: a state machine that its driver gives calls and
/// time.
///
/// ```
/// use p2p_workflow_scheduler::scheduler::{Caller, Config, Mark, Now, TagSet, Want};
/// use p2p_workflow_scheduler::{P2PTask, P2PWorkflowScheduler};
///
/// let jitter = Box::new(|| 4); // a driver passes its random numbers in
/// let mut scheduler = P2PWorkflowScheduler::new("peer", "peer/1", Config::default(), jitter);
/// let now = Now { wall: 1_700_000_000_000, monotonic: 0 };
/// let worker = Caller { worker: "worker-1".into(), shared: false };
/// scheduler.attach(now, &worker.worker, None);
///
/// let task = P2PTask::new("build", "release", "Build it", TagSet::default());
/// assert!(scheduler.submit(now, task)?.created);
/// let claimed = scheduler.claim(now, &worker, &Want::default()).expect("it is ready");
/// let done = Mark::Completed { result: Some(r#"{"size": 7}"#.into()) };
/// scheduler.mark(now, &worker, "build", done, Some(claimed.fence))?;
///
/// let changes = scheduler.take_changes(); // to disk, before anyone is answered
/// assert_eq!(changes.tasks.len(), 3);
/// # Ok::<(), p2p_workflow_scheduler::scheduler::Rejection>(())
/// ```
pub struct P2PWorkflowScheduler {
    pub(super) config: Config,
    pub(super) peer: Arc<str>,
    pub(super) actor: Arc<str>,
    /// The actor's last write when this scheduler was made.
    pub(super) opened_at: u64,
    pub(super) clock: MerkleClock,
    pub(super) have: BTreeMap<Arc<str>, u64>,
    pub(super) members: Members,
    /// What peers are told, once this node replicates.
    pub(super) replication: Option<Box<Replication>>,
    pub(super) table: Table,
    pub(super) ready: Ready,
    /// Workers whose session is attached: their leases do not run out.
    pub(super) attached: BTreeSet<Arc<str>>,
    /// When a worker of this peer last asked for a task, and since when this peer takes work, on the
    /// monotonic clock.
    asked_at: Option<u64>,
    works_since: u64,
    /// Whether the others have had time to say that they take work too: see
    /// [`P2PWorkflowScheduler::ranking`].
    knows_workers: bool,
    pub(super) jitter: Jitter,
    pub(super) changes: Changes,
    pub(super) gathered: Gathered,
    pub(super) conflicts: u64,
    /// Specs that were found to have lost, so that each counts once however often its records come in.
    pub(super) lost_specs: BTreeSet<(u64, Hash256)>,
    /// The claims whose runs are told of as second ones.
    pub(super) lost_runs: BTreeSet<Dot>,
    /// Tasks that became pending after having been blocked, in this call.
    pub(super) unblocked: Vec<u64>,
    /// Whether a task became ready since this was last asked.
    pub(super) became_ready: bool,
    pub(super) pruning: Pruning,
    pub(super) stale: Stale,
    /// Where the sweep after a change of membership goes on.
    sweep: Option<u64>,
    now: Now,
}

impl fmt::Debug for P2PWorkflowScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("P2PWorkflowScheduler")
            .field("peer", &self.peer)
            .field("clock", &self.clock)
            .field("counts", &self.table.counts())
            .finish_non_exhaustive()
    }
}

impl P2PWorkflowScheduler {
    /// An empty scheduler of `peer`, whose writes are named by `actor` (see [`Dot`]).
    #[must_use]
    pub fn new(peer: &str, actor: &str, config: Config, jitter: Jitter) -> Self {
        Self::restore(peer, actor, config, jitter, Now::default(), Kept::default())
    }

    /// Takes up what was kept. Leases of this node start again with their full duration; those of
    /// sessions wait a grace for the session to come back.
    #[must_use]
    pub fn restore(
        peer: &str,
        actor: &str,
        config: Config,
        jitter: Jitter,
        now: Now,
        kept: Kept,
    ) -> Self {
        let peer: Arc<str> = peer.into();
        let mut clock = MerkleClock::new(&*peer);
        clock.merge(&kept.clock);
        let ids = kept.tasks.iter().map(|task| (task.record.spec.task_id.clone(), task.key));
        let table = Table::with_ids(ids.collect());
        let mut scheduler = P2PWorkflowScheduler {
            config,
            actor: actor.into(),
            opened_at: kept.have.get(actor).copied().unwrap_or(0),
            clock,
            have: kept.have,
            members: Members::new(peer.clone()),
            replication: None,
            peer,
            table,
            ready: Ready::default(),
            attached: BTreeSet::new(),
            asked_at: None,
            works_since: 0,
            knows_workers: false,
            jitter,
            changes: Changes::default(),
            gathered: Gathered::default(),
            conflicts: kept.conflicts,
            lost_specs: BTreeSet::new(),
            lost_runs: kept.lost_runs,
            unblocked: Vec::new(),
            became_ready: false,
            pruning: Pruning::default(),
            stale: Stale::kept(kept.doubtful),
            sweep: None,
            now,
        };
        for (peer, heard) in kept.members {
            scheduler.members.recall(now, &config, &peer, heard);
        }
        scheduler.table.tombstones = Tombstones::of(kept.tombstones);
        scheduler.take_up(now, kept.tasks);
        scheduler.table.skip_to(kept.next_key);
        scheduler
    }

    fn take_up(&mut self, now: Now, tasks: Vec<KeptTask>) {
        for KeptTask { key, record, leases_here } in tasks {
            let mut entry = Entry::new(record, leases_here);
            entry.state = entry.derive_state(false, |_| false);
            self.table.insert_known(key, entry);
            self.index_lease(now, key);
        }
        let keys: Vec<u64> = self.table.keys_after(None).collect();
        let depends = |key: &&u64| !self.table.entry(**key).record.spec.depends_on.is_empty();
        let dependents: Vec<u64> = keys.iter().filter(depends).copied().collect();
        for key in &dependents {
            self.table.count_dependencies(*key);
        }
        self.table.find_all_cycles(&dependents);
        for key in &keys {
            self.settle(now, *key);
        }
        self.unblocked.clear();
        self.forget_news();
    }

    /// This peer's id.
    #[must_use]
    pub fn peer_id(&self) -> &Arc<str> {
        &self.peer
    }

    /// The shown clock.
    #[must_use]
    pub fn clock(&self) -> &MerkleClock {
        &self.clock
    }

    /// The replication vector: `have[a] = c` means that for every write (a, ≤ c) this peer holds
    /// that state or a greater one.
    #[must_use]
    pub fn have(&self) -> &BTreeMap<Arc<str>, u64> {
        &self.have
    }

    /// Takes out what changed since this was last called. The [`News`](super::News) of it are over.
    pub fn take_changes(&mut self) -> Changes {
        self.forget_news();
        std::mem::take(&mut self.changes)
    }

    /// Whether a task became ready since this was last called.
    pub fn take_became_ready(&mut self) -> bool {
        std::mem::take(&mut self.became_ready)
    }

    /// When to call [`P2PWorkflowScheduler::advance`] at the latest, on the monotonic clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.sweep.is_some() {
            return Some(self.now.monotonic);
        }
        let (members, replication) = (self.members.next_deadline(), self.next_replication());
        let tasks = if self.is_in_doubt() { None } else { self.next_of_tasks() };
        [members, replication, tasks].into_iter().flatten().min()
    }

    /// When time alone changes a task.
    fn next_of_tasks(&self) -> Option<u64> {
        let delayed = self.table.next_delayed().map(|wall| {
            let wait = wall.saturating_sub(self.now.wall).min(WALL_CHECK_INTERVAL);
            self.now.monotonic.saturating_add(wait)
        });
        let pruning = self.next_pruning(self.now);
        [self.table.next_wake(), delayed, pruning].into_iter().flatten().min()
    }

    /// Lets time pass: leases expire, delays end, turns come, members go down.
    ///
    /// Where very many tasks are due at once it stops after some of them, and the next deadline is
    /// now.
    pub fn advance(&mut self, now: Now) {
        let last = std::mem::replace(&mut self.now, now);
        self.notice_sleep(last, now);
        let before = self.members.sizes();
        let down = self.members.advance(now, &self.config);
        if before != self.members.sizes() {
            self.sweep = Some(0);
        }
        for peer in down {
            for key in self.table.held_by(&peer) {
                self.settle(now, key);
            }
        }
        if !self.is_in_doubt() {
            self.advance_tasks(now);
            self.advance_pruning(now);
        }
        self.sweep(now);
        self.advance_replication(now);
    }

    fn advance_tasks(&mut self, now: Now) {
        for _ in 0..STEP {
            let Some(key) = self.table.due(now.monotonic, now.wall) else { break };
            match self.table.entry(key).waiting {
                Waiting::Lease(until) if until <= now.monotonic => self.end_lease(now, key),
                _ => self.settle(now, key),
            }
        }
    }

    /// A member's heartbeat came in.
    pub fn heartbeat(&mut self, now: Now, peer: &Arc<str>, beat: Heartbeat) {
        let was_down = self.members.is_down(peer);
        let before = self.members.sizes();
        if self.members.heartbeat(now, &self.config, peer, beat) {
            let heard = Heard { at: now.wall, have: None };
            let stays = beat.presence != Presence::Left;
            self.changes.members.push((peer.clone(), stays.then_some(heard)));
        }
        self.membership_changed(now, peer, before, was_down);
    }

    /// Whether this peer is an owner in the eyes of the others: one of its workers asked for a task
    /// lately. In its own it always may be, so that a worker who asks is given at once what it owns.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        let lately = |at| self.now.monotonic.saturating_sub(at) <= self.config.works_for;
        self.replication.is_none() || self.asked_at.is_some_and(lately)
    }

    /// A worker asks for a task. If that is news, the others are told at once.
    pub(super) fn asked_for_work(&mut self, now: Now) {
        let is_news = !self.takes_work();
        self.asked_at = Some(now.monotonic);
        if is_news {
            self.works_since = now.monotonic;
            self.members.changed = true;
            self.beat_at_once(now);
        }
    }

    /// Among whom this peer ranks itself: the candidates. While it takes no work, and until it has
    /// heard who else does once it begins, all that are there: where workers begin on several
    /// machines at once, none takes what is another's.
    pub(super) fn ranking(&self) -> &Candidates {
        match self.knows_workers || self.replication.is_none() {
            true => self.members.candidates(),
            false => self.members.everyone(),
        }
    }

    /// Follows whether this peer takes work, once a heartbeat.
    pub(super) fn follow_workers(&mut self, now: Now) {
        let heard = now.monotonic.saturating_sub(self.works_since);
        let knows = self.takes_work() && heard >= 2 * self.config.heartbeat_interval;
        if knows != std::mem::replace(&mut self.knows_workers, knows) {
            self.sweep = Some(0);
        }
    }

    /// Among whom tasks are ranked as all see it.
    pub(super) fn owners(&self) -> &Candidates {
        self.members.owners(self.takes_work())
    }

    /// A member's liveness, if it is known.
    #[must_use]
    pub fn liveness(&self, peer: &str) -> Option<Liveness> {
        self.members.liveness(peer)
    }

    /// Ranks the waiting tasks anew if the candidates are others than before, and takes back what
    /// was free while the peer was down.
    pub(super) fn membership_changed(
        &mut self,
        now: Now,
        peer: &Arc<str>,
        before: (usize, usize),
        was_down: bool,
    ) {
        if before != self.members.sizes() {
            self.sweep = Some(0);
        }
        if was_down && !self.members.is_down(peer) {
            for key in self.table.held_by(peer) {
                self.settle(now, key);
            }
        }
    }

    fn sweep(&mut self, now: Now) {
        let Some(from) = self.sweep else { return };
        let pending = self.table.in_state(State::Pending).from(from);
        let keys: Vec<u64> = pending.take(STEP).collect();
        self.sweep = match keys.last() {
            Some(last) if keys.len() == STEP => Some(last + 1),
            _ => None,
        };
        for key in keys {
            self.settle(now, key);
            // Its turn may be that of another peer now.
            self.gathered.tasks.push(key);
        }
    }

    /// The name of this peer's next write. Every dot taken is used.
    pub(super) fn next_dot(&mut self) -> Dot {
        let counter = self.have.entry(self.actor.clone()).or_insert(0);
        *counter += 1;
        let dot = Dot { actor: self.actor.clone(), counter: *counter };
        self.changes.have.push(dot.clone());
        dot
    }

    /// Counts a submission or an outcome on the shown clock. A counter at its limit, which a tool
    /// may have reported, stays there: peers take in none beyond it.
    pub(super) fn tick(&mut self) {
        if self.clock.get(&self.peer) >= MAX_COUNTER {
            return;
        }
        self.clock.tick();
        let counter = self.clock.get(&self.peer);
        self.changes.clock.push((self.peer.clone(), counter));
        if let Some(replication) = &mut self.replication {
            replication.clock_rose(&self.peer, counter);
        }
    }

    /// Replaces a task's record by a greater one of this peer's making.
    ///
    /// # Panics
    /// If the record is not greater: replicas would never agree on it.
    pub(super) fn put(&mut self, now: Now, key: u64, mut record: Record, result: Option<Arc<str>>) {
        let before = &self.table.entry(key).record;
        record.keep_born(before);
        assert_eq!(
            record.order(before),
            Ordering::Greater,
            "a local change of task {:?} must be greater than what it replaces",
            record.spec.task_id
        );
        self.keep(key, &record, None, result);
        self.replace(now, key, record);
    }

    /// Hands a record to whoever keeps it.
    pub(super) fn keep(
        &mut self,
        key: u64,
        record: &Record,
        new_spec: Option<Option<Arc<str>>>,
        result: Option<Arc<str>>,
    ) {
        let leases_here = self.table.get(key).map_or(0, |entry| entry.leases_here);
        let change = TaskChange {
            key,
            record: record.clone(),
            leases_here,
            spec_is_new: new_spec.is_some(),
            payload: new_spec.flatten(),
            result,
        };
        if self.replication.is_some() {
            if let Some(Entry { record: Record { class, dot, .. }, .. }) = self.table.get(key) {
                let (class, dot) = (*class, dot.clone());
                self.count_out(class, &dot);
            }
            self.count_in(record.class, &record.dot);
        }
        if let Some(replication) = &mut self.replication {
            replication.kept(&change);
        }
        self.changes.tasks.push(change);
    }

    /// Puts a record in its task's place and derives everything anew.
    pub(super) fn replace(&mut self, now: Now, key: u64, record: Record) {
        self.leave_queue(key);
        let entry = self.table.entry(key);
        // A turn goes on within an epoch, a lease within its claim.
        let goes_on = (entry.record.epoch, entry.record.phase) == (record.epoch, record.phase)
            && entry.record.lease == record.lease
            && matches!(entry.waiting, Waiting::Turn(_) | Waiting::Lease(_));
        let delayed = matches!(entry.waiting, Waiting::Delay(_));
        if delayed {
            self.table.set_delayed(key, false);
        }
        self.table.set_held(key, &self.peer, false);
        let entry = self.table.entry_mut(key);
        if !goes_on {
            entry.waiting = Waiting::Nothing;
        }
        entry.record = record;
        self.gathered.tasks.push(key);
        self.index_lease(now, key);
        self.settle(now, key);
    }

    /// Enters the lease of a new record, if it is held, where its holder's are looked for.
    pub(super) fn index_lease(&mut self, now: Now, key: u64) {
        if let Some(lease) = self.table.entry(key).record.held() {
            self.members.holds_a_lease(now, &self.config, &lease.holder);
            self.table.set_held(key, &self.peer, true);
        }
    }
}
