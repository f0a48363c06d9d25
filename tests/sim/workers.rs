//! Workers: sessions of agents, and commands that share one name. They take tasks and report on
//! them, well or badly: they fail, hand back, stall until their lease is over, come back late with
//! a fence that is stale, repeat a report whose answer they lost, and vanish.

use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::{Caller, Dot, LeaseTerm, Mark, Rejection, Want};

use super::asked::Asked;
use super::events::Event;
use super::oracle::Fact;
use super::trace::What;
use super::world::World;

/// The name that all commands of a node share.
const COMMAND_LINE: &str = "command-line";
/// Leases that a worker remembers although they are over.
const REMEMBERED: usize = 4;

/// Somebody who takes tasks from one node.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) name: Arc<str>,
    /// Whether others go by the same name.
    pub(crate) shared: bool,
    pub(crate) attached: bool,
    doing: Doing,
    past: Vec<Claim>,
    /// What was planned for an earlier step does not happen.
    step: u64,
}

/// A lease that a worker was given.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) task: Arc<str>,
    pub(crate) fence: u64,
    pub(crate) dot: Dot,
}

impl Claim {
    pub(crate) fn rename(&mut self, task: &str, old: &Dot, new: &Dot) {
        if *self.task == *task && self.dot == *old {
            self.dot = new.clone();
        }
    }
}

#[derive(Debug)]
enum Doing {
    Idle,
    /// Asked, and there was nothing; the node calls it when there is.
    InLine,
    /// Waits for an answer.
    Waiting(Option<Claim>),
    Working(Claim),
}

/// What a worker says of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Completed,
    Failed,
    Released,
    InProgress,
}

/// What a caller learns once it is on disk.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Given { slot: usize, claim: Claim },
    Marked { slot: usize, claim: Claim, fence: Option<u64>, report: Report },
    Denied { claim: Claim, why: Rejection },
    Told { task: Arc<str>, fact: Fact },
}

impl Answer {
    pub(crate) fn rename(&mut self, task: &str, old: &Dot, new: &Dot) {
        match self {
            Answer::Given { claim, .. } | Answer::Marked { claim, .. } => {
                claim.rename(task, old, new);
            }
            Answer::Denied { .. } | Answer::Told { .. } => {}
        }
    }
}

impl Worker {
    pub(crate) fn session(name: Arc<str>) -> Self {
        Worker {
            name,
            shared: false,
            attached: false,
            doing: Doing::Idle,
            past: Vec::new(),
            step: 0,
        }
    }

    pub(crate) fn command() -> Self {
        Worker { shared: true, ..Worker::session(COMMAND_LINE.into()) }
    }

    fn caller(&self) -> Caller {
        Caller { worker: self.name.clone(), shared: self.shared }
    }

    /// The lease that it knows of.
    fn claim(&self) -> Option<&Claim> {
        match &self.doing {
            Doing::Working(claim) => Some(claim),
            Doing::Waiting(claim) => claim.as_ref(),
            Doing::Idle | Doing::InLine => None,
        }
    }

    /// The same, as it says it to a node that it comes back to.
    pub(crate) fn known(&self) -> Vec<(String, u64)> {
        self.claim().iter().map(|claim| (claim.task.to_string(), claim.fence)).collect()
    }

    fn holds(&self, claim: &Claim) -> bool {
        self.claim().is_some_and(|held| held.dot == claim.dot)
    }

    fn remember(&mut self, claim: Claim) {
        self.past.push(claim);
        if self.past.len() > REMEMBERED {
            self.past.remove(0);
        }
    }

    /// Forgets everything: the process is another one.
    fn begin_anew(&mut self, name: Arc<str>) {
        let step = self.step + 1;
        *self = Worker { shared: self.shared, step, ..Worker::session(name) };
    }

    /// A lease that it knows of goes by another name now.
    pub(crate) fn rename(&mut self, task: &str, old: &Dot, new: &Dot) {
        let current = match &mut self.doing {
            Doing::Working(claim) => Some(claim),
            Doing::Waiting(claim) => claim.as_mut(),
            Doing::Idle | Doing::InLine => None,
        };
        let known = self.past.iter_mut().chain(current);
        known.for_each(|claim| claim.rename(task, old, new));
    }
}

impl World {
    pub(crate) fn plan_worker(&mut self, p: usize, slot: usize, after: u64) {
        let worker = &mut self.peers[p].workers[slot];
        worker.step += 1;
        let event = Event::Worker { peer: p, slot, step: worker.step };
        self.events.plan(self.now + after.max(1), event);
    }

    /// A worker's time has come.
    pub(crate) fn worker_goes_on(&mut self, p: usize, slot: usize, step: u64) {
        let peer = &self.peers[p];
        if peer.gone || peer.workers[slot].step != step {
            return;
        }
        if !peer.is_running() || !self.may_write(p) {
            return self.plan_worker(p, slot, 2_000);
        }
        self.attach(p, slot);
        match &self.peers[p].workers[slot].doing {
            Doing::Waiting(_) => {}
            Doing::Idle | Doing::InLine => self.look_for_work(p, slot),
            Doing::Working(claim) => {
                let claim = claim.clone();
                self.go_on_with(p, slot, claim);
            }
        }
    }

    fn attach(&mut self, p: usize, slot: usize) {
        let worker = &mut self.peers[p].workers[slot];
        if worker.shared || std::mem::replace(&mut worker.attached, true) {
            return;
        }
        let (name, known) = (worker.name.clone(), worker.known());
        self.call(p, |world, core, now| {
            core.attach(now, &name, Some(&known));
            world.asked.push(Asked::Attach(name));
            None
        });
    }

    fn look_for_work(&mut self, p: usize, slot: usize) {
        let habits = self.habits();
        let past = &self.peers[p].workers[slot].past;
        if !past.is_empty() && self.random.percent(habits.stale) {
            let claim = self.random.one_of(&self.peers[p].workers[slot].past).clone();
            let report =
                *self.random.one_of(&[Report::Completed, Report::Failed, Report::InProgress]);
            self.report(p, slot, claim, report);
            return self.plan_worker(p, slot, 500);
        }
        self.claim(p, slot);
    }

    /// Asks for a task, and stands in line where there is none.
    fn claim(&mut self, p: usize, slot: usize) {
        let want = self.want(p, slot);
        let worker = &mut self.peers[p].workers[slot];
        let caller = worker.caller();
        worker.doing = Doing::InLine;
        let given = self.call(p, |world, core, now| {
            world.asked.push(Asked::Claim);
            let claimed = core.claim(now, &caller, &want).ok()?;
            let actor = world.peers[p].actor.clone();
            let counter = core.have()[&actor];
            let (task, fence) = (claimed.task.task_id, claimed.fence);
            let dot = Dot { actor, counter };
            world.note(p, What::Given { task: task.clone(), to: caller.worker.clone(), fence });
            world.peers[p].workers[slot].doing = Doing::Waiting(None);
            Some(Answer::Given { slot, claim: Claim { task, fence, dot } })
        });
        let in_line = matches!(self.peers[p].workers[slot].doing, Doing::InLine);
        if given.is_none() || in_line {
            let wait = self.random.within(2_000..10_000);
            self.plan_worker(p, slot, wait);
        }
    }

    fn want(&mut self, p: usize, slot: usize) -> Want {
        let all = self.is_calm() || self.random.percent(70);
        let capabilities = if all { vec!["gpu".to_owned()] } else { Vec::new() };
        let timed = self.peers[p].workers[slot].shared || self.random.percent(20);
        let lease = match timed {
            true => LeaseTerm::Timed(self.random.spread(2_000..60_000)),
            false => LeaseTerm::Session,
        };
        Want { capabilities, lease, ..Want::default() }
    }

    /// Those who stand in line are called when a task becomes ready.
    pub(crate) fn serve_line(&mut self, p: usize) {
        let Some(node) = &mut self.peers[p].node else { return };
        if node.failing || !node.core.take_became_ready() {
            return;
        }
        for slot in 0..self.peers[p].workers.len() {
            if matches!(self.peers[p].workers[slot].doing, Doing::InLine) && self.may_write(p) {
                self.claim(p, slot);
            }
        }
    }

    fn go_on_with(&mut self, p: usize, slot: usize, claim: Claim) {
        let habits = self.habits();
        let chosen = self.random.within(0..100);
        let mut limit = 0;
        let mut is = |percent: u64| {
            limit += percent;
            chosen < limit
        };
        if is(habits.vanish) {
            self.vanish(p, slot, claim);
        } else if is(habits.stall) {
            let wait = self.random.spread(5_000..200_000);
            self.plan_worker(p, slot, wait);
        } else if is(habits.renew) {
            self.report(p, slot, claim, Report::InProgress);
        } else if is(habits.release) {
            self.report(p, slot, claim, Report::Released);
        } else if is(habits.fail) {
            self.report(p, slot, claim, Report::Failed);
        } else {
            self.report(p, slot, claim, Report::Completed);
        }
    }

    /// The worker goes away without a word. A session may come back in time, or too late; and a
    /// command may come back with its old fence.
    fn vanish(&mut self, p: usize, slot: usize, claim: Claim) {
        let comes_back = self.random.percent(50);
        let for_good = self.random.percent(30);
        let name = self.new_worker_name();
        let worker = &mut self.peers[p].workers[slot];
        let (old, shared) = (worker.name.clone(), worker.shared);
        worker.attached = false;
        if shared {
            worker.doing = Doing::Idle;
            worker.remember(claim);
        } else if !comes_back {
            worker.begin_anew(name);
        }
        if !shared {
            self.call(p, |world, core, now| {
                let asked = match for_good && !comes_back {
                    true => {
                        core.dismiss(now, &old);
                        Asked::Dismiss(old)
                    }
                    false => {
                        core.detach(now, &old);
                        Asked::Detach(old)
                    }
                };
                world.asked.push(asked);
                None
            });
        }
        let wait = self.random.spread(500..20_000);
        self.plan_worker(p, slot, wait);
    }

    /// Says something of a task.
    fn report(&mut self, p: usize, slot: usize, claim: Claim, report: Report) {
        let mark = self.mark_for(report);
        let caller = self.peers[p].workers[slot].caller();
        let with_fence = if caller.shared { 50 } else { 80 };
        let fence = self.random.percent(with_fence).then_some(claim.fence);
        let task = claim.task.clone();
        let is_current = self.peers[p].workers[slot].holds(&claim);
        let (mut accepted, mut try_again) = (false, false);
        let answered = self.call(p, |world, core, now| {
            world.asked.push(Asked::Report(task.clone(), report));
            let marked = core.mark(now, &caller, &task, mark, fence);
            accepted = marked.is_ok();
            try_again = matches!(marked, Err(Rejection::Overloaded { .. }));
            let answer = if accepted { "yes" } else { "no" };
            let (what, by) = (report.word(), caller.worker.clone());
            world.summary.count(if accepted { what } else { "report denied" }, 1);
            world.note(p, What::Asked { task: task.clone(), what, by, fence, answer });
            if let Err(why) = marked {
                return Some(Answer::Denied { claim: claim.clone(), why });
            }
            if is_current {
                world.peers[p].workers[slot].doing = Doing::Waiting(Some(claim.clone()));
            }
            Some(Answer::Marked { slot, claim: claim.clone(), fence, report })
        });
        if answered.is_none() || try_again {
            self.plan_worker(p, slot, 2_000);
        } else if is_current && !accepted {
            let worker = &mut self.peers[p].workers[slot];
            worker.doing = Doing::Idle;
            worker.remember(claim);
            self.plan_worker(p, slot, 100);
        }
    }

    fn mark_for(&mut self, report: Report) -> Mark {
        let result = self.random.percent(50).then(|| format!("{{\"n\":{}}}", self.random.next()));
        match report {
            Report::Completed => Mark::Completed { result },
            Report::Failed => {
                let retry = self.random.percent(80);
                Mark::Failed { error: Some("it went wrong".into()), result, retry }
            }
            Report::Released => Mark::Released,
            Report::InProgress => Mark::InProgress { note: Some("half of it".into()) },
        }
    }

    /// A caller learns what is on disk.
    pub(crate) fn answered(&mut self, p: usize, answer: Answer) {
        match answer {
            Answer::Denied { .. } => {}
            Answer::Told { task, fact } => self.tell(p, &task, fact),
            Answer::Given { slot, claim } => {
                self.summary.claims += 1;
                self.peers[p].workers[slot].doing = Doing::Working(claim);
                let longest = self.habits().work;
                let work = self.random.spread(50..longest);
                self.plan_worker(p, slot, work);
            }
            Answer::Marked { slot, claim, report, .. } => {
                if report == Report::Completed {
                    self.tell(p, &claim.task, Fact::Completed);
                }
                self.marked(p, slot, claim, report);
            }
        }
    }

    fn marked(&mut self, p: usize, slot: usize, claim: Claim, report: Report) {
        let is_lost = self.random.percent(self.habits().lost_answer);
        let worker = &mut self.peers[p].workers[slot];
        if !worker.holds(&claim) {
            return; // it was a repeated report of a lease that is over
        }
        if is_lost || report == Report::InProgress {
            worker.doing = Doing::Working(claim); // and says it again, or something else
        } else {
            worker.doing = Doing::Idle;
            worker.remember(claim);
        }
        let wait = self.random.spread(10..2_000);
        self.plan_worker(p, slot, wait);
    }

    /// A caller learns that the disk refused, and does not know what became of its call.
    pub(crate) fn refused(&mut self, p: usize, answer: &Answer) {
        let (slot, doing) = match answer {
            Answer::Denied { .. } | Answer::Told { .. } => return,
            Answer::Given { slot, .. } => (*slot, Doing::Idle),
            Answer::Marked { slot, claim, .. } => (*slot, Doing::Working(claim.clone())),
        };
        let worker = &mut self.peers[p].workers[slot];
        if matches!(worker.doing, Doing::Waiting(_)) {
            worker.doing = doing;
            self.plan_worker(p, slot, 1_000);
        }
    }

    /// The node ended. Sessions of other processes live on and come back; those of this machine's
    /// do not if it went down.
    pub(crate) fn workers_after_crash(&mut self, p: usize, machine_too: bool) {
        for slot in 0..self.peers[p].workers.len() {
            let survives = !machine_too && self.random.percent(50);
            let name = self.new_worker_name();
            let worker = &mut self.peers[p].workers[slot];
            worker.attached = false;
            if !worker.shared && !survives {
                worker.begin_anew(name);
            } else if let Doing::Waiting(claim) = &mut worker.doing {
                worker.doing = claim.take().map_or(Doing::Idle, Doing::Working);
            }
        }
    }

    pub(crate) fn workers_after_start(&mut self, p: usize) {
        for slot in 0..self.peers[p].workers.len() {
            let wait = self.random.spread(10..10_000);
            self.plan_worker(p, slot, wait);
        }
    }

    /// The disk is an older one: commands with leases of the time since would be taken for others.
    pub(crate) fn workers_forget(&mut self, p: usize) {
        for slot in 0..self.peers[p].workers.len() {
            let name = match self.peers[p].workers[slot].shared {
                true => COMMAND_LINE.into(),
                false => self.new_worker_name(),
            };
            self.peers[p].workers[slot].begin_anew(name);
        }
    }

    pub(crate) fn new_worker_name(&mut self) -> Arc<str> {
        format!("w-{:06x}", self.random.next() >> 40).into()
    }
}

impl Report {
    fn word(self) -> &'static str {
        match self {
            Report::Completed => "complete",
            Report::Failed => "fail",
            Report::Released => "release",
            Report::InProgress => "renew",
        }
    }
}
