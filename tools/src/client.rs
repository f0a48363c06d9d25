//! A small MCP client: newline-delimited JSON-RPC over any byte stream, with pipelining.
//!
//! ```text
//! command ── call ──► Client ══ one JSON-RPC message per line ══► node
//!                        ▲                                          │
//!                        └──── answers, in whatever order ──────────┘
//! ```
//!
//! Written by hand, and not with rmcp's client, for two things which that one does not give:
//! requests reach the wire in the order in which they were sent (rmcp sends each from a task of
//! its own), and payloads, results and structured content pass through exactly as they were written.
//!
//! There is no task and no lock. Whoever waits, for an answer or for room to write, reads the
//! stream, and sets aside the replies that others wait for. A caller that pipelines bounds its
//! requests in flight itself; the node takes 256 at once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::pin::pin;

use futures::{SinkExt, StreamExt};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

use crate::mcp::Hello;

/// The MCP revision asked for: the first one with structured content.
const PROTOCOL_VERSION: &str = "2025-06-18";
/// The worker that all commands of a node share: its leases run on time, not with a session.
const WORKER: &str = "command-line";
/// The longest answer: a task with its payload and result, each escaped and repeated in the text,
/// is below 4 MiB. A longer line is no answer of ours.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Codes that say that the node failed, where all others say that it refused.
const FAILURE_CODES: [&str; 2] = ["store_failed", "internal"];

/// A byte stream to a node: a socket, a pipe, or its in-process twin.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The input of a tool. Every value is kept as the JSON text it came as, so that a payload loses
/// neither the order of its keys nor the digits of its numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Arguments(BTreeMap<String, Box<RawValue>>);

impl Arguments {
    /// No arguments.
    #[must_use]
    pub fn new() -> Self {
        Arguments::default()
    }

    /// Adds a field, unless it is `null`: so the default of what was not given stays the node's.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Serialize) -> Self {
        let value = to_raw_value(&value).expect("flags are texts, numbers, lists and JSON");
        if value.get() != "null" {
            self.0.insert(key.to_owned(), value);
        }
        self
    }

    /// Adds a list, unless it is empty.
    #[must_use]
    pub fn with_list(self, key: &str, items: &[String]) -> Self {
        match items.is_empty() {
            true => self,
            false => self.with(key, items),
        }
    }
}

/// A connection to a node, past the handshake.
pub struct Client {
    requests: FramedWrite<WriteHalf<Box<dyn Duplex>>, LinesCodec>,
    replies: Replies,
    last_id: u64,
}

/// The half that is read.
struct Replies {
    lines: FramedRead<ReadHalf<Box<dyn Duplex>>, LinesCodec>,
    /// Replies that came while another was waited for.
    early: HashMap<u64, Reply>,
}

/// A request on its way. Exchange it for its answer with [`Client::answer`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket(u64);

impl Client {
    /// Shakes hands with the node at the other end of `stream`, as the worker that all commands
    /// share.
    ///
    /// # Errors
    /// The stream ended, or what speaks there is not our node.
    pub async fn attach(stream: impl Duplex + 'static) -> Result<Self, CallError> {
        let hello = Hello { worker: WORKER.to_owned(), shared: true, ..Hello::default() };
        Client::shake_hands(stream, Some(hello)).await
    }

    /// The same over a stream that another speaks for already, which said who the worker is.
    ///
    /// # Errors
    /// As [`Client::attach`].
    pub async fn attach_introduced(stream: impl Duplex + 'static) -> Result<Self, CallError> {
        Client::shake_hands(stream, None).await
    }

    async fn shake_hands(
        stream: impl Duplex + 'static,
        hello: Option<Hello>,
    ) -> Result<Self, CallError> {
        let (read, write) = tokio::io::split(Box::new(stream) as Box<dyn Duplex>);
        let lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_ANSWER_BYTES));
        let mut client = Client {
            requests: FramedWrite::new(write, LinesCodec::new()),
            replies: Replies { lines, early: HashMap::new() },
            last_id: 0,
        };
        let hello = match hello {
            Some(hello) => Some(client.send(Hello::METHOD, hello).await?),
            None => None,
        };
        let initialize = client
            .send(
                "initialize",
                json!({
                    "protocolVersion": PROTOCOL_VERSION,
                    "clientInfo": {
                        "name": env!("CARGO_PKG_NAME"),
                        "version": env!("CARGO_PKG_VERSION"),
                    },
                    "capabilities": {},
                }),
            )
            .await?;
        if let Some(hello) = hello {
            client.reply(hello).await?;
        }
        client.reply(initialize).await?;
        client.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        Ok(client)
    }

    /// Calls `tool` and waits for its answer.
    ///
    /// # Errors
    /// The call was rejected, the node failed, or the connection was lost.
    pub async fn call(&mut self, tool: &str, arguments: Arguments) -> Result<Answer, CallError> {
        let ticket = self.start_call(tool, arguments).await?;
        self.answer(ticket).await
    }

    /// Sends a call of `tool` without waiting for its answer. Calls arrive in the order of sending.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn start_call(
        &mut self,
        tool: &str,
        arguments: Arguments,
    ) -> Result<Ticket, CallError> {
        self.send("tools/call", ToolCall { name: tool, arguments }).await
    }

    /// Sends a request of our own, outside of MCP's, that is answered like a tool's call.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn request(&mut self, method: &str, params: Arguments) -> Result<Answer, CallError> {
        let ticket = self.send(method, params).await?;
        self.answer(ticket).await
    }

    /// Waits for the answer to one request.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn answer(&mut self, ticket: Ticket) -> Result<Answer, CallError> {
        let result = self.reply(ticket).await?;
        let result: ToolResult = serde_json::from_str(result.get()).map_err(not_mcp)?;
        result.into_answer()
    }

    async fn send(&mut self, method: &str, params: impl Serialize) -> Result<Ticket, CallError> {
        self.last_id += 1;
        let id = self.last_id;
        self.write(&Request { jsonrpc: "2.0", id, method, params }).await?;
        Ok(Ticket(id))
    }

    /// Buffers one message; [`Client::reply`] sees to it that the last ones leave too.
    async fn write(&mut self, message: &impl Serialize) -> Result<(), CallError> {
        let line = serde_json::to_string(message).map_err(|error| CallError::Lost(error.into()))?;
        self.replies.read_during(self.requests.feed(line)).await
    }

    async fn reply(&mut self, ticket: Ticket) -> Result<Box<RawValue>, CallError> {
        self.replies.read_during(SinkExt::<String>::flush(&mut self.requests)).await?;
        loop {
            if let Some(reply) = self.replies.early.remove(&ticket.0) {
                return reply.map_err(|fault| CallError::Protocol(fault.message));
            }
            self.replies.read().await?;
        }
    }
}

impl Replies {
    /// Reads while something is written: a node whose answers nobody takes stops reading too, and
    /// both would wait for each other.
    async fn read_during(
        &mut self,
        write: impl Future<Output = Result<(), LinesCodecError>>,
    ) -> Result<(), CallError> {
        let mut write = pin!(write);
        loop {
            tokio::select! {
                biased;
                written = &mut write => return Ok(written?),
                read = self.read() => read?,
            }
        }
    }

    /// Reads one message, and keeps it if it is a reply. Loses nothing if it is dropped.
    async fn read(&mut self) -> Result<(), CallError> {
        let line = match self.lines.next().await {
            Some(line) => line?,
            None => return Err(CallError::Lost(io::ErrorKind::UnexpectedEof.into())),
        };
        match serde_json::from_str(&line).map_err(not_mcp)? {
            Message { method: Some(_), .. } => {}
            Message { id: Some(id), result: Some(result), .. } => {
                self.early.insert(id, Ok(result));
            }
            Message { id: Some(id), error: Some(fault), .. } => {
                self.early.insert(id, Err(fault));
            }
            Message { error: Some(fault), .. } => return Err(CallError::Protocol(fault.message)),
            _ => return Err(not_mcp("a message that is neither a request nor a reply")),
        }
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("last_id", &self.last_id)
            .field("early", &self.replies.early.len())
            .finish_non_exhaustive()
    }
}

/// What a tool answered.
#[derive(Clone, Debug)]
pub struct Answer {
    structured: Box<RawValue>,
}

impl Answer {
    /// The structured content as the node wrote it: one JSON object on one line.
    #[must_use]
    pub fn json(&self) -> &str {
        self.structured.get()
    }

    /// The structured content in a shape of the caller's.
    ///
    /// # Errors
    /// It has another.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, CallError> {
        serde_json::from_str(self.json()).map_err(not_mcp)
    }

    /// The same with one field more, each value as it was written.
    #[must_use]
    pub fn with(&self, key: &str, value: &RawValue) -> Self {
        let object = self.json().trim_end();
        let open = object.strip_suffix('}').unwrap_or(object).trim_end();
        let comma = if open.ends_with('{') { "" } else { "," };
        let text = format!("{open}{comma}{}:{value}}}", Value::from(key));
        let structured = RawValue::from_string(text);
        Answer { structured: structured.expect("an object with one field more is JSON") }
    }

    /// The structured content, to look into.
    ///
    /// # Errors
    /// A number in it is beyond what can be held.
    pub fn value(&self) -> Result<Value, CallError> {
        serde_json::from_str(self.json()).map_err(not_mcp)
    }
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The scheduler said no. Nothing was changed.
    #[error("{0}")]
    Rejected(String),
    /// The node could not do it: its store failed, or it has a bug. Nothing was acknowledged.
    #[error("{0}")]
    Failed(String),
    /// What came back is not what MCP has there.
    #[error(
        "the node and this command do not understand each other: {0}. Are both of one version? `ipfs-accelerate node stop` ends an older node."
    )]
    Protocol(String),
    /// The connection ended. Whether the request was done is not known.
    #[error("the connection to the node was lost: {0}")]
    Lost(io::Error),
}

impl From<LinesCodecError> for CallError {
    fn from(error: LinesCodecError) -> Self {
        match error {
            LinesCodecError::Io(error) => CallError::Lost(error),
            LinesCodecError::MaxLineLengthExceeded => not_mcp("an answer that is too long"),
        }
    }
}

/// Why there is no connection to a node.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No node runs on this data directory, and only a running one was wanted.
    #[error("no node is running")]
    NotRunning,
    /// Neither could a running node be reached nor the store be opened.
    #[error("cannot open the node: {0}")]
    CannotOpen(#[source] Box<dyn std::error::Error + Send + Sync>),
}

type Reply = Result<Box<RawValue>, Fault>;

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: P,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    name: &'a str,
    arguments: Arguments,
}

/// A reply, or with a `method` anything else. The node asks nothing of a client.
#[derive(Deserialize)]
struct Message {
    #[serde(default, deserialize_with = "number")]
    id: Option<u64>,
    method: Option<IgnoredAny>,
    result: Option<Box<RawValue>>,
    error: Option<Fault>,
}

/// An id that we gave; another is as good as none.
fn number<'de, D: Deserializer<'de>>(id: D) -> Result<Option<u64>, D::Error> {
    Ok(Value::deserialize(id)?.as_u64())
}

#[derive(Deserialize)]
struct Fault {
    message: String,
}

/// MCP's `CallToolResult`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolResult {
    #[serde(default)]
    is_error: bool,
    #[serde(default)]
    content: Vec<Content>,
    structured_content: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    text: String,
}

impl ToolResult {
    fn into_answer(self) -> Result<Answer, CallError> {
        if !self.is_error {
            let structured =
                self.structured_content.ok_or_else(|| not_mcp("no structured content"))?;
            return Ok(Answer { structured });
        }
        let text = self.content.into_iter().map(|part| part.text).collect::<Vec<_>>().join("\n");
        let code = text.lines().next_back().and_then(|line| line.strip_prefix("code: "));
        match code.is_some_and(|code| FAILURE_CODES.contains(&code.trim())) {
            true => Err(CallError::Failed(text)),
            false => Err(CallError::Rejected(text)),
        }
    }
}

fn not_mcp(what: impl fmt::Display) -> CallError {
    CallError::Protocol(what.to_string())
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests;
