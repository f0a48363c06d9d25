//! One client's connection to the node, spoken in lines, and who gets which line that comes back.
//!
//! ```text
//!   POST ── request ──► writer ══► node ══► reader ─┬─ answer, progress ──► the POST that asked
//!   POST ── request ──►                             └─ notification ──────► the client's stream
//! ```
//! Invariants: a request has one answer, under its id, and ids in flight differ. A notification
//! that waits for the client's stream waits there once, however often it came: what it says is
//! that something changed. So a client that reads nothing costs no more than what it subscribed to.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::mcp::Envelope;

/// A connection. Dropped, the node sees the client hang up.
pub(super) struct Link {
    writer: Writer,
    routes: Arc<Routes>,
    _reading: AbortOnDropHandle<()>,
}

/// What came for a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// More will come.
    Notification(Bytes),
    /// The last.
    Answer(Bytes),
    /// The client took the request back: there is no answer.
    Cancelled,
}

/// Why a request was not passed on.
pub(super) enum NotAsked {
    /// Another of this id waits for its answer.
    SameId,
    /// The node is gone for good.
    Gone,
}

#[derive(Default)]
struct Routes {
    state: Mutex<State>,
    /// There is something for the client's stream, or a stream took its place.
    news: Notify,
}

#[derive(Default)]
struct State {
    calls: HashMap<String, Call>,
    /// Notifications for the client's stream, each once.
    waiting: BTreeSet<Bytes>,
    /// The streams that are open, by number. The newest gets all there is.
    streams: BTreeSet<u64>,
    /// The number of the next.
    next: u64,
    gone: bool,
}

struct Call {
    progress: Option<String>,
    /// A call is told of its progress every few seconds of a wait that has an end: no cap needed.
    to: mpsc::UnboundedSender<Message>,
}

impl Link {
    pub(super) fn new(stream: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let routes = Arc::<Routes>::default();
        let reading = tokio::spawn(read(reader, routes.clone()));
        Link { writer: Writer::new(writer), routes, _reading: AbortOnDropHandle::new(reading) }
    }

    /// Passes a line on that wants no answer; false once the node is gone for good.
    pub(super) async fn send(&self, line: Bytes) -> bool {
        self.writer.send(line).await
    }

    /// Passes on that the client takes the request of this id back. The node does not answer it any
    /// more.
    pub(super) async fn cancel(&self, id: &str, line: Bytes) -> bool {
        let is_there = self.send(line).await;
        if let Some(call) = self.routes.lock().calls.remove(id) {
            // Whoever asked may be gone by now.
            let _gone = call.to.send(Message::Cancelled);
        }
        is_there
    }

    /// Passes a request on. `progress` is the token that notifications for it bear.
    pub(super) async fn ask(
        self: &Arc<Self>,
        id: &str,
        progress: Option<String>,
        line: Bytes,
    ) -> Result<Reply, NotAsked> {
        let (to, messages) = mpsc::unbounded_channel();
        {
            let mut state = self.routes.lock();
            if state.gone {
                return Err(NotAsked::Gone);
            }
            if state.calls.contains_key(id) {
                return Err(NotAsked::SameId);
            }
            state.calls.insert(id.to_owned(), Call { progress, to });
        }
        let reply = Reply { link: self.clone(), id: id.to_owned(), messages, answered: false };
        match self.send(line).await {
            true => Ok(reply),
            false => Err(NotAsked::Gone),
        }
    }

    /// Takes the place of the client's stream.
    pub(super) fn stream(self: &Arc<Self>) -> ClientStream {
        let mut state = self.routes.lock();
        let number = state.next;
        state.next += 1;
        state.streams.insert(number);
        drop(state);
        ClientStream { link: self.clone(), number }
    }

    /// Tells the node that nothing more is asked: it answers what is under way, also what waits.
    pub(super) async fn hang_up(&self) {
        self.writer.hang_up().await;
    }
}

/// The way of lines to the node. One that is begun is written to its end, whether or not whoever
/// sent it still waits for that: the line after half of one would be lost with it.
pub(super) struct Writer {
    half: Arc<tokio::sync::Mutex<WriteHalf<DuplexStream>>>,
    cut: CancellationToken,
}

impl Writer {
    pub(super) fn new(half: WriteHalf<DuplexStream>) -> Self {
        Writer { half: Arc::new(tokio::sync::Mutex::new(half)), cut: CancellationToken::new() }
    }

    /// Passes a line on; false once the node is gone for good, or the way was cut.
    pub(super) async fn send(&self, line: Bytes) -> bool {
        let cut = self.cut.clone();
        // Taken before the task is there, so that there is one task at most.
        let Some(mut half) = cut.run_until_cancelled(self.half.clone().lock_owned()).await else {
            return false;
        };
        let writing = tokio::spawn(async move {
            let written = cut.run_until_cancelled(half.write_all(&line)).await;
            written.is_some_and(|written| written.is_ok())
        });
        writing.await.unwrap_or(false)
    }

    /// Tells the node that nothing more comes.
    pub(super) async fn hang_up(&self) {
        // A node that is gone has nothing to be told.
        let _gone = self.half.lock().await.shutdown().await;
    }

    /// Ends what is being written: nobody reads what the node says, so it may read nothing either.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.cut();
    }
}

/// What comes for one request. Dropped before the answer came, it cancels the request.
pub(super) struct Reply {
    link: Arc<Link>,
    id: String,
    messages: mpsc::UnboundedReceiver<Message>,
    answered: bool,
}

impl Reply {
    /// The next message; `None` after the answer, and if none will come.
    pub(super) async fn next(&mut self) -> Option<Message> {
        let message = self.messages.recv().await;
        self.answered |= !matches!(message, Some(Message::Notification(_)));
        message
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.answered || self.link.routes.lock().calls.remove(&self.id).is_none() {
            return;
        }
        let link = self.link.clone();
        let id: Box<RawValue> = serde_json::from_str(&self.id).expect("an id is JSON");
        let params = json!({"requestId": id, "reason": "the client hung up"});
        let line = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        // The node may be gone, and nobody waits for this.
        tokio::spawn(async move { link.send(format!("{line}\n").into()).await });
    }
}

/// The notifications of a client that belong to no request.
pub(super) struct ClientStream {
    link: Arc<Link>,
    number: u64,
}

impl ClientStream {
    /// The next one; `None` once the node is gone for good. A stream whose place another took
    /// stays without news until that one ends: were it to end, its client would take the place
    /// again.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            // Made before the look, so that it hears of all that happens after.
            let news = self.link.routes.news.notified();
            {
                let mut state = self.link.routes.lock();
                if state.gone {
                    return None;
                }
                if state.streams.last() == Some(&self.number)
                    && let Some(line) = state.waiting.pop_first()
                {
                    return Some(line);
                }
            }
            news.await;
        }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.link.routes.lock().streams.remove(&self.number);
        // The one before it takes its place.
        self.link.routes.news.notify_waiters();
    }
}

impl Routes {
    fn pass(&self, line: Bytes) {
        let envelope = match Envelope::parse(&line) {
            Ok(envelope) => envelope,
            Err(error) => return tracing::error!("the node said what is no message: {error}"),
        };
        let mut state = self.lock();
        if let Some(id) = envelope.answers() {
            if let Some(call) = state.calls.remove(id) {
                // Whoever asked may be gone by now.
                let _gone = call.to.send(Message::Answer(line));
            }
            return;
        }
        let progress = progress_of(&envelope);
        let asked = progress.and_then(|token| {
            state.calls.values().find(|call| call.progress.as_deref() == Some(token))
        });
        if let Some(call) = asked {
            let _gone = call.to.send(Message::Notification(line));
        } else if progress.is_none() && state.waiting.insert(line.clone()) {
            drop(state);
            self.news.notify_waiters();
        }
    }

    fn end(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.calls.clear();
        drop(state);
        self.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn progress_of<'a>(envelope: &Envelope<'a>) -> Option<&'a str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Progress<'a> {
        #[serde(borrow)]
        progress_token: &'a RawValue,
    }
    let params =
        envelope.params.filter(|_| envelope.method.as_deref() == Some("notifications/progress"))?;
    serde_json::from_str::<Progress<'_>>(params.get())
        .ok()
        .map(|progress| progress.progress_token.get())
}

async fn read(reader: ReadHalf<DuplexStream>, routes: Arc<Routes>) {
    let mut lines = Lines::new(reader);
    while let Some(line) = lines.next().await {
        routes.pass(line);
    }
    routes.end();
}

/// The lines that the node says, without their ends.
pub(super) struct Lines(BufReader<ReadHalf<DuplexStream>>);

impl Lines {
    pub(super) fn new(reader: ReadHalf<DuplexStream>) -> Self {
        Lines(BufReader::new(reader))
    }

    /// The next line; `None` once the node hung up. To be awaited to its end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let mut line = Vec::new();
        // The stream is memory: it ends, and cannot fail.
        self.0.read_until(b'\n', &mut line).await.ok()?;
        (line.pop() == Some(b'\n')).then(|| line.into())
    }
}
