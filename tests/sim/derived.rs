//! What follows from the records, worked out by a way of its own: where each task stands (protocol
//! rule 18). Every node must show the same, however what it knows came to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::{
    Class, Filter, Look, Now, P2PWorkflowScheduler, Phase, Record, State,
};

use super::disk::Disk;
use super::trace::About;
use super::world::World;

type Live<'d> = BTreeMap<&'d Arc<str>, &'d Record>;

impl World {
    /// Compares what a node shows of each task that has not ended with what its records say.
    pub(crate) fn check_derived(&mut self, p: usize) {
        let now = self.time_at(p);
        let peer = &self.peers[p];
        let Some(node) = &peer.node else { return };
        let wrong = states(&peer.disk).into_iter().find_map(|(id, expected)| {
            let shown = node.core.show(now, id).ok()?.state;
            // What a peer held that left is free, and waits for whatever it waits for.
            let holder = peer.disk.record(id).and_then(Record::held).map(|lease| &lease.holder);
            if holder.is_some_and(|holder| self.peers[self.index(holder)].gone) {
                return None;
            }
            let why = || node.core.show(now, id).ok().map(|task| (task.reason, task.depends_on));
            (shown != expected).then(|| (id.clone(), shown, expected, why()))
        });
        if let Some((id, shown, expected, why)) = wrong {
            let what = format!("p{p} shows {id} as {shown} ({why:?}), where it is {expected}");
            self.oracle.broken(About::task(&id), what);
        }
        let node = self.peers[p].node.as_ref();
        if let Some(what) = node.and_then(|node| miscounted(&node.core, now)) {
            self.oracle.broken(About::peer(p), format!("p{p} {what}"));
        }
    }
}

/// Whether the counts that are kept are others than those of the tasks that there are.
fn miscounted(core: &P2PWorkflowScheduler, now: Now) -> Option<String> {
    let mut counted: BTreeMap<Arc<str>, [u64; 6]> = BTreeMap::new();
    let mut filter = Filter { limit: 100, ..Filter::default() };
    loop {
        let page = core.list(now, &filter).ok()?;
        for task in page.tasks {
            counted.entry(task.workflow_id).or_default()[task.state as usize] += 1;
        }
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    let wrong = counted.iter().find(|(id, counts)| core.workflow_counts(id) != Some(**counts));
    if let Some((id, counts)) = wrong {
        let kept = core.workflow_counts(id);
        return Some(format!("counts {kept:?} of workflow {id}, where there are {counts:?}"));
    }
    let known = core.overview(now, &Look::default()).known_workflows;
    (known != counted.len() as u64).then(|| format!("knows {known} workflows of {}", counted.len()))
}

/// Where each task stands that has not ended. Its holder is taken to be alive.
fn states(disk: &Disk) -> BTreeMap<&Arc<str>, State> {
    let live: Live<'_> = disk.records().filter(|(_, it)| it.class == Class::Live).collect();
    let mut states = BTreeMap::new();
    for (id, record) in &live {
        let state = match record.phase {
            Phase::Failed => State::Failed,
            Phase::Leased => State::Assigned,
            Phase::Pending if is_on_cycle(&live, id) => State::Failed,
            Phase::Pending => State::Pending,
        };
        states.insert(*id, state);
    }
    // A failure spreads to those that wait for it, and so on.
    loop {
        let outlook = |id: &Arc<str>| match states.get(id) {
            Some(state) => Some(*state),
            None => disk.standing(id).map(|it| match it.class {
                Class::Completed => State::Completed,
                Class::Live | Class::Cancelled => State::Cancelled,
            }),
        };
        let step = |(id, record): (&&Arc<str>, &&Record)| {
            let mut waits_for = record.spec.depends_on.iter().map(outlook);
            let is_dead = |state| matches!(state, Some(State::Failed | State::Cancelled));
            let state = match waits_for.clone().any(is_dead) {
                true => State::Failed,
                false if waits_for.all(|it| it == Some(State::Completed)) => State::Pending,
                false => State::Blocked,
            };
            let is_open = matches!(states[*id], State::Pending | State::Blocked);
            let is_open = is_open && record.phase == Phase::Pending;
            (is_open && states[*id] != state).then_some(((*id).clone(), state))
        };
        let changed: Vec<(Arc<str>, State)> = live.iter().filter_map(step).collect();
        if changed.is_empty() {
            return states;
        }
        for (id, state) in &changed {
            states.get_mut(id).into_iter().for_each(|it| *it = *state);
        }
    }
}

/// Whether a task waits for itself through others that have not ended.
fn is_on_cycle(live: &Live<'_>, id: &Arc<str>) -> bool {
    let waits_for = |id: &Arc<str>| live.get(id).map_or(&[][..], |it| &it.spec.depends_on[..]);
    let mut open: Vec<&Arc<str>> = waits_for(id).iter().collect();
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if next == id {
            return true;
        }
        if let Some((next, _)) = live.get_key_value(next)
            && seen.insert(*next)
        {
            open.extend(waits_for(next));
        }
    }
    false
}
