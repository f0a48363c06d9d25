//! rmcp's transport over a pair of byte streams: one JSON-RPC message a line.
//!
//! What a client can do wrong here is answered, and what it can cost is bounded:
//! * a line over [`MAX_LINE_BYTES`] is read past, not kept, and answered under its id, which
//!   stands near the start or the end of it;
//! * text that is no request is answered with what is wrong (see [`Line`]);
//! * a request beyond [`MAX_IN_FLIGHT`], or under the id of one in flight, is answered at once;
//! * from a client that leaves [`MAX_UNSENT_BYTES`] of answers unread nothing more is read;
//! * what follows an introduction ([`Hello`], `initialize`) in the same breath waits for it: rmcp
//!   serves requests side by side.
//!
//! Invariant: [`Wire::receive`] may be dropped at any `await` and called again; all it knows is
//! in the fields.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use p2p_workflow_scheduler::node::CallError;
use p2p_workflow_scheduler::scheduler::Rejection;
use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, GetExtensions, RequestId,
    ServerJsonRpcMessage, ServerNotification,
};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::answers::refusal;
use super::line::{Line, id_near_the_end, id_near_the_start};
use super::outbox::Outbox;
use super::server::Hello;

pub use super::outbox::MAX_UNSENT_BYTES;

/// The longest line: room for any call with all its fields at their limits, however it is escaped.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;
/// Requests of one client that are being served: more than any client waits for, and few enough
/// that their answers fit in memory.
pub const MAX_IN_FLIGHT: usize = 256;

/// Read at once: a pipe holds no more.
const READ_BYTES: usize = 64 * 1024;
/// Kept of the end of a line that is too long, to find its id in.
const TAIL_BYTES: usize = 512;

/// What the wire hands to the server beside rmcp's request.
#[derive(Clone)]
pub(super) struct FromWire {
    /// The JSON text of a tool call's arguments.
    pub(super) arguments: Option<Arc<str>>,
    /// The client will send nothing more.
    pub(super) hangup: CancellationToken,
    /// How to tell the client what it did not ask for just now.
    pub(super) notices: Notices,
    _ticket: Arc<Ticket>,
}

/// The way of notifications: straight into the outbox, so that what is sent before an answer
/// leaves before it.
#[derive(Clone)]
pub(super) struct Notices(pub(super) Arc<Outbox>);

impl Notices {
    /// Waits until the client has read most of what it was sent; false once it is gone.
    pub(super) async fn room(&self) -> bool {
        self.0.room_for_notices().await
    }

    /// Whether the client has read most of what it was sent.
    pub(super) fn has_room(&self) -> bool {
        self.0.has_room_for_notices()
    }

    /// Sends a notification. Returns whether the client is there.
    pub(super) fn send(&self, notification: ServerNotification) -> bool {
        match self.0.push(ServerJsonRpcMessage::notification(notification)) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "the client cannot be told");
                false
            }
        }
    }
}

/// The transport. Dropped, it stops writing.
pub(super) struct Wire<R> {
    reader: R,
    buffer: BytesMut,
    /// So much of the buffer is known to hold no end of line.
    scanned: usize,
    /// Set while the rest of a line that is too long is read past.
    too_long: Option<TooLong>,
    ended: bool,
    in_flight: Arc<InFlight>,
    hangup: CancellationToken,
    /// Cancelled once the introduction that came last was served.
    introduced: Option<CancellationToken>,
    outbox: Arc<Outbox>,
    _writer: AbortOnDropHandle<()>,
}

struct TooLong {
    id: Option<RequestId>,
    tail: Vec<u8>,
}

impl<R> Wire<R> {
    /// A transport that reads and writes these. Needs a runtime: the writer is a task.
    pub(super) fn new(reader: R, writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let outbox = Arc::<Outbox>::default();
        let writing = outbox.clone();
        let task = tokio::spawn(async move { writing.run(writer).await });
        Wire {
            reader,
            buffer: BytesMut::new(),
            scanned: 0,
            too_long: None,
            ended: false,
            in_flight: Arc::default(),
            hangup: CancellationToken::new(),
            introduced: None,
            outbox,
            _writer: AbortOnDropHandle::new(task),
        }
    }

    /// The next whole line of the buffer, or the last one if no more will come.
    fn next_line(&mut self) -> Option<Line> {
        let end = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n');
        let Some(end) = end.map(|at| self.scanned + at) else {
            self.scanned = self.buffer.len();
            if self.scanned > MAX_LINE_BYTES || self.too_long.is_some() {
                self.read_past();
            }
            let unended = !self.buffer.is_empty() || self.too_long.is_some();
            return (self.ended && unended).then(|| self.cut(self.buffer.len(), 0));
        };
        Some(self.cut(end, 1))
    }

    /// Takes a line of `length` bytes, and its end, off the buffer.
    fn cut(&mut self, length: usize, end: usize) -> Line {
        let line = &self.buffer[..length];
        let parsed = match self.too_long.take() {
            Some(mut long) => {
                long.keep(line);
                long.fault()
            }
            None if length > MAX_LINE_BYTES => TooLong::new(line).fault(),
            None => Line::parse(line),
        };
        self.buffer.advance(length + end);
        self.scanned = 0;
        parsed
    }

    fn read_past(&mut self) {
        match &mut self.too_long {
            Some(long) => long.keep(&self.buffer),
            None => self.too_long = Some(TooLong::new(&self.buffer)),
        }
        self.buffer.clear();
        self.scanned = 0;
    }

    /// What rmcp is to hear of a line; the rest is answered here.
    fn admit(&mut self, line: Line) -> io::Result<Option<ClientJsonRpcMessage>> {
        let (id, mut request, arguments) = match line {
            Line::Request { id, request, arguments } => (id, *request, arguments),
            Line::Other(message) => return Ok(Some(*message)),
            Line::Ignored => return Ok(None),
            Line::Fault(error, id) => {
                self.outbox.push(ServerJsonRpcMessage::error(error, id))?;
                return Ok(None);
            }
        };
        match self.in_flight.enter(&id) {
            Ok(mut ticket) => {
                if is_introduction(&request) {
                    let served = CancellationToken::new();
                    self.introduced = Some(served.clone());
                    ticket.served = Some(served.drop_guard());
                }
                let beside = FromWire {
                    arguments,
                    hangup: self.hangup.clone(),
                    notices: Notices(self.outbox.clone()),
                    _ticket: Arc::new(ticket),
                };
                request.extensions_mut().insert(beside);
                Ok(Some(ClientJsonRpcMessage::request(request, id)))
            }
            Err(refused) => {
                self.outbox.push(refused.answer(&request, id))?;
                Ok(None)
            }
        }
    }
}

fn is_introduction(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::CustomRequest(request) => request.method == Hello::METHOD,
        _ => false,
    }
}

impl<R: AsyncRead + Unpin> Wire<R> {
    /// Reads more into the buffer; at the end of input, and once it is broken, there is no more.
    async fn fill(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * READ_BYTES {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(READ_BYTES);
        match self.reader.read_buf(&mut self.buffer).await {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the client's end broke");
                self.ended = true;
            }
        }
    }

    async fn next_message(&mut self) -> io::Result<Option<ClientJsonRpcMessage>> {
        loop {
            if let Some(introduced) = &self.introduced {
                introduced.cancelled().await;
                self.introduced = None;
            }
            if !self.outbox.room().await {
                return Ok(None);
            }
            if let Some(line) = self.next_line() {
                if let Some(message) = self.admit(line)? {
                    return Ok(Some(message));
                }
            } else if self.ended {
                return Ok(None);
            } else {
                self.fill().await;
            }
        }
    }
}

impl<R: AsyncRead + Send + Unpin> Transport<RoleServer> for Wire<R> {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        std::future::ready(self.outbox.push(item))
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let message = match self.next_message().await {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "the client cannot be answered");
                None
            }
        };
        if message.is_none() {
            // Nobody is left to take up what a waiting call would get.
            self.hangup.cancel();
        }
        message
    }

    async fn close(&mut self) -> io::Result<()> {
        self.outbox.close().await;
        Ok(())
    }
}

impl TooLong {
    fn new(line: &[u8]) -> Self {
        let mut long = TooLong { id: id_near_the_start(line), tail: Vec::new() };
        long.keep(line);
        long
    }

    fn keep(&mut self, more: &[u8]) {
        let more = &more[more.len().saturating_sub(TAIL_BYTES)..];
        let spare = (self.tail.len() + more.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..spare);
        self.tail.extend_from_slice(more);
    }

    fn fault(self) -> Line {
        let what = format!(
            "the line is longer than {MAX_LINE_BYTES} bytes and was not read. Send less, or store \
             it elsewhere (IPFS, a file) and send its address.\ncode: too_large"
        );
        let id = self.id.or_else(|| id_near_the_end(&self.tail));
        Line::Fault(ErrorData::invalid_request(what, None), id)
    }
}

/// The ids of the requests that are being served.
#[derive(Default)]
struct InFlight(Mutex<HashSet<RequestId>>);

/// A request that is being served; rmcp holds it as long as the server is at it.
struct Ticket {
    of: Arc<InFlight>,
    id: RequestId,
    /// Cancels the token of those who wait until it was served.
    served: Option<DropGuard>,
}

/// Why a request is not served.
enum Refused {
    TooMany,
    SameId,
}

impl InFlight {
    fn enter(self: &Arc<Self>, id: &RequestId) -> Result<Ticket, Refused> {
        let mut ids = self.lock();
        if ids.len() >= MAX_IN_FLIGHT {
            return Err(Refused::TooMany);
        }
        match ids.insert(id.clone()) {
            true => Ok(Ticket { of: self.clone(), id: id.clone(), served: None }),
            false => Err(Refused::SameId),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.0.lock().expect("nothing panics while it holds the ids")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.lock().remove(&self.id);
    }
}

impl Refused {
    fn answer(self, request: &ClientRequest, id: RequestId) -> ServerJsonRpcMessage {
        match (self, request) {
            (Refused::SameId, _) => {
                let what = format!("id {id} is that of a request in flight: give each its own");
                ServerJsonRpcMessage::error(ErrorData::invalid_request(what, None), Some(id))
            }
            (Refused::TooMany, ClientRequest::CallToolRequest(_)) => {
                let mut result = refusal(&overloaded());
                // Not every version of the protocol has it, and in all it may be left out.
                result.result_type = None;
                ServerJsonRpcMessage::response(result.into(), id)
            }
            (Refused::TooMany, _) => {
                let error = overloaded();
                let text = format!("{error}\ncode: {}", error.code());
                let error = ErrorData::new(ErrorCode::INTERNAL_ERROR, text, None);
                ServerJsonRpcMessage::error(error, Some(id))
            }
        }
    }
}

fn overloaded() -> CallError {
    CallError::Rejected(Rejection::Overloaded {
        what: format!("this client has {MAX_IN_FLIGHT} requests in flight, the most there may be"),
    })
}
