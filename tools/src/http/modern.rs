//! Streamable HTTP, `/mcp`: the protocol of 2026-07-28, in which a request says all that the server
//! must know of its client, and there are no sessions.
//!
//! Each request is a connection of its own to the node, and a client that breaks it off cancels
//! it. All requests with the same token are one worker, whose leases run on time: nothing tells
//! one client from another. What intermediaries read in headers must be what the body says
//! (SEP-2243), so that none of them is led astray.

use std::sync::Arc;

use axum::http::header::ALLOW;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rmcp::model::{ErrorCode, ProtocolVersion};
use serde::Deserialize;
use tokio::io::{AsyncWriteExt, DuplexStream, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::{self, Refused};
use super::guard::{Principal, only};
use super::incoming::Incoming;
use super::link::Lines;
use super::streamable::{PROTOCOL_VERSION, gone};
use crate::mcp::{Envelope, Hello};

/// Requests under way at once, streams of notifications included: as many as one session may have.
pub(super) const MAX_REQUESTS: usize = crate::mcp::MAX_IN_FLIGHT;

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// A header's value that is not plain text stands between these, in base64.
const ENCODED: (&str, &str) = ("=?base64?", "?=");

/// Whether a message follows this protocol.
pub(super) fn is_meant(headers: &HeaderMap, incoming: &Incoming) -> bool {
    if incoming.meta.protocol_version().is_some() {
        return true;
    }
    // A handshake is none of this protocol's, whatever version it names.
    is_named(headers) && incoming.method.as_deref() != Some("initialize")
}

/// This protocol has POST only.
pub(super) fn refuse_without_post(headers: &HeaderMap) -> Result<(), Refused> {
    match is_named(headers) {
        true => {
            let text = "this protocol has POST only";
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut refused = answer::error(status, None, ErrorCode::INVALID_REQUEST, text);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            Err(refused)
        }
        false => Ok(()),
    }
}

fn is_named(headers: &HeaderMap) -> bool {
    let oldest = ProtocolVersion::V_2026_07_28;
    only(headers, &PROTOCOL_VERSION).is_some_and(|version| version >= oldest.as_str())
}

/// Answers a message.
pub(super) async fn serve(
    door: &Arc<Shared>,
    principal: &Principal,
    headers: &HeaderMap,
    incoming: Incoming,
) -> Result<Response, Refused> {
    let Some(id) = incoming.request_id() else {
        // There is nothing that a notification, or an answer, could belong to.
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    check_version(headers, &incoming, id)?;
    check_headers(headers, &incoming, id)?;
    if incoming.method.as_deref() == Some("initialize") {
        let text = "there is no handshake in this protocol: ask server/discover";
        return Err(answer::error(
            StatusCode::NOT_FOUND,
            Some(id),
            ErrorCode::METHOD_NOT_FOUND,
            text,
        ));
    }
    let permit = door.requests.clone().try_acquire_owned().map_err(|_| {
        let text = format!("{MAX_REQUESTS} requests are in flight, the most there may be");
        answer::overloaded(Some(id), &text)
    })?;
    let worker = format!("http:{}", principal.name);
    let stream = door.way.link(Hello { worker, shared: true, ..Hello::default() });
    let mut request = Request::ask(stream, &incoming.line, door.way.stop().clone(), permit).await;
    match request.next().await {
        Some(line) if Envelope::parse(&line).is_ok_and(|line| line.answers().is_some()) => {
            Ok(answer::message(status(&line, &incoming), line))
        }
        Some(line) => {
            let state = (request, Some(line));
            Ok(answer::events(state, async |(mut request, early)| {
                let line = match early {
                    Some(line) => line,
                    None => request.next().await?,
                };
                Some((answer::event(&line), (request, None)))
            }))
        }
        None => Err(gone(Some(id))),
    }
}

/// A request under way. Dropped, the node sees its client hang up.
struct Request {
    lines: Lines,
    writer: WriteHalf<DuplexStream>,
    stop: CancellationToken,
    answered: bool,
    _permit: OwnedSemaphorePermit,
}

impl Request {
    async fn ask(
        stream: DuplexStream,
        line: &[u8],
        stop: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (reader, mut writer) = tokio::io::split(stream);
        if let Err(error) = writer.write_all(line).await {
            // What it leaves unsaid is seen where the answer is read.
            tracing::debug!("a request did not reach the node: {error}");
        }
        Request { lines: Lines::new(reader), writer, stop, answered: false, _permit: permit }
    }

    /// The next line; `None` after the answer.
    async fn next(&mut self) -> Option<Bytes> {
        if self.answered {
            return None;
        }
        let line = {
            let next = self.lines.next();
            tokio::pin!(next);
            tokio::select! {
                line = &mut next => line,
                () = self.stop.cancelled() => {
                    // A call that waits is answered at once, a stream of notifications ends.
                    let _gone = self.writer.shutdown().await;
                    next.await
                }
            }
        }?;
        self.answered = Envelope::parse(&line).is_ok_and(|line| line.answers().is_some());
        Some(line)
    }
}

/// What a request says of its protocol must be there, and said alike in header and body.
fn check_version(headers: &HeaderMap, incoming: &Incoming, id: &str) -> Result<(), Refused> {
    let header = only(headers, &PROTOCOL_VERSION);
    match (header, incoming.meta.protocol_version()) {
        (Some(header), Some(body)) if header == body.as_str() => Ok(()),
        (Some(header), Some(body)) => Err(mismatch(
            id,
            &format!("MCP-Protocol-Version is {header:?}, and _meta says {:?}", body.as_str()),
        )),
        (None, Some(_)) => Err(mismatch(id, "send one MCP-Protocol-Version, as _meta has it")),
        (_, None) => {
            let missing = incoming.meta.missing_required_keys(&ProtocolVersion::V_2026_07_28);
            let text = format!("params._meta lacks {}", missing.join(", "));
            let status = StatusCode::BAD_REQUEST;
            Err(answer::error(status, Some(id), ErrorCode::INVALID_PARAMS, &text))
        }
    }
}

fn check_headers(headers: &HeaderMap, incoming: &Incoming, id: &str) -> Result<(), Refused> {
    let method = incoming.method.as_deref().unwrap_or_default();
    check_header(headers, &METHOD, method, id)?;
    match (method, &incoming.name) {
        ("tools/call" | "prompts/get" | "resources/read", Some(name)) => {
            check_header(headers, &NAME, name, id)
        }
        _ => Ok(()),
    }
}

fn check_header(
    headers: &HeaderMap,
    header: &HeaderName,
    body: &str,
    id: &str,
) -> Result<(), Refused> {
    match only(headers, header).and_then(decoded) {
        Some(value) if value == body => Ok(()),
        Some(value) => Err(mismatch(id, &format!("{header} is {value:?}, the body says {body:?}"))),
        None => Err(mismatch(id, &format!("send one {header}, as the body has it: {body:?}"))),
    }
}

fn decoded(value: &str) -> Option<String> {
    let encoded = value.strip_prefix(ENCODED.0).and_then(|value| value.strip_suffix(ENCODED.1));
    match encoded {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}

fn mismatch(id: &str, text: &str) -> Refused {
    answer::error(StatusCode::BAD_REQUEST, Some(id), ErrorCode::HEADER_MISMATCH, text)
}

/// The status that goes with an answer.
fn status(line: &[u8], incoming: &Incoming) -> StatusCode {
    #[derive(Deserialize)]
    struct Error {
        code: i32,
    }
    let error = Envelope::parse(line).ok().and_then(|envelope| envelope.error);
    let error = error.and_then(|error| serde_json::from_str::<Error>(error.get()).ok());
    let Some(error) = error else { return StatusCode::OK };
    let lacks = || !incoming.meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty();
    match ErrorCode(error.code) {
        ErrorCode::UNSUPPORTED_PROTOCOL_VERSION
        | ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY
        | ErrorCode::HEADER_MISMATCH => StatusCode::BAD_REQUEST,
        ErrorCode::INVALID_PARAMS if lacks() => StatusCode::BAD_REQUEST,
        ErrorCode::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}
