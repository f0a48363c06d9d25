//! `node start`: a node without an agent.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::process::Signal;

use crate::harness::{Home, Process, eventually};

/// A `node start`, and what it says.
struct Started {
    process: Process,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Started {
    fn new(home: &Home) -> Self {
        let mut command = home.command();
        command.args(["node", "start"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn(command);
        let stderr = process.child().stderr.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Started { process, lines, said: Vec::new() }
    }

    /// Waits until it says this, or has said it, and returns the whole line.
    fn says(&mut self, what: &str) -> String {
        eventually(what, || {
            self.said.extend(self.lines.try_iter());
            self.said.iter().find(|line| line.contains(what)).cloned()
        })
    }
}

#[test]
fn a_node_runs_without_an_agent_until_it_is_asked_to_end() {
    let home = Home::new();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut started = Started::new(&home);
        let line = started.says("is up");
        assert!(line.contains(home.data().to_str().expect("UTF-8")), "{line}");
        started.says("in no swarm");
        assert_eq!(home.node(), started.process.id());
        home.json(&["clock"]);
        assert_eq!(home.node(), started.process.id(), "commands use it");
        started.process.signal(signal);
        assert_eq!(started.process.exit_code(), 0);
    }
}

#[test]
fn a_second_one_waits_and_takes_the_place_of_the_first() {
    let home = Home::new();
    let mut first = Started::new(&home);
    first.says("is up");
    let mut second = Started::new(&home);
    let line = second.says("already");
    assert!(line.contains(&first.process.id().to_string()), "{line}");
    first.process.kill();
    second.says("is up");
    assert_eq!(home.node(), second.process.id());
    // It goes on for an agent that comes and goes.
    home.start().close();
    assert_eq!(home.node(), second.process.id());
}

#[test]
fn an_agent_s_server_that_ends_is_replaced_by_the_node_that_waits() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let mut waiting = Started::new(&home);
    waiting.says("already");
    server.close();
    waiting.says("is up");
    assert_eq!(home.status()["pending_tasks"], 1);
}

#[test]
fn node_stop_ends_the_node_and_who_waits_for_its_place() {
    let home = Home::new();
    let mut both = [Started::new(&home), Started::new(&home)];
    both.iter_mut().for_each(|started| drop(started.says("node")));
    assert_eq!(home.run(&["node", "stop"]).code, 0);
    for started in &mut both {
        assert_eq!(started.process.exit_code(), 0);
    }
}

#[test]
fn in_a_swarm_it_says_where_it_is_reached() {
    let home = Home::new();
    let made = home.run(&["swarm", "init"]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.stdout.contains("node start"), "nobody runs yet: {}", made.stdout);
    let invited = home.run(&["swarm", "invite"]);
    assert!(invited.stderr.contains("node start"), "nobody runs yet: {}", invited.stderr);
    let port = std::fs::read_to_string(home.data().join("swarm.port")).expect("it is kept");
    let mut started = Started::new(&home);
    let addresses = started.says("Addresses");
    assert!(addresses.contains(&format!("/tcp/{}", port.trim())), "{addresses}");
    let invited = home.run(&["swarm", "invite"]);
    assert!(!invited.stderr.contains("node start"), "somebody runs: {}", invited.stderr);
    assert!(invited.stdout.contains(&format!("/tcp/{}", port.trim())), "{}", invited.stdout);
}
