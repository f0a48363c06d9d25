//! A peer's machine and the node that runs on it: the driver of the core.
//!
//! It does what the real node does. After each call it takes out what changed, then what is to be
//! said; both wait for the disk in order, with the answers to callers. The committer writes
//! whatever waits in one transaction, and one at a time. After a failed commit the core is dropped,
//! with all that waited, and taken up anew from the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use p2p_workflow_scheduler::P2PWorkflowScheduler;
use p2p_workflow_scheduler::scheduler::{
    Burial, Changes, Config, Dot, Jitter, Message, Now, Outgoing, Record, Refused, TaskChange,
};

use super::asked::Asked;
use super::clock::Clock;
use super::disk::Disk;
use super::events::Event;
use super::leases::Leases;
use super::oracle::is_redotted;
use super::random::Random;
use super::trace::{About, What};
use super::workers::{Answer, Worker};
use super::world::World;

/// A peer: a name, a machine with its clock and disk, workers, and a node while it runs.
pub(crate) struct Peer {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// The name that its node's writes go by, which the disk may not have yet.
    pub(crate) actor: Arc<str>,
    pub(crate) backup: Option<Disk>,
    /// How often its store was put back. What it gives out then may have the dot
    /// and the fence of a lease of an earlier life, and commands have the same name in all.
    pub(crate) other_lives: u32,
    pub(crate) node: Option<Node>,
    /// Counts the node's starts: what was planned for an earlier life does not happen.
    pub(crate) life: u64,
    /// Set while the machine stands still.
    pub(crate) stands_still: Option<StandStill>,
    /// Whether it left for good.
    pub(crate) gone: bool,
    pub(crate) workers: Vec<Worker>,
    random: Random,
}

/// A machine that stands still.
#[derive(Debug)]
pub(crate) struct StandStill {
    pub(crate) since: u64,
    /// Whether its monotonic clock does too.
    pub(crate) clock_too: bool,
    /// What happens to it when it goes on.
    pub(crate) waiting: Vec<Event>,
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) core: P2PWorkflowScheduler,
    /// What waits for the disk, in order.
    queue: VecDeque<Batch>,
    /// How many of those are in the commit under way.
    committing: usize,
    /// For when the core's deadline is planned.
    wake: Option<u64>,
    /// What the oracle knows of the leases that it gave out.
    pub(crate) leases: Leases,
    /// Whether the disk refuses writes.
    pub(crate) failing: bool,
}

/// Whether nothing but a tombstone is left under a key.
pub(crate) fn strips(changes: &Changes, key: u64) -> bool {
    let mut buried = changes.buried.iter();
    buried.any(|burial| burial.key == key && burial.tombstone.is_some())
}

/// As long as a real one where the peer's name is.
fn first_actor(peer: &str) -> String {
    match peer.starts_with('p') {
        true => format!("{peer}/1"),
        false => format!("{peer}/{:016x}", 1),
    }
}

/// What one call changed, and what may leave when that is on disk.
struct Batch {
    changes: Changes,
    outgoing: Vec<Outgoing>,
    answers: Vec<Answer>,
}

impl Peer {
    pub(crate) fn new(name: Arc<str>, clock: Clock, random: Random) -> Self {
        let disk = Disk::new(&first_actor(&name));
        Peer {
            name,
            clock,
            actor: disk.actor.clone(),
            disk,
            backup: None,
            other_lives: 0,
            node: None,
            life: 0,
            stands_still: None,
            gone: false,
            workers: Vec::new(),
            random,
        }
    }

    /// Whether its node runs, and its machine does not stand still.
    pub(crate) fn is_running(&self) -> bool {
        self.node.is_some() && self.stands_still.is_none()
    }

    /// The task's record as the node has it in memory.
    pub(crate) fn record(&self, task_id: &str) -> Option<&Record> {
        let mut queue = self.node.iter().flat_map(|node| node.queue.iter().rev());
        let changed = queue.find_map(|batch| self.changed(task_id, &batch.changes));
        changed.unwrap_or_else(|| self.disk.record(task_id))
    }

    /// The task's record after some changes, if they changed it; `Some(None)` where it is gone, or
    /// only a tombstone is left.
    pub(crate) fn changed<'c>(&self, id: &str, changes: &'c Changes) -> Option<Option<&'c Record>> {
        let mut tasks = changes.tasks.iter().rev();
        let last = tasks.find(|change| *change.record.spec.task_id == *id);
        let is_buried = |burial: &Burial| match (last, &burial.tombstone) {
            (Some(change), _) => burial.key == change.key,
            (None, Some(tombstone)) => *tombstone.task_id == *id,
            (None, None) => self.disk.key(id) == Some(burial.key),
        };
        match changes.buried.iter().any(is_buried) {
            true => Some(None),
            false => last.map(|change| Some(&change.record)),
        }
    }

    /// Whether all that the node did is on disk.
    pub(crate) fn is_kept(&self) -> bool {
        self.node.as_ref().is_none_or(|node| node.queue.is_empty())
    }

    /// Whether no more than a tombstone was left under a key.
    pub(crate) fn is_stripped(&self, key: u64) -> bool {
        let mut queue = self.node.iter().flat_map(|node| &node.queue);
        self.disk.is_tombstone(key) || queue.any(|batch| strips(&batch.changes, key))
    }

    /// Whether the node doubts what it holds, and has others to ask.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let mut queue = self.node.iter().flat_map(|node| node.queue.iter().rev());
        let doubtful = queue.find_map(|batch| batch.changes.doubtful);
        doubtful.unwrap_or(self.disk.doubtful)
    }

    fn leases_on_disk(&self, now: Now, config: Config) -> Leases {
        Leases::taken_up(&self.name, &self.disk, now.monotonic, config.session_grace)
    }

    fn core_from_disk(&mut self, now: Now, config: Config) -> P2PWorkflowScheduler {
        self.actor = self.disk.actor.clone();
        let mut random = self.random.split();
        let jitter: Jitter = Box::new(move || random.next());
        let (name, actor, kept) = (&self.name, &self.disk.actor, self.disk.load());
        let mut core = P2PWorkflowScheduler::restore(name, actor, config, jitter, now, kept);
        core.replicate(now, now.wall);
        core
    }
}

impl World {
    /// The time as a peer's node reads it.
    pub(crate) fn time_at(&self, p: usize) -> Now {
        self.peers[p].clock.at(self.now)
    }

    pub(crate) fn start_node(&mut self, p: usize) {
        let peer = &mut self.peers[p];
        peer.life += 1;
        (peer.clock.started, peer.clock.stood) = (self.now, 0);
        let (now, config) = (peer.clock.at(self.now), self.profile.config);
        let core = peer.core_from_disk(now, config);
        let leases = peer.leases_on_disk(now, config);
        let queue = VecDeque::new();
        let (wake, failing) = (None, false);
        peer.node = Some(Node { core, queue, committing: 0, wake, leases, failing });
        let actor = peer.disk.actor.clone();
        self.note(p, What::Started { actor });
        self.oracle.taken_up(p, &self.peers[p].disk);
        self.settle(p, Vec::new());
        for link in self.network.links_of(p) {
            self.dial_soon(link);
        }
        self.workers_after_start(p);
    }

    /// The node ends with whatever was not on disk.
    pub(crate) fn crash(&mut self, p: usize, machine_too: bool) {
        let Some(node) = self.peers[p].node.take() else { return };
        // A commit under way is whole, or is not.
        let with_commit = node.committing > 0 && self.random.percent(50);
        self.note(p, What::Crashed { with_commit });
        self.summary.count("crash", 1);
        if with_commit {
            for batch in node.queue.iter().take(node.committing) {
                self.keep(p, &batch.changes);
            }
        }
        self.peers[p].stands_still = None;
        self.process_ended(p, machine_too);
        self.workers_after_crash(p, machine_too);
    }

    /// Applies a call to a node's core, and sees to what comes of it. `None` where no node answers.
    pub(crate) fn call(
        &mut self,
        p: usize,
        call: impl FnOnce(&mut Self, &mut P2PWorkflowScheduler, Now) -> Option<Answer>,
    ) -> Option<()> {
        if !self.peers[p].is_running() {
            return None;
        }
        let now = self.time_at(p);
        let mut node = self.peers[p].node.take()?;
        if !node.failing {
            node.core.advance(now);
        }
        let answer = call(self, &mut node.core, now);
        self.peers[p].node = Some(node);
        self.settle(p, answer.into_iter().collect());
        Some(())
    }

    pub(crate) fn receive(&mut self, from: usize, p: usize, message: Message) {
        let from = self.peers[from].name.clone();
        self.call(p, |world, core, now| {
            world.asked.push(Asked::Receive);
            match core.receive(now, &from, message) {
                Ok(()) => {}
                // Its store was put back, and it learns of it.
                Err(Refused::OwnWrites { .. }) => {}
                Err(refused) => {
                    let what = format!("p{p} refuses a peer's message: {refused}");
                    world.oracle.broken(About::peer(p), what);
                }
            }
            None
        });
    }

    pub(crate) fn connected(&mut self, p: usize, other: usize) {
        let other = self.peers[other].name.clone();
        self.call(p, |_, core, now| {
            core.connected(now, &other);
            None
        });
    }

    pub(crate) fn disconnected(&mut self, p: usize, other: usize) {
        let other = self.peers[other].name.clone();
        self.call(p, |_, core, now| {
            core.connection_lost(now, &other);
            None
        });
    }

    /// The driver's duty after each call.
    fn settle(&mut self, p: usize, answers: Vec<Answer>) {
        let asked = std::mem::take(&mut self.asked);
        let Some(node) = &mut self.peers[p].node else { return };
        let changes = node.core.take_changes();
        let mut outgoing = node.core.take_outgoing();
        let silent = node.core.take_silent();
        let at_once: Vec<Outgoing> =
            outgoing.extract_if(.., |outgoing| outgoing.may_leave_at_once()).collect();
        for answer in &answers {
            self.check_answer(p, answer, &changes);
        }
        self.follow(p, &asked, &changes);
        at_once.into_iter().for_each(|outgoing| self.send(p, outgoing));
        self.hand_over(p, Batch { changes, outgoing, answers });
        self.plan_wake(p);
        for other in silent {
            let other = self.index(&other);
            self.close_connection(p, other);
        }
        self.serve_line(p);
    }

    /// Follows what a node has in memory.
    fn follow(&mut self, p: usize, asked: &[Asked], changes: &Changes) {
        for TaskChange { record, .. } in &changes.tasks {
            self.note_record(p, record, What::Changed);
            let renamed = self.peers[p].record(&record.spec.task_id).and_then(|before| {
                let (old, new) = (before.lease.as_ref()?, record.lease.as_ref()?);
                let renamed = is_redotted(before, record) && old.dot != new.dot;
                renamed.then(|| (old.dot.clone(), new.dot.clone()))
            });
            if let Some((old, new)) = renamed {
                self.rename_lease(p, &record.spec.task_id, &old, &new);
            }
        }
        if let Some(actor) = &changes.actor {
            if self.peers[p].other_lives == 0 {
                let what = format!("p{p} takes a new actor, though its store was never put back");
                self.oracle.broken(About::peer(p), what);
            }
            self.peers[p].actor = actor.clone();
            self.doubtful.remove(&p);
            self.summary.count("actors taken", 1);
        }
        self.check_doubt(p, changes);
        self.check_asked(p, asked, changes);
        self.oracle.changed(p, &self.peers[p].disk, changes);
    }

    /// A lease that this peer gave out goes by another name now.
    fn rename_lease(&mut self, p: usize, task: &Arc<str>, old: &Dot, new: &Dot) {
        let peer = &mut self.peers[p];
        peer.workers.iter_mut().for_each(|worker| worker.rename(task, old, new));
        if let Some(node) = &mut peer.node {
            let answers = node.queue.iter_mut().flat_map(|batch| &mut batch.answers);
            answers.for_each(|answer| answer.rename(task, old, new));
        }
        self.oracle.rename(&self.peers[p], task, old, new);
        self.summary.count("lease renamed", 1);
    }

    fn plan_wake(&mut self, p: usize) {
        let now = self.now;
        let Peer { node: Some(node), clock, life, .. } = &mut self.peers[p] else { return };
        let Some(at) = node.core.next_deadline().filter(|_| !node.failing) else { return };
        let at = clock.when(at).max(now + 1);
        if node.wake.is_none_or(|planned| planned <= now || at < planned) {
            node.wake = Some(at);
            self.events.plan(at, Event::Wake { peer: p, life: *life });
        }
    }

    pub(crate) fn wake(&mut self, p: usize, life: u64) {
        if self.peers[p].life == life {
            self.call(p, |_, _, _| None);
        }
    }

    fn hand_over(&mut self, p: usize, batch: Batch) {
        let Some(node) = &mut self.peers[p].node else { return };
        let Batch { changes, outgoing, answers } = &batch;
        if changes.is_empty() && outgoing.is_empty() && answers.is_empty() {
            return;
        }
        if node.queue.is_empty() && changes.is_empty() {
            return self.leave(p, batch.outgoing, batch.answers); // nothing to wait for
        }
        node.queue.push_back(batch);
        if node.committing == 0 {
            self.begin_commit(p);
        }
    }

    fn begin_commit(&mut self, p: usize) {
        let slow = self.slow_disks.contains(&p);
        let longest = if slow { 2_000 } else { self.weather.commit };
        let at = self.now + self.random.spread(1..longest + 2);
        let Peer { node: Some(node), life, .. } = &mut self.peers[p] else { return };
        node.committing = node.queue.len();
        self.events.plan(at, Event::Commit { peer: p, life: *life });
    }

    /// The commit under way ends.
    pub(crate) fn end_commit(&mut self, p: usize, life: u64) {
        if self.peers[p].life != life {
            return;
        }
        let Some(node) = &mut self.peers[p].node else { return };
        let group: Vec<Batch> = node.queue.drain(..node.committing).collect();
        node.committing = 0;
        if self.broken_disks.contains(&p) && group.iter().any(|batch| !batch.changes.is_empty()) {
            return self.commit_failed(p, &group);
        }
        // The texts of a message are read when all of the group is on disk: some may be others by then.
        let mut said = Vec::new();
        for batch in group {
            self.keep(p, &batch.changes);
            said.extend(batch.outgoing);
            self.leave(p, Vec::new(), batch.answers);
        }
        self.leave(p, said, Vec::new());
        if self.peers[p]
            .node
            .as_ref()
            .is_some_and(|node| !node.queue.is_empty() && node.committing == 0)
        {
            self.begin_commit(p);
        }
    }

    /// One call's changes reach the disk.
    fn keep(&mut self, p: usize, changes: &Changes) {
        for change in &changes.tasks {
            self.note_record(p, &change.record, What::Kept);
        }
        for duplicate in &changes.duplicates {
            let (task, dot) = (duplicate.task_id.clone(), duplicate.dot.clone());
            self.note(p, What::SecondRun { task, dot });
        }
        self.summary.count("conflicts", changes.conflicts.len() as u64);
        self.summary.count("duplicates reported", changes.duplicates.len() as u64);
        self.summary.count("records kept", changes.tasks.len() as u64);
        for burial in &changes.buried {
            let what = if burial.tombstone.is_some() { "stripped" } else { "dropped" };
            self.summary.count(what, 1);
            let dot = burial.tombstone.as_ref().map(|it| it.dot().clone());
            let tombstone = burial.tombstone.as_ref().map(|it| &it.task_id);
            if let Some(task) = self.peers[p].disk.id(burial.key).or(tombstone).cloned() {
                self.note(p, What::Buried { task, dot });
            }
        }
        self.oracle.kept(&self.peers[p], p, changes);
        self.peers[p].disk.commit(changes);
    }

    fn leave(&mut self, p: usize, outgoing: Vec<Outgoing>, answers: Vec<Answer>) {
        let disk = &self.peers[p].disk;
        let fill = |mut outgoing: Outgoing| {
            outgoing.fill(|text| disk.text(text));
            outgoing
        };
        let filled: Vec<Outgoing> = outgoing.into_iter().map(fill).collect();
        filled.into_iter().for_each(|outgoing| self.send(p, outgoing));
        answers.into_iter().for_each(|answer| self.answered(p, answer));
    }

    /// All that waited is refused, and the core is taken up anew from the disk.
    fn commit_failed(&mut self, p: usize, group: &[Batch]) {
        // Whoever is told of a failure does not know whether it is on disk.
        let kept = self.random.percent(20);
        self.note(p, What::CommitFailed { kept });
        self.summary.count("commit fails", 1);
        if kept {
            group.iter().for_each(|batch| self.keep(p, &batch.changes));
        }
        let Some(node) = &mut self.peers[p].node else { return };
        node.failing = true;
        let waited: Vec<Batch> = node.queue.drain(..).collect();
        self.take_up_anew(p);
        for batch in group.iter().chain(&waited) {
            batch.answers.iter().for_each(|answer| self.refused(p, answer));
        }
    }

    fn take_up_anew(&mut self, p: usize) {
        let now = self.time_at(p);
        let peer = &mut self.peers[p];
        let mut core = peer.core_from_disk(now, self.profile.config);
        for worker in peer.workers.iter().filter(|worker| worker.attached) {
            core.attach(now, &worker.name, Some(&worker.known()));
            self.asked.push(Asked::Attach(worker.name.clone()));
        }
        let leases = peer.leases_on_disk(now, self.profile.config);
        for other in self.network.believed(p) {
            core.connected(now, &self.peers[other].name);
        }
        let Some(node) = &mut self.peers[p].node else { return };
        (node.core, node.leases) = (core, leases);
        self.oracle.taken_up(p, &self.peers[p].disk);
        self.settle(p, Vec::new());
    }

    /// The disk takes writes again.
    pub(crate) fn disk_recovers(&mut self, p: usize) {
        let Some(node) = &mut self.peers[p].node else { return };
        if std::mem::take(&mut node.failing) {
            node.wake = None;
            node.committing = 0;
            let waited: Vec<Batch> = node.queue.drain(..).collect();
            self.peers[p].life += 1; // a commit under way is of the era that is over
            self.take_up_anew(p);
            for answer in waited.iter().flat_map(|batch| &batch.answers) {
                self.refused(p, answer);
            }
        }
    }
}
