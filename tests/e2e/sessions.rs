//! Several servers and commands on one data directory: one state, a worker each.

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Home, Server, eventually, task};

/// A node and a process that relays to it.
fn node_and_relay(home: &Home) -> (Server, Server) {
    let node = home.start();
    let relay = home.start();
    assert_eq!(home.node(), node.id(), "the first one is the node");
    (node, relay)
}

/// Hands a task in and takes it.
fn hold(server: &mut Server, task_id: &str) {
    server.submit(task_id);
    assert_eq!(server.take()["task"]["task_id"], task_id);
}

#[test]
fn two_servers_on_one_directory_are_two_workers_of_one_state() {
    let home = Home::new();
    let (mut node, mut relay) = node_and_relay(&home);
    hold(&mut node, "a");
    hold(&mut relay, "b");
    assert_eq!(node.status(), relay.status());
    assert_eq!(node.status()["assigned_tasks"], 2);
    let (a, b) = (relay.show("a"), node.show("b"));
    assert_ne!(a["worker"], b["worker"], "two sessions are two workers");
    assert_eq!(relay.refused("p2p_mark_task_complete", &json!({"task_id": "a"})), "not_holder");
    node.call("p2p_mark_task_complete", &json!({"task_id": "a", "result": {"by": "node"}}));
    assert_eq!(relay.show("a")["result"], json!({"by": "node"}));
    relay.close();
    node.close();
}

#[test]
fn a_waiting_worker_is_woken_by_a_submission_in_another_process() {
    let home = Home::new();
    let (node, relay) = node_and_relay(&home);
    let mut servers = [node, relay];
    for (waiting, submitting) in [(0, 1), (1, 0)] {
        let id = servers[waiting].start_call("p2p_get_next_task", &json!({"wait_seconds": 50}));
        servers[waiting].ping();
        let task_id = format!("for-{waiting}");
        servers[submitting].submit(&task_id);
        assert_eq!(servers[waiting].finish(id)["task"]["task_id"], *task_id);
    }
}

#[test]
fn what_a_session_holds_is_back_at_once_when_it_ends_and_the_others_keep_theirs() {
    for orderly in [true, false] {
        for node_ends in [true, false] {
            let home = Home::new();
            let (mut ends, mut stays) = node_and_relay(&home);
            if !node_ends {
                (ends, stays) = (stays, ends);
            }
            hold(&mut ends, "freed");
            hold(&mut stays, "kept");
            let waiting = ends.start_call("p2p_get_next_task", &json!({"wait_seconds": 50}));
            ends.ping();
            match orderly {
                true => ends.hang_up(),
                false => ends.terminate(),
            }
            assert_eq!(ends.process.exit_code(), 0, "orderly {orderly}, node {node_ends}");
            if let Some(answer) = ends.try_answer(waiting) {
                let task = &answer["result"]["structuredContent"]["task"];
                assert!(task.is_null(), "nobody is there to run it: {answer}");
            }
            eventually("the task to be back in the queue", || {
                (stays.state("freed") == "pending").then_some(())
            });
            assert_eq!(stays.show("freed")["attempt"], 1, "no attempt is used up");
            assert_eq!(stays.state("kept"), "assigned");
            stays.call("p2p_mark_task_complete", &json!({"task_id": "kept"}));
            assert_eq!(stays.take()["task"]["task_id"], "freed");
            stays.close();
        }
    }
}

#[test]
fn every_signal_that_asks_to_end_is_obeyed_in_order() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let home = Home::new();
        let (mut node, mut relay) = node_and_relay(&home);
        relay.process.signal(signal);
        assert_eq!(relay.process.exit_code(), 0, "{signal:?}");
        node.process.signal(signal);
        assert_eq!(node.process.exit_code(), 0, "{signal:?}");
        assert!(!home.data().join("node.sock").exists(), "the socket is removed");
    }
}

/// The first command that hung up closed the door behind it: rmcp cancels the token that a
/// connection was served with, and that was the one for all connections.
#[test]
fn commands_share_the_state_of_a_running_server() {
    let home = Home::new();
    let mut server = home.start();
    let submitted = home.run(&[
        "p2p-workflow",
        "submit",
        "--task-id",
        "a",
        "--workflow-id",
        "w",
        "--name",
        "A",
        "--tags",
        "p2p-only",
    ]);
    assert_eq!(submitted.code, 0, "{submitted:?}");
    assert_eq!(server.state("a"), "pending");
    let taken = home.json(&["next"]);
    assert_eq!(taken["task"]["task_id"], "a");
    assert_eq!(server.show("a")["worker"], "command-line");
    assert_eq!(server.take()["task"], json!(null), "a command's lease outlives the command");
    home.json(&["complete", "--task-id", "a", "--result", "7"]);
    assert_eq!(server.show("a")["result"], 7);
    assert_eq!(home.json(&["status"]), server.status());
    assert_eq!(home.node(), server.id(), "commands do not become the node beside a server");
    server.close();
}

#[test]
fn commands_share_their_state_where_no_server_runs() {
    let home = Home::new();
    let submit = ["submit", "--task-id", "a", "--workflow-id", "w", "--name", "A", "--tags"];
    home.json(&[&submit[..], &["unit-test"]].concat());
    let fence = home.json(&["next"])["lease"]["fence"].to_string();
    home.json(&["complete", "--task-id", "a", "--fence", &fence]);
    assert_eq!(home.json(&["status"])["completed_tasks"], 1);
    assert_eq!(home.start().state("a"), "completed");
}

/// A command that waits for a task is the node while it waits. A server that starts meanwhile
/// must find it, and go on without it.
#[test]
fn a_server_relays_to_a_command_and_takes_over_when_the_command_is_done() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["p2p-workflow", "next", "--wait", "50s", "--json"]);
    command.stdout(std::process::Stdio::piped());
    let mut waiting = Server::spawn(command);
    eventually("the command to be the node", || {
        home.data().join("node.sock").exists().then_some(())
    });
    let mut server = home.start();
    assert_eq!(home.node(), waiting.id());
    server.call("p2p_submit_task", &task("a"));
    assert_eq!(waiting.process.exit_code(), 0);
    assert_eq!(server.show("a")["worker"], "command-line");
    assert_eq!(home.node(), server.id(), "the server is the node now");
    home.json(&["complete", "--task-id", "a"]);
    assert_eq!(server.state("a"), "completed");
}
