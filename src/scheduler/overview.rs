//! What somebody who watches is shown: the counts, the workflows that matter now, and the tasks that
//! do.
//!
//! It is asked for once a second while a queue of a hundred thousand tasks changes a thousand times,
//! so it costs little and the same whatever there is: counts are those that the table keeps anyway,
//! lists have at most [`MAX_SHOWN`] entries, and no more than [`MAX_PAGE_SCAN`] tasks of each state
//! are looked at for them. Where a list was cut short it says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::calls::{Now, State, Status, TaskView};
use super::limits::MAX_PAGE_SCAN;
use super::machine::P2PWorkflowScheduler;
use super::table::{Entry, Workflow};

/// Tasks, and workflows, in one overview: what a large terminal has lines for.
pub const MAX_SHOWN: usize = 100;
/// Tasks of each state whose workflows are shown, beside the newest ones.
const ACTIVE_LOOKED_AT: usize = 1_000;
/// Tasks of each state that are shown whatever there is of the states before it.
const SHARE: usize = 10;
/// The states, those first that somebody who watches looks for.
const ORDER: [State; 6] = [
    State::Assigned,
    State::Failed,
    State::Pending,
    State::Blocked,
    State::Completed,
    State::Cancelled,
];

/// What is looked at; the default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Only this workflow.
    pub workflow_id: Option<String>,
    /// Only tasks that stand here.
    pub state: Option<State>,
    /// Only workflows with this in their id, and tasks with it in their id, their workflow's, their
    /// name or their worker.
    pub text: Option<String>,
}

/// What somebody who watches is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Over all tasks, whatever is looked at.
    pub status: Status,
    /// Tasks that this machine saw completed, by whomever, since it took the store up. It never
    /// falls, as the count of completed tasks does when tasks that ended long ago go.
    pub completions: u64,
    /// All workflows that have tasks.
    pub known_workflows: u64,
    /// Those that somebody works on first, then those that wait, then those where something
    /// failed; the newest first among each.
    pub workflows: Vec<WorkflowView>,
    /// Those that are held first, then failed ones, then those that wait, then the last that ended.
    pub tasks: Vec<TaskView>,
    /// Whether there are, or may be, more tasks of the kind looked at.
    pub more_tasks: bool,
}

/// One workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowView {
    /// See [`P2PTask::workflow_id`](super::P2PTask::workflow_id).
    pub workflow_id: Arc<str>,
    /// How many of its tasks stand where, in the order of [`State::ALL`].
    pub counts: [u64; 6],
}

impl P2PWorkflowScheduler {
    /// What somebody who watches is shown.
    #[must_use]
    pub fn overview(&self, now: Now, look: &Look) -> Overview {
        let (tasks, more_tasks) = self.shown_tasks(look);
        Overview {
            status: self.status(now),
            completions: self.table.completions(),
            known_workflows: self.table.known_workflows() as u64,
            workflows: self.shown_workflows(look),
            tasks: tasks.into_iter().map(|key| self.view(now, key)).collect(),
            more_tasks,
        }
    }

    fn shown_workflows(&self, look: &Look) -> Vec<WorkflowView> {
        let ids = match &look.workflow_id {
            Some(id) => self.table.workflow_entry(id).into_iter().map(|(id, _)| id).collect(),
            None => self.interesting_workflows(look),
        };
        let text = look.text.as_deref().unwrap_or_default();
        let known = ids.into_iter().filter(|id| id.contains(text));
        let mut views: Vec<WorkflowView> = known
            .filter_map(|id| {
                let counts = self.table.workflow(id)?.counts.map(u64::from);
                Some(WorkflowView { workflow_id: id.clone(), counts })
            })
            .collect();
        views.sort_by_key(urgency);
        views.truncate(MAX_SHOWN);
        views
    }

    /// The newest workflows, then those of the tasks that a look at the tasks finds first, then
    /// those that begin with the text. Each once.
    fn interesting_workflows(&self, look: &Look) -> Vec<&Arc<str>> {
        let mut seen = BTreeSet::new();
        let mut ids: Vec<&Arc<str>> =
            self.table.newest_workflows().filter(|id| seen.insert(*id)).collect();
        for state in [State::Assigned, State::Failed, State::Pending, State::Blocked] {
            let mut last = None;
            for key in self.table.in_state(state).from(0).take(ACTIVE_LOOKED_AT) {
                let id = &self.table.entry(key).record.spec.workflow_id;
                // All tasks of a workflow share its id, and mostly follow each other.
                if last.is_none_or(|last| !Arc::ptr_eq(last, id)) && seen.insert(id) {
                    ids.push(id);
                }
                last = Some(id);
            }
        }
        if let Some(text) = &look.text {
            let begin_so = self.table.workflows_from(text).take(MAX_SHOWN);
            ids.extend(begin_so.filter(|id| seen.insert(*id)));
        }
        ids
    }

    fn shown_tasks(&self, look: &Look) -> (Vec<u64>, bool) {
        let workflow = match &look.workflow_id {
            None => None,
            Some(id) => match self.table.workflow(id) {
                None => return (Vec::new(), false),
                known => known,
            },
        };
        let wanted = |state: &State| look.state.is_none_or(|only| only == *state);
        let mut more = false;
        let mut found: Vec<Vec<u64>> = Vec::new();
        for state in ORDER.into_iter().filter(wanted) {
            let (keys, has_more) = self.of_state(state, workflow, look.text.as_deref());
            found.push(keys);
            more |= has_more;
        }
        let (shown, dropped) = shares(&found);
        (shown, more || dropped)
    }

    /// The first tasks of a state that are looked at, and whether there may be more.
    fn of_state(
        &self,
        state: State,
        workflow: Option<&Workflow>,
        text: Option<&str>,
    ) -> (Vec<u64>, bool) {
        let all = self.table.in_state(state);
        let candidates: Box<dyn Iterator<Item = u64>> = match (workflow, is_newest_first(state)) {
            // Its own list, where the state's is longer.
            (Some(workflow), false) if workflow.tasks.len() < all.len() => {
                Box::new(workflow.tasks.iter().copied())
            }
            (Some(workflow), true) if workflow.tasks.len() < all.len() => {
                Box::new(workflow.tasks.iter().rev().copied())
            }
            (_, false) => Box::new(all.from(0)),
            (_, true) => Box::new(all.newest()),
        };
        let there = workflow.map_or(all.len(), |workflow| workflow.counts[state as usize] as usize);
        let id = workflow.and_then(|workflow| Some(self.workflow_id_of(*workflow.tasks.front()?)));
        let fits = |entry: &Entry| {
            entry.state == state
                && id.is_none_or(|id| {
                    Arc::ptr_eq(id, &entry.record.spec.workflow_id)
                        || *id == entry.record.spec.workflow_id
                })
                && text.is_none_or(|text| mentions(entry, text))
        };
        let mut keys = Vec::new();
        let mut is_cut_short = false;
        for (looked_at, key) in candidates.enumerate() {
            if keys.len() == there.min(MAX_SHOWN) {
                break;
            }
            if looked_at == MAX_PAGE_SCAN {
                is_cut_short = true;
                break;
            }
            if fits(self.table.entry(key)) {
                keys.push(key);
            }
        }
        let by_id = text.map_or(0, |text| self.add_by_id(&mut keys, text, fits));
        let full = keys.len() >= MAX_SHOWN && keys.len() < there;
        (keys, is_cut_short || full || by_id == MAX_SHOWN)
    }

    /// Adds tasks whose ids begin with the text, wherever they stand. Returns how many ids were
    /// looked at.
    fn add_by_id(&self, keys: &mut Vec<u64>, text: &str, fits: impl Fn(&Entry) -> bool) -> usize {
        let known: BTreeSet<u64> = keys.iter().copied().collect();
        let begin_so = self.table.ids_from(text).take(MAX_SHOWN);
        let mut looked_at = 0;
        for key in begin_so.filter_map(|id| self.table.key_of(id)) {
            looked_at += 1;
            if !known.contains(&key) && fits(self.table.entry(key)) {
                keys.push(key);
            }
        }
        looked_at
    }

    fn workflow_id_of(&self, key: u64) -> &Arc<str> {
        &self.table.entry(key).record.spec.workflow_id
    }
}

/// Of what ended or failed, the last is of interest; of what waits, what comes next.
fn is_newest_first(state: State) -> bool {
    matches!(state, State::Failed | State::Completed | State::Cancelled)
}

fn mentions(entry: &Entry, text: &str) -> bool {
    let spec = &entry.record.spec;
    spec.task_id.contains(text)
        || spec.name.contains(text)
        || spec.workflow_id.contains(text)
        || entry.record.held().is_some_and(|lease| lease.worker.contains(text))
}

/// What comes first: somebody works on it, something waits, something failed.
fn urgency(view: &WorkflowView) -> u8 {
    let has = |state: State| view.counts[state as usize] > 0;
    match () {
        () if has(State::Assigned) => 0,
        () if has(State::Pending) || has(State::Blocked) => 1,
        () if has(State::Failed) => 2,
        () => 3,
    }
}

/// Takes [`MAX_SHOWN`] of several lists: each has its share, and what is left over goes to the
/// first. Returns whether something was left out.
fn shares(found: &[Vec<u64>]) -> (Vec<u64>, bool) {
    let mut counts: Vec<usize> = found.iter().map(|keys| keys.len().min(SHARE)).collect();
    let mut left = MAX_SHOWN.saturating_sub(counts.iter().sum());
    for (count, keys) in counts.iter_mut().zip(found) {
        let more = (keys.len() - *count).min(left);
        *count += more;
        left -= more;
    }
    let shown = found.iter().zip(&counts).flat_map(|(keys, count)| &keys[..*count]);
    let shown: Vec<u64> = shown.copied().collect();
    let dropped = shown.len() < found.iter().map(Vec::len).sum();
    (shown, dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_share_and_the_first_ones_what_is_left() {
        let lists = |sizes: [usize; 3]| sizes.map(|size| vec![0; size]);
        let shown = |sizes| {
            let (shown, dropped) = shares(&lists(sizes));
            (shown.len(), dropped)
        };
        assert_eq!(shown([0, 0, 0]), (0, false));
        assert_eq!(shown([3, 40, 57]), (100, false));
        assert_eq!(shown([100, 100, 2]), (100, true));
        let lists = [vec![1; 100], vec![2; 100], vec![3; 2]];
        let (shown, _) = shares(&lists);
        assert_eq!([1, 2, 3].map(|n| shown.iter().filter(|k| **k == n).count()), [88, 10, 2]);
    }
}
