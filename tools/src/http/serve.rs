//! Connections: how many there are, how slow they may be, and their graceful end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// Connections at once: a handful for each session.
const MAX_CONNECTIONS: usize = 512;
/// How long the head of a request may take, and a connection be idle between two.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The longest head: a token, and whatever proxies add.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long a client may leave an answer unread.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long what is under way may take to be answered when the process stops.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait after a connection could not be taken: out of descriptors, most likely.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\
    connection: close\r\ncontent-type: text/plain\r\ncontent-length: 40\r\n\r\n\
    too many connections. Come again later.\n";

/// Serves `routes` until `stop` is cancelled. Then nobody else is let in, `hang_up` sees to it that
/// what waits is answered, and the answers leave.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    stop: CancellationToken,
    hang_up: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let closing = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection could not be taken: {error}");
                sleep(AFTER_FAILED_ACCEPT).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            turn_away(stream);
            continue;
        };
        let connection = closing.watch(connection(stream, &routes));
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    let close = async { tokio::join!(hang_up, closing.shutdown()) };
    if timeout(CLOSE_PATIENCE, close).await.is_err() {
        tracing::warn!("clients left their last answers unread");
    }
}

type Connection = http1::Connection<
    TokioIo<std::pin::Pin<Box<TimeoutStream<TcpStream>>>>,
    TowerToHyperService<Router>,
>;

fn connection(stream: TcpStream, routes: &Router) -> Connection {
    // Otherwise the kernel holds an answer back until the client has acknowledged the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("answers may be slow: {error}");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_PATIENCE));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(routes.clone()))
}

/// Says why, if the client's buffer takes it.
fn turn_away(stream: TcpStream) {
    let mut stream = stream;
    tokio::spawn(async move {
        let told = async {
            stream.write_all(TOO_MANY).await?;
            stream.shutdown().await
        };
        if let Ok(Err(error)) = timeout(CLOSE_PATIENCE, told).await {
            tracing::debug!("a client was turned away, and is gone: {error}");
        }
    });
}
