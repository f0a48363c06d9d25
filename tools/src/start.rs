//! Starting: how `mcp start` and each command come to a node.

use p2p_workflow_scheduler::node::{
    AttachError, Attached, Options, attach, find, terminated, was_stopped,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::relay::{End, Stream, relay};

/// Serves an MCP client until it hangs up, the process is asked to end, or a person stops the
/// node: as the node itself, or through the process that is it.
///
/// # Errors
/// Nobody can be the node.
pub async fn serve(
    options: &Options,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<End, AttachError> {
    let stop = CancellationToken::new();
    tokio::spawn(watch_signals(stop.clone()));
    match attach(options).await? {
        Attached::Node(node) => {
            let host = Host::new(node);
            let serving = host.serve(reader, writer, stop.clone());
            tokio::pin!(serving);
            let end = tokio::select! {
                () = &mut serving => End::Client,
                () = host.stop_requested() => {
                    stop.cancel();
                    serving.await;
                    End::Stopped
                }
            };
            host.close().await;
            Ok(end)
        }
        Attached::Peer(stream) => {
            relay_to_nodes(options, reader, writer, stop, Box::new(stream)).await
        }
    }
}

async fn relay_to_nodes(
    options: &Options,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    stop: CancellationToken,
    first: Stream,
) -> Result<End, AttachError> {
    let mut first = Some(first);
    let mut host = None;
    let next = async || {
        if let Some(stream) = first.take() {
            return Ok(Some(stream));
        }
        if was_stopped(options) {
            return Ok(None);
        }
        match attach(options).await? {
            Attached::Peer(stream) => Ok(Some(Box::new(stream))),
            Attached::Node(node) => {
                tracing::info!("the node went away; this process is the node now");
                let new = host.insert(Host::new(node));
                tokio::spawn(stop_when_asked(new.clone(), stop.clone()));
                Ok(Some(Box::new(new.connect())))
            }
        }
    };
    let end = relay(reader, writer, stop.clone(), next).await;
    if let Some(host) = host {
        host.close().await;
    }
    end
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
