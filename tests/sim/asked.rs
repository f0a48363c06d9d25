//! Nobody writes unasked: what changed a record on a node, and whether that may change it.
//!
//! A record changes because a caller of this very node said so, because a message brought another
//! one, or because a lease that this node gave out came to its end: at that time, not before and
//! not after (see [`Leases`]). It goes because a message says that it is gone; what went by itself left a
//! tombstone first (rule 10). Whatever else a node concludes, from members that it does not hear of
//! or from how other tasks ended, it derives, and does not write (protocol rules 14, 15 and 18).

use std::collections::BTreeMap;
use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::limits::MAX_LOSSES;
use p2p_workflow_scheduler::scheduler::{Burial, Changes, Class, Phase, Record, TaskChange};

use super::leases::Leases;
use super::node::{Peer, strips};
use super::oracle::is_redotted;
use super::trace::About;
use super::workers::Report;
use super::world::World;

/// What somebody asks a node for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Submit(Arc<str>),
    Claim,
    Report(Arc<str>, Report),
    Cancel(Arc<str>),
    Requeue(Arc<str>),
    Reprioritize(Arc<str>),
    /// A worker's session begins, ends, ends for good.
    Attach(Arc<str>),
    Detach(Arc<str>),
    Dismiss(Arc<str>),
    /// A message came.
    Receive,
}

impl World {
    /// Looks at what a call changed, before that is handed to the disk.
    pub(crate) fn check_asked(&mut self, p: usize, asked: &[Asked], changes: &Changes) {
        let (now, config) = (self.time_at(p).monotonic, self.profile.config);
        let Some(node) = &mut self.peers[p].node else { return };
        let mut leases = std::mem::take(&mut node.leases);
        let peer = &self.peers[p];
        let mut unasked = None;
        let mut earlier: BTreeMap<&Arc<str>, &Record> = BTreeMap::new();
        for change in &changes.tasks {
            let id = &change.record.spec.task_id;
            let before = earlier.get(id).copied().or_else(|| before(peer, change, changes));
            // With a new actor come new names for what is there.
            let is_renamed = changes.actor.is_some()
                && before.is_some_and(|before| is_redotted(before, &change.record));
            let is_own = changes.have.contains(&change.record.dot)
                && (change.record.dot.actor == peer.actor || changes.actor.is_some());
            let may_be = match is_own && !is_renamed {
                true => is_asked_for(before, &change.record, asked, &leases, now),
                false => is_renamed || asked.contains(&Asked::Receive),
            };
            if !may_be && unasked.is_none() {
                let record = &change.record;
                let what = format!(
                    "p{p} writes of {id} what nobody asked for: {record:?} after {before:?}"
                );
                unasked = Some((About::task(id), what));
            }
            let by_itself = is_own || is_renamed;
            let starts_anew = is_renamed
                || record_is_new_lease(&change.record)
                || asked.contains(&Asked::Report(id.clone(), Report::InProgress));
            leases.follow(peer, change, by_itself, starts_anew, now, config.session_grace);
            earlier.insert(id, &change.record);
        }
        let is_lost = |burial: &&Burial| {
            let Burial { key, tombstone } = burial;
            tombstone.is_none() && !strips(changes, *key) && !peer.is_stripped(*key)
        };
        let lost = changes.buried.iter().find(is_lost).and_then(|it| peer.disk.id(it.key));
        if let Some(id) = lost.filter(|_| !asked.contains(&Asked::Receive)) {
            let what = format!("p{p} forgets {id} without having left a tombstone");
            unasked.get_or_insert((About::task(id), what));
        }
        leases.bury(changes);
        leases.sessions(asked, now, config.session_grace);
        let overdue = leases.overdue(now, peer.is_in_doubt() || changes.doubtful.is_some());
        if let Some(node) = &mut self.peers[p].node {
            node.leases = leases;
            if let Some(id) = overdue.filter(|_| !node.failing) {
                let what = format!("p{p} keeps its lease of {id} beyond its end");
                unasked.get_or_insert((About::task(&id), what));
            }
        }
        if let Some((about, what)) = unasked {
            self.oracle.broken(about, what);
        }
    }
}

/// The record that a change replaces, in the node's memory.
fn before<'p>(peer: &'p Peer, change: &TaskChange, changes: &Changes) -> Option<&'p Record> {
    let id = &change.record.spec.task_id;
    let known = peer.disk.key(id);
    // What was forgotten comes back under another key.
    let is_gone = changes.buried.iter().any(|it| Some(it.key) == known && it.key != change.key);
    peer.record(id).filter(|_| !is_gone)
}

fn record_is_new_lease(record: &Record) -> bool {
    record.held().is_some_and(|lease| lease.dot == record.dot)
}

/// Whether a change of this node's own making is what somebody asked for, or a lease's end.
fn is_asked_for(
    before: Option<&Record>,
    after: &Record,
    asked: &[Asked],
    leases: &Leases,
    now: u64,
) -> bool {
    let id = &after.spec.task_id;
    let is_asked = |what: Asked| asked.contains(&what);
    let reported = |report| is_asked(Asked::Report(id.clone(), report));
    let Some(before) = before else { return is_asked(Asked::Submit(id.clone())) };
    if before.class != Class::Live {
        // It tells anew how a task ended that somebody took for a new one.
        return after.class == before.class && is_asked(Asked::Receive);
    }
    match after.class {
        Class::Completed => return reported(Report::Completed),
        Class::Cancelled => return is_asked(Asked::Cancel(id.clone())),
        Class::Live => {}
    }
    if record_is_new_lease(after) {
        return is_asked(Asked::Claim);
    }
    match (before.phase, after.phase) {
        (Phase::Failed, Phase::Pending) => is_asked(Asked::Requeue(id.clone())),
        (Phase::Leased, Phase::Leased)
            if reported(Report::InProgress) && before.lease == after.lease =>
        {
            true
        }
        (from, to) if from == to => is_asked(Asked::Reprioritize(id.clone())),
        (Phase::Leased, _) if leases.holds(id) => {
            let worker = before.lease.iter().map(|lease| lease.worker.clone());
            reported(Report::Failed)
                || reported(Report::Released)
                || leases.is_over(id, now)
                || worker.clone().any(|worker| is_asked(Asked::Attach(worker)))
                || worker.clone().any(|worker| is_asked(Asked::Dismiss(worker)))
        }
        // Somebody asks for a task, and this one took too many workers down.
        (_, Phase::Failed) => after.losses >= MAX_LOSSES && is_asked(Asked::Claim),
        _ => false,
    }
}
