//! Clients that make mistakes, or mean harm, at every door: each is answered or cut off, costs the
//! server little, and harms nobody else.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Client, Home, Process, Server, code, hello, task};

const NEXT: &str = "p2p_get_next_task";

/// Where a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// stdin and stdout of the process that is the node.
    Node,
    /// stdin and stdout of a process that relays.
    Relay,
    /// The node's socket, as relays and commands use it.
    Socket,
}

const DOORS: [Door; 3] = [Door::Node, Door::Relay, Door::Socket];

/// A client at a door, not yet introduced, and the processes behind it.
struct Opened {
    client: Client,
    /// What the client's stdin and stdout belong to.
    process: Option<Process>,
    /// A well-behaved client of the same node, where that is another process.
    node: Option<Server>,
}

impl Door {
    fn open(self, home: &Home) -> Opened {
        let node = (self != Door::Node).then(|| home.start());
        if self == Door::Socket {
            return Opened { client: home.connect(), process: None, node };
        }
        let mut command = home.command();
        command.args(["mcp", "start"]);
        let Server { process, client } = Server::spawn(command);
        Opened { client, process: Some(process), node }
    }

    fn open_introduced(self, home: &Home) -> Opened {
        let mut opened = self.open(home);
        opened.client.introduce();
        opened
    }
}

fn error_code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("an error: {answer}"))
}

#[test]
fn garbage_is_answered_and_what_follows_is_served() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let garbage: [(&[u8], i64); 9] = [
        (b"hello", -32700),
        (b"{\"jsonrpc\":", -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}", -32700),
        (b"{} {}", -32700),
        (b"\x00\x01\x02", -32700),
        (b"7", -32600),
        (b"null", -32600),
        (deep.as_bytes(), -32600),
        (b"{\"jsonrpc\":\"2.0\"}", -32600),
    ];
    for door in DOORS {
        let home = Home::new();
        let mut opened = door.open_introduced(&home);
        let client = &mut opened.client;
        for (line, code) in garbage {
            client.send_bytes(line);
            client.send_bytes(b"\n");
            let fault = client.fault();
            assert_eq!(fault["code"], code, "{door:?}: {}: {fault}", String::from_utf8_lossy(line));
        }
        for ignored in
            ["", "  \r", r#"{"jsonrpc":"2.0","method":7}"#, r#"{"jsonrpc":"2.0","result":{}}"#]
        {
            client.send_bytes(format!("{ignored}\n").as_bytes());
        }
        client.ping();
        client.submit("a");
    }
}

#[test]
fn a_line_that_is_too_long_is_answered_under_its_id_if_it_has_one() {
    let filler = "x".repeat(5 * 1024 * 1024);
    for door in DOORS {
        let home = Home::new();
        let mut opened = door.open_introduced(&home);
        let client = &mut opened.client;
        let arguments =
            format!(r#"{{"name":"p2p_submit_task","arguments":{{"payload":"{filler}"}}}}"#);
        let id = client.reserve();
        let first =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{arguments}}}"#);
        let last = client.reserve();
        let second = format!(
            r#"{{"method":"tools/call","params":{arguments},"jsonrpc":"2.0","id":{last}}}"#
        );
        for (line, id) in [(first, id), (second, last)] {
            client.send_bytes(format!("{line}\n").as_bytes());
            let answer = client.answer(id);
            assert_eq!(error_code(&answer), -32600, "{door:?}");
            assert!(
                answer["error"]["message"].as_str().expect("a text").ends_with("code: too_large")
            );
        }
        client.send_bytes(format!("{filler}\n").as_bytes());
        assert!(client.fault()["message"].as_str().expect("a text").ends_with("code: too_large"));
        client.submit("a");
    }
}

#[test]
fn what_comes_before_the_introduction_is_refused_and_the_introduction_still_works() {
    for door in DOORS {
        let home = Home::new();
        let mut opened = door.open(&home);
        let client = &mut opened.client;
        client.notify("notifications/initialized");
        client.notify("notifications/nonsense");
        for (method, params) in
            [("tools/list", json!({})), ("tools/call", json!({"name": NEXT, "arguments": {}}))]
        {
            let id = client.request(method, &params);
            assert_eq!(error_code(&client.answer(id)), -32600, "{door:?} {method}");
        }
        client.introduce();
        let again = client.request("initialize", &hello());
        assert_eq!(error_code(&client.answer(again)), -32600, "{door:?}");
        client.submit("a");
    }
}

/// rmcp serves requests side by side, so that the calls used to overtake the introduction.
#[test]
fn a_client_need_not_wait_for_the_answer_to_its_introduction() {
    for door in DOORS {
        let home = Home::new();
        let mut opened = door.open(&home);
        let client = &mut opened.client;
        let introduction = client.request("initialize", &hello());
        let calls: Vec<u64> = (0..50)
            .map(|number| client.start_call("p2p_submit_task", &task(&format!("t{number}"))))
            .collect();
        assert!(client.answer(introduction)["result"].is_object(), "{door:?}");
        for call in calls {
            client.finish(call);
        }
    }
}

#[test]
fn unknown_methods_and_tools_are_protocol_errors() {
    for door in DOORS {
        let home = Home::new();
        let mut opened = door.open_introduced(&home);
        let client = &mut opened.client;
        for method in [
            "nonsense",
            "tools/nonsense",
            "ipfs-accelerate/nonsense",
            "tasks/list",
            "logging/setLevel",
        ] {
            let id = client.request(method, &json!({}));
            assert_eq!(error_code(&client.answer(id)), -32601, "{door:?} {method}");
        }
        let id = client.start_call("p2p_nonsense", &json!({}));
        assert_eq!(error_code(&client.answer(id)), -32602, "{door:?}");
        let id = client.request("tools/call", &json!({"name": 7}));
        assert_eq!(error_code(&client.answer(id)), -32602, "{door:?}");
    }
}

#[test]
fn calls_beyond_what_may_be_in_flight_are_refused_and_the_others_go_on() {
    for door in DOORS {
        let home = Home::new();
        let mut opened = door.open_introduced(&home);
        let client = &mut opened.client;
        let wait = json!({"wait_seconds": 50});
        let mut calls: Vec<u64> = (0..300).map(|_| client.start_call(NEXT, &wait)).collect();
        for call in calls.split_off(256) {
            assert_eq!(code(&client.answer(call)["result"]), "overloaded", "{door:?}");
        }
        let ping = client.request("ping", &json!({}));
        let refusal = client.answer(ping);
        assert!(
            refusal["error"]["message"].as_str().expect("a text").ends_with("code: overloaded")
        );
        let mut other = home.connect();
        other.introduce();
        for number in 0..256 {
            other.submit(&format!("t{number}"));
        }
        for call in calls {
            assert!(client.finish(call)["task"].is_object(), "{door:?}");
        }
        client.ping();
    }
}

/// A client that only writes. Without back pressure its unread answers were 600 MB; and a relay
/// that waited for room to write did not hear that it should end.
#[cfg(target_os = "linux")]
#[test]
fn a_client_that_never_reads_costs_little_and_holds_up_nobody() {
    const CALLS: u64 = 200_000;
    const ENOUGH: u64 = 100 * 1024 * 1024;
    for door in [Door::Node, Door::Relay] {
        let home = Home::new();
        let node = (door == Door::Relay).then(|| home.start());
        let mut command = home.command();
        command.args(["mcp", "start"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut rude = Process::spawn(command);
        let mut stdin = rude.child().stdin.take().expect("a pipe");
        let unread = rude.child().stdout.take().expect("a pipe");
        let written = Arc::new(AtomicU64::new(0));
        let counter = written.clone();
        let writer = thread::spawn(move || {
            let hello =
                json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": hello()});
            let mut line = format!("{hello}\n");
            for id in 0..CALLS {
                let params = json!({"name": "p2p_scheduler_status", "arguments": {}});
                line +=
                    &json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
                        .to_string();
                line.push('\n');
                if stdin.write_all(line.as_bytes()).is_err() {
                    return;
                }
                line.clear();
                counter.store(id + 1, Ordering::Relaxed);
            }
        });
        let mut other = home.connect();
        other.introduce();
        let mut before = 0;
        while written.load(Ordering::Relaxed) != before || before == 0 {
            before = written.load(Ordering::Relaxed);
            for _ in 0..100 {
                other.status();
            }
        }
        assert!(before < CALLS, "{door:?}: the server reads on though nobody reads from it");
        assert!(rude.memory() < ENOUGH, "{door:?}: {} bytes", rude.memory());
        if let Some(node) = &node {
            assert!(node.process.memory() < ENOUGH, "{} bytes", node.process.memory());
        }
        rude.signal(rustix::process::Signal::TERM);
        assert_eq!(rude.exit_code(), 0, "{door:?}: it ends though its answers are unread");
        drop(unread);
        writer.join().expect("the writer ends with its pipe");
    }
}

#[test]
fn a_client_that_vanishes_in_mid_call_leaves_nothing_behind() {
    for door in DOORS {
        let home = Home::new();
        let mut opened = door.open_introduced(&home);
        opened.client.submit("held");
        assert!(opened.client.take()["task"].is_object());
        for _ in 0..10 {
            opened.client.start_call(NEXT, &json!({"wait_seconds": 50}));
        }
        opened.client.ping();
        opened.client.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":99,\"method\":\"tools/ca");
        let mut other = opened.node.take().unwrap_or_else(|| home.start());
        // Its pipes break, or its socket does.
        match &mut opened.process {
            Some(process) => process.kill(),
            None => drop(opened.client),
        }
        let given = other.call(NEXT, &json!({"wait_seconds": 50}));
        assert_eq!(given["task"]["task_id"], "held", "{door:?}");
        other.submit("next");
        assert_eq!(other.take()["task"]["task_id"], "next", "{door:?}: nobody else waits");
    }
}

/// Wrong in its type, its range or its name, for each tool; `{}` where a field is required.
fn malformed() -> Vec<(&'static str, Value)> {
    let submit = |field: &str, value: Value| {
        let mut arguments = task("new");
        arguments[field] = value;
        ("p2p_submit_task", arguments)
    };
    let mark = |field: &str, value: Value| {
        ("p2p_mark_task_complete", json!({"task_id": "a", field: value}))
    };
    let clock =
        |clock: Value| ("p2p_update_peer_state", json!({"peer_id": "p", "clock_data": clock}));
    let counter = |counter: Value| {
        clock(json!({"node_id": "p", "vector": {"p": counter}, "merkle_root": ""}))
    };
    let huge = || json!(1e300);
    let mut calls = vec![
        ("p2p_submit_task", json!({})),
        submit("task_id", json!(7)),
        submit("task_id", json!("")),
        submit("task_id", json!("a\u{0}b")),
        submit("workflow_id", json!(null)),
        submit("name", json!(["x"])),
        submit("tags", json!("p2p-only")),
        submit("tags", json!([7])),
        submit("priority", json!("high")),
        submit("priority", json!(0)),
        submit("priority", json!(-5)),
        submit("priority", json!(1_000_000_000)),
        submit("priority", huge()),
        submit("depends_on", json!("x")),
        submit("depends_on", json!([""])),
        submit("requires", json!({})),
        submit("delay_seconds", json!(-1)),
        submit("delay_seconds", huge()),
        submit("max_attempts", json!(-1)),
        submit("max_attempts", json!(1.5)),
        submit("lease_seconds", json!(-1)),
        submit("lease_seconds", json!(0.5)),
        submit("lease_seconds", huge()),
        submit("dependencies_must_exist", json!("yes")),
        submit("state", json!("completed")),
        (NEXT, json!({"wait_seconds": "long"})),
        (NEXT, json!({"wait_seconds": -1})),
        (NEXT, json!({"wait_seconds": 51})),
        (NEXT, json!({"wait_seconds": huge()})),
        (NEXT, json!({"capabilities": "gpu"})),
        (NEXT, json!({"capabilities": [""]})),
        (NEXT, json!({"tags": {"p2p-only": true}})),
        (NEXT, json!({"workflow_id": ""})),
        (NEXT, json!({"lease_seconds": -1})),
        (NEXT, json!({"lease_seconds": 1e12})),
        (NEXT, json!({"task_id": "a"})),
        ("p2p_mark_task_complete", json!({})),
        ("p2p_mark_task_complete", json!({"task_id": 7})),
        mark("outcome", json!("done")),
        mark("fence", json!(-1)),
        mark("fence", json!(1.5)),
        mark("fence", json!("7")),
        mark("fence", huge()),
        mark("retry", json!("no")),
        mark("error", json!(7)),
        mark("note", json!("only with in_progress")),
        mark("state", json!("completed")),
        ("p2p_scheduler_status", json!({"task_id": 7})),
        ("p2p_scheduler_status", json!({"state": "lost"})),
        ("p2p_scheduler_status", json!({"limit": 0})),
        ("p2p_scheduler_status", json!({"limit": 101})),
        ("p2p_scheduler_status", json!({"limit": -1})),
        ("p2p_scheduler_status", json!({"cursor": "back"})),
        ("p2p_scheduler_status", json!({"task_id": "a", "limit": 1})),
        ("p2p_scheduler_status", json!({"verbose": true})),
        ("p2p_check_workflow_tags", json!({})),
        ("p2p_check_workflow_tags", json!({"tags": "p2p-only"})),
        ("p2p_check_workflow_tags", json!({"tags": [1]})),
        ("p2p_update_peer_state", json!({})),
        clock(json!("x")),
        clock(json!({"node_id": "p", "vector": [1], "merkle_root": ""})),
        counter(json!("7")),
        counter(json!(-1)),
        counter(huge()),
        ("p2p_get_merkle_clock", json!({"peer_id": "p"})),
    ];
    for tool in [
        "p2p_scheduler_status",
        "p2p_submit_task",
        NEXT,
        "p2p_mark_task_complete",
        "p2p_check_workflow_tags",
        "p2p_update_peer_state",
        "p2p_get_merkle_clock",
    ] {
        for arguments in [json!([]), json!(["a"]), json!("a"), json!(7), json!(true)] {
            calls.push((tool, arguments));
        }
    }
    calls
}

/// All that a client can see of the tasks.
fn everything(client: &mut Client) -> (Value, Value, Value) {
    let list = client.call("p2p_scheduler_status", &json!({"limit": 100}));
    let clock = client.call("p2p_get_merkle_clock", &json!({}));
    (list, client.show("a"), clock)
}

#[test]
fn malformed_arguments_are_refused_and_change_nothing() {
    for door in DOORS {
        let home = Home::new();
        let mut opened = door.open_introduced(&home);
        let client = &mut opened.client;
        client.submit("a");
        let before = everything(client);
        for (tool, arguments) in malformed() {
            let id = client.start_call(tool, &arguments);
            let answer = client.answer(id);
            assert_eq!(answer["result"]["isError"], true, "{tool} {arguments}: {answer}");
            let code = code(&answer["result"]);
            assert_eq!(code, "invalid_argument", "{door:?}: {tool} {arguments}: {answer}");
        }
        assert_eq!(everything(client), before, "{door:?}");
    }
}

#[test]
fn standard_streams_may_be_two_ends_of_one_socket() {
    let home = Home::new();
    for _node_then_relay in 0..2 {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut command = home.command();
        let stdin = OwnedFd::from(theirs.try_clone().expect("a second descriptor"));
        command.args(["mcp", "start"]).stdin(stdin).stdout(OwnedFd::from(theirs));
        let mut process = Process::spawn(command);
        let mut client = Client::of_socket(ours);
        client.introduce();
        assert_eq!(client.status()["pending_tasks"], 0);
        client.hang_up();
        assert_eq!(process.exit_code(), 0);
    }
}

/// A last line without its end made the server panic, and a relay drop it.
#[test]
fn standard_streams_may_be_files() {
    let home = Home::new();
    let node = home.start();
    for node in [Some(node), None] {
        let input = home.path().join("input");
        let request = |id: u64, method: &str, params: Value| {
            json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
        };
        let lines = [
            request(1, "initialize", hello()),
            request(2, "tools/call", json!({"name": "p2p_submit_task", "arguments": task("a")})),
            request(3, "tools/list", json!({})),
        ];
        std::fs::write(&input, lines.join("\n")).expect("a file");
        let output = home.path().join("output");
        let mut command = home.command();
        command.args(["mcp", "start"]);
        command.stdin(std::fs::File::open(&input).expect("it was written"));
        command.stdout(std::fs::File::create(&output).expect("a file"));
        assert_eq!(Process::spawn(command).exit_code(), 0);
        let mut text = String::new();
        let mut output = std::fs::File::open(&output).expect("it was made");
        output.read_to_string(&mut text).expect("UTF-8");
        let mut ids: Vec<u64> = text
            .lines()
            .map(|line| {
                let answer: Value = serde_json::from_str(line).expect("JSON");
                assert!(answer["result"].is_object(), "{answer}");
                answer["id"].as_u64().expect("a number")
            })
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3], "relayed: {}", node.is_some());
    }
}
