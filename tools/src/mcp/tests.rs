//! A client that writes lines and reads lines, on a real node.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use p2p_workflow_scheduler::node::{self, Attached, Durability, Node, Options, attach};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadBuf, ReadHalf,
    WriteHalf,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;

struct Client {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    to: WriteHalf<DuplexStream>,
    served: JoinHandle<()>,
    node: Node,
    _folder: tempfile::TempDir,
}

pub(super) async fn node() -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let durability = Durability::Relaxed;
    match attach(&Options { durability, ..Options::new(folder.path()) }).await.unwrap() {
        Attached::Node(node) => (node, folder),
        Attached::Peer(_) => panic!("the folder is new"),
    }
}

impl Client {
    /// A client that has said nothing yet.
    async fn new() -> Self {
        let (node, folder) = node().await;
        let sessions = node.clone();
        let server = Server::new(move |_| sessions.session(node::Hello::default()));
        Self::of(server, node, folder)
    }

    fn of(server: Server, node: Node, folder: tempfile::TempDir) -> Self {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(theirs);
        let served = tokio::spawn(async move {
            serve(server, reader, writer, CancellationToken::new()).await.unwrap();
        });
        let (from, to) = tokio::io::split(ours);
        Client { lines: BufReader::new(from).lines(), to, served, node, _folder: folder }
    }

    /// A client that is connected.
    async fn connected() -> Self {
        let mut client = Self::new().await;
        client.initialize().await;
        client
    }

    async fn initialize(&mut self) -> Value {
        let params = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let answer = self.ask("initialize", params).await;
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        answer
    }

    async fn send(&mut self, line: &str) {
        self.to.write_all(line.as_bytes()).await.unwrap();
        self.to.write_all(b"\n").await.unwrap();
    }

    async fn read(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn request(&mut self, id: u32, method: &str, params: Value) {
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(&line.to_string()).await;
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.request(0, method, params).await;
        let answer = self.read().await;
        assert_eq!(answer["id"], 0, "{answer}");
        answer
    }

    async fn tool(&mut self, name: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": name, "arguments": arguments})).await["result"].take()
    }

    async fn submit(&mut self, task_id: &str) {
        let task = json!({"task_id": task_id, "workflow_id": "w", "name": "n", "tags": []});
        let answer = self.tool("p2p_submit_task", task).await;
        assert_eq!(answer["structuredContent"]["created"], true, "{answer}");
    }

    async fn hang_up(mut self) {
        self.to.shutdown().await.unwrap();
        while self.lines.next_line().await.unwrap().is_some() {}
        self.served.await.unwrap();
        self.node.close().await;
    }
}

fn code(result: &Value) -> &str {
    assert_eq!(result["isError"], true, "{result}");
    assert_eq!(result.get("structuredContent"), None, "{result}");
    let text = result["content"][0]["text"].as_str().unwrap();
    text.lines().last().unwrap().strip_prefix("code: ").unwrap()
}

#[tokio::test]
async fn a_client_connects_and_is_told_what_to_do() {
    let mut client = Client::new().await;
    let answer = client.initialize().await;
    let result = &answer["result"];
    assert_eq!(result["protocolVersion"], "2025-06-18");
    assert_eq!(result["serverInfo"]["name"], "ipfs-accelerate");
    let resources = json!({"subscribe": true, "listChanged": true});
    let declared = json!({"tools": {}, "resources": resources, "prompts": {}, "completions": {}});
    assert_eq!(result["capabilities"], declared);
    assert!(result["instructions"].as_str().unwrap().len() <= 900);
    let tools = client.ask("tools/list", json!({})).await;
    assert_eq!(tools["result"]["tools"].as_array().unwrap().len(), 7);
    let again = client.ask("initialize", json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}})).await;
    assert_eq!(again["error"]["code"], -32600);
    client.hang_up().await;
}

#[tokio::test]
async fn a_task_makes_its_way_and_its_payload_comes_out_as_it_went_in() {
    let mut client = Client::connected().await;
    let payload = r#"{"z":1.10,"a":123456789012345678901234567890,"m":[1e2,"\u00e9\n"]}"#;
    client
        .send(&format!(
            r#"{{"jsonrpc":"2.0","id":"s","method":"tools/call","params":{{"name":"p2p_submit_task","arguments":{{"task_id":"t","workflow_id":"w","name":"n","tags":["P2P_ONLY"],"payload":{payload}}}}}}}"#
        ))
        .await;
    assert_eq!(client.read().await["result"]["structuredContent"]["state"], "pending");
    client
        .send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"p2p_get_next_task"}}"#)
        .await;
    let given = client.lines.next_line().await.unwrap().unwrap();
    assert!(given.contains(&format!("\"payload\":{payload},")), "{given}");
    let given: Value = serde_json::from_str(&given).unwrap();
    let text = given["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(payload), "{text}");
    assert_eq!(given["result"].get("_meta"), None);
    let fence = &given["result"]["structuredContent"]["lease"]["fence"];
    let marked = json!({"task_id": "t", "fence": fence, "result": [1]});
    let marked = client.tool("p2p_mark_task_complete", marked).await;
    assert_eq!(marked["structuredContent"]["state"], "completed");
    let shown = client.tool("p2p_scheduler_status", json!({"task_id": "t"})).await;
    assert_eq!(shown["structuredContent"]["tasks"][0]["result"], json!([1]));
    let mut clock = client.tool("p2p_get_merkle_clock", json!({})).await;
    let mut clock = clock["structuredContent"].take();
    clock["vector"] = json!({"you": 1});
    let reported = json!({"peer_id": "you", "clock_data": clock});
    let refused = client.tool("p2p_update_peer_state", reported).await;
    assert_eq!(code(&refused), "forged_clock");
    client.hang_up().await;
}

#[tokio::test]
async fn garbage_is_answered_and_does_no_harm() {
    let mut client = Client::new().await;
    for line in [
        "",
        "\r",
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/unheard-of","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":9,"result":{}}"#,
    ] {
        client.send(line).await;
    }
    client.send("hello").await;
    let answer = client.read().await;
    assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32700), &Value::Null));
    client.send(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#).await;
    assert_eq!(client.read().await["error"]["code"], -32600);
    client.send(r#"{"id":7,"method":"ping"}"#).await;
    let answer = client.read().await;
    assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32600), &json!(7)));
    let early = client.ask("tools/list", json!({})).await;
    assert_eq!(early["error"]["message"], "send initialize first");
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
    client.initialize().await;
    client.hang_up().await;
}

#[tokio::test]
async fn a_message_without_a_line_end_is_still_answered() {
    let mut client = Client::connected().await;
    client.to.write_all(br#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#).await.unwrap();
    client.to.shutdown().await.unwrap();
    assert_eq!(client.read().await["id"], 5);
    client.hang_up().await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_answered_under_its_id_wherever_that_stands() {
    let mut client = Client::connected().await;
    let filler = "x".repeat(MAX_LINE_BYTES + 100_000);
    for (line, id) in [
        (
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":"{filler}"}}}}"#),
            json!(1),
        ),
        (
            format!(r#"{{"method":"ping","params":{{"a":"{filler}"}},"jsonrpc":"2.0","id":"b"}}"#),
            json!("b"),
        ),
        (
            format!(r#"{{"method":"ping","id":3,"params":["{filler}"],"params":["{filler}"]}}"#),
            json!(3),
        ),
        (filler.clone(), Value::Null),
    ] {
        client.send(&line).await;
        let answer = client.read().await;
        assert_eq!(answer["id"], id);
        assert_eq!(answer["error"]["code"], -32600);
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.ends_with("code: too_large"), "{text}");
    }
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
    client.hang_up().await;
}

#[tokio::test]
async fn wrong_arguments_are_refused_in_words_that_help() {
    let mut client = Client::connected().await;
    for (arguments, says) in [
        (json!({"workflow_id": "w"}), "missing field `task_id`"),
        (json!({"task": "t"}), "unknown field `task`, expected one of `task_id`"),
        (json!({"task_id": 5}), "task_id: invalid type: integer `5`, expected a string"),
        (json!("{}"), "arguments must be a JSON object"),
        (json!(["t"]), "arguments must be a JSON object"),
        (Value::Null, "missing field `task_id`"),
    ] {
        let refused = client.tool("p2p_submit_task", arguments).await;
        assert_eq!(code(&refused), "invalid_argument");
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(says), "{text}");
    }
    client.hang_up().await;
}

#[tokio::test]
async fn faults_of_the_protocol_are_json_rpc_errors() {
    let mut client = Client::connected().await;
    for (method, params, code) in [
        ("tools/call", json!({"name": "p2p_fly"}), -32602),
        ("tools/call", json!({}), -32602),
        ("tools/list", json!("all"), -32600),
        ("initialize", json!({}), -32602),
        ("resources/subscribe", json!({"url": "p2p://status"}), -32602),
        ("resources/read", json!({"uri": "p2p://nothing"}), -32002),
        ("logging/setLevel", json!({"level": "info"}), -32601),
        ("tasks/get", json!({"taskId": "t"}), -32601),
        ("unheard/of", json!({}), -32601),
        ("ipfs-accelerate/stop", json!({}), -32601),
    ] {
        let answer = client.ask(method, params).await;
        assert_eq!(answer["error"]["code"], code, "{method}: {answer}");
    }
    client.hang_up().await;
}

#[tokio::test]
async fn a_client_of_the_protocol_without_a_handshake_is_served() {
    let mut client = Client::new().await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let found = client.ask("server/discover", json!({"_meta": meta})).await;
    assert_eq!(found["result"]["capabilities"]["tools"], json!({}), "{found}");
    let call = json!({"name": "p2p_scheduler_status", "arguments": {}, "_meta": meta});
    let answer = client.ask("tools/call", call).await;
    assert_eq!(answer["result"]["structuredContent"]["pending_tasks"], 0, "{answer}");
    assert_eq!(answer["result"]["resultType"], "complete");
    // Gone from this version, whether or not the params would have been right.
    for params in [json!({"_meta": meta}), json!({"uri": "p2p://status", "_meta": meta})] {
        for method in ["resources/subscribe", "resources/unsubscribe"] {
            let answer = client.ask(method, params.clone()).await;
            assert_eq!(answer["error"]["code"], -32601, "{method}: {answer}");
        }
    }
    client.hang_up().await;
}

#[tokio::test]
async fn requests_beyond_the_limit_are_answered_at_once_and_a_hangup_ends_the_waits() {
    let mut client = Client::connected().await;
    let wait = json!({"name": "p2p_get_next_task", "arguments": {"wait_seconds": 50}});
    for id in 1..=300 {
        client.request(id, "tools/call", wait.clone()).await;
    }
    client.request(301, "ping", json!({})).await;
    for id in MAX_IN_FLIGHT + 1..=300 {
        let refused = client.read().await;
        assert_eq!(refused["id"], id);
        assert_eq!(code(&refused["result"]), "overloaded");
    }
    let refused = client.read().await;
    assert!(refused["error"]["message"].as_str().unwrap().ends_with("code: overloaded"));
    client.to.shutdown().await.unwrap();
    for _ in 1..=MAX_IN_FLIGHT {
        assert_eq!(client.read().await["result"]["structuredContent"]["task"], Value::Null);
    }
    client.hang_up().await;
}

#[tokio::test]
async fn a_cancelled_wait_takes_no_task_and_frees_its_place() {
    let mut client = Client::connected().await;
    let wait = json!({"name": "p2p_get_next_task", "arguments": {"wait_seconds": 50}});
    client.request(1, "tools/call", wait.clone()).await;
    client.request(1, "tools/call", wait).await;
    let twice = client.read().await;
    assert_eq!((&twice["error"]["code"], &twice["id"]), (&json!(-32600), &json!(1)));
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#)
        .await;
    // Answered after the cancellation was heard, so the wait is over.
    while client.tool("p2p_scheduler_status", json!({})).await["isError"] == true {}
    client.submit("t").await;
    let given = client.tool("p2p_get_next_task", json!({})).await;
    assert_eq!(given["structuredContent"]["task"]["task_id"], "t");
    client.hang_up().await;
}

#[tokio::test]
async fn a_panic_is_answered_and_the_next_call_is_served() {
    let (node, folder) = node().await;
    let server = Server::new(|_| panic!("an injected fault"));
    let mut client = Client::of(server, node, folder);
    let fault = client.initialize().await;
    assert_eq!(fault["error"]["code"], -32603);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let call = json!({"name": "p2p_scheduler_status", "_meta": meta});
    let fault = client.ask("tools/call", call).await;
    assert_eq!(code(&fault["result"]), "internal");
    let call = json!({"name": "p2p_check_workflow_tags", "arguments": {"tags": []}, "_meta": meta});
    let answer = client.ask("tools/call", call).await;
    assert_eq!(answer["result"]["structuredContent"]["is_p2p_only"], false);
    client.hang_up().await;
}

#[tokio::test]
async fn people_command_over_local_doors() {
    let (node, folder) = node().await;
    let (sessions, stopped) = (node.clone(), Arc::new(AtomicBool::new(false)));
    let stop = stopped.clone();
    let server = Server::new(move |_| sessions.session(node::Hello::default()))
        .with_commands(move || stop.store(true, Ordering::Relaxed));
    let mut client = Client::of(server, node, folder);
    client.initialize().await;
    client.submit("t").await;
    let params = json!({"task_id": "t", "priority": 9});
    let answer = client.ask("ipfs-accelerate/reprioritize", params).await;
    assert_eq!(answer["result"]["structuredContent"]["state"], "pending", "{answer}");
    let given = client.tool("p2p_get_next_task", json!({})).await;
    assert_eq!(given["structuredContent"]["task"]["priority"], 9);
    let failed = json!({"task_id": "t", "outcome": "failed", "retry": false});
    client.tool("p2p_mark_task_complete", failed).await;
    let answer = client.ask("ipfs-accelerate/requeue", json!({"task_id": "t"})).await;
    assert_eq!(answer["result"]["structuredContent"]["state"], "pending", "{answer}");
    let refused = client.ask("ipfs-accelerate/requeue", json!({"task": "t"})).await;
    assert_eq!(code(&refused["result"]), "invalid_argument");
    let answer = client.ask("ipfs-accelerate/stop", json!({})).await;
    assert_eq!(answer["result"]["structuredContent"]["success"], true);
    assert!(stopped.load(Ordering::Relaxed));
    client.hang_up().await;
}

#[tokio::test]
async fn a_client_of_ours_says_whose_leases_it_goes_on_with() {
    let (node, folder) = node().await;
    let (said, hellos) = std::sync::mpsc::channel();
    let sessions = node.clone();
    let server = Server::new(move |hello| {
        said.send(hello).unwrap();
        sessions.session(node::Hello::default())
    });
    let server = server.with_commands(|| ());
    let mut client = Client::of(server, node, folder);
    let leases = [("t".to_owned(), 7)].into();
    let hello = Hello { worker: "worker-1".into(), leases, ..Hello::default() };
    let wrong = json!({"worker": 5});
    assert_eq!(client.ask(Hello::METHOD, wrong).await["error"]["code"], -32602);
    let (line, id) = hello.line();
    client.send(std::str::from_utf8(&line).unwrap().trim_end()).await;
    let answer = client.read().await;
    assert_eq!((answer["id"].to_string(), &answer["result"]), (id, &json!({})));
    assert_eq!(hellos.recv().unwrap(), Some(hello));
    client.initialize().await;
    client.hang_up().await;
}

#[tokio::test]
async fn a_connection_that_ends_watches_nothing_more() {
    let mut client = Client::connected().await;
    let node = client.node.clone();
    for uri in ["p2p://status", "p2p://tasks/a", "p2p://tasks/%61", "p2p://workflows/w"] {
        let answer = client.ask("resources/subscribe", json!({"uri": uri})).await;
        assert_eq!(answer["result"], json!({}));
    }
    client.ask("resources/list", json!({})).await;
    assert_eq!(node.watched(), 4, "two addresses of one task are one topic");
    let listen = json!({
        "notifications": {"resourceSubscriptions": ["p2p://clock", "p2p://peers"]},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    });
    client.request(7, "subscriptions/listen", listen).await;
    assert_eq!(client.read().await["method"], "notifications/subscriptions/acknowledged");
    while node.watched() < 6 {
        tokio::task::yield_now().await;
    }
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    client.send(&cancel.to_string()).await;
    while node.watched() > 4 {
        tokio::task::yield_now().await;
    }
    client.ask("resources/unsubscribe", json!({"uri": "p2p://tasks/a"})).await;
    client.ask("resources/unsubscribe", json!({"uri": "p2p://status"})).await;
    assert_eq!(node.watched(), 3);
    client.hang_up().await;
    assert_eq!(node.watched(), 0);
}

/// Says hello, then asks for the tools without end.
struct Insatiable {
    said: &'static [u8],
    asked: Arc<AtomicUsize>,
    line: Vec<u8>,
}

impl AsyncRead for Insatiable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.line.is_empty() {
            let id = self.asked.fetch_add(1, Ordering::Relaxed);
            self.line = match std::mem::take(&mut self.said) {
                b"" => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/list\"}}\n")
                    .into(),
                hello => hello.to_vec(),
            };
        }
        let size = into.remaining().min(self.line.len());
        into.put_slice(&self.line[..size]);
        self.line.drain(..size);
        Poll::Ready(Ok(()))
    }
}

/// A trivial server of the same SDK took 599 MB for 200,000 answers that nobody read.
#[tokio::test]
async fn a_client_that_never_reads_is_not_heard_for_ever() {
    let asked = Arc::new(AtomicUsize::new(0));
    let reader = Insatiable {
        said: b"{\"jsonrpc\":\"2.0\",\"id\":\"i\",\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{},\"clientInfo\":{\"name\":\"t\",\"version\":\"1\"}}}\n",
        asked: asked.clone(),
        line: Vec::new(),
    };
    let (node, _folder) = node().await;
    let sessions = node.clone();
    let server = Server::new(move |_| sessions.session(node::Hello::default()));
    let (_never_read, writer) = tokio::io::duplex(1);
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(server, reader, writer, stop.clone()));
    // The shortest answer, a refusal, has more than 150 bytes.
    let most = MAX_UNSENT_BYTES / 150;
    let mut before = 0;
    // All that runs here runs on this thread, so a thousand turns without a request mean that
    // there will be none.
    loop {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        match asked.load(Ordering::Relaxed) {
            now if now == before && now > 0 => break,
            now => before = now,
        }
        assert!(before < most, "{before} requests were heard");
    }
    served.abort();
    node.close().await;
}
