//! The README's "Several machines", walked by somebody who has nothing but its commands.

use serde_json::Value;

use super::lan;
use super::machine::{Machine, pair};
use crate::harness::eventually;

/// Takes a task by the command, waiting for one; `None` where none came.
fn next(machine: &Machine, wait: &str) -> Option<String> {
    let given = machine.json(&["p2p-workflow", "next", "--wait", wait]);
    given["task"]["task_id"].as_str().map(str::to_owned)
}

fn complete(machine: &Machine, task_id: &str) {
    let result = format!("{{\"by\": {}}}", machine.number);
    machine.run(&["p2p-workflow", "complete", "--task-id", task_id, "--result", &result]);
}

fn submit(machine: &Machine, task_id: &str) {
    let task =
        ["--task-id", task_id, "--workflow-id", "w", "--name", task_id, "--tags", "p2p-only"];
    machine.run(&[&["p2p-workflow", "submit"], &task[..]].concat());
}

fn counts(machine: &Machine) -> Value {
    machine.json(&["p2p-workflow", "status"])
}

/// Waits until all machines count so many tasks as completed, and hold the same.
fn all_completed(machines: &[Machine], tasks: usize) {
    eventually("that all is done, as all know", || {
        let told: Vec<Value> = machines.iter().map(counts).collect();
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
    let mut machines = [0, 1, 2].map(|number| Machine::start(&lan, number));
    pair(&mut machines);
    for task in 0..TASKS {
        submit(&machines[0], &format!("t{task}"));
    }
    // Each takes what it owns, or what others leave alone for too long.
    let mut done = Vec::new();
    for machine in &machines {
        let task = next(machine, "50s").expect("one is left");
        complete(machine, &task);
        done.push(task);
    }
    let held = next(&machines[2], "50s").expect("one is left");
    machines[2].kill();
    while done.len() < TASKS {
        for machine in &machines[..2] {
            if let Some(task) = next(machine, "1s") {
                complete(machine, &task);
                done.push(task);
            }
        }
    }
    assert!(done.contains(&held));
    done.sort();
    done.dedup();
    assert_eq!(done.len(), TASKS, "each once");
    machines[2].start_again();
    all_completed(&machines, TASKS);
    machines.into_iter().for_each(Machine::close);
}
