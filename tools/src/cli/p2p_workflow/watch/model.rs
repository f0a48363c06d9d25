//! What is shown, and what the person has chosen: pure, so that every key and every answer can be
//! tested without a terminal.

use std::collections::VecDeque;

use crate::cli::render;

use super::data::{Id, Look, Overview, Peer, State, Task, Workflow};

/// Over how long the rate is taken, in milliseconds: long enough to be steady, short enough to
/// follow.
const RATE_OVER: u64 = 10_000;
/// Answers that the rate is taken from, at most.
const MAX_SAMPLES: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Workflows,
    Tasks,
    Peers,
}

/// What lies over the panes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Over {
    #[default]
    Nothing,
    Help,
    /// The text of the filter as it is typed.
    Filter(String),
    /// Whether to cancel this task.
    Cancel(Id),
    /// All about a task.
    Detail {
        task: Id,
        lines: Vec<String>,
        top: usize,
        left: usize,
    },
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) overview: Overview,
    /// Whether anything came yet.
    pub(super) is_there: bool,
    pub(super) peers: Vec<Peer>,
    /// Why there are none.
    pub(super) no_peers: String,
    pub(super) look: Look,
    /// The workflow of the command line, which is not left.
    pub(super) only: Option<String>,
    pub(super) pane: Pane,
    pub(super) over: Over,
    /// What is chosen in each pane.
    pub(super) workflow: Choice,
    pub(super) task: Choice,
    pub(super) peer: Choice,
    /// What came of the last order, or what is wrong.
    pub(super) said: Option<Said>,
    /// Milliseconds since the Unix epoch, when the last answer came.
    pub(super) now: u64,
    samples: VecDeque<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) is_bad: bool,
    /// Of the connection: gone once an answer comes.
    pub(super) passes: bool,
}

/// One of a list: the same one wherever it moves to, or the place where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) at: usize,
    id: Option<String>,
}

impl Choice {
    fn follow<'i>(&mut self, ids: impl Iterator<Item = &'i str>) {
        let ids: Vec<&str> = ids.collect();
        let found = self.id.as_deref().and_then(|id| ids.iter().position(|other| *other == id));
        self.at = found.unwrap_or(self.at).min(ids.len().saturating_sub(1));
        // The first stays the first, until somebody moves.
        if self.at > 0 || self.id.is_some() {
            self.id = ids.get(self.at).map(|id| (*id).to_owned());
        }
    }

    fn go_to<'i>(&mut self, at: usize, mut ids: impl Iterator<Item = &'i str>) {
        self.at = at;
        self.id = ids.nth(at).filter(|_| at > 0).map(str::to_owned);
    }
}

/// What the node is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Look(Look),
    Show(Id),
    Cancel(Id),
    Requeue(Id),
}

/// What came from the node.
#[derive(Debug)]
pub(super) enum News {
    Overview {
        overview: Overview,
        of: Look,
        now: u64,
    },
    /// Who is there, or why nobody can be.
    Peers(Result<Vec<Peer>, String>),
    Detail {
        task: Id,
        text: String,
    },
    Done(String),
    Refused(String),
    /// It could not be asked.
    Failed(String),
}

impl Model {
    pub(super) fn new(look: Look) -> Self {
        Model { only: look.workflow_id.clone(), look, ..Model::default() }
    }

    pub(super) fn take(&mut self, news: News) {
        match news {
            // An answer to a look of before.
            News::Overview { of, .. } if of != self.look => {}
            News::Overview { overview, now, .. } => self.take_overview(overview, now),
            News::Peers(peers) => {
                (self.peers, self.no_peers) = match peers {
                    Ok(peers) => (peers, String::new()),
                    Err(why) => (Vec::new(), why),
                };
                self.peer.follow(self.peers.iter().map(|peer| &*peer.peer_id));
            }
            News::Detail { task, text } => {
                if let Over::Detail { task: shown, lines, .. } = &mut self.over
                    && *shown == task
                {
                    *lines = text.lines().map(render::one_line).collect();
                }
            }
            News::Done(text) => self.say(text, false, false),
            News::Refused(text) => self.say(text, true, false),
            News::Failed(text) => self.say(text, true, true),
        }
    }

    fn say(&mut self, text: String, is_bad: bool, passes: bool) {
        self.said = Some(Said { text, is_bad, passes });
    }

    fn take_overview(&mut self, overview: Overview, now: u64) {
        self.now = now;
        self.is_there = true;
        if self.samples.back().is_some_and(|(_, last)| *last > overview.completions) {
            // Another node counts from its own start.
            self.samples.clear();
        }
        self.samples.push_back((now, overview.completions));
        while self.samples.len() > MAX_SAMPLES
            || self.samples.len() > 2
                && self.samples.get(1).is_some_and(|(at, _)| at + RATE_OVER < now)
        {
            self.samples.pop_front();
        }
        self.overview = overview;
        self.workflow.follow(self.overview.workflows.iter().map(|it| &*it.workflow_id.known));
        self.task.follow(self.overview.tasks.iter().map(|it| &*it.task_id.known));
        if self.said.as_ref().is_some_and(|said| said.passes) {
            self.said = None;
        }
    }

    /// Completions a second, over the last seconds.
    pub(super) fn rate(&self) -> f64 {
        match (self.samples.front(), self.samples.back()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                (after - before) as f64 * 1000.0 / (to - from) as f64
            }
            _ => 0.0,
        }
    }

    pub(super) fn chosen_workflow(&self) -> Option<&Workflow> {
        self.overview.workflows.get(self.workflow.at)
    }

    pub(super) fn chosen_task(&self) -> Option<&Task> {
        self.overview.tasks.get(self.task.at)
    }

    /// Moves the choice of the pane, or the text that lies over it.
    pub(super) fn go(&mut self, step: Step) {
        if let Over::Detail { lines, top, .. } = &mut self.over {
            *top = step.from(*top, lines.len());
            return;
        }
        let overview = &self.overview;
        match self.pane {
            Pane::Workflows => {
                let at = step.from(self.workflow.at, overview.workflows.len());
                self.workflow.go_to(at, overview.workflows.iter().map(|it| &*it.workflow_id.known));
            }
            Pane::Tasks => {
                let at = step.from(self.task.at, overview.tasks.len());
                self.task.go_to(at, overview.tasks.iter().map(|it| &*it.task_id.known));
            }
            Pane::Peers => {
                let at = step.from(self.peer.at, self.peers.len());
                self.peer.go_to(at, self.peers.iter().map(|it| &*it.peer_id));
            }
        }
    }

    /// Looks at something else.
    pub(super) fn look_at(&mut self, look: Look) -> Order {
        self.task = Choice::default();
        self.look = look.clone();
        Order::Look(look)
    }

    /// Looks at the chosen workflow alone, or at all again.
    pub(super) fn narrow(&mut self) -> Option<Order> {
        if self.only.is_some() {
            self.pane = Pane::Tasks;
            return None;
        }
        let workflow_id = match self.look.workflow_id {
            Some(_) => None,
            None => Some(self.chosen_workflow()?.workflow_id.known.clone()),
        };
        if workflow_id.is_some() {
            self.pane = Pane::Tasks;
        }
        Some(self.look_at(Look { workflow_id, ..self.look.clone() }))
    }

    /// Looks at everything again.
    pub(super) fn widen(&mut self) -> Option<Order> {
        let all = Look { workflow_id: self.only.clone(), ..Look::default() };
        (all != self.look).then(|| self.look_at(all))
    }

    pub(super) fn next_state(&mut self) -> Order {
        let state = State::after(self.look.state);
        self.look_at(Look { state, ..self.look.clone() })
    }
}

/// How far to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    By(isize),
    First,
    Last,
}

impl Step {
    fn from(self, at: usize, count: usize) -> usize {
        let last = count.saturating_sub(1);
        match self {
            Step::First => 0,
            Step::Last => last,
            Step::By(step) => at.saturating_add_signed(step).min(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::testing::{task, workflow};
    use super::*;

    fn overview(ids: &[&str], completions: u64) -> Overview {
        Overview {
            tasks: ids.iter().map(|id| task(id, State::Pending)).collect(),
            workflows: ids.iter().map(|id| workflow(id, [0; 6])).collect(),
            completions,
            ..Overview::default()
        }
    }

    fn take(model: &mut Model, ids: &[&str], completions: u64, now: u64) {
        let (overview, of) = (overview(ids, completions), model.look.clone());
        model.take(News::Overview { overview, of, now });
    }

    fn chosen(model: &Model) -> &str {
        &model.chosen_task().unwrap().task_id.known
    }

    #[test]
    fn a_task_that_was_chosen_stays_chosen_wherever_it_moves() {
        let mut model = Model { pane: Pane::Tasks, ..Model::default() };
        take(&mut model, &["a", "b", "c"], 0, 0);
        model.go(Step::By(1));
        assert_eq!(chosen(&model), "b");
        take(&mut model, &["x", "y", "b"], 0, 1);
        assert_eq!(chosen(&model), "b");
        take(&mut model, &["x", "y"], 0, 2);
        assert_eq!(chosen(&model), "y", "it went: the one in its place, or the last");
        take(&mut model, &[], 0, 3);
        assert_eq!(model.chosen_task(), None);
    }

    #[test]
    fn the_first_place_is_followed_until_somebody_moves() {
        let mut model = Model { pane: Pane::Tasks, ..Model::default() };
        take(&mut model, &["a", "b"], 0, 0);
        take(&mut model, &["new", "a"], 0, 1);
        assert_eq!(chosen(&model), "new");
    }

    #[test]
    fn no_step_leaves_the_list() {
        let mut model = Model { pane: Pane::Tasks, ..Model::default() };
        model.go(Step::Last);
        take(&mut model, &["a", "b", "c"], 0, 0);
        for (step, at) in [
            (Step::By(-5), 0),
            (Step::By(10), 2),
            (Step::First, 0),
            (Step::Last, 2),
            (Step::By(isize::MIN), 0),
        ] {
            model.go(step);
            assert_eq!(model.task.at, at, "{step:?}");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let mut model = Model::default();
        assert_eq!(model.rate(), 0.0);
        for second in 0..30 {
            let completions = if second < 15 { 0 } else { (second - 15) * 100 };
            take(&mut model, &[], completions, second * 1000);
        }
        assert!((model.rate() - 100.0).abs() < 1e-9, "{}", model.rate());
        take(&mut model, &[], 5, 31_000);
        assert_eq!(model.rate(), 0.0, "another node counts anew");
    }

    #[test]
    fn an_answer_to_what_was_looked_at_before_is_left_out() {
        let mut model = Model::default();
        model.look_at(Look { text: Some("x".into()), ..Look::default() });
        model.take(News::Overview { overview: overview(&["a"], 0), of: Look::default(), now: 1 });
        assert!(!model.is_there);
    }

    #[test]
    fn a_workflow_is_looked_at_alone_and_all_again() {
        let mut model = Model::default();
        take(&mut model, &["a", "b"], 0, 0);
        model.go(Step::Last);
        let alone = Look { workflow_id: Some("b".into()), ..Look::default() };
        assert_eq!(model.narrow(), Some(Order::Look(alone)));
        assert_eq!(model.pane, Pane::Tasks);
        assert_eq!(model.widen(), Some(Order::Look(Look::default())));
        assert_eq!(model.widen(), None);
        let mut only = Model::new(Look { workflow_id: Some("w".into()), ..Look::default() });
        assert_eq!((only.narrow(), only.widen()), (None, None), "the command line said so");
    }

    #[test]
    fn what_is_wrong_with_the_connection_is_gone_once_an_answer_comes() {
        let mut model = Model::default();
        model.take(News::Failed("lost".into()));
        assert!(model.said.as_ref().unwrap().is_bad);
        take(&mut model, &[], 0, 0);
        assert_eq!(model.said, None);
        model.take(News::Done("cancelled".into()));
        take(&mut model, &[], 0, 1);
        assert!(model.said.is_some());
    }
}
