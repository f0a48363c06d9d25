//! The oracle: it knows what callers were told and what every disk holds, and says when a promise
//! is broken.
//!
//! All along:
//! * what a disk keeps of a task only grows in the order of records, so no completion or
//!   cancellation is undone where anybody could see it; only a re-dotted record is not greater;
//! * a caller is told only what is on the disk of the node that tells it;
//! * a lease's fence is greater than all fences of the task that the node knows of;
//! * a report is accepted for the caller's own lease only, and a lease in force is not denied;
//! * a lease in force that loses against another of its epoch is reported as a second run;
//! * a node writes only what somebody asked it for (see `asked`), and takes a new actor only where its
//!   store was put back.
//!
//! At the end, after the heal (see [`World::calm`]): all disks hold the same records and texts, none
//! is behind what callers were told, all nodes show tasks where the records say that they stand, each
//! whose store was put back has found out, every acknowledged spec is there or among the conflicts,
//! and every acknowledged completion is the recorded one or reported as a second run. What no disk
//! holds any more, because the last one that held it was put back or left, may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::{
    Body, Changes, Class, Dot, Hash256, Record, Rejection, Rest, Standing, State, Text,
};

use super::disk::Disk;
use super::node::Peer;
use super::trace::{About, What};
use super::workers::{Answer, Claim};
use super::world::World;

/// What a caller was told of a task.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Submitted { created: bool },
    Cancelled,
    Completed,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    pub(crate) about: About,
}

/// What callers were told of one task.
#[derive(Debug)]
struct Known {
    class: Class,
    specs: BTreeSet<Hash256>,
    /// By the claim that each began with, and how often its peer's store had been put back untold.
    completions: BTreeSet<(Dot, u32)>,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    told: BTreeMap<Arc<str>, Known>,
    /// By peer: the largest fence that its node has seen of each task.
    fences: Vec<BTreeMap<Arc<str>, u64>>,
    /// Leases that go by another name now: their tasks, old names and other lives of their peers.
    renamed: BTreeMap<(Arc<str>, Dot, u32), Dot>,
    /// When each lease was given.
    given: BTreeMap<Dot, u64>,
    pub(crate) violation: Option<Violation>,
}

impl Oracle {
    pub(crate) fn broken(&mut self, about: About, what: String) {
        self.violation.get_or_insert(Violation { what, about });
    }

    /// A node was taken up from its disk.
    pub(crate) fn taken_up(&mut self, p: usize, disk: &Disk) {
        if self.fences.len() <= p {
            self.fences.resize_with(p + 1, BTreeMap::new);
        }
        let fences = disk.records().filter_map(|(id, record)| Some((id.clone(), record.fence()?)));
        self.fences[p] = fences.collect();
    }

    /// A node changed records in memory.
    pub(crate) fn changed(&mut self, p: usize, disk: &Disk, changes: &Changes) {
        for burial in changes.buried.iter().filter(|burial| burial.tombstone.is_none()) {
            // It is another task if it comes again.
            disk.id(burial.key).map(|id| self.fences[p].remove(id));
        }
        for change in &changes.tasks {
            if let Some(fence) = change.record.fence() {
                let seen = self.fences[p].entry(change.record.spec.task_id.clone()).or_insert(0);
                *seen = fence.max(*seen);
            }
        }
    }

    /// Changes go to a disk.
    pub(crate) fn kept(&mut self, peer: &Peer, p: usize, changes: &Changes) {
        let mut before: BTreeMap<&Arc<str>, &Record> = BTreeMap::new();
        for change in &changes.tasks {
            let record = &change.record;
            let id = &record.spec.task_id;
            let is_gone = peer.disk.key(id).is_some_and(|key| {
                changes.buried.iter().any(|burial| burial.key == key && key != change.key)
            });
            let on_disk = || peer.disk.record(id).filter(|_| !is_gone);
            let Some(old) = before.get(id).copied().or_else(on_disk) else {
                if record.class == Class::Live
                    && !is_gone
                    && peer.disk.standing(id).is_some_and(|it| it.class != Class::Live)
                {
                    let what = format!("{id} comes back to life at p{p}: {record:?}");
                    self.broken(About::task(id), what);
                }
                before.insert(id, record);
                continue;
            };
            let is_greater = record.class >= old.class && record.order(old).is_gt();
            if !is_greater && !is_redotted(old, record) {
                let what = format!("{id} goes back: from {old:?} to {record:?}");
                self.broken(About::task(id), what);
            }
            if let Some(lost) = lost_run(peer, old, record)
                && !changes.duplicates.iter().any(|duplicate| duplicate.dot == *lost)
                && !peer.disk.second_runs.contains(lost)
            {
                let what = format!("p{p} lost its lease {lost:?} of {id} and does not report it");
                self.broken(About::task(id), what);
            }
            before.insert(id, record);
        }
    }

    /// A caller is told something.
    fn told(&mut self, p: usize, peer: &Peer, task: &Arc<str>, fact: Fact) {
        let class = match fact {
            Fact::Submitted { .. } => Class::Live,
            Fact::Cancelled => Class::Cancelled,
            Fact::Completed => Class::Completed,
        };
        let standing = peer.disk.standing(task);
        let Some(standing) = standing.filter(|standing| standing.class >= class) else {
            let what = format!("p{p} tells of {task} what is not on its disk: {fact:?}");
            return self.broken(About::task(task), what);
        };
        let known = self.told.entry(task.clone()).or_insert(Known {
            class,
            specs: BTreeSet::new(),
            completions: BTreeSet::new(),
        });
        known.class = known.class.max(class);
        match fact {
            Fact::Submitted { .. } => drop(known.specs.insert(standing.spec_hash)),
            Fact::Cancelled => {}
            Fact::Completed => {
                let record = peer.disk.record(task);
                let Some(lease) = record.and_then(|record| record.lease.as_ref()) else { return };
                // What is on disk may be older than the name.
                let named = (task.clone(), lease.dot.clone(), peer.other_lives);
                let claim = self.renamed.get(&named).cloned().unwrap_or(named.1);
                known.completions.insert((claim, peer.other_lives));
            }
        }
    }

    /// A disk is gone or older than it was: what no other holds is not expected any more.
    pub(crate) fn forget_lost(&mut self, peers: &[Peer]) {
        let disks: Vec<&Disk> =
            peers.iter().filter(|peer| !peer.gone).map(|peer| &peer.disk).collect();
        self.told.retain(|task, known| {
            if disks.iter().any(|disk| disk.dropped.contains(task)) {
                return true; // it ended, and its end is being forgotten
            }
            let standings = || disks.iter().filter_map(|disk| disk.standing(task));
            let Some(class) = standings().map(|it| it.class).max() else { return false };
            known.class = known.class.min(class);
            known.specs.retain(|spec| {
                standings().any(|it| it.spec_hash == *spec)
                    || disks.iter().any(|disk| disk.lost_specs.contains(&(task.clone(), *spec)))
            });
            known.completions.retain(|(claim, _)| is_accounted_for(&disks, task, claim));
            true
        });
    }

    /// A lease of a peer has another name now.
    pub(crate) fn rename(&mut self, peer: &Peer, task: &Arc<str>, old: &Dot, new: &Dot) {
        let life = peer.other_lives;
        self.renamed.insert((task.clone(), old.clone(), life), new.clone());
        if let Some(known) = self.told.get_mut(task)
            && known.completions.remove(&(old.clone(), life))
        {
            known.completions.insert((new.clone(), life));
        }
        if let Some(at) = self.given.get(old).copied() {
            self.given.insert(new.clone(), at);
        }
    }
}

/// Whether a completion is recorded, or reported as a second run, on one of these disks.
fn is_accounted_for(disks: &[&Disk], task: &str, claim: &Dot) -> bool {
    disks.iter().any(|disk| {
        // Of what was stripped nobody knows by which lease it ended.
        disk.stripped.contains(task)
            || disk.second_runs.contains(claim)
            || disk.record(task).is_some_and(|record| {
                record.class == Class::Completed
                    && record.lease.as_ref().is_some_and(|lease| lease.dot == *claim)
            })
    })
}

/// The same but for its name and that of its lease.
pub(crate) fn is_redotted(old: &Record, new: &Record) -> bool {
    let mut renamed = old.clone();
    renamed.dot = new.dot.clone();
    if let (Some(lease), Some(new)) = (&mut renamed.lease, &new.lease) {
        Arc::make_mut(lease).dot = new.dot.clone();
    }
    // The write of its submission has another name as well, if it was among those.
    if let (Some(rest), Some(Rest { born: None, .. })) = (&mut renamed.rest, new.rest.as_deref()) {
        Arc::make_mut(rest).born = None;
    }
    renamed == *new
}

/// The lease of this peer that was in force and loses against another of its epoch.
fn lost_run<'r>(peer: &Peer, old: &'r Record, new: &Record) -> Option<&'r Dot> {
    let (lost, won) = (old.held()?, new.lease.as_ref()?);
    let crossed = lost.holder == peer.name
        && won.dot != lost.dot
        && new.epoch == old.epoch
        && new.class != Class::Cancelled
        && !is_redotted(old, new);
    crossed.then_some(&lost.dot)
}

impl World {
    /// A caller is told something of a task.
    pub(crate) fn tell(&mut self, p: usize, task: &Arc<str>, fact: Fact) {
        let what = match fact {
            Fact::Submitted { .. } => "submitted",
            Fact::Cancelled => "cancelled",
            Fact::Completed => "completed",
        };
        self.note(p, What::Told { task: task.clone(), what });
        let is_forgotten = || self.living().any(|(_, peer)| peer.disk.dropped.contains(task));
        if matches!(fact, Fact::Submitted { created: true }) && is_forgotten() {
            self.oracle.told.remove(task);
        }
        self.oracle.told(p, &self.peers[p], task, fact);
    }

    /// Looks at an answer that a node is about to give, before its changes are on disk.
    pub(crate) fn check_answer(&mut self, p: usize, answer: &Answer, changes: &Changes) {
        match answer {
            Answer::Given { claim, .. } => self.check_given(p, claim),
            Answer::Marked { slot, claim, fence, .. } => {
                // A session that gives no fence means the last lease of the task that it has. So
                // does a command, where the node does not remember all that it gave out.
                let peer = &self.peers[p];
                let forgot = !peer.workers[*slot].shared || peer.other_lives > 0;
                let any = fence.is_none() && forgot;
                let worker = self.peers[p].workers[*slot].name.clone();
                self.check_marked(p, claim, any.then_some(&worker), changes);
            }
            Answer::Denied { claim, why } => self.check_denied(p, claim, why, changes),
            Answer::Told { .. } => {}
        }
    }

    /// A node in doubt about what it holds changes nothing, but for telling again how a task ended.
    pub(crate) fn check_doubt(&mut self, p: usize, changes: &Changes) {
        let peer = &self.peers[p];
        let in_doubt = peer.disk.doubtful && !peer.disk.members.is_empty();
        if !in_doubt || changes.actor.is_some() || changes.doubtful.is_some() || !peer.is_kept() {
            return;
        }
        let is_own =
            |record: &Record| record.dot.actor == peer.actor && record.class == Class::Live;
        let own = changes.tasks.iter().find(|change| is_own(&change.record));
        if let Some(change) = own {
            let id = &change.record.spec.task_id;
            let what = format!("p{p} changes {id} while it is in doubt: {:?}", change.record);
            self.oracle.broken(About::task(id), what);
        }
    }

    fn check_given(&mut self, p: usize, claim: &Claim) {
        let Claim { task, fence, dot } = claim;
        if let Some(seen) = self.oracle.fences[p].get(task).filter(|seen| *seen >= fence) {
            let what = format!("p{p} gives {task} with fence {fence} after fence {seen}");
            self.oracle.broken(About::task(task), what);
        }
        self.oracle.given.insert(dot.clone(), self.now);
        self.check_second_run(p, claim);
    }

    /// Whether another node holds the task under a lease in force.
    fn check_second_run(&mut self, p: usize, claim: &Claim) {
        let others =
            self.peers.iter().enumerate().filter(|(q, peer)| *q != p && peer.node.is_some());
        let running: Vec<Dot> = others
            .filter_map(|(_, peer)| {
                let lease = peer.record(&claim.task)?.held()?;
                (lease.holder == peer.name).then(|| lease.dot.clone())
            })
            .collect();
        for lease in running {
            self.summary.second_runs += 1;
            let given = self.oracle.given.get(&lease).copied().unwrap_or(0);
            let (task, since) = (claim.task.clone(), self.now - given);
            self.note(p, What::Twice { task, lease, since });
            if let Some(reason_needed) = self.quiet_since()
                && given > reason_needed
            {
                self.summary.calm_second_runs.push(since);
            }
        }
    }

    fn check_marked(&mut self, p: usize, claim: &Claim, of: Option<&Arc<str>>, changes: &Changes) {
        let Claim { task, fence, dot } = claim;
        let peer = &self.peers[p];
        let is_own = self.record_after(p, task, changes).is_some_and(|record| {
            let lease = record.lease.as_ref();
            lease.is_some_and(|lease| match of {
                None => lease.dot == *dot || peer.other_lives > 0 && record.fence() == Some(*fence),
                Some(worker) => lease.holder == peer.name && lease.worker == *worker,
            })
        });
        if !is_own {
            let what = format!(
                "p{p} accepts a report of {task} for the stale lease {dot:?}, fence {fence}"
            );
            self.oracle.broken(About::task(task), what);
        }
    }

    fn check_denied(&mut self, p: usize, claim: &Claim, why: &Rejection, changes: &Changes) {
        let in_force = self
            .record_after(p, &claim.task, changes)
            .is_some_and(|record| record.held().is_some_and(|lease| lease.dot == claim.dot));
        // A command must say which of several leases it means, and a node in doubt waits.
        let may_be =
            matches!(why, Rejection::InvalidArgument { .. } | Rejection::Overloaded { .. });
        if in_force && !may_be {
            let Claim { task, dot, .. } = claim;
            let what = format!("p{p} denies the lease {dot:?} of {task}, which is in force: {why}");
            self.oracle.broken(About::task(task), what);
        }
    }

    fn record_after<'w>(
        &'w self,
        p: usize,
        task: &str,
        changes: &'w Changes,
    ) -> Option<&'w Record> {
        let peer = &self.peers[p];
        peer.changed(task, changes).unwrap_or_else(|| peer.record(task))
    }

    /// All that must hold once messages flowed for long enough.
    pub(crate) fn check_end(&mut self) {
        let living: Vec<usize> = (0..self.peers.len()).filter(|p| !self.peers[*p].gone).collect();
        for p in &living {
            self.check_like_first(living[0], *p);
            self.check_texts(*p);
            self.check_derived(*p);
        }
        if let Some(p) = self.doubtful.first() {
            let what = format!("p{p} does not know that its store was put back, and all others do");
            self.oracle.broken(About::peer(*p), what);
        }
        let disks: Vec<&Disk> = living.iter().map(|p| &self.peers[*p].disk).collect();
        let mut broken = Vec::new();
        for (task, known) in &self.oracle.told {
            let lost = |what: String| (About::task(task), format!("{task}: {what}"));
            let standings: Vec<Standing> =
                disks.iter().filter_map(|disk| disk.standing(task)).collect();
            let forgotten = disks.iter().any(|disk| disk.dropped.contains(task));
            match standings.first() {
                // It ended, perhaps as it had ended before, and all forgot it.
                None if forgotten => {}
                // What is left of a lesser end, with somebody who came late, goes as well.
                Some(it) if forgotten && it.class != Class::Live => {}
                None => broken.push(lost("it was acknowledged, and is lost".into())),
                Some(it) if it.class < known.class => {
                    broken.push(lost(format!("{:?} was acknowledged, and is lost", known.class)));
                }
                Some(it) => {
                    let is_kept = |spec: &Hash256| {
                        let named = (task.clone(), *spec);
                        it.spec_hash == *spec
                            || disks.iter().any(|it| {
                                it.stripped.contains(task) || it.lost_specs.contains(&named)
                            })
                    };
                    if !known.specs.iter().all(is_kept) {
                        broken.push(lost(
                            "a spec is neither in force nor among the conflicts".into(),
                        ));
                    }
                    if !known.completions.iter().all(|(it, _)| is_accounted_for(&disks, task, it)) {
                        broken.push(lost("a second run was completed and is not reported".into()));
                    }
                }
            }
        }
        broken.into_iter().for_each(|(about, what)| self.oracle.broken(about, what));
    }

    fn check_like_first(&mut self, first: usize, p: usize) {
        let (a, b) = (&self.peers[first], &self.peers[p]);
        // What ended may be whole on one, stripped on the other, and gone on a third.
        let ids = a.disk.ids().chain(b.disk.ids());
        let differs = ids.into_iter().find(|id| {
            let (here, there) = (a.disk.standing(id), b.disk.standing(id));
            let records = (a.disk.record(id), b.disk.record(id));
            let is_same = match (&here, &there) {
                // Whoever forgot an end may hand on that it has seen it.
                (Some(here), Some(there)) if !matches!(records, (Some(_), Some(_))) => {
                    here == there || (here.class != Class::Live && here.class == there.class)
                }
                (Some(here), Some(there)) => here == there,
                (one, other) => {
                    let it = one.as_ref().or(other.as_ref());
                    self.prunes() && it.is_some_and(|it| it.class != Class::Live)
                }
            };
            !is_same || matches!(records, (Some(here), Some(there)) if here != there)
        });
        if let Some(id) = differs.cloned() {
            let (here, there) = (a.disk.standing(&id), b.disk.standing(&id));
            let what = format!("p{first} and p{p} hold different records: {here:?} and {there:?}");
            return self.oracle.broken(About::task(&id), what);
        }
        if a.disk.have != b.disk.have {
            let what = format!("p{first} and p{p} hold different vectors");
            return self.oracle.broken(About::peer(p), what);
        }
        let now = self.time_at(p);
        let Some(node) = &b.node else { return };
        let status = node.core.status(now);
        if !status.in_sync {
            self.oracle.broken(About::peer(p), format!("p{p} does not say that it is in sync"));
        } else if status.count(State::Pending) + status.count(State::Assigned) > 0 {
            let what = format!("p{p} has tasks that nobody runs: {:?}", status.counts);
            self.oracle.broken(About::peer(p), what);
        } else if status.duplicates < b.disk.second_runs.len() as u64 {
            let what = format!(
                "p{p} counts {} second runs of {:?}",
                status.duplicates, b.disk.second_runs
            );
            self.oracle.broken(About::peer(p), what);
        }
    }

    /// Every disk has the texts that its records name.
    fn check_texts(&mut self, p: usize) {
        let disk = &self.peers[p].disk;
        let lacks = disk.records().find(|(id, record)| {
            let key = disk.key(id).unwrap_or_default();
            let payload = disk.text(Text::Payload(key));
            let payload = payload.filter(|_| record.spec.payload_size > 0);
            let sealed = (*record.spec).clone().sealed(payload.as_deref());
            let result = record.outcome.as_ref().and_then(|outcome| outcome.result);
            let has_result = result.is_none_or(|body| {
                disk.text(Text::Result(key)).is_some_and(|text| Body::of(&text) == body)
            });
            sealed.hash != record.spec.hash || !has_result
        });
        if let Some((id, record)) = lacks {
            let what = format!("p{p} lacks a text of {id}: {record:?}");
            self.oracle.broken(About::task(id), what);
        }
    }
}
