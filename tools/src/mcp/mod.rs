//! The Model Context Protocol: one message a line, seven tools behind it, and what they show as
//! resources.
//!
//! ```text
//!                                             ┌► tools ──────────────┐
//!   bytes ─► line ─► wire ─► rmcp ─► server ──┼► resources           ├─► the node's session
//!   bytes ◄─ outbox ◄─ wire ◄─ rmcp ◄────┘    ├► completion          │
//!               ▲                             ├► prompts             │
//!               └─────── notifications ───────┴─ subscriptions ◄─────┘ and its watch
//! ```
//! rmcp keeps the protocol: versions, lifecycle, cancellation, the shape of results. `wire`
//! replaces its transport, for four reasons: that one drops what it cannot parse without an
//! answer, lets a client have any number of calls in flight, writes every answer by itself, and
//! takes each payload apart into a tree and puts it together again, which costs time, order and
//! large numbers.

mod answers;
mod completion;
mod envelope;
mod line;
mod outbox;
mod progress;
mod prompts;
mod resources;
mod server;
mod subscriptions;
mod wire;

use rmcp::service::{QuitReason, serve_directly_with_ct};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

pub(crate) use envelope::{Envelope, canonical};
pub use server::{Hello, Server};
pub use wire::{MAX_IN_FLIGHT, MAX_LINE_BYTES, MAX_UNSENT_BYTES};

/// Serves one client until it hangs up or `stop` is cancelled.
///
/// After the client's last byte, what it asked for is still answered, for a few seconds. Its
/// session goes on: whoever made it ends it.
///
/// # Errors
/// The task that serves it was aborted or panicked.
pub async fn serve(
    server: Server,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    stop: CancellationToken,
) -> Result<(), tokio::task::JoinError> {
    // Not `serve`: its handshake ends the connection at the first message out of order. The
    // server itself answers what comes before `initialize`.
    let wire = wire::Wire::new(reader, writer);
    // And a token of its own: rmcp cancels what it was given once this client is gone.
    match serve_directly_with_ct(server, wire, None, stop.child_token()).waiting().await? {
        QuitReason::JoinError(error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
