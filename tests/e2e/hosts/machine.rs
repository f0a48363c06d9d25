//! One machine: its data directory, its node, and what it says.

use std::fs::OpenOptions;

use serde_json::{Value, json};

use super::lan::Lan;
use crate::harness::{Client, Home, Run, Server, code, eventually};

/// A machine of a [`Lan`], whose node is the process of an MCP server.
pub(crate) struct Machine {
    pub(crate) number: usize,
    pub(crate) home: Home,
    server: Option<Server>,
    pub(crate) peer_id: String,
}

impl Machine {
    pub(crate) fn start(lan: &Lan, number: usize) -> Self {
        let home = Home::in_namespace(lan.namespace(number));
        let mut machine = Machine { number, home, server: None, peer_id: String::new() };
        machine.start_again();
        machine.peer_id = machine.client().status()["peer_id"].as_str().expect("a text").to_owned();
        machine
    }

    /// Starts its node, on the data directory that it had before.
    pub(crate) fn start_again(&mut self) {
        let log = self.home.path().join("log");
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a file");
        let mut command = self.home.command();
        command.args(["mcp", "start", "-vv"]).stderr(log);
        let mut server = Server::spawn(command);
        server.introduce();
        self.server = Some(server);
    }

    /// The client on the stdin and stdout of its node's process.
    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.server.as_mut().expect("it runs").client
    }

    /// Ends its node like a power switch does.
    pub(crate) fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// Ends its node as a client does that hangs up, and says that it ended in order.
    pub(crate) fn close(mut self) {
        self.server.take().expect("it runs").close();
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let Run { stdout, stderr, code } = self.home.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// Runs a command that must succeed, for what it prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&printed).expect("JSON on stdout")
    }

    /// How often it refused somebody at an address for the key; `None` if it did not.
    pub(crate) fn refused(&self, address: &str) -> Option<u64> {
        let shown = self.json(&["swarm", "peers"]);
        let mut refusals = shown["refusals"].as_array().expect("a list").iter();
        let refusal = refusals.find(|refusal| {
            refusal["address"].as_str().is_some_and(|at| at.starts_with(address))
                && refusal["why"].as_str().expect("a text").contains("key")
        })?;
        refusal["count"].as_u64().filter(|count| *count > 0)
    }

    /// How it sees another machine: alive, suspect or down; nothing before it heard of it.
    pub(crate) fn sees(&mut self, peer_id: &str) -> Option<String> {
        let shown = self.client().read("p2p://peers");
        let mut peers = shown["peers"].as_array().expect("a list").iter();
        let peer = peers.find(|peer| peer["peer_id"] == peer_id)?;
        peer["liveness"].as_str().map(str::to_owned)
    }

    /// The machines that it has a connection to.
    pub(crate) fn connected_to(&self) -> Vec<String> {
        let shown = self.json(&["swarm", "peers"]);
        let peers = shown["peers"].as_array().expect("a list").iter();
        let connected = peers.filter(|peer| peer["connected"] == true);
        connected.map(|peer| peer["peer_id"].as_str().expect("a text").to_owned()).collect()
    }

    /// The state of a task; `None` where it has not heard of it.
    pub(crate) fn state(&mut self, task_id: &str) -> Option<String> {
        let client = self.client();
        let id = client.start_call("p2p_scheduler_status", &json!({"task_id": task_id}));
        let mut answer = client.answer(id);
        if answer["result"]["isError"] == true {
            assert_eq!(code(&answer["result"]), "task_not_found", "{answer}");
            return None;
        }
        let state = answer["result"]["structuredContent"]["tasks"][0]["state"].take();
        Some(state.as_str().expect("a state").to_owned())
    }

    /// Takes a task of a workflow, which must come.
    pub(crate) fn take(&mut self, workflow_id: &str) -> (String, u64) {
        let want = json!({"workflow_id": workflow_id, "wait_seconds": 2});
        let client = self.client();
        eventually("a task of its own", || {
            let given = client.call("p2p_get_next_task", &want);
            let task_id = given["task"]["task_id"].as_str()?.to_owned();
            Some((task_id, given["lease"]["fence"].as_u64().expect("a number")))
        })
    }
}

impl Drop for Machine {
    /// Tells what it had to say where a test fails.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            eprintln!("machine {}, {}:\n{log}", self.number, self.peer_id);
        }
    }
}

/// Makes a swarm at the first machine, and lets the others join it by its line, at once.
pub(crate) fn pair(machines: &mut [Machine]) {
    let (first, others) = machines.split_first_mut().expect("a machine");
    first.run(&["swarm", "init"]);
    let line = first.run(&["swarm", "invite"]);
    std::thread::scope(|scope| {
        for other in others {
            let line = line.trim();
            scope.spawn(move || {
                let joined = other.json(&["swarm", "join", line]);
                assert_eq!(joined["reached"], true, "{joined}");
            });
        }
    });
}
