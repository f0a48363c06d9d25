//! The older way over HTTP: GET `/sse` is a connection, POST `/messages` speaks in it.
//!
//! The stream begins with the path to post to, which names the session, and then carries all that
//! the node says. The session is the stream: it ends with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use rmcp::model::ErrorCode;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::bytes::Bytes;

use super::answer::Refused;
use super::guard::Principal;
use super::link::{Lines, Writer};
use super::sessions::random_id;
use super::streamable::{gone, incoming, too_many_sessions};
use super::{Shared, answer};
use crate::start;

/// Where messages are posted.
pub(super) const MESSAGES: &str = "/messages";

/// The streams that are open, by the id in their path.
#[derive(Default)]
pub(super) struct Streams(Mutex<BTreeMap<String, Arc<Open>>>);

struct Open {
    /// Whose token opened it. For others it is not there.
    owner: Arc<str>,
    writer: Writer,
}

impl Streams {
    /// Tells the node that nobody asks for more. What is under way is answered, then each stream
    /// ends.
    pub(super) async fn hang_up(&self) {
        let open: Vec<_> = self.lock().values().cloned().collect();
        join_all(open.iter().map(|stream| stream.writer.hang_up())).await;
    }

    fn find(&self, id: &str, owner: &str) -> Option<Arc<Open>> {
        self.lock().get(id).filter(|open| *open.owner == *owner).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Open>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// GET `/sse`.
pub(super) async fn get(
    State(door): State<Arc<Shared>>,
    Extension(principal): Extension<Principal>,
) -> Response {
    let Some(place) = door.sessions.place() else {
        return too_many_sessions(None).into_response();
    };
    let (reader, writer) = tokio::io::split(door.way.link(start::new_worker()));
    let (id, writer) = (random_id(), Writer::new(writer));
    let open = Open { owner: principal.name.clone(), writer };
    door.streams.lock().insert(id.clone(), Arc::new(open));
    let stream = Stream { id, door, lines: Lines::new(reader), begun: false, _place: place };
    answer::events(stream, Stream::next)
}

struct Stream {
    id: String,
    door: Arc<Shared>,
    lines: Lines,
    begun: bool,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if !self.begun {
            self.begun = true;
            let event = format!("event: endpoint\ndata: {MESSAGES}?session_id={}\n\n", self.id);
            return Some((event.into(), self));
        }
        let line = self.lines.next().await?;
        Some((answer::event(&line), self))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(open) = self.door.streams.lock().remove(&self.id) {
            open.writer.cut();
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Address {
    session_id: String,
}

/// POST `/messages`.
pub(super) async fn post(
    State(door): State<Arc<Shared>>,
    Extension(principal): Extension<Principal>,
    address: Result<Query<Address>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Ok(Query(address)) = address else { return no_stream(None).into_response() };
    let find = || door.streams.find(&address.session_id, &principal.name);
    let Some(open) = find() else { return no_stream(None).into_response() };
    let incoming = match incoming(&door, &principal, &headers, body).await {
        Ok(incoming) => incoming,
        Err(refused) => return refused.into_response(),
    };
    match open.writer.send(incoming.line.clone()).await {
        true => StatusCode::ACCEPTED.into_response(),
        false if find().is_none() => no_stream(incoming.request_id()).into_response(),
        false => gone(incoming.request_id()).into_response(),
    }
}

fn no_stream(id: Option<&str>) -> Refused {
    let text = "there is no such stream any more: open /sse anew";
    answer::error(StatusCode::NOT_FOUND, id, ErrorCode::INVALID_REQUEST, text)
}
