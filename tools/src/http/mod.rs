//! The HTTP door: Streamable HTTP at `/mcp`, and the older pair `/sse` and `/messages`.
//!
//! ```text
//!                      ┌ guard: Host, Origin, token ┐
//!   client ══ hyper ══►│                            ├─► streamable ─ session ─► link ══╗
//!   (limits on time    │        axum's routes       ├─► modern ── request by request ══╬══► way
//!    and number)       │                            ├─► sse ──── stream by stream ═════╝  to the
//!                      └────────────────────────────┘─► /healthz                           node
//! ```
//! Every session, and every request of the protocol without sessions, is one connection of lines to
//! the node, as over stdio. So what is said over HTTP is heard by the same wire and server as over
//! any other door, payloads pass as they were written, and a session goes on where another process
//! becomes the node. rmcp has this protocol's transport as well; it wants the server in its own
//! process, though, caps nothing, and takes payloads apart.
//!
//! What a client can cost is bounded by named constants: connections, sessions, requests in
//! flight, bodies, and the time that each step may take. What is beyond is told so.

mod answer;
pub mod guard;
mod incoming;
mod link;
mod modern;
pub mod names;
mod serve;
mod sessions;
mod sse;
mod streamable;
pub mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header::ALLOW;
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use rmcp::model::ErrorCode;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use self::answer::Refused;
use self::guard::{Guard, HEALTH};
use self::incoming::LARGE_BODIES;
use self::modern::MAX_REQUESTS;
use self::sessions::Sessions;
use self::sse::Streams;
use crate::start::Way;

pub use self::sessions::MAX_SESSIONS;

/// A door that listens.
pub struct Door {
    listener: TcpListener,
    guard: Guard,
    sse: bool,
}

/// What the routes share.
struct Shared {
    way: Way,
    sessions: Sessions,
    streams: Streams,
    /// Requests without a session that may be under way.
    requests: Arc<Semaphore>,
    /// Room for bodies, in bytes.
    bodies: Semaphore,
}

impl Door {
    /// Listens, and serves nobody yet. `sse`: the older pair as well.
    ///
    /// # Errors
    /// The operating system's: the port is taken, most likely.
    pub async fn bind(address: SocketAddr, guard: Guard, sse: bool) -> io::Result<Self> {
        Ok(Door { listener: TcpListener::bind(address).await?, guard, sse })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves whoever comes until the process is to stop; then what is under way is answered.
    pub async fn serve(self, way: Way) {
        let stop = way.stop().clone();
        let shared = Arc::new(Shared {
            way,
            sessions: Sessions::new(),
            streams: Streams::default(),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            bodies: Semaphore::new(LARGE_BODIES),
        });
        let sweeping = shared.clone();
        let _sweeping =
            AbortOnDropHandle::new(tokio::spawn(async move { sweeping.sessions.sweep().await }));
        let routes = routes(shared.clone(), self.guard, self.sse);
        // Side by side: a client that reads nothing may keep its own from its end.
        let hang_up = async {
            tokio::join!(shared.sessions.hang_up(), shared.streams.hang_up());
        };
        serve::serve(self.listener, routes, stop, hang_up).await;
    }
}

async fn nothing_there(uri: Uri) -> Refused {
    let text = match uri.path() {
        "/sse" | sse::MESSAGES => {
            "the older pair is not served here: use /mcp, or start the server with --transport sse"
        }
        _ => "there is nothing here: MCP is at /mcp",
    };
    answer::error(StatusCode::NOT_FOUND, None, ErrorCode::INVALID_REQUEST, text)
}

async fn no_such_method(uri: Uri) -> Refused {
    let text = format!("{} does not take this method", uri.path());
    let status = StatusCode::METHOD_NOT_ALLOWED;
    answer::error(status, None, ErrorCode::INVALID_REQUEST, &text)
}

fn routes(shared: Arc<Shared>, guard: Guard, sse: bool) -> Router {
    // A stream that nobody reads would take the place of one that is read.
    let no_head = async || (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, POST, DELETE")]);
    let mcp = post(streamable::post).get(streamable::get).delete(streamable::delete).head(no_head);
    let mut routes = Router::new().route("/mcp", mcp).route(HEALTH, get(async || "ok\n"));
    if sse {
        let no_head = async || (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET")]);
        routes =
            routes.route("/sse", get(sse::get).head(no_head)).route(sse::MESSAGES, post(sse::post));
    }
    let routes = routes.fallback(nothing_there).method_not_allowed_fallback(no_such_method);
    routes.layer(from_fn_with_state(Arc::new(guard), Guard::admit)).with_state(shared)
}
