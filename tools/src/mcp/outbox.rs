//! What goes out: messages gather in one buffer while the writer is busy with another, so that
//! all answers that are ready leave in one write.
//!
//! Invariant: a message is one line. The newlines that a pretty-printed payload may hold are
//! between tokens, never inside a string, and become spaces.

use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{CallToolResult, JsonRpcMessage, RequestId, ServerResult};
use rmcp::service::TxJsonRpcMessage;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::answers::{is_broken_off, take_structured};

/// What a client may leave unread before no more is read from it: a few of the largest answers.
pub const MAX_UNSENT_BYTES: usize = 4 * 1024 * 1024;
/// What a client may leave unread before it is told of no more changes: they can wait, and a
/// connection that was given up keeps no more than this.
const MAX_UNSENT_BEFORE_NOTICES: usize = 64 * 1024;
/// A buffer that one large answer has grown beyond this is given back once it is empty.
const KEPT_CAPACITY: usize = 256 * 1024;
/// How long a client that hung up may take to read its last answers.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The messages that wait to be written.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// There is something to write, or nothing more will come.
    filled: Notify,
    /// Something was written, or will never be.
    drained: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Size of the batch that is being written.
    writing: usize,
    /// Nothing more will be added.
    closed: bool,
    /// Nothing more can be written.
    broken: bool,
}

impl Outbox {
    /// Adds a message; it leaves with the next batch. What was broken off is left out.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn push(&self, message: TxJsonRpcMessage<RoleServer>) -> io::Result<()> {
        if let JsonRpcMessage::Response(response) = &message
            && let ServerResult::CallToolResult(result) = &response.result
            && is_broken_off(result)
        {
            return Ok(());
        }
        let mut state = self.lock();
        if state.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let start = state.waiting.len();
        if let Err(error) = encode(message, &mut state.waiting) {
            state.waiting.truncate(start);
            return Err(error.into());
        }
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until the client has read enough to be heard again; false once it is gone.
    pub(super) async fn room(&self) -> bool {
        self.wait(|state| state.unsent() <= MAX_UNSENT_BYTES).await
    }

    /// Waits until the client has read enough to be told of changes; false once it is gone.
    pub(super) async fn room_for_notices(&self) -> bool {
        self.wait(State::has_room_for_notices).await
    }

    /// See [`Outbox::room_for_notices`].
    pub(super) fn has_room_for_notices(&self) -> bool {
        self.lock().has_room_for_notices()
    }

    /// Writes what is left, as far as the client reads it.
    pub(super) async fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        let all = self.wait(|state| state.unsent() == 0);
        if tokio::time::timeout(CLOSE_PATIENCE, all).await.is_err() {
            tracing::debug!("the client left its last answers unread");
        }
    }

    /// Writes batches until the outbox is closed and empty, or the client is gone.
    pub(super) async fn run(&self, mut to: impl AsyncWrite + Unpin) {
        let mut batch = Vec::new();
        loop {
            // Whatever else is ready may add its answer first: one write then carries them all.
            tokio::task::yield_now().await;
            if !self.take(&mut batch) {
                if self.lock().closed {
                    return;
                }
                self.filled.notified().await;
                continue;
            }
            let written = async {
                to.write_all(&batch).await?;
                to.flush().await
            };
            let written = written.await;
            batch.clear();
            batch.shrink_to(KEPT_CAPACITY);
            let mut state = self.lock();
            state.writing = 0;
            state.broken = written.is_err();
            drop(state);
            self.drained.notify_waiters();
            if let Err(error) = written {
                tracing::debug!(%error, "the client is gone");
                return;
            }
        }
    }

    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        state.writing = state.waiting.len();
        std::mem::swap(&mut state.waiting, batch);
        !batch.is_empty()
    }

    async fn wait(&self, reached: impl Fn(&State) -> bool) -> bool {
        loop {
            // Made before the look, so that it hears of all that happens after.
            let drained = self.drained.notified();
            {
                let state = self.lock();
                if state.broken {
                    return false;
                }
                if reached(&state) {
                    return true;
                }
            }
            drained.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the outbox")
    }
}

impl State {
    fn unsent(&self) -> usize {
        self.waiting.len() + self.writing
    }

    fn has_room_for_notices(&self) -> bool {
        self.unsent() <= MAX_UNSENT_BEFORE_NOTICES
    }
}

fn encode(mut message: TxJsonRpcMessage<RoleServer>, into: &mut Vec<u8>) -> serde_json::Result<()> {
    if let JsonRpcMessage::Response(response) = &mut message
        && let ServerResult::CallToolResult(result) = &mut response.result
        && let Some(structured) = take_structured(result)
    {
        encode_result(&response.id, result, &structured, into)?;
    } else {
        serde_json::to_writer(&mut *into, &message)?;
    }
    into.push(b'\n');
    Ok(())
}

/// A tool's result whose structured content is a JSON text already.
fn encode_result(
    id: &RequestId,
    result: &CallToolResult,
    structured: &str,
    into: &mut Vec<u8>,
) -> serde_json::Result<()> {
    into.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    serde_json::to_writer(&mut *into, id)?;
    into.extend_from_slice(br#","result":{"#);
    if let Some(result_type) = &result.result_type {
        into.extend_from_slice(br#""resultType":"#);
        serde_json::to_writer(&mut *into, result_type)?;
        into.push(b',');
    }
    into.extend_from_slice(br#""content":"#);
    serde_json::to_writer(&mut *into, &result.content)?;
    into.extend_from_slice(br#","structuredContent":"#);
    let start = into.len();
    into.extend_from_slice(structured.as_bytes());
    for byte in &mut into[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    into.extend_from_slice(br#","isError":false}}"#);
    Ok(())
}
