//! Streamable HTTP, `/mcp`: the sessions of the protocols before 2026-07-28.
//!
//! | request | answer |
//! |---|---|
//! | POST of `initialize` | the node's, and the new session in `Mcp-Session-Id` |
//! | POST of a request | its answer as JSON; as events where progress comes before it |
//! | POST of anything else | 202 |
//! | GET | a stream of notifications; the newest of a session has them all |
//! | DELETE | the session ends, what it held goes back to the queue |
//!
//! A client that breaks a POST off cancels what it asked for. A request that it cancels by a
//! notification has no answer: its POST ends with no events. What belongs to 2026-07-28 goes to
//! [`super::modern`].

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rmcp::model::{ErrorCode, ProtocolVersion};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::{self, Refused};
use super::guard::{Principal, may_call, only, role_refusal};
use super::incoming::Incoming;
use super::link::{ClientStream, Message, NotAsked, Reply};
use super::modern;
use super::sessions::{MAX_SESSIONS, Session};
use crate::start;
use crate::tools;

/// The session that a request belongs to.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// The protocol that a request follows.
pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// POST `/mcp`.
pub(super) async fn post(
    State(door): State<Arc<Shared>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match posted(&door, &principal, &headers, body).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

async fn posted(
    door: &Arc<Shared>,
    principal: &Principal,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    accepts(headers, "application/json")?;
    accepts(headers, "text/event-stream")?;
    let incoming = incoming(door, principal, headers, body).await?;
    if modern::is_meant(headers, &incoming) {
        return modern::serve(door, principal, headers, incoming).await;
    }
    known_version(headers)?;
    let method = incoming.method.as_deref();
    if !headers.contains_key(SESSION_ID) && method == Some("initialize") {
        return begin(door, principal, incoming).await;
    }
    let session = session(door, principal, headers, incoming.request_id())?;
    if incoming.tool() == Some(tools::GET_NEXT_TASK) {
        session.asks_for_tasks();
    }
    let response = match incoming.request_id() {
        Some(id) => {
            let asked = session.link.ask(id, incoming.progress(), incoming.line.clone()).await;
            let reply = asked.map_err(|refused| not_asked(refused, id))?;
            let mut answering = Answering { reply, session };
            let first = answering.reply.next().await;
            return Ok(answering.answer(first));
        }
        None => match &incoming.cancels {
            Some(id) => session.link.cancel(id, incoming.line.clone()).await,
            None => session.link.send(incoming.line).await,
        },
    };
    match response {
        true => Ok(StatusCode::ACCEPTED.into_response()),
        false => Err(gone(None)),
    }
}

/// Reads a posted message, if its sender may ask for it.
pub(super) async fn incoming(
    door: &Shared,
    principal: &Principal,
    headers: &HeaderMap,
    body: Body,
) -> Result<Incoming, Refused> {
    let is_json = only(headers, &CONTENT_TYPE).is_some_and(|kind| {
        kind.split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if !is_json {
        let text = "send the header `Content-Type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(answer::error(status, None, ErrorCode::INVALID_REQUEST, text));
    }
    let incoming = Incoming::read(headers, body, &door.bodies).await?;
    if let Some(method) = &incoming.method
        && !may_call(principal.role, method, incoming.tool())
    {
        return Err(role_refusal(principal, method, incoming.tool(), incoming.request_id()));
    }
    Ok(incoming)
}

async fn begin(
    door: &Arc<Shared>,
    principal: &Principal,
    incoming: Incoming,
) -> Result<Response, Refused> {
    let Some(id) = incoming.request_id() else {
        let text = "initialize is a request: give it an id";
        return Err(bad_request(None, text));
    };
    let place = door.sessions.place().ok_or_else(|| too_many_sessions(Some(id)))?;
    let stream = door.way.link(start::new_worker());
    let session = door.sessions.begin(place, &principal.name, stream);
    let asked = session.link.ask(id, None, incoming.line.clone()).await;
    let mut reply = asked.map_err(|refused| not_asked(refused, id))?;
    let Some(Message::Answer(line)) = reply.next().await else {
        return Err(gone(Some(id)));
    };
    if is_error(&line) {
        return Ok(answer::message(StatusCode::OK, line));
    }
    let mut response = answer::message(StatusCode::OK, line);
    let value = HeaderValue::try_from(&session.id).expect("hex is a header's value");
    response.headers_mut().insert(SESSION_ID, value);
    door.sessions.open(session);
    Ok(response)
}

/// GET `/mcp`.
pub(super) async fn get(
    State(door): State<Arc<Shared>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Response {
    let opened = || {
        accepts(&headers, "text/event-stream")?;
        modern::refuse_without_post(&headers)?;
        known_version(&headers)?;
        session(&door, &principal, &headers, None)
    };
    let session = match opened() {
        Ok(session) => session,
        Err(refused) => return refused.into_response(),
    };
    let stream = session.link.stream();
    let stop = door.way.stop().clone();
    answer::events(Streaming { stream, session, stop }, Streaming::next)
}

/// DELETE `/mcp`.
pub(super) async fn delete(
    State(door): State<Arc<Shared>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Response {
    let allowed = modern::refuse_without_post(&headers);
    match allowed.and_then(|()| session(&door, &principal, &headers, None)) {
        Ok(session) => {
            door.sessions.close(&session).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

/// A request that is being answered.
struct Answering {
    reply: Reply,
    session: Arc<Session>,
}

impl Answering {
    fn answer(self, first: Option<Message>) -> Response {
        match first {
            Some(Message::Answer(line)) => {
                self.session.touch();
                answer::message(StatusCode::OK, line)
            }
            Some(Message::Notification(line)) => {
                answer::events((self, Some(line)), async |(mut answering, early)| {
                    let line = match early {
                        Some(line) => line,
                        None => answering.next().await?,
                    };
                    Some((answer::event(&line), (answering, None)))
                })
            }
            Some(Message::Cancelled) => answer::events((), async |()| None),
            None => gone(None).into_response(),
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        match self.reply.next().await? {
            Message::Notification(line) | Message::Answer(line) => Some(line),
            Message::Cancelled => None,
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.session.touch();
    }
}

/// A client's stream of notifications.
struct Streaming {
    stream: ClientStream,
    session: Arc<Session>,
    /// Ends the stream: nothing is under way in it.
    stop: CancellationToken,
}

impl Streaming {
    async fn next(self) -> Option<(Bytes, Self)> {
        let line = tokio::select! {
            line = self.stream.next() => line?,
            () = self.stop.cancelled() => return None,
        };
        Some((answer::event(&line), self))
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.session.touch();
    }
}

fn session(
    door: &Shared,
    principal: &Principal,
    headers: &HeaderMap,
    id: Option<&str>,
) -> Result<Arc<Session>, Refused> {
    let Some(session_id) = only(headers, &SESSION_ID) else {
        let text = "send initialize first, and then the Mcp-Session-Id that its answer has";
        return Err(bad_request(id, text));
    };
    door.sessions.find(session_id, &principal.name).ok_or_else(|| {
        let text = "there is no such session any more: send initialize anew, without \
                    Mcp-Session-Id";
        answer::error(StatusCode::NOT_FOUND, id, ErrorCode::INVALID_REQUEST, text)
    })
}

/// A protocol that a request names must be one that is spoken here.
fn known_version(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(version) = headers.get(PROTOCOL_VERSION) else { return Ok(()) };
    let known = ProtocolVersion::KNOWN_VERSIONS;
    match known.iter().any(|known| known.as_str().as_bytes() == version.as_bytes()) {
        true => Ok(()),
        false => {
            let known: Vec<_> = known.iter().map(ProtocolVersion::as_str).collect();
            let text = format!("MCP-Protocol-Version must be one of {}", known.join(", "));
            Err(bad_request(None, &text))
        }
    }
}

/// Whether a client takes this kind of answer. Without an Accept header it takes any.
fn accepts(headers: &HeaderMap, kind: &str) -> Result<(), Refused> {
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    let group = kind.split('/').next().unwrap_or(kind);
    let taken = values.peek().is_none()
        || values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |range| {
                let range = range.split(';').next().unwrap_or(range).trim();
                range.eq_ignore_ascii_case(kind)
                    || range == "*/*"
                    || range.strip_suffix("/*").is_some_and(|of| of.eq_ignore_ascii_case(group))
            },
        );
    match taken {
        true => Ok(()),
        false => {
            let text = "send the header `Accept: application/json, text/event-stream`";
            let status = StatusCode::NOT_ACCEPTABLE;
            Err(answer::error(status, None, ErrorCode::INVALID_REQUEST, text))
        }
    }
}

pub(super) fn is_error(line: &[u8]) -> bool {
    crate::mcp::Envelope::parse(line).is_ok_and(|envelope| envelope.error.is_some())
}

pub(super) fn bad_request(id: Option<&str>, text: &str) -> Refused {
    answer::error(StatusCode::BAD_REQUEST, id, ErrorCode::INVALID_REQUEST, text)
}

pub(super) fn too_many_sessions(id: Option<&str>) -> Refused {
    let text = format!(
        "all {MAX_SESSIONS} sessions are taken. Come again later; a client that is done deletes \
         its session."
    );
    answer::overloaded(id, &text)
}

fn not_asked(refused: NotAsked, id: &str) -> Refused {
    match refused {
        NotAsked::SameId => {
            let text = format!("id {id} is that of a request in flight: give each its own");
            bad_request(Some(id), &text)
        }
        NotAsked::Gone => gone(Some(id)),
    }
}

/// The node was stopped, and this process goes with it.
pub(super) fn gone(id: Option<&str>) -> Refused {
    answer::overloaded(id, "the node is stopping")
}
