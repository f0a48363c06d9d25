//! Five machines, their workers, and what happens to them.
//!
//! Each happening hands in tasks that depend on each other across machines, and ends when all of
//! them are done on all machines and all hold the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lan::Lan;
use super::machine::{Machine, pair};
use super::workers::{End, Journal, Workers};
use crate::harness::eventually;

const ALL: [usize; 5] = [0, 1, 2, 3, 4];
/// Who is cut off when the LAN falls apart, and who is not.
const FEW: [usize; 2] = [3, 4];
const MANY: [usize; 3] = [0, 1, 2];
/// The place of the stranger, which the swarm's machines leave free.
const STRANGER: usize = 5;
/// Where it comes from.
const STRANGERS_ADDRESS: &str = "/ip4/10.0.0.6/";
/// A task that only the stranger has.
const STRANGERS_TASK: &str = "of-the-stranger";

/// See the module's page.
pub(crate) struct Scene<'lan> {
    lan: &'lan Lan,
    machines: Vec<Machine>,
    /// By the number of their machine.
    workers: BTreeMap<usize, Workers>,
    journal: Journal,
    stranger: Option<Machine>,
    /// Every task that was handed in.
    tasks: Vec<String>,
}

impl<'lan> Scene<'lan> {
    pub(crate) fn of_five(lan: &'lan Lan) -> Self {
        let machines = ALL.map(|number| Machine::start(lan, number)).into();
        let (workers, journal) = (BTreeMap::new(), Journal::default());
        Scene { lan, machines, workers, journal, stranger: None, tasks: Vec::new() }
    }

    /// All join by the line of the first, which names no other machine, and so find the others by
    /// mDNS.
    pub(crate) fn all_meet(&mut self) {
        let began = Instant::now();
        pair(&mut self.machines);
        for machine in &self.machines {
            let others = self.machines.len() - 1;
            eventually("a connection to each other machine", || {
                (machine.connected_to().len() == others).then_some(())
            });
        }
        tell("all met", began.elapsed());
    }

    /// A machine with another key, which hears of the others, and they of it.
    pub(crate) fn a_stranger_comes(&mut self) {
        let mut stranger = Machine::start(self.lan, STRANGER);
        stranger.client().submit(STRANGERS_TASK);
        stranger.run(&["swarm", "init"]);
        self.stranger = Some(stranger);
    }

    /// Nothing happens, and each task is done once: another peer than the owner may take it only
    /// after a turn, which on a machine that is busy with other things may pass.
    pub(crate) fn all_is_well(&mut self, workflow: &str) {
        const TURN: Duration = Duration::from_secs(10);
        self.work(&ALL);
        let began = Instant::now();
        let tasks = self.hand_in(workflow, &ALL, 20);
        self.done(&ALL, &tasks);
        let took = began.elapsed();
        tell(workflow, took);
        for task in tasks {
            let attempts = self.journal.of(&task);
            let once = attempts.len() == 1 && attempts[0].end == End::Accepted;
            assert!(once || took > TURN, "{task}: {attempts:?}");
        }
        self.in_sync();
    }

    /// One dies with a task in its hands, and comes back.
    pub(crate) fn a_machine_dies(&mut self) {
        const VICTIM: usize = 4;
        let (tasks, (held, _)) = self.hand_in_with_one_held("killed", 20, VICTIM);
        self.journal.begin(&held, VICTIM);
        let died = Instant::now();
        self.machines[VICTIM].kill();
        let others = without(VICTIM);
        self.see_down("kill -9", &others, VICTIM, died, Duration::from_secs(30));
        self.done(&others, &tasks);
        let attempts = self.journal.of(&held);
        assert!(attempts.last().expect("one began").machine != VICTIM, "{attempts:?}");
        tell("kill -9: its task was done by another", died.elapsed());
        let back = Instant::now();
        self.machines[VICTIM].start_again();
        self.work(&ALL);
        self.in_sync();
        tell("kill -9: back in the swarm", back.elapsed());
    }

    /// One's cable is pulled while it has a task in its hands; it goes on alone, and reports when
    /// another has long done it.
    pub(crate) fn a_cable_is_pulled(&mut self) {
        const ALONE: usize = 3;
        let (tasks, (held, fence)) = self.hand_in_with_one_held("cable", 18, ALONE);
        self.work(&ALL);
        let result = self.journal.begin(&held, ALONE);
        let pulled = Instant::now();
        self.lan.pull(ALONE);
        let others = without(ALONE);
        let alone = self.hand_in("alone", &[ALONE], 10);
        self.see_down("cable", &others, ALONE, pulled, Duration::from_secs(60));
        self.done(&others, &tasks);
        tell("cable: its task was done by another", pulled.elapsed());
        self.done(&[ALONE], &alone);
        let plugged = Instant::now();
        self.lan.plug_in(ALONE);
        let client = self.machines[ALONE].client();
        assert!(self.journal.report(client, &held, fence, &result), "its node runs");
        self.done(&ALL, &[tasks, alone].concat());
        self.in_sync();
        tell("cable: back in the swarm", plugged.elapsed());
    }

    /// Two of five are cut off from the rest. Both sides go on, and both do what all knew before.
    pub(crate) fn the_lan_falls_apart(&mut self) {
        self.dismiss(&ALL);
        let shared = self.hand_in("shared", &ALL, 8);
        self.in_sync();
        let parted = Instant::now();
        self.lan.part(&FEW);
        self.work(&ALL);
        let of_many = self.hand_in("many", &MANY, 9);
        let of_few = self.hand_in("few", &FEW, 16);
        // Blocked until the others' tasks are heard of.
        let bridge =
            self.machines[0].client().call("p2p_submit_task", &task("bridge", "bridge", &of_few));
        assert_eq!(bridge["state"], "blocked", "{bridge}");
        self.tasks.push("bridge".to_owned());
        self.done(&MANY, &[shared.clone(), of_many.clone()].concat());
        self.done(&FEW, &[shared.clone(), of_few.clone()].concat());
        tell("apart: all done on both sides", parted.elapsed());
        let healed = Instant::now();
        self.lan.heal(&FEW);
        self.done(&ALL, &[shared, of_many, of_few, vec!["bridge".to_owned()]].concat());
        self.in_sync();
        tell("apart: one swarm again", healed.elapsed());
    }

    pub(crate) fn the_stranger_got_nothing(&mut self) {
        let mut stranger = self.stranger.take().expect("it came");
        let status = stranger.client().status();
        assert_eq!((&status["pending_tasks"], &status["known_peers"]), (&json!(1), &json!(1)));
        for machine in &mut self.machines {
            // Which side dials is chance; here at least the other one counts.
            eventually("a count of the stranger's tries", || machine.refused(STRANGERS_ADDRESS));
            assert_eq!(machine.state(STRANGERS_TASK), None);
        }
        assert!(stranger.connected_to().is_empty());
        stranger.close();
    }

    /// Each task has one outcome, the same on all machines, and it is that of an attempt whose
    /// report was not refused.
    pub(crate) fn all_tell_the_same(&mut self) {
        let mut again = 0;
        for task in &self.tasks {
            // Whoever saw both of two runs tells of the one that lost as well.
            let told: Vec<Value> = self
                .machines
                .iter_mut()
                .map(|machine| {
                    let mut task = machine.client().show(task);
                    task.as_object_mut().expect("a task").remove("duplicates");
                    task
                })
                .collect();
            assert_eq!(told[0]["state"], "completed", "{}", told[0]);
            for other in &told {
                assert_eq!(other, &told[0]);
            }
            let attempts = self.journal.of(task);
            let counts = attempts.iter().any(|attempt| {
                attempt.result == told[0]["result"] && !matches!(attempt.end, End::Refused(_))
            });
            assert!(counts, "{}: {attempts:?}", told[0]);
            again += attempts.len() - 1;
        }
        eprintln!("{} tasks, {again} attempts more than tasks", self.tasks.len());
    }

    pub(crate) fn close(mut self) {
        self.dismiss(&ALL);
        self.machines.into_iter().for_each(Machine::close);
    }

    /// Sees to it that these machines have workers.
    fn work(&mut self, machines: &[usize]) {
        for number in machines {
            let start = || Workers::of(&self.machines[*number], &self.journal);
            self.workers.entry(*number).or_insert_with(start);
        }
    }

    fn dismiss(&mut self, machines: &[usize]) {
        for number in machines {
            if let Some(workers) = self.workers.remove(number) {
                workers.dismiss();
            }
        }
    }

    /// Hands in so many tasks from each of these machines, at once. Each but the first of a machine
    /// waits for one that another hands in, and some for one of their own as well.
    fn hand_in(&mut self, workflow: &str, from: &[usize], count: usize) -> Vec<String> {
        let id = |machine: usize, number: usize| format!("{workflow}-{machine}-{number}");
        let submitters = self.machines.iter_mut().filter(|machine| from.contains(&machine.number));
        std::thread::scope(|scope| {
            for (machine, next) in submitters.zip(from.iter().cycle().skip(1)) {
                scope.spawn(move || {
                    for number in 0..count {
                        let mut depends_on = Vec::new();
                        depends_on.extend(number.checked_sub(1).map(|before| id(*next, before)));
                        let of_own = number.checked_sub(4).filter(|_| number % 4 == 0);
                        depends_on.extend(of_own.map(|before| id(machine.number, before)));
                        depends_on.dedup();
                        let task = task(&id(machine.number, number), workflow, &depends_on);
                        let submitted = machine.client().call("p2p_submit_task", &task);
                        assert_eq!(submitted["created"], true, "{submitted}");
                    }
                });
            }
        });
        let ids = from.iter().flat_map(|machine| (0..count).map(|number| id(*machine, number)));
        let ids: Vec<String> = ids.collect();
        self.tasks.extend(ids.iter().cloned());
        ids
    }

    /// Hands tasks in from all machines, of which one, without workers, has one in its hands, as all
    /// others know. Returns the tasks, and that one with its fence.
    fn hand_in_with_one_held(
        &mut self,
        workflow: &str,
        count: usize,
        holder: usize,
    ) -> (Vec<String>, (String, u64)) {
        self.dismiss(&[holder]);
        let tasks = self.hand_in(workflow, &ALL, count);
        let held = self.machines[holder].take(workflow);
        for other in without(holder) {
            let machine = &mut self.machines[other];
            for task in &tasks {
                eventually("a word on each task", || machine.state(task));
            }
            eventually("a word on who has the task", || {
                (machine.state(&held.0)? == "assigned").then_some(())
            });
        }
        (tasks, held)
    }

    /// Waits until these machines know that these tasks are completed.
    fn done(&mut self, machines: &[usize], tasks: &[String]) {
        for number in machines {
            let machine = &mut self.machines[*number];
            for task in tasks {
                eventually(&format!("the end of {task} at machine {number}"), || {
                    (machine.state(task)? == "completed").then_some(())
                });
            }
        }
    }

    /// Waits until all hold the same, say so, and count each other as alive.
    fn in_sync(&mut self) {
        eventually("that all hold the same", || {
            let told: Vec<Value> =
                self.machines.iter_mut().map(|machine| machine.client().status()).collect();
            let agree = told.iter().all(|status| {
                status["in_sync"] == true
                    && status["merkle_root"] == told[0]["merkle_root"]
                    && status["alive_peers"] == ALL.len()
            });
            agree.then_some(())
        });
    }

    /// Waits until these machines see another one as down.
    fn see_down(
        &mut self,
        what: &str,
        machines: &[usize],
        victim: usize,
        since: Instant,
        at_most: Duration,
    ) {
        let victim = self.machines[victim].peer_id.clone();
        for number in machines {
            let machine = &mut self.machines[*number];
            eventually("that a machine is seen to be down", || {
                (machine.sees(&victim).as_deref() == Some("down")).then_some(())
            });
        }
        tell(&format!("{what}: seen to be down by all others"), since.elapsed());
        assert!(since.elapsed() < at_most, "{what}: {:?}", since.elapsed());
    }
}

fn without(machine: usize) -> Vec<usize> {
    ALL.into_iter().filter(|other| *other != machine).collect()
}

fn task(task_id: &str, workflow_id: &str, depends_on: &[String]) -> Value {
    json!({
        "task_id": task_id,
        "workflow_id": workflow_id,
        "name": task_id,
        "tags": ["p2p-only"],
        "depends_on": depends_on,
    })
}

/// Says how long something took. Shown with `--nocapture`; nothing is judged by it.
fn tell(what: &str, took: Duration) {
    eprintln!("{what:<45} {:>6.2} s", took.as_secs_f64());
}
