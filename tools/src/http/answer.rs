//! What goes back over HTTP: one JSON message, an error, or a stream of events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use futures::stream::unfold;
use rmcp::model::ErrorCode;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;

/// How often an idle stream says that it is alive: below the minute after which proxies give up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The answer to a request that is not served: a JSON-RPC error.
#[derive(Debug)]
pub(super) struct Refused(Box<Response>);

impl Refused {
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.0.headers_mut()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// A message as the whole answer.
pub(super) fn message(status: StatusCode, message: Bytes) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], message).into_response()
}

/// A JSON-RPC error under a request's id, given as it was written; null where none is known, without
/// which the official Python client does not show what the error says.
pub(super) fn error(status: StatusCode, id: Option<&str>, code: ErrorCode, text: &str) -> Refused {
    let error = json!({"code": code.0, "message": text});
    let id = id.unwrap_or("null");
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
    Refused(Box::new(message(status, body.into())))
}

/// Too much of something: the client may try again.
pub(super) fn overloaded(id: Option<&str>, text: &str) -> Refused {
    let text = format!("{text}\ncode: overloaded");
    let mut refused = error(StatusCode::SERVICE_UNAVAILABLE, id, ErrorCode::INTERNAL_ERROR, &text);
    refused.headers_mut().insert("retry-after", HeaderValue::from_static("30"));
    refused
}

/// An event that carries a message.
pub(super) fn event(message: &[u8]) -> Bytes {
    [b"event: message\ndata: ", message, b"\n\n"].concat().into()
}

/// A stream of events as long as `next` gives some; in between it is kept alive.
pub(super) fn events<S, F>(state: S, next: impl Fn(S) -> F + Send + 'static) -> Response
where
    S: Send + 'static,
    F: Future<Output = Option<(Bytes, S)>> + Send + 'static,
{
    let body = Body::from_stream(kept_alive(state, next));
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache, no-transform"),
        // nginx would hold events back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

fn kept_alive<S, F>(
    state: S,
    next: impl Fn(S) -> F + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send
where
    S: Send + 'static,
    F: Future<Output = Option<(Bytes, S)>> + Send + 'static,
{
    let first = Box::pin(next(state));
    unfold((first, next), |(mut waiting, next)| async move {
        match timeout(KEEP_ALIVE, &mut waiting).await {
            Ok(Some((event, state))) => {
                let waiting = Box::pin(next(state));
                Some((Ok(event), (waiting, next)))
            }
            Ok(None) => None,
            Err(_) => Some((Ok(Bytes::from_static(b": alive\n\n")), (waiting, next))),
        }
    })
}
