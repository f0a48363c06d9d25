//! This process as the node: it serves its own client, and the processes that find its socket.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use p2p_workflow_scheduler::node::{self, Node, Session};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::mcp::{self, Hello, Server};

/// How long to wait after a connection could not be taken: out of descriptors, most likely.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// What fits between a client and the node where both are in one process.
const DUPLEX_BYTES: usize = 64 * 1024;

/// The node, with its socket open. Clones are the same.
#[derive(Clone)]
pub struct Host {
    node: Node,
    /// Cuts the connections of other processes. They go on with the next node.
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Host {
    /// Serves every process that connects, from now on.
    #[must_use]
    pub fn new(node: Node) -> Self {
        let (cut, connections) = (CancellationToken::new(), TaskTracker::new());
        connections.spawn(accept(node.clone(), cut.clone(), connections.clone()));
        Host { node, cut, connections }
    }

    /// Serves one client until it hangs up, `stop` is cancelled, or a person stops the node. Then
    /// what its worker holds goes back to the queue.
    pub /// Serves one client until it hangs up or `stop` is cancelled. Returns its session, if it began.
async fn serve(
    node: Node,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    stop: CancellationToken,
) -> Option<Session> {
    let session: Arc<OnceLock<Session>> = Arc::default();
    let server = Server::new({
        let (session, node) = (session.clone(), node.clone());
        move |hello| session.get_or_init(|| node.session(translated(hello))).clone()
    });
    let server = server.with_commands(move || node.request_stop());
    if let Err(error) = mcp::serve(server, reader, writer, stop).await {
        tracing::error!("a connection ended by a bug: {error}");
    }
    session.get().cloned()
}

async fn end(session: &Session) {
    if let Err(error) = session.end().await {
        tracing::warn!("what worker {} holds goes back later: {error}", session.worker());
    }
}

fn translated(hello: Option<Hello>) -> node::Hello {
    hello.map_or_else(node::Hello::default, |hello| node::Hello {
        worker: Some(hello.worker),
        leases: Some(hello.leases.into_iter().collect()),
    })
}
