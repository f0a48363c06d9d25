//! A node that follows a script: it expects the requests it was told of, and answers as told.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::task::JoinHandle;

use super::*;

/// One request, and what the node answers.
pub(crate) struct Exchange {
    method: &'static str,
    params: Value,
    result: Value,
}

/// A call of `tool` with exactly these arguments, answered with `structured`.
pub(crate) fn tool(tool: &str, arguments: Value, structured: Value) -> Exchange {
    let params = json!({"name": tool, "arguments": arguments});
    Exchange { method: "tools/call", params, result: success(structured) }
}

/// A request of our own.
pub(crate) fn request(method: &'static str, params: Value, structured: Value) -> Exchange {
    Exchange { method, params, result: success(structured) }
}

/// The same, turned down.
pub(crate) fn rejected(tool: &str, arguments: Value, text: &str) -> Exchange {
    let params = json!({"name": tool, "arguments": arguments});
    let result = json!({"isError": true, "content": [{"type": "text", "text": text}]});
    Exchange { method: "tools/call", params, result }
}

fn success(structured: Value) -> Value {
    json!({"content": [{"type": "text", "text": "for agents"}], "structuredContent": structured})
}

/// The client's end of a stream to a node that follows `script` and then hangs up.
///
/// Await the handle: it panics if a request is not the one expected, or missing.
pub(crate) fn node(script: Vec<Exchange>) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let handle = tokio::spawn(async move {
        let mut peer = Peer::accept(theirs).await;
        for exchange in script {
            let request = peer.read().await.expect("a request is missing");
            assert_eq!(request["method"], exchange.method);
            assert_eq!(request["params"], exchange.params);
            peer.reply(&request, exchange.result).await;
        }
        assert_eq!(peer.read().await, None, "a request that the script does not have");
    });
    (ours, handle)
}

/// The node's end, for tests that play it by hand.
pub(crate) struct Peer {
    stream: BufReader<DuplexStream>,
    pub(crate) hello: Value,
}

impl Peer {
    pub(crate) async fn accept(stream: DuplexStream) -> Self {
        let mut peer = Peer { stream: BufReader::new(stream), hello: Value::Null };
        peer.hello = peer.read().await.expect("who it is");
        let hello = peer.hello.clone();
        assert_eq!(hello["method"], Hello::METHOD);
        peer.reply(&hello, json!({})).await;
        let initialize = peer.read().await.expect("initialize");
        assert_eq!(initialize["method"], "initialize");
        peer.reply(&initialize, json!({"protocolVersion": PROTOCOL_VERSION, "capabilities": {}}))
            .await;
        peer
    }

    /// The next request; `None` once the client hung up.
    pub(crate) async fn read(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.expect("a duplex stream cannot fail");
            if line.is_empty() {
                return None;
            }
            let message: Value = serde_json::from_str(&line).expect("JSON");
            if message["method"] != "notifications/initialized" {
                return Some(message);
            }
        }
    }

    pub(crate) async fn write(&mut self, message: Value) {
        self.write_line(&message.to_string()).await;
    }

    pub(crate) async fn write_line(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stream.get_mut().write_all(line.as_bytes()).await.expect("the client reads");
    }

    pub(crate) async fn reply(&mut self, request: &Value, result: Value) {
        self.write(json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).await;
    }
}
