//! What people and scripts do: hand tasks in, twice or under an id that another has, call them off,
//! put failed ones back, change priorities.

use std::sync::Arc;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::limits::MAX_COUNTER;
use p2p_workflow_scheduler::scheduler::{Caller, Mark, TagSet, vector_root};

use super::asked::Asked;
use super::events::Event;
use super::oracle::Fact;
use super::trace::{About, What};
use super::workers::Answer;
use super::world::World;

impl World {
    /// Somebody does something, and somebody else will.
    pub(crate) fn person_acts(&mut self) {
        if self.is_calm() {
            return;
        }
        let wait = self.random.within(1..2 * self.profile.between_people);
        self.events.plan(self.now + wait, Event::Person);
        let p = self.random.below(self.peers.len());
        if !self.may_write(p) {
            return;
        }
        match self.random.within(0..100) {
            0..70 => self.submit_some(p),
            70..80 => self.cancel(p),
            80..92 => self.requeue(p),
            _ => self.reprioritize(p),
        }
    }

    fn submit_some(&mut self, p: usize) {
        match self.random.within(0..100) {
            // A client that lost its answer tries another node.
            0..15 if !self.submitted.is_empty() => {
                let task = self.random.one_of(&self.submitted).clone();
                self.submit(p, task);
            }
            // Two clients chose the same id.
            15..22 if self.profile.conflicts => {
                let other = self.random.below(self.peers.len());
                let task = self.new_task();
                let twin = P2PTask { payload: Some("\"another\"".into()), ..task.clone() };
                self.submit(p, task);
                self.submit(other, twin);
            }
            // Each accepts half of a cycle.
            22..26 if self.profile.cycles => {
                let other = self.random.below(self.peers.len());
                let (mut a, mut b) = (self.new_task(), self.new_task());
                a.depends_on.push(b.task_id.clone());
                b.depends_on.push(a.task_id.clone());
                // And somebody chose an id of theirs for a task that waits for nothing.
                let twin = P2PTask { depends_on: Vec::new(), ..b.clone() };
                self.submit(p, a);
                self.submit(other, b);
                if self.profile.conflicts && self.random.percent(50) {
                    let third = self.random.below(self.peers.len());
                    self.submit(third, twin);
                }
            }
            _ => {
                let task = self.new_task();
                self.submit(p, task);
            }
        }
    }

    /// A task that nobody has handed in yet.
    fn new_task(&mut self) -> P2PTask {
        self.tasks += 1;
        let id = format!("t{}", self.tasks);
        let random = &mut self.random;
        let workflow = format!("w{}", random.below(5));
        let mut task = P2PTask::new(&id, &workflow, "a task", TagSet::default());
        task.priority = random.within(1..11) as u8;
        task.max_attempts = random.below(4) as u32;
        if random.percent(40) {
            task.payload = Some(format!("{{\"n\":{}}}", random.next()));
        }
        if random.percent(15) {
            task.delay = random.spread(100..60_000);
        }
        if random.percent(10) {
            task.requires.push("gpu".into());
        }
        if random.percent(25) && self.tasks > 1 {
            let known = self.tasks as usize + usize::from(random.percent(10));
            for _ in 0..1 + random.below(3) {
                task.depends_on.push(format!("t{}", 1 + random.below(known)));
            }
            task.depends_on.retain(|other| *other != id);
        }
        task
    }

    pub(crate) fn submit(&mut self, p: usize, task: P2PTask) {
        if !self.may_write(p) {
            return;
        }
        let id: Arc<str> = task.task_id.as_str().into();
        let asked = task.clone();
        self.call(p, |world, core, now| {
            world.asked.push(Asked::Submit(id.clone()));
            let submitted = core.submit(now, task);
            world.note_asked(p, &id, "submit", submitted.is_ok());
            world.summary.count(if submitted.is_ok() { "submitted" } else { "submit refused" }, 1);
            let created = submitted.ok()?.created;
            world.submitted.push(asked);
            Some(Answer::Told { task: id, fact: Fact::Submitted { created } })
        });
    }

    fn cancel(&mut self, p: usize) {
        let Some(id) = self.some_task() else { return };
        let person = Caller { worker: "person".into(), shared: true };
        self.call(p, |world, core, now| {
            world.asked.push(Asked::Cancel(id.clone()));
            let mark = Mark::Cancelled { error: Some("not wanted any more".into()) };
            let marked = core.mark(now, &person, &id, mark, None);
            world.note_asked(p, &id, "cancel", marked.is_ok());
            world.summary.count("cancelled", u64::from(marked.is_ok()));
            marked.ok()?;
            Some(Answer::Told { task: id, fact: Fact::Cancelled })
        });
    }

    fn requeue(&mut self, p: usize) {
        let Some(id) = self.some_task() else { return };
        self.call(p, |world, core, now| {
            world.asked.push(Asked::Requeue(id.clone()));
            let requeued = core.requeue(now, &id);
            world.note_asked(p, &id, "requeue", requeued.is_ok());
            world.summary.count("requeued", u64::from(requeued.is_ok()));
            None
        });
    }

    fn reprioritize(&mut self, p: usize) {
        let Some(id) = self.some_task() else { return };
        let priority = self.random.within(1..11) as u8;
        self.call(p, |world, core, now| {
            world.asked.push(Asked::Reprioritize(id.clone()));
            let changed = core.reprioritize(now, &id, priority);
            world.note_asked(p, &id, "reprioritize", changed.is_ok());
            None
        });
    }

    /// A tool reports a clock at `p`: that of another peer, or one that somebody made up.
    pub(crate) fn report_clock(&mut self, p: usize, other: usize) {
        let Some(node) = &self.peers[other].node else { return };
        let mut peer = self.peers[other].name.to_string();
        let mut vector = node.core.clock().vector().clone();
        let mut root = None;
        let counter = match self.random.percent(30) {
            true => *self.random.one_of(&[MAX_COUNTER, MAX_COUNTER + 1]),
            false => self.random.spread(1..1 << 20),
        };
        match self.random.below(6) {
            0 => {}
            1 => drop(vector.insert(self.peers[p].name.to_string(), counter)),
            2 => root = Some("0".repeat(64)),
            3 => {
                peer = format!("ghost-{}", self.random.below(3));
                vector.insert(peer.clone(), counter);
            }
            _ => {
                let third = self.random.below(self.peers.len());
                vector.insert(self.peers[third].name.to_string(), counter);
            }
        }
        let root = root.unwrap_or_else(|| vector_root(&vector).to_hex());
        self.call(p, |world, core, now| {
            let before = core.have().clone();
            let taken = core.update_peer(now, &peer, &peer, &vector, &root);
            let (what, detail) = ("a clock is reported", u64::from(taken.is_ok()));
            world.note(p, What::Fault { what, detail });
            world.summary.count(if taken.is_ok() { "clock taken" } else { "clock refused" }, 1);
            if *core.have() != before {
                let what = format!("p{p} believes to hold what a reported clock counts");
                world.oracle.broken(About::peer(p), what);
            }
            None
        });
    }

    fn some_task(&mut self) -> Option<Arc<str>> {
        let task = self.random.below(self.tasks.max(1) as usize) as u64 + 1;
        (self.tasks > 0).then(|| format!("t{task}").into())
    }

    fn note_asked(&mut self, p: usize, task: &Arc<str>, what: &'static str, answer: bool) {
        let (task, by) = (task.clone(), "person".into());
        let answer = if answer { "yes" } else { "no" };
        self.note(p, What::Asked { task, what, by, fence: None, answer });
    }
}
