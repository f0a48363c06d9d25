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
pub(crate) const DUPLEX_BYTES: usize = 64 * 1024;

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

    /// Serves one client until it hangs up or `stop` is cancelled. Then what its worker holds goes
    /// back to the queue. `hello` speaks for a client that does not say it itself.
    pub async fn serve(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        stop: CancellationToken,
        hello: Option<Hello>,
    ) {
        let serving = async {
            if let Some(session) = serve(self.node.clone(), reader, writer, stop, hello).await {
                end(&session).await;
            }
        };
        // Whoever calls this need not wait for its end before the node is closed.
        self.connections.track_future(serving).await;
    }

    /// A connection to the node from within its process.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        let host = self.clone();
        self.connections.spawn(async move {
            let (reader, writer) = tokio::io::split(theirs);
            host.serve(reader, writer, CancellationToken::new(), None).await;
        });
        ours
    }

    /// Waits until a person asked the node to stop.
    pub async fn stop_requested(&self) {
        self.node.stop_requested().await;
    }

    /// Cuts the connections of other processes, waits for those of this one to end, and closes
    /// the node.
    pub async fn close(&self) {
        self.cut.cancel();
        self.connections.close();
        self.connections.wait().await;
        self.node.close().await;
    }
}

async fn accept(node: Node, cut: CancellationToken, connections: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            accepted = node.accept() => accepted,
            () = cut.cancelled() => return,
        };
        match accepted {
            Ok(stream) => {
                let (node, cut) = (node.clone(), cut.clone());
                connections.spawn(async move {
                    let (reader, writer) = tokio::io::split(stream);
                    let session = serve(node, reader, writer, cut.clone(), None).await;
                    // One that was cut off goes on with the next node, and keeps what it holds.
                    if let Some(session) = session.filter(|_| !cut.is_cancelled()) {
                        end(&session).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!("a connection could not be taken: {error}");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            }
        }
    }
}

/// Serves one client until it hangs up or `stop` is cancelled. Returns its session, if it began.
async fn serve(
    node: Node,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    stop: CancellationToken,
    hello: Option<Hello>,
) -> Option<Session> {
    let session: Arc<OnceLock<Session>> = Arc::default();
    let server = Server::new({
        let (session, node) = (session.clone(), node.clone());
        move |said| session.get_or_init(|| node.session(translated(said.or(hello)))).clone()
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
        shared: hello.shared,
    })
}
