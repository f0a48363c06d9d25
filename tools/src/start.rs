//! Starting: how `mcp start` and each command come to a node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use p2p_workflow_scheduler::node::{
    AttachError, Attached, LocalStream, Options, attach, attach_again, find, random_worker,
    terminated,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::host::{self, Host};
use crate::mcp::Hello;
use crate::relay::{End, Stream, relay};

/// How long to wait where nobody can be the node, before it is tried again.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// The way to the node for all doors of one process: the process itself once it is the node, else
/// the process that is. Clones are the same.
#[derive(Clone)]
pub struct Way(Arc<Inner>);

struct Inner {
    options: Options,
    state: Mutex<State>,
    /// Cancelled when this process is asked to end, or a person stops the node.
    stop: CancellationToken,
    /// Cancelled when this process becomes the node.
    is_node: CancellationToken,
}

struct State {
    host: Option<Host>,
    /// The connection that showed that another process is the node.
    first: Option<LocalStream>,
}

impl Way {
    /// Finds the node, or makes this process it. It stops when the operating system asks.
    ///
    /// # Errors
    /// Nobody can be the node.
    pub async fn open(options: &Options) -> Result<Self, AttachError> {
        let way = Way::attach(options).await?;
        tokio::spawn(watch_signals(way.stop().clone()));
        Ok(way)
    }

    /// The same for a process that has its own answer to signals.
    ///
    /// # Errors
    /// Nobody can be the node.
    pub async fn attach(options: &Options) -> Result<Self, AttachError> {
        let (stop, is_node) = (CancellationToken::new(), CancellationToken::new());
        let state = match attach(options).await? {
            Attached::Node(node) => {
                is_node.cancel();
                let host = Host::new(node);
                tokio::spawn(stop_when_asked(host.clone(), stop.clone()));
                State { host: Some(host), first: None }
            }
            Attached::Peer(stream) => State { host: None, first: Some(stream) },
        };
        let inner = Inner { options: options.clone(), state: Mutex::new(state), stop, is_node };
        Ok(Way(Arc::new(inner)))
    }

    /// Cancelled when this process is asked to end, or a person stops the node.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Cancelled when this process becomes the node.
    #[must_use]
    pub fn is_node(&self) -> &CancellationToken {
        &self.0.is_node
    }

    /// The data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.options.folder
    }

    /// Serves a client until it hangs up or the process is to stop: as the node itself, or through
    /// the process that is it, and the next one when that goes away.
    ///
    /// # Errors
    /// Nobody can be the node.
    pub async fn serve(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        hello: Hello,
    ) -> Result<(), AttachError> {
        let stop = self.0.stop.child_token();
        let host = self.0.state.lock().await.host.clone();
        if let Some(host) = host {
            host.serve(reader, writer, stop, Some(hello)).await;
            return Ok(());
        }
        match relay(reader, writer, stop, hello, || self.connect()).await? {
            End::Client => {}
            End::Stopped => self.0.stop.cancel(),
        }
        Ok(())
    }

    /// A connection to the node for a client that `hello` speaks for. It ends when the client hangs
    /// up, also while the process is to stop: whoever has it sees to that.
    #[must_use]
    pub fn link(&self, hello: Hello) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(host::DUPLEX_BYTES);
        let way = self.clone();
        tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(theirs);
            let host = way.0.state.lock().await.host.clone();
            let stop = CancellationToken::new();
            if let Some(host) = host {
                host.serve(reader, writer, stop, Some(hello)).await;
                return;
            }
            match relay(reader, writer, stop, hello, || way.connect()).await {
                Ok(End::Client) => {}
                Ok(End::Stopped) => way.0.stop.cancel(),
                Err(error) => tracing::error!("{error}"),
            }
        });
        ours
    }

    /// Sees to it that there is a node while nobody is connected: when the one that is goes away,
    /// this process becomes it, or ends if a person stopped it.
    pub async fn keep(&self) {
        let stop = &self.0.stop;
        while let Some(connected) = stop.run_until_cancelled(self.connect()).await {
            let gone = async |mut node: Stream| {
                // The node says nothing unasked: whatever ends this is its end.
                let _end = node.read_u8().await;
            };
            match connected {
                Ok(Some(node)) => {
                    stop.run_until_cancelled(gone(node)).await;
                }
                Ok(None) => stop.cancel(),
                Err(error) => {
                    tracing::error!("{error}");
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
            }
        }
    }

    /// The next connection to a node for a relay; `None` if a person stopped it.
    async fn connect(&self) -> Result<Option<Stream>, AttachError> {
        let mut state = self.0.state.lock().await;
        if let Some(stream) = state.first.take() {
            return Ok(Some(Box::new(stream)));
        }
        if let Some(host) = &state.host {
            return Ok(Some(Box::new(host.connect())));
        }
        let Some(attached) = attach_again(&self.0.options).await? else { return Ok(None) };
        match attached {
            Attached::Peer(stream) => Ok(Some(Box::new(stream))),
            Attached::Node(node) => {
                tracing::info!("the node went away; this process is the node now");
                self.0.is_node.cancel();
                let host = state.host.insert(Host::new(node));
                tokio::spawn(stop_when_asked(host.clone(), self.0.stop.clone()));
                Ok(Some(Box::new(host.connect())))
            }
        }
    }

    /// Closes the node, if this process is it. The doors are to be closed before.
    pub async fn close(&self) {
        let host = self.0.state.lock().await.host.take();
        if let Some(host) = host {
            host.close().await;
        }
    }
}

/// A command's way to a node: the running one, or this process until the command is done.
///
/// The host that comes with it, if any, is to be closed once the stream was dropped.
///
/// # Errors
/// Nobody can be the node.
pub async fn connect(options: &Options) -> Result<(Stream, Option<Host>), AttachError> {
    Ok(match attach(options).await? {
        Attached::Peer(stream) => (Box::new(stream), None),
        Attached::Node(node) => {
            let host = Host::new(node);
            (Box::new(host.connect()), Some(host))
        }
    })
}

/// Connects to the running node; `None` if there is none.
pub async fn connect_to_running(options: &Options) -> Option<Stream> {
    Some(Box::new(find(options).await?))
}

/// What a client says that is a worker of its own.
#[must_use]
pub fn new_worker() -> Hello {
    Hello { worker: random_worker(), ..Hello::default() }
}

async fn stop_when_asked(host: Host, stop: CancellationToken) {
    host.stop_requested().await;
    stop.cancel();
}

async fn watch_signals(stop: CancellationToken) {
    match terminated().await {
        Ok(()) => stop.cancel(),
        Err(error) => tracing::warn!("signals cannot be watched: {error}"),
    }
}
