//! Relaying a client to the node of another process, and to the next one when that goes away.
//!
//! Lines pass as they are. What the next node must hear is remembered: how the client introduced
//! itself, the requests that wait for an answer, the leases that it learned of, and the addresses
//! that it watches. When the connection ends, the relay attaches anew (and may become the node
//! itself), says [`Hello`] for the same worker, introduces the client again, and repeats what was
//! not answered. Every call may be repeated: submissions and reports are answered again without a
//! change, and a task that was given in an answer that never came goes back to the queue first.
//!
//! What changed after one node's end and before the next one heard of a subscription, nobody told.
//! So the client is told of all that it watches once the next node watches it.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::SubscriptionFilter;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::Duplex;
use crate::mcp::{Envelope, Hello, MAX_LINE_BYTES, canonical};

/// How long a client that hung up may take to read its last answers, while the node closes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Requests that wait for an answer, in bytes, beyond which no more is taken from the client: a few
/// of the longest lines.
const MAX_UNANSWERED_BYTES: usize = 16 * 1024 * 1024;

/// How a node says that it tells a listener from now on.
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// A connection to a node.
pub type Stream = Box<dyn Duplex>;

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client hung up, or was asked to.
    Client,
    /// A person stopped the node.
    Stopped,
}

/// Relays a client until it hangs up or `stop` is cancelled.
///
/// `hello` is said to every node; `attach` gives the next connection, `None` if a person stopped
/// the node.
///
/// # Errors
/// What `attach` failed with: nobody can be the node.
pub async fn relay<E, F: Future<Output = Result<Option<Stream>, E>>>(
    reader: impl AsyncRead + Send + Unpin,
    mut writer: impl AsyncWrite + Send + Unpin,
    stop: CancellationToken,
    hello: Hello,
    mut attach: impl FnMut() -> F,
) -> Result<End, E> {
    let mut client = Lines::new(reader);
    let memory = Memory::new(hello);
    loop {
        let Some(stream) = attach().await? else {
            return Ok(End::Stopped);
        };
        let (node_reader, mut node_writer) = tokio::io::split(stream);
        let mut node = Lines::new(node_reader);
        let up = up(&mut client, &mut node_writer, &memory, &stop);
        let down = down(&mut node, &mut writer, &memory);
        // A line to the client is never broken off: `down` ends by itself when the node does.
        let (hung_up, client_is_there) = {
            tokio::pin!(up, down);
            tokio::select! {
                there = &mut down => (false, there),
                hung_up = &mut up => match hung_up {
                    true => (true, timeout(CLOSE_PATIENCE, down).await.unwrap_or_default()),
                    false => (false, down.await),
                },
            }
        };
        if hung_up || !client_is_there {
            return Ok(End::Client);
        }
    }
}

/// Passes what the client says. Ends with true when the client hangs up or is asked to, with false
/// when the node does not listen any more.
async fn up(
    client: &mut Lines<impl AsyncRead + Unpin>,
    node: &mut (impl AsyncWrite + Unpin),
    memory: &Memory,
    stop: &CancellationToken,
) -> bool {
    let passed = tokio::select! {
        passed = pass(client, node, memory) => passed,
        // Also while a node whose answers the client leaves unread takes nothing more.
        () = stop.cancelled() => Ok(()),
    };
    if passed.is_err() {
        return false;
    }
    memory.lock().hung_up = true;
    // The node answers what is under way, then hangs up as well.
    let _gone = node.shutdown().await;
    true
}

async fn pass(
    client: &mut Lines<impl AsyncRead + Unpin>,
    node: &mut (impl AsyncWrite + Unpin),
    memory: &Memory,
) -> io::Result<()> {
    for line in memory.repetition() {
        node.write_all(&line).await?;
    }
    loop {
        memory.room().await;
        let Some(line) = client.next().await else { break };
        node.write_all(&memory.asked(line)).await?;
    }
    match client.rest() {
        Some(line) => node.write_all(&memory.asked(line)).await,
        None => Ok(()),
    }
}

/// Passes what the node says until it hangs up. Returns whether the client is still there.
async fn down(
    node: &mut Lines<impl AsyncRead + Unpin>,
    client: &mut (impl AsyncWrite + Unpin),
    memory: &Memory,
) -> bool {
    while let Some(line) = node.next().await {
        let line = memory.answered(line);
        if line.is_empty() {
            continue;
        }
        let written = async {
            client.write_all(&line).await?;
            client.flush().await
        };
        if written.await.is_err() {
            return false;
        }
    }
    true
}

/// What the next node must hear.
struct Memory {
    remembered: Mutex<Remembered>,
    answered: Notify,
}

#[derive(Default)]
struct Remembered {
    /// The client's `initialize`, and whether it was answered.
    introduction: Option<(Vec<u8>, String, bool)>,
    initialized: Option<Vec<u8>>,
    /// In the order in which they came.
    unanswered: VecDeque<Request>,
    unanswered_bytes: usize,
    /// The worker, the leases that it knows of, and what it watches.
    hello: Hello,
    /// The requests that listen and were acknowledged.
    listening: BTreeSet<String>,
    /// The client asks for nothing more.
    hung_up: bool,
    /// Requests that the client did not make, or made of another node: it gets no answer to them.
    swallow: BTreeSet<String>,
}

struct Request {
    /// As the node writes it.
    id: String,
    line: Vec<u8>,
    call: Call,
}

/// What a request's answer says of the worker's leases, and of what it watches.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Next,
    /// A report that ends the lease of this task.
    Report(String),
    Subscribe(String),
    Unsubscribe(String),
    List,
    Listen,
    Other,
}

impl Memory {
    fn new(hello: Hello) -> Self {
        let remembered = Remembered { hello, ..Remembered::default() };
        Memory { remembered: Mutex::new(remembered), answered: Notify::new() }
    }

    /// Takes note of a client's line, and returns what the node is told.
    fn asked(&self, line: Vec<u8>) -> Vec<u8> {
        let Ok(message) = Envelope::parse(&line) else {
            return line; // the node says what is wrong with it
        };
        let Some(method) = message.method.as_deref() else { return line };
        let mut memory = self.lock();
        let Some(id) = message.id else {
            match method {
                "notifications/initialized" => memory.initialized = Some(line.clone()),
                "notifications/cancelled" => memory.forget_cancelled(message.params),
                _ => {}
            }
            return line;
        };
        let Some(id) = canonical(id) else { return line }; // it is answered under none
        if method == "initialize" && memory.introduction.is_none() {
            memory.introduction = Some((line.clone(), id, false));
            return line;
        }
        let call = call_of(method, message.params);
        memory.unanswered_bytes += line.len();
        memory.unanswered.push_back(Request { id, line: line.clone(), call });
        line
    }

    /// Takes note of a node's line, and returns what the client is told: mostly the same.
    fn answered(&self, line: Vec<u8>) -> Vec<u8> {
        let Ok(message) = Envelope::parse(&line) else { return line };
        let mut memory = self.lock();
        let Some(id) = message.answers() else {
            return memory.acknowledged(&message).unwrap_or(line);
        };
        if memory.swallow.remove(id) {
            let is_hello = message.result.is_some() && memory.hello.line().1 == id;
            return if is_hello { changed(&memory.hello) } else { Vec::new() };
        }
        if let Some((_, introduction, answered)) = &mut memory.introduction
            && introduction == id
            && !*answered
        {
            *answered = true;
            return line;
        }
        let Some(place) = memory.unanswered.iter().position(|request| request.id == id) else {
            return line;
        };
        if memory.unanswered[place].call == Call::Listen
            && message.result.is_some()
            && !memory.hung_up
        {
            // The node ends, not what the client asked for.
            return Vec::new();
        }
        if let Some(request) = memory.unanswered.remove(place) {
            memory.unanswered_bytes -= request.line.len();
            self.answered.notify_one();
            memory.listening.remove(id);
            memory.learned(request.call, message.result);
        }
        line
    }

    /// What a new node is told first: who this is, and what was not answered.
    fn repetition(&self) -> Vec<Vec<u8>> {
        let mut memory = self.lock();
        let (hello, id) = memory.hello.line();
        let mut lines = vec![hello];
        memory.swallow = BTreeSet::from([id]);
        if let Some((line, id, answered)) = memory.introduction.clone() {
            lines.push(line);
            memory.swallow.extend(answered.then_some(id));
        }
        lines.extend(memory.initialized.clone());
        lines.extend(memory.unanswered.iter().map(|request| request.line.clone()));
        lines
    }

    /// Waits until there is room for another request.
    async fn room(&self) {
        while self.lock().unanswered_bytes > MAX_UNANSWERED_BYTES {
            self.answered.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn forget_cancelled(&mut self, params: Option<&RawValue>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Cancelled<'a> {
            #[serde(borrow)]
            request_id: &'a RawValue,
        }
        let cancelled =
            params.and_then(|params| serde_json::from_str::<Cancelled<'_>>(params.get()).ok());
        if let Some(id) = cancelled.and_then(|cancelled| canonical(cancelled.request_id)) {
            self.unanswered.retain(|request| request.id != id);
            self.listening.remove(&id);
            self.unanswered_bytes = self.unanswered.iter().map(|request| request.line.len()).sum();
        }
    }

    /// A listener was acknowledged. One that was before, by an earlier node, is told of all that it
    /// listens to instead.
    fn acknowledged(&mut self, message: &Envelope<'_>) -> Option<Vec<u8>> {
        #[derive(Deserialize)]
        struct Acknowledged<'a> {
            #[serde(borrow, rename = "_meta")]
            meta: &'a RawValue,
            notifications: SubscriptionFilter,
        }
        #[derive(Deserialize)]
        struct Meta<'a> {
            #[serde(borrow, rename = "io.modelcontextprotocol/subscriptionId")]
            id: &'a RawValue,
        }
        message.method.as_deref().filter(|method| *method == ACKNOWLEDGED)?;
        let params: Acknowledged<'_> = serde_json::from_str(message.params?.get()).ok()?;
        let meta: Meta<'_> = serde_json::from_str(params.meta.get()).ok()?;
        if self.listening.insert(meta.id.get().to_owned()) {
            return None;
        }
        let of = params.notifications;
        let uris = of.resource_subscriptions.unwrap_or_default();
        Some(notifications(&uris, of.resources_list_changed == Some(true), Some(params.meta)))
    }

    /// Follows the worker's leases, and what it watches, through the answers that reached it.
    fn learned(&mut self, call: Call, result: Option<&RawValue>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ToolResult {
            structured_content: Option<Value>,
        }
        let Some(result) = result else { return };
        let content = || serde_json::from_str::<ToolResult>(result.get()).ok()?.structured_content;
        match call {
            Call::Subscribe(uri) => {
                self.hello.watched.insert(uri);
            }
            Call::Unsubscribe(uri) => {
                self.hello.watched.remove(&uri);
            }
            // Without a handshake, whoever lists does not want to be told.
            Call::List => self.hello.listed |= self.introduction.is_some(),
            Call::Next => {
                let Some(content) = content() else { return };
                let id = content.pointer("/task/task_id").and_then(Value::as_str);
                let fence = content.pointer("/lease/fence").and_then(Value::as_u64);
                if let (Some(id), Some(fence)) = (id, fence) {
                    self.hello.leases.insert(id.to_owned(), fence);
                }
            }
            Call::Report(task_id) => {
                if content().is_some() {
                    self.hello.leases.remove(&task_id);
                }
            }
            Call::Listen | Call::Other => {}
        }
    }
}

fn call_of(method: &str, params: Option<&RawValue>) -> Call {
    #[derive(Deserialize)]
    struct Params {
        name: String,
        #[serde(default)]
        arguments: Arguments,
    }
    #[derive(Default, Deserialize)]
    struct Arguments {
        task_id: Option<String>,
        outcome: Option<String>,
    }
    #[derive(Deserialize)]
    struct Address {
        uri: String,
    }
    let uri = || serde_json::from_str::<Address>(params?.get()).ok().map(|of| of.uri);
    match method {
        "resources/subscribe" => return uri().map_or(Call::Other, Call::Subscribe),
        "resources/unsubscribe" => return uri().map_or(Call::Other, Call::Unsubscribe),
        "resources/list" => return Call::List,
        "subscriptions/listen" => return Call::Listen,
        "tools/call" => {}
        _ => return Call::Other,
    }
    let params = params.and_then(|params| serde_json::from_str::<Params>(params.get()).ok());
    match params {
        Some(params) if params.name == "p2p_get_next_task" => Call::Next,
        Some(Params { name, arguments: Arguments { task_id: Some(id), outcome } })
            if name == "p2p_mark_task_complete" && outcome.as_deref() != Some("in_progress") =>
        {
            Call::Report(id)
        }
        _ => Call::Other,
    }
}

/// What tells a client that all that it watches may have changed.
fn changed(hello: &Hello) -> Vec<u8> {
    let uris: Vec<String> = hello.watched.iter().cloned().collect();
    notifications(&uris, hello.listed, None)
}

fn notifications(uris: &[String], listed: bool, meta: Option<&RawValue>) -> Vec<u8> {
    let updated = uris.iter().map(|uri| {
        let mut params = json!({"uri": uri});
        if let Some(meta) = meta {
            params["_meta"] = json!(meta);
        }
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params})
    });
    let list = listed.then(|| {
        let params = meta.map_or_else(|| json!({}), |meta| json!({"_meta": meta}));
        json!({
            "jsonrpc": "2.0",
            "method": "notifications/resources/list_changed",
            "params": params,
        })
    });
    updated.chain(list).flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

/// Lines of a stream, each with its end. One that is longer than any message passes in parts, for
/// the node to refuse.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Lines { reader: BufReader::with_capacity(64 * 1024, reader), line: Vec::new() }
    }

    /// What came after the last line's end.
    fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.line.is_empty()).then(|| {
            self.line.push(b'\n');
            std::mem::take(&mut self.line)
        })
    }

    /// The next line; `None` at the end, and where reading fails. May be dropped and called again.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let bytes = match self.reader.fill_buf().await {
                Ok(bytes) => bytes,
                Err(error) => {
                    log_end(&error);
                    return None;
                }
            };
            if bytes.is_empty() {
                return None;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(bytes.len());
            self.line.extend_from_slice(&bytes[..taken]);
            self.reader.consume(taken);
            if end.is_some() || self.line.len() > MAX_LINE_BYTES {
                return Some(std::mem::take(&mut self.line));
            }
        }
    }
}

fn log_end(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionReset {
        tracing::debug!("a connection ended: {error}");
    }
}
