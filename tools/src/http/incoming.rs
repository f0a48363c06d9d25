//! What a client posted: one message, read as far as the door must know it, and the limits on how
//! it comes.
//!
//! The text itself goes on to the node as it came, in one line. So nothing may pass that the node
//! would not answer under its id: the POST would wait for ever.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use futures::StreamExt;
use rmcp::model::{ErrorCode, RequestMetaObject};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;

use super::answer::{self, Refused};
use crate::mcp::{Envelope, MAX_LINE_BYTES, canonical};

/// How long a client may take to send a body: time for the longest over a slow line.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// A body that may be longer than this waits until there is room for it.
const SMALL_BODY: usize = 64 * 1024;
/// Room for bodies that are being read, beside the small ones: eight of the longest.
pub(super) const LARGE_BODIES: usize = 8 * MAX_LINE_BYTES;

/// So much is read past of what is not wanted, and so long: four of the longest, over a fast line.
const READ_PAST_BYTES: usize = 4 * MAX_LINE_BYTES;
const READ_PAST_PATIENCE: Duration = Duration::from_secs(5);

/// How a client takes a request back.
const CANCELLED: &str = "notifications/cancelled";

/// A message that a client posted.
pub(super) struct Incoming {
    /// The message in one line, with its end.
    pub(super) line: Bytes,
    /// JSON, as the node will write it.
    pub(super) id: Option<String>,
    /// `None`: an answer to a request, of which the node makes none.
    pub(super) method: Option<String>,
    /// What the request is about: a tool, a prompt, or a resource's URI.
    pub(super) name: Option<String>,
    pub(super) meta: RequestMetaObject,
    /// What a notification of that takes back.
    pub(super) cancels: Option<String>,
}

#[derive(Default, Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    uri: Option<Cow<'a, str>>,
    #[serde(rename = "_meta", default)]
    meta: RequestMetaObject,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
}

impl Incoming {
    /// Reads a body. `room` has [`LARGE_BODIES`] permits.
    pub(super) async fn read(
        headers: &HeaderMap,
        body: Body,
        room: &Semaphore,
    ) -> Result<Self, Refused> {
        let read = read(headers, body, room);
        let body = timeout(BODY_PATIENCE, read).await.map_err(|_| {
            let seconds = BODY_PATIENCE.as_secs();
            let text = format!("the body did not come within {seconds} seconds. Send it again.");
            answer::error(StatusCode::REQUEST_TIMEOUT, None, ErrorCode::INVALID_REQUEST, &text)
        })?;
        Self::parse(body?)
    }

    fn parse(mut body: Vec<u8>) -> Result<Self, Refused> {
        let not_json = |error: &dyn std::fmt::Display| {
            let text = format!("the body is not one JSON-RPC 2.0 message: {error}");
            answer::error(StatusCode::BAD_REQUEST, None, ErrorCode::PARSE_ERROR, &text)
        };
        let invalid = |text: &str| {
            answer::error(StatusCode::BAD_REQUEST, None, ErrorCode::INVALID_REQUEST, text)
        };
        let text = std::str::from_utf8(&body).map_err(|error| not_json(&error))?;
        if text.trim_start().starts_with('[') {
            return Err(invalid(
                "batches are not part of this protocol: send one message a request",
            ));
        }
        let envelope = Envelope::parse(text.as_bytes()).map_err(|error| not_json(&error))?;
        let id = match envelope.id.map(canonical) {
            Some(None) => return Err(invalid("id must be a string or an integer")),
            id => id.flatten(),
        };
        // Params of another kind are the node's to refuse: they name nothing here.
        let params: Params<'_> = envelope
            .params
            .and_then(|params| serde_json::from_str(params.get()).ok())
            .unwrap_or_default();
        let cancels = id.is_none() && envelope.method.as_deref() == Some(CANCELLED);
        let incoming = Incoming {
            line: Bytes::new(),
            id,
            method: envelope.method.map(Cow::into_owned),
            name: params.name.or(params.uri).map(Cow::into_owned),
            meta: params.meta,
            cancels: params.request_id.filter(|_| cancels).and_then(canonical),
        };
        if incoming.method.is_none() && envelope.result.is_none() && envelope.error.is_none() {
            return Err(invalid("a message has a method, a result or an error"));
        }
        // Between tokens a space is as good; within a string neither may stand.
        for byte in &mut body {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        body.push(b'\n');
        Ok(Incoming { line: body.into(), ..incoming })
    }

    /// The id, where the message is a request.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.id.as_deref().filter(|_| self.method.is_some())
    }

    /// The tool, where the message calls one.
    pub(super) fn tool(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.method.as_deref() == Some("tools/call"))
    }

    /// The token that notifications of progress for this request bear.
    pub(super) fn progress(&self) -> Option<String> {
        serde_json::to_string(&self.meta.get_progress_token()?).ok()
    }
}

async fn read(headers: &HeaderMap, body: Body, room: &Semaphore) -> Result<Vec<u8>, Refused> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length: usize = announced.unwrap_or(MAX_LINE_BYTES);
    if length > MAX_LINE_BYTES {
        read_past(body).await;
        return Err(too_large());
    }
    let _room = reserve(room, length).await;
    let mut read = Vec::with_capacity(announced.unwrap_or_default() + 1);
    let mut body = body.into_data_stream();
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| {
            let text = format!("the body broke off: {error}");
            answer::error(StatusCode::BAD_REQUEST, None, ErrorCode::INVALID_REQUEST, &text)
        })?;
        if read.len() + part.len() > MAX_LINE_BYTES {
            read_past(Body::from_stream(body)).await;
            return Err(too_large());
        }
        read.extend_from_slice(&part);
    }
    Ok(read)
}

/// Reads past the body of a request that is turned down. Clients that send all of it before they
/// read would otherwise see a connection that broke, and not why.
pub(super) async fn read_past(body: Body) {
    let mut body = body.into_data_stream();
    let reading = async {
        let mut left = READ_PAST_BYTES;
        while let Some(Ok(part)) = body.next().await {
            match left.checked_sub(part.len()) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    // Who sends more, or slowly, sees it break after all.
    let _all = timeout(READ_PAST_PATIENCE, reading).await;
}

async fn reserve(room: &Semaphore, length: usize) -> Option<SemaphorePermit<'_>> {
    let permits = u32::try_from(length).ok().filter(|_| length > SMALL_BODY)?;
    // It is never closed.
    room.acquire_many(permits).await.ok()
}

fn too_large() -> Refused {
    let text = format!(
        "the body is longer than {MAX_LINE_BYTES} bytes. Send less, or store it elsewhere (IPFS, a \
         file) and send its address.\ncode: too_large"
    );
    answer::error(StatusCode::PAYLOAD_TOO_LARGE, None, ErrorCode::INVALID_REQUEST, &text)
}
