//! The README's "Several machines", walked by somebody who has nothing but its commands.

use std::fs::File;

use serde_json::Value;

use super::lan;
use super::lan::Lan;
use crate::harness::{Home, Process, eventually};

/// A machine, and the process of `node start` while it runs.
struct Machine {
    home: Home,
    node: Option<Process>,
}

impl Machine {
    fn new(lan: &Lan, number: usize) -> Self {
        Machine { home: Home::in_namespace(lan.namespace(number)), node: None }
    }

    /// `node start &`
    fn start(&mut self) {
        let log = File::create(self.home.path().join("log")).expect("a file");
        let mut command = self.home.command();
        command.args(["node", "start"]);
        command.stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        self.node = Some(Process::spawn(command));
        self.home.node();
    }

    /// Runs a command that must succeed, and returns what it prints.
    fn run(&self, arguments: &[&str]) -> String {
        let run = self.home.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
        run.stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&printed).expect("JSON on stdout")
    }

    fn submit(&self, task_id: &str) {
        let task = ["--task-id", task_id, "--workflow-id", "w", "--name", task_id];
        self.run(&[&["p2p-workflow", "submit", "--tags", "p2p-only"], &task[..]].concat());
    }

    /// Takes a task, waiting for one; `None` where none came.
    fn next(&self, wait: &str) -> Option<String> {
        let given = self.json(&["p2p-workflow", "next", "--wait", wait]);
        given["task"]["task_id"].as_str().map(str::to_owned)
    }

    fn complete(&self, task_id: &str) {
        self.run(&["p2p-workflow", "complete", "--task-id", task_id]);
    }
}

/// Waits until all machines count so many tasks as completed, and hold the same.
fn all_completed(machines: &[Machine], tasks: usize) {
    eventually("that all is done, as all know", || {
        let status = |machine: &Machine| machine.json(&["p2p-workflow", "status"]);
        let told: Vec<Value> = machines.iter().map(status).collect();
        let agree = told.iter().all(|status| {
            status["completed_tasks"] == tasks
                && status["merkle_root"] == told[0]["merkle_root"]
                && status["in_sync"] == true
        });
        agree.then_some(())
    });
}

#[test]
fn three_machines_joined_by_the_readme_do_each_task_once_though_one_dies() {
    const TASKS: usize = 12;
    let Some(lan) = lan(3) else { return };
    let mut machines = [0, 1, 2].map(|number| Machine::new(&lan, number));
    machines[0].run(&["swarm", "init"]);
    machines[0].start();
    let line = machines[0].run(&["swarm", "invite"]);
    // In either order.
    machines[1].run(&["swarm", "join", line.trim()]);
    machines[1].start();
    machines[2].start();
    machines[2].run(&["swarm", "join", line.trim()]);
    for machine in &machines {
        eventually("all three among its peers", || {
            let peers = machine.json(&["swarm", "peers"]);
            let peers = peers["peers"].as_array().expect("a list").iter();
            (peers.filter(|peer| peer["state"] == "alive").count() == 3).then_some(())
        });
    }
    for task in 0..TASKS {
        machines[0].submit(&format!("t{task}"));
    }
    // Each takes what it owns, or what others leave alone for too long.
    let mut done = Vec::new();
    for machine in &machines {
        let task = machine.next("50s").expect("one is left");
        machine.complete(&task);
        done.push(task);
    }
    let held = machines[2].next("50s").expect("one is left");
    machines[2].node.take().expect("it was started").kill();
    while done.len() < TASKS {
        for machine in &machines[..2] {
            if let Some(task) = machine.next("1s") {
                machine.complete(&task);
                done.push(task);
            }
        }
    }
    assert!(done.contains(&held));
    done.sort();
    done.dedup();
    assert_eq!(done.len(), TASKS, "each once");
    machines[2].start();
    all_completed(&machines, TASKS);
    for machine in &mut machines {
        machine.run(&["node", "stop"]);
        assert_eq!(machine.node.as_mut().expect("it was started").exit_code(), 0);
    }
}
