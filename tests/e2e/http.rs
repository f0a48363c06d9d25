//! The HTTP door: sessions, requests without one, the older pair of paths, and what they have in
//! common with every other door.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Home, Server, eventually, task};
use crate::raw_http::{Answer, Connection, Door, Http, MESSAGE, call, request};

const NEXT: &str = "p2p_get_next_task";
const MARK: &str = "p2p_mark_task_complete";
const SUBMIT: &str = "p2p_submit_task";
const STATUS: &str = "p2p_scheduler_status";
const MODERN: &str = "MCP-Protocol-Version: 2026-07-28";

/// A client with a session.
struct Client<'d> {
    http: &'d Http,
    session: String,
}

impl<'d> Client<'d> {
    fn open(http: &'d Http) -> Self {
        let client = Client { http, session: http.session(&[]) };
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(client.post(&initialized).status, 202);
        client
    }

    fn post(&self, message: &Value) -> Answer {
        self.http.post(&[&self.session], message)
    }

    fn call(&self, tool: &str, arguments: &Value) -> Value {
        content(&self.post(&call(tool, arguments)))
    }

    fn submit(&self, task_id: &str) {
        assert_eq!(self.call(SUBMIT, &task(task_id))["created"], true);
    }

    /// Sends a request and leaves it open.
    fn send(&self, message: &Value) -> Connection {
        let mut connection = self.http.connect();
        let headers = [&MESSAGE[..], &[&self.session]].concat();
        assert!(connection.send(request("POST /mcp", &headers, &message.to_string()).as_bytes()));
        connection
    }

    /// Opens the stream of notifications, and sees that it is open.
    fn stream(&self) -> Connection {
        let mut connection = self.http.connect();
        let headers = ["Accept: text/event-stream", &self.session];
        assert!(connection.send(request("GET /mcp", &headers, "").as_bytes()));
        connection.until("\r\n\r\n", "HTTP/1.1 200");
        connection
    }

    fn state(&self, task_id: &str) -> String {
        let tasks = self.call(STATUS, &json!({"task_id": task_id}))["tasks"].take();
        tasks[0]["state"].as_str().expect("a state").to_owned()
    }
}

fn content(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut message = answer.message();
    assert_eq!(message["result"]["isError"], false, "{message}");
    message["result"]["structuredContent"].take()
}

/// The next event of a stream.
fn event(stream: &mut Connection) -> Value {
    let text = stream.until("\n\n", "data: ");
    let data = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).expect("data");
    serde_json::from_str(data).expect("JSON")
}

/// A request of the protocol without sessions, with the headers that go with it.
fn alone(method: &str, name: Option<&str>, mut params: Value) -> (Vec<String>, Value) {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut headers = vec![MODERN.to_owned(), format!("Mcp-Method: {method}")];
    headers.extend(name.map(|name| format!("Mcp-Name: {name}")));
    (headers, json!({"jsonrpc": "2.0", "id": "alone", "method": method, "params": params}))
}

fn ask_alone(door: &Door, method: &str, name: Option<&str>, params: Value) -> Answer {
    let (headers, message) = alone(method, name, params);
    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
    door.post(&headers, &message)
}

fn call_alone(door: &Door, tool: &str, arguments: &Value) -> Answer {
    ask_alone(door, "tools/call", Some(tool), json!({"name": tool, "arguments": arguments}))
}

#[test]
fn a_session_hands_in_takes_and_completes_and_a_payload_stays_as_it_was_written() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    let payload = r#"{"b":1.10,"a":12345678901234567890123,"text":"one\ntwo"}"#;
    // Printed over several lines, as people do: it is one message all the same.
    let pretty = format!(
        "{{\"jsonrpc\":\"2.0\",\r\n \"id\":\"\\u0041\",\"method\":\"tools/call\",\n\"params\":{{\"name\":\
         \"{SUBMIT}\",\"arguments\":{{\"task_id\":\"a\",\"workflow_id\":\"w\",\"name\":\"n\",\
         \"tags\":[],\n\"payload\":{payload}}}}}}}"
    );
    let headers = [&MESSAGE[..], &[&client.session]].concat();
    let answer = door.ask("POST /mcp", &headers, &pretty);
    assert_eq!(answer.message()["id"], "A");
    assert_eq!(content(&answer)["created"], true);
    let given = client.post(&call(NEXT, &json!({})));
    assert!(given.body.contains(&format!("\"payload\":{payload}")), "{}", given.body);
    let given = content(&given);
    assert_eq!(given["lease"]["expires_at"], Value::Null, "the session is the lease");
    let fence = &given["lease"]["fence"];
    let marked = client.call(MARK, &json!({"task_id": "a", "fence": fence, "result": [1.50]}));
    assert_eq!(marked["state"], "completed");
}

#[test]
fn two_sessions_are_two_workers_of_one_state_with_every_other_door() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let (one, other) = (Client::open(&door), Client::open(&door));
    let mut stdio = home.start();
    stdio.submit("a");
    assert_eq!(one.call(NEXT, &json!({}))["task"]["task_id"], "a");
    let refused = other.post(&call(MARK, &json!({"task_id": "a"}))).message();
    assert!(refused["result"]["content"][0]["text"].as_str().unwrap().ends_with("not_holder"));
    one.call(MARK, &json!({"task_id": "a"}));
    assert_eq!(stdio.state("a"), "completed");
    assert_eq!(home.json(&["status"])["completed_tasks"], 1);
}

#[test]
fn a_session_that_is_deleted_gives_back_what_it_held_and_ends_its_stream() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let (ends, stays) = (Client::open(&door), Client::open(&door));
    stays.submit("a");
    assert_eq!(ends.call(NEXT, &json!({}))["task"]["task_id"], "a");
    let mut stream = ends.stream();
    assert_eq!(door.ask("DELETE /mcp", &[&ends.session], "").status, 204);
    stream.rest();
    let again = stays.call(NEXT, &json!({"wait_seconds": 50}));
    assert_eq!(again["task"]["task_id"], "a");
    assert_eq!(ends.post(&call(STATUS, &json!({}))).status, 404);
    assert_eq!(door.ask("DELETE /mcp", &[&ends.session], "").status, 404);
}

/// What such a call got would be held by a session whose client does not know of it.
#[test]
fn a_wait_that_its_client_breaks_off_takes_nothing() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    let mut wait = call(NEXT, &json!({"wait_seconds": 50}));
    wait["params"]["_meta"] = json!({"progressToken": "wait"});
    let mut waiting = client.send(&wait);
    assert_eq!(event(&mut waiting)["params"]["progressToken"], "wait", "it waits");
    drop(waiting);
    // Under the same id: the call is over once it is taken again.
    let (headers, message) = alone(
        "tools/call",
        Some(NEXT),
        json!({"name": NEXT, "arguments": {"wait_seconds": 50}, "_meta": {}}),
    );
    let headers: Vec<_> =
        MESSAGE.iter().copied().chain(headers.iter().map(String::as_str)).collect();
    let mut alone = door.connect();
    alone.send(request("POST /mcp", &headers, &message.to_string()).as_bytes());
    drop(alone);
    wait["params"].as_object_mut().unwrap().remove("_meta");
    wait["params"]["arguments"] = json!({"wait_seconds": 0});
    eventually("that the first is over", || (client.post(&wait).status == 200).then_some(()));
    client.submit("a");
    assert_eq!(client.state("a"), "pending", "nobody who is gone was given it");
    assert_eq!(client.call(NEXT, &json!({"wait_seconds": 50}))["task"]["task_id"], "a");
}

/// The node does not answer such a call any more, and the POST waited for that until its client
/// hung up: SDKs that give up on a call send the notification, and leave the POST open.
#[test]
fn a_request_that_its_client_cancels_ends_with_no_answer() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": "é/1", "reason": "no more patience"}});
    for with_progress in [false, true] {
        let mut wait = call(NEXT, &json!({"wait_seconds": 50}));
        wait["id"] = json!("é/1");
        if with_progress {
            wait["params"]["_meta"] = json!({"progressToken": 1});
        }
        let mut waiting = client.send(&wait);
        eventually("that it is under way", || {
            let ping = json!({"jsonrpc": "2.0", "id": "é/1", "method": "ping"});
            (client.post(&ping).status == 400).then_some(())
        });
        // As PHP writes it, and Python.
        let text = cancel.to_string().replace("é/1", "\\u00e9\\/1");
        let headers = [&MESSAGE[..], &[&client.session]].concat();
        assert_eq!(door.ask("POST /mcp", &headers, &text).status, 202);
        let answer = waiting.answer();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert!(!answer.body.contains("result"), "{answer:?}");
    }
    client.submit("a");
    assert_eq!(client.state("a"), "pending", "nobody who took the call back was given it");
}

/// Half of a line was left to the node where a client hung up while its message was passed on. The
/// next message was taken for the rest of that line, and its POST waited for ever.
#[test]
fn a_message_after_one_that_was_broken_off_is_heard() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    let (mut stream, path) = door.stream(&[]);
    let line = format!("POST {path}");
    let long = call(SUBMIT, &json!({"payload": "x".repeat(3_000_000)}));
    let ping = json!({"jsonrpc": "2.0", "id": "next", "method": "ping"});
    for _ in 0..5 {
        drop(client.send(&long));
        assert_eq!(client.post(&ping).message()["result"], json!({}));
        let mut broken_off = door.connect();
        broken_off.send(request(&line, &MESSAGE, &long.to_string()).as_bytes());
        drop(broken_off);
        assert_eq!(door.ask(&line, &MESSAGE, &ping.to_string()).status, 202);
        while event(&mut stream)["id"] != "next" {}
    }
}

#[test]
fn progress_comes_before_the_answer_in_one_stream() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    let mut wait = call(NEXT, &json!({"wait_seconds": 50}));
    wait["params"]["_meta"] = json!({"progressToken": 7});
    wait["id"] = json!("wait");
    let mut waiting = client.send(&wait);
    let progress = event(&mut waiting);
    assert_eq!(progress["method"], "notifications/progress");
    assert_eq!(progress["params"]["progressToken"], 7);
    client.submit("a");
    let answer = loop {
        let message = event(&mut waiting);
        if message["method"].is_null() {
            break message;
        }
        assert_eq!(message["method"], "notifications/progress");
    };
    assert_eq!(answer["id"], "wait");
    assert_eq!(answer["result"]["structuredContent"]["task"]["task_id"], "a");
    // What is left is the last chunk's end, and that there is none after it.
    assert_eq!(waiting.rest().trim(), "0", "nothing follows the answer");
}

#[test]
fn the_newest_stream_of_a_session_is_told_of_changes_also_of_those_before_it_came() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let (watcher, worker) = (Client::open(&door), Client::open(&door));
    let subscribe = json!({"jsonrpc": "2.0", "id": 3, "method": "resources/subscribe",
        "params": {"uri": "p2p://tasks/a"}});
    assert_eq!(watcher.post(&subscribe).message()["result"], json!({}));
    worker.submit("a");
    let updated = |stream: &mut Connection| {
        let event = event(stream);
        assert_eq!(event["method"], "notifications/resources/updated");
        assert_eq!(event["params"]["uri"], "p2p://tasks/a");
    };
    let mut first = watcher.stream();
    updated(&mut first);
    let mut second = watcher.stream();
    worker.call(NEXT, &json!({}));
    updated(&mut second);
    drop(second);
    worker.call(MARK, &json!({"task_id": "a"}));
    updated(&mut watcher.stream());
}

/// The one that was newest stayed so when it was closed, and nobody was told anything any more.
#[test]
fn the_stream_before_the_newest_is_told_once_that_is_closed() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    let subscribe = json!({"jsonrpc": "2.0", "id": 3, "method": "resources/subscribe",
        "params": {"uri": "p2p://tasks/a"}});
    assert_eq!(client.post(&subscribe).status, 200);
    let (mut older, mut newest) = (client.stream(), client.stream());
    // The door closes it then, which can be waited for.
    newest.stream.shutdown(std::net::Shutdown::Write).unwrap();
    newest.rest();
    client.submit("a");
    assert_eq!(event(&mut older)["params"]["uri"], "p2p://tasks/a");
}

/// HEAD was taken for a GET whose stream is not read. It was the newest then, so that the client's
/// own was told nothing more.
#[test]
fn whoever_asks_for_the_head_of_a_stream_takes_nobody_s_place() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    let subscribe = json!({"jsonrpc": "2.0", "id": 3, "method": "resources/subscribe",
        "params": {"uri": "p2p://tasks/a"}});
    assert_eq!(client.post(&subscribe).status, 200);
    let mut stream = client.stream();
    for line in ["HEAD /mcp", "HEAD /sse"] {
        let answer = door.ask(line, &["Accept: text/event-stream", &client.session], "");
        assert_eq!((answer.status, answer.header("content-type")), (405, None), "{line}");
        assert!(answer.header("allow").unwrap().contains("GET"), "{line}");
    }
    client.submit("a");
    assert_eq!(event(&mut stream)["params"]["uri"], "p2p://tasks/a");
}

#[test]
fn a_request_without_a_session_is_one_worker_with_all_others_and_its_lease_runs_on_time() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    assert_eq!(content(&call_alone(&door, SUBMIT, &task("a")))["created"], true);
    let given = content(&call_alone(&door, NEXT, &json!({})));
    assert_eq!(given["task"]["task_id"], "a");
    assert!(given["lease"]["expires_at"].is_number(), "{given}");
    let fence = &given["lease"]["fence"];
    let renewed = json!({"task_id": "a", "fence": fence, "outcome": "in_progress"});
    assert_eq!(content(&call_alone(&door, MARK, &renewed))["state"], "assigned");
    let released = json!({"task_id": "a", "fence": fence, "outcome": "released"});
    content(&call_alone(&door, MARK, &released));
    let again = content(&call_alone(&door, NEXT, &json!({})));
    // Whoever had it before may speak up: only the fence tells the two from each other.
    let late = call_alone(&door, MARK, &json!({"task_id": "a"})).message();
    assert!(late["result"]["content"][0]["text"].as_str().unwrap().contains("fence"), "{late}");
    let report = json!({"task_id": "a", "fence": again["lease"]["fence"]});
    assert_eq!(content(&call_alone(&door, MARK, &report))["state"], "completed");
}

#[test]
fn a_listener_without_a_session_is_told_under_its_own_id() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let (headers, message) = alone(
        "subscriptions/listen",
        None,
        json!({"notifications": {"resourceSubscriptions": ["p2p://tasks/a"]}}),
    );
    let headers: Vec<_> =
        MESSAGE.iter().copied().chain(headers.iter().map(String::as_str)).collect();
    let mut stream = door.connect();
    stream.send(request("POST /mcp", &headers, &message.to_string()).as_bytes());
    let acknowledged = event(&mut stream);
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    content(&call_alone(&door, SUBMIT, &task("a")));
    let updated = event(&mut stream);
    assert_eq!(updated["params"]["uri"], "p2p://tasks/a");
    let id = "io.modelcontextprotocol/subscriptionId";
    assert_eq!(updated["params"]["_meta"][id], "alone");
    let read =
        ask_alone(&door, "resources/read", Some("p2p://tasks/a"), json!({"uri": "p2p://tasks/a"}));
    assert!(read.body.contains("pending"), "{read:?}");
    // A process that stops ends the stream with the request's answer.
    door.process.signal(Signal::TERM);
    assert_eq!(event(&mut stream)["id"], "alone");
}

#[test]
fn what_headers_say_must_be_what_the_body_says() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let params = || json!({"name": STATUS, "arguments": {}});
    let (good, message) = alone("tools/call", Some(STATUS), params());
    let with = |at: usize, other: &str| {
        let mut headers = good.clone();
        headers[at] = other.to_owned();
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        door.post(&headers, &message)
    };
    assert_eq!(with(0, MODERN).status, 200);
    assert_eq!(with(1, "mcp-method: tools/call").status, 200);
    assert_eq!(with(2, "Mcp-Name: =?base64?cDJwX3NjaGVkdWxlcl9zdGF0dXM=?=").status, 200);
    for (at, other) in [
        (0, "MCP-Protocol-Version: 2025-11-25"),
        (0, "X-None: "),
        (1, "Mcp-Method: tools/list"),
        (1, "Mcp-Method: TOOLS/CALL"),
        (1, "X-None: "),
        (2, "Mcp-Name: p2p_submit_task"),
        (2, "X-None: "),
        (2, "Mcp-Name: =?base64?!?="),
    ] {
        let answer = with(at, other);
        assert_eq!((answer.status, &answer.message()["id"]), (400, &json!("alone")), "{other}");
        assert_eq!(answer.message()["error"]["code"], -32020, "{other}: {answer:?}");
    }
    for (method, status, code) in [("initialize", 404, -32601), ("ping", 404, -32601)] {
        let answer = ask_alone(&door, method, None, json!({}));
        assert_eq!((answer.status, &answer.message()["error"]["code"]), (status, &json!(code)));
    }
    let mut bare = message.clone();
    bare["params"].as_object_mut().unwrap().remove("_meta");
    let headers: Vec<_> = good.iter().map(String::as_str).collect();
    let answer = door.post(&headers, &bare);
    assert_eq!((answer.status, &answer.message()["error"]["code"]), (400, &json!(-32602)));
    for line in ["GET /mcp", "DELETE /mcp"] {
        let answer = door.ask(line, &["Accept: text/event-stream", MODERN], "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{line}");
    }
}

/// Whatever the node would not answer under an id must not be passed on: the POST would hang.
#[test]
fn every_body_is_answered_whatever_it_holds() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    let headers = [&MESSAGE[..], &[&client.session]].concat();
    for (body, status) in [
        ("", 400),
        ("hello", 400),
        ("{", 400),
        ("{} {}", 400),
        ("[]", 400),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, 400),
        ("7", 400),
        (r#"{"id":3}"#, 400),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 202),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, 400),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, 400),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, 400),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, 400),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 200),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":7}"#, 200),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#, 200),
        (r#"{"jsonrpc":"2.0","id":9223372036854775807,"method":"ping"}"#, 200),
        (r#"{"jsonrpc":"2.0","id":9223372036854775808,"method":"ping"}"#, 400),
        (r#"{"jsonrpc":"2.0","id":"","method":"ping"}"#, 200),
        (r#"{"jsonrpc":"2.0","id":1,"method":"none"}"#, 200),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#, 200),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 202),
        (r#"{"jsonrpc":"2.0","method":"notifications/none"}"#, 202),
    ] {
        let answer = door.ask("POST /mcp", &headers, body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{deep}}}}}"#);
    let answer = door.ask("POST /mcp", &headers, &deep);
    assert!([200, 400].contains(&answer.status), "{}", answer.status);
    assert_eq!(client.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).status, 200);
}

#[test]
fn a_request_says_what_it_is_and_what_it_takes() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let body = ping.to_string();
    let kind = "Content-Type: application/json";
    assert_eq!(door.ask("POST /mcp", &[kind, "Accept: text/html"], &body).status, 406);
    assert_eq!(door.ask("POST /mcp", &[kind, "Accept: application/json"], &body).status, 406);
    assert_eq!(door.ask("POST /mcp", &["Content-Type: text/plain"], &body).status, 415);
    assert_eq!(door.ask("POST /mcp", &[kind, "Accept: */*"], &body).status, 400, "no session");
    assert_eq!(door.ask("PUT /mcp", &[], "").status, 405);
    assert_eq!(door.ask("POST /sse", &[kind], &body).status, 405, "clients try this first");
    assert_eq!(door.ask("GET /none", &[], "").status, 404);
    let session = door.session(&[]);
    let version = "MCP-Protocol-Version: 1999-01-01";
    assert_eq!(door.post(&[&session, version], &ping).status, 400);
    assert_eq!(door.post(&["Mcp-Session-Id: none"], &ping).status, 404);
}

#[test]
fn the_older_pair_of_paths_speaks_as_every_other_door() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let (mut stream, path) = door.stream(&[]);
    let line = format!("POST {path}");
    let post = |message: &Value| {
        assert_eq!(door.ask(&line, &MESSAGE, &message.to_string()).status, 202);
    };
    post(&crate::raw_http::initialize());
    assert_eq!(event(&mut stream)["result"]["serverInfo"]["name"], "ipfs-accelerate");
    post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    post(&call(SUBMIT, &task("a")));
    assert_eq!(event(&mut stream)["result"]["structuredContent"]["created"], true);
    post(&call(NEXT, &json!({})));
    assert_eq!(event(&mut stream)["result"]["structuredContent"]["task"]["task_id"], "a");
    drop(stream);
    let other = Client::open(&door);
    let again = other.call(NEXT, &json!({"wait_seconds": 50}));
    assert_eq!(again["task"]["task_id"], "a", "the stream was the session");
    eventually("that the path is gone", || {
        let answer = door.ask(&line, &MESSAGE, &call(STATUS, &json!({})).to_string());
        (answer.status == 404).then_some(())
    });
}

/// A stream of the older pair, which takes a task if there is one and which its client leaves unread
/// until the node reads nothing more of it; and a POST that waits for that.
fn unread_stream(door: &Door) -> [Connection; 2] {
    let (stream, path) = door.stream(&[]);
    let line = format!("POST {path}");
    let post = |message: &Value| {
        let mut connection = door.connect();
        connection.send(request(&line, &MESSAGE, &message.to_string()).as_bytes());
        connection
    };
    for message in [crate::raw_http::initialize(), call(NEXT, &json!({}))] {
        assert_eq!(post(&message).answer().status, 202);
    }
    let show = call(STATUS, &json!({"task_id": "large"}));
    loop {
        let posted = post(&show);
        let patience = Duration::from_secs(1);
        posted.stream.set_read_timeout(Some(patience)).expect("a time");
        if posted.stream.peek(&mut [0]).is_err() {
            posted.stream.set_read_timeout(None).expect("a time");
            return [stream, posted];
        }
    }
}

fn submit_large(client: &Client<'_>) {
    let mut large = task("large");
    large["payload"] = json!("x".repeat(200_000));
    assert_eq!(client.call(SUBMIT, &large)["created"], true);
}

/// What waited to be written kept the connection to the node open, so that the session went on.
#[test]
fn a_stream_that_was_left_unread_gives_back_what_it_held_once_it_breaks() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let client = Client::open(&door);
    submit_large(&client);
    let [stream, mut posted] = unread_stream(&door);
    assert_eq!(client.state("large"), "assigned");
    drop(stream);
    eventually("that it is given back", || (client.state("large") == "pending").then_some(()));
    assert_eq!(posted.answer().status, 404);
}

/// The door told one session after the other that the process ends, and one that is not read holds
/// that up. Those after it were never told.
#[test]
fn a_stream_that_is_not_read_keeps_nobody_from_the_last_answers() {
    let home = Home::new();
    let mut door = Door::open(&home, &[]);
    let client = Client::open(&door);
    submit_large(&client);
    let unread: Vec<_> = (0..4).map(|_| unread_stream(&door)).collect();
    let (mut stream, path) = door.stream(&[]);
    let line = format!("POST {path}");
    let mut wait = call(NEXT, &json!({"wait_seconds": 50}));
    wait["params"]["_meta"] = json!({"progressToken": 1});
    for message in [crate::raw_http::initialize(), wait] {
        assert_eq!(door.ask(&line, &MESSAGE, &message.to_string()).status, 202);
    }
    while event(&mut stream)["method"] != "notifications/progress" {}
    door.process.signal(Signal::TERM);
    while event(&mut stream)["id"] != 2 {}
    assert_eq!(door.process.exit_code(), 0);
    drop(unread);
}

/// The process with the HTTP door is not the node here.
#[test]
fn a_session_goes_on_when_the_node_s_process_is_killed() {
    let home = Home::new();
    let mut node = home.start();
    let mut door = Door::open(&home, &[]);
    assert_eq!(home.node(), node.id());
    let client = Client::open(&door);
    let mut stream = client.stream();
    let subscribe = json!({"jsonrpc": "2.0", "id": 3, "method": "resources/subscribe",
        "params": {"uri": "p2p://tasks/a"}});
    assert_eq!(client.post(&subscribe).status, 200);
    client.submit("a");
    assert_eq!(event(&mut stream)["params"]["uri"], "p2p://tasks/a");
    let fence = client.call(NEXT, &json!({}))["lease"]["fence"].clone();
    let mut wait = call(NEXT, &json!({"wait_seconds": 50}));
    wait["id"] = json!("wait");
    let mut waiting = client.send(&wait);
    client.call(STATUS, &json!({}));
    node.kill();
    assert_eq!(client.call(MARK, &json!({"task_id": "a", "fence": fence}))["state"], "completed");
    assert_eq!(home.node(), door.process.id());
    assert_eq!(event(&mut stream)["params"]["uri"], "p2p://tasks/a");
    client.submit("b");
    let given = content(&waiting.answer());
    assert_eq!(given["task"]["task_id"], "b");
    assert_eq!(content(&call_alone(&door, STATUS, &json!({})))["completed_tasks"], 1);
    door.process.signal(Signal::TERM);
    assert_eq!(door.process.exit_code(), 0);
}

#[test]
fn a_process_that_is_asked_to_end_answers_what_is_under_way() {
    for relayed in [false, true] {
        let home = Home::new();
        let _node = relayed.then(|| home.start());
        let mut door = Door::open(&home, &[]);
        let client = Client::open(&door);
        let mut stream = client.stream();
        let mut wait = call(NEXT, &json!({"wait_seconds": 50}));
        wait["params"]["_meta"] = json!({"progressToken": 1});
        let mut waiting = client.send(&wait);
        event(&mut waiting);
        door.process.signal(Signal::TERM);
        let answer = event(&mut waiting);
        assert_eq!(answer["result"]["structuredContent"]["task"], Value::Null, "{relayed}");
        stream.rest();
        assert_eq!(door.process.exit_code(), 0, "{relayed}");
    }
}

#[test]
fn one_process_serves_stdio_and_http_and_ends_with_its_client_on_stdin() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["mcp", "start", "--transport", "stdio,http", "--port", "0"]);
    command.stderr(Stdio::piped());
    let mut server = Server::spawn(command);
    server.introduce();
    server.submit("a");
    let http = Http::of(&mut server.process);
    let client = Client::open(&http);
    assert_eq!(client.call(NEXT, &json!({}))["task"]["task_id"], "a");
    assert_eq!(server.state("a"), "assigned");
    assert_eq!(http.ask("GET /sse", &[], "").status, 404, "only what was asked for is served");
    server.close();
}

#[test]
fn a_node_that_a_person_stops_takes_its_http_door_along() {
    let home = Home::new();
    let mut door = Door::open(&home, &[]);
    let client = Client::open(&door);
    client.submit("a");
    assert_eq!(home.run(&["node", "stop"]).code, 0);
    assert_eq!(door.process.exit_code(), 0);
}

/// A door that was connected to nobody did not notice, and kept its port until the next client.
#[test]
fn an_idle_door_notices_that_its_node_is_gone() {
    let home = Home::new();
    let mut node = home.start();
    let mut door = Door::open(&home, &[]);
    node.kill();
    eventually("that the door is the node", || (home.node() == door.process.id()).then_some(()));
    let mut relaying = Door::open(&home, &[]);
    content(&call_alone(&relaying, STATUS, &json!({})));
    assert_eq!(home.run(&["node", "stop"]).code, 0);
    for door in [&mut door, &mut relaying] {
        assert_eq!(door.process.exit_code(), 0);
    }
}

#[test]
fn a_port_that_is_taken_is_said_with_the_remedy_and_no_node_is_started() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = home.run(&["mcp", "start", "--transport", "http", "--port", &port]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""));
    assert!(run.stderr.contains("--port") && run.stderr.contains(&port), "{}", run.stderr);
    assert!(!home.data().join("tasks.sqlite3").exists());
}
