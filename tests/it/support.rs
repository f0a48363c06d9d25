//! What the tests of the scheduler share: a scheduler with a clock of its own, and short ways to
//! say what happens to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::*;

/// The wall clock when a test begins, so that it is not mistaken for the monotonic one.
pub(crate) const WALL_START: u64 = 1_700_000_000_000;

/// Milliseconds in a second.
pub(crate) const S: u64 = 1000;

/// The time of a call, `monotonic` milliseconds after the test began.
pub(crate) fn at(monotonic: u64) -> Now {
    Now { wall: WALL_START + monotonic, monotonic }
}

/// A scheduler of `peer` without jitter: retries wait the shortest time.
pub(crate) fn scheduler(peer: &str) -> P2PWorkflowScheduler {
    P2PWorkflowScheduler::new(peer, &format!("{peer}/1"), Config::default(), Box::new(|| 0))
}

/// A task of workflow "w" with everything optional left at its default.
pub(crate) fn task(id: &str) -> P2PTask {
    P2PTask::new(id, "w", "a task", TagSet::default())
}

/// A task that waits for others.
pub(crate) fn task_after(id: &str, depends_on: &[&str]) -> P2PTask {
    let depends_on = depends_on.iter().map(|id| (*id).to_owned()).collect();
    P2PTask { depends_on, ..task(id) }
}

/// The worker that all commands of a node share.
pub(crate) const COMMAND_LINE: &str = "command-line";

/// Who calls.
pub(crate) fn caller(worker: &str) -> Caller {
    Caller { worker: worker.into(), shared: worker == COMMAND_LINE }
}

/// Anything, on time.
pub(crate) fn timed(duration: u64) -> Want {
    Want { lease: LeaseTerm::Timed(duration), ..Want::default() }
}

/// The outcome "completed", without a result.
pub(crate) fn done() -> Mark {
    Mark::Completed { result: None }
}

/// The outcome "failed", with another attempt to follow.
pub(crate) fn failed() -> Mark {
    Mark::Failed { error: Some("boom".into()), result: None, retry: true }
}

/// Where a task stands.
pub(crate) fn state(s: &P2PWorkflowScheduler, now: Now, id: &str) -> State {
    s.show(now, id).unwrap().state
}

/// Claims a task and completes it; `None` if nothing is ready.
pub(crate) fn run_one(s: &mut P2PWorkflowScheduler, now: Now) -> Option<Arc<str>> {
    let claimed = s.claim(now, &caller("worker"), &timed(60 * S)).ok()?;
    let id = claimed.task.task_id;
    s.mark(now, &caller("worker"), &id, done(), Some(claimed.fence)).unwrap();
    Some(id)
}

/// Everything that is shown of every task, in the order of arrival, after a look at whether all
/// ways to list the tasks agree.
pub(crate) fn views(s: &P2PWorkflowScheduler, now: Now) -> Vec<TaskView> {
    let all = list(s, now, Filter::default());
    let status = s.status(now);
    assert_eq!(status.counts.iter().sum::<u64>(), all.len() as u64, "each task stands somewhere");
    for state in State::ALL {
        let here = all.iter().filter(|view| view.state == state).cloned().collect::<Vec<_>>();
        assert_eq!(status.count(state), here.len() as u64, "{state}");
        assert_eq!(list(s, now, Filter { state: Some(state), ..Filter::default() }), here);
    }
    let workflows: BTreeSet<_> = all.iter().map(|view| view.workflow_id.to_string()).collect();
    for workflow in workflows {
        let here = all.iter().filter(|view| *view.workflow_id == *workflow);
        let here = here.cloned().collect::<Vec<_>>();
        let count = |state| here.iter().filter(|view| view.state == state).count() as u64;
        assert_eq!(s.workflow_counts(&workflow), Some(State::ALL.map(count)));
        let filter = Filter { workflow_id: Some(workflow), ..Filter::default() };
        assert_eq!(list(s, now, filter), here);
    }
    all
}

/// All pages that a filter lets through.
fn list(s: &P2PWorkflowScheduler, now: Now, mut filter: Filter) -> Vec<TaskView> {
    let mut all = Vec::new();
    filter.limit = 7;
    loop {
        let page = s.list(now, &filter).unwrap();
        all.extend(page.tasks);
        match page.next {
            None => return all,
            next => filter.after = next,
        }
    }
}

/// Gives `to` everything in `changes`, as a push does. Returns nothing new of its own.
pub(crate) fn push(to: &mut P2PWorkflowScheduler, now: Now, changes: &Changes) {
    for change in &changes.tasks {
        to.merge(now, change.record.clone(), change.payload.clone(), change.result.clone());
    }
}

/// A store in memory: what was kept of a scheduler.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    clock: BTreeMap<String, u64>,
    have: BTreeMap<Arc<str>, u64>,
    tasks: BTreeMap<u64, KeptTask>,
    /// Where it is not the one that the scheduler was made with.
    actor: Option<Arc<str>>,
    tombstones: BTreeMap<u64, Tombstone>,
    members: BTreeMap<Arc<str>, Heard>,
    doubtful: bool,
    conflicts: u64,
    lost_runs: BTreeSet<Dot>,
}

impl Disk {
    /// Commits what a scheduler changed.
    pub(crate) fn keep(&mut self, changes: &Changes) {
        for TaskChange { key, record, leases_here, .. } in &changes.tasks {
            let (key, leases_here) = (*key, *leases_here);
            self.tasks.insert(key, KeptTask { key, record: record.clone(), leases_here });
        }
        for Burial { key, tombstone } in &changes.buried {
            self.tasks.remove(key);
            self.tombstones.remove(key);
            self.tombstones.extend(tombstone.iter().map(|tombstone| (*key, tombstone.clone())));
        }
        for (peer, heard) in &changes.members {
            let before = self.members.remove(peer);
            if let Some(heard) = heard {
                let have = heard.have.clone().or(before.and_then(|before| before.have));
                self.members.insert(peer.clone(), Heard { have, ..heard.clone() });
            }
        }
        self.doubtful = changes.doubtful.unwrap_or(self.doubtful);
        for (peer, counter) in &changes.clock {
            self.clock.insert(peer.to_string(), *counter);
        }
        for dot in &changes.have {
            self.have.insert(dot.actor.clone(), dot.counter);
        }
        self.actor = changes.actor.clone().or(self.actor.take());
        self.conflicts += changes.conflicts.len() as u64;
        self.lost_runs.extend(changes.duplicates.iter().map(|run| run.dot.clone()));
        self.lost_runs.retain(|dot| changes.not_lost.iter().all(|run| run.dot != *dot));
    }

    /// Starts a scheduler of `peer` from what was kept.
    pub(crate) fn restore(&self, peer: &str, now: Now) -> P2PWorkflowScheduler {
        self.restore_as(peer, &format!("{peer}/1"), Config::default(), now, Box::new(|| 0))
    }

    /// The same, with the actor that its writes are named by until it takes another, and random
    /// numbers.
    pub(crate) fn restore_as(
        &self,
        peer: &str,
        actor: &str,
        config: Config,
        now: Now,
        jitter: Jitter,
    ) -> P2PWorkflowScheduler {
        let kept = Kept {
            clock: self.clock.clone(),
            have: self.have.clone(),
            tasks: self.tasks.values().cloned().collect(),
            tombstones: self.tombstones.clone().into_iter().collect(),
            members: self.members.clone(),
            doubtful: self.doubtful,
            conflicts: self.conflicts,
            lost_runs: self.lost_runs.clone(),
            next_key: self
                .tasks
                .keys()
                .chain(self.tombstones.keys())
                .max()
                .map_or(0, |key| key + 1),
        };
        let actor = self.actor.as_deref().unwrap_or(actor);
        P2PWorkflowScheduler::restore(peer, actor, config, jitter, now, kept)
    }

    /// Whether this is a backup that is put back.
    pub(crate) fn put_back(self) -> Self {
        Disk { doubtful: true, actor: None, ..self }
    }

    /// The runs that are told of as second ones.
    pub(crate) fn lost_runs(&self) -> &BTreeSet<Dot> {
        &self.lost_runs
    }

    /// All records by task id.
    pub(crate) fn records(&self) -> BTreeMap<Arc<str>, Record> {
        let records = self.tasks.values().map(|task| task.record.clone());
        records.map(|record| (record.spec.task_id.clone(), record)).collect()
    }
}
