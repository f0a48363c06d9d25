//! One line of input: what it asks for, or what is wrong with it.
//!
//! A `tools/call` is read here rather than by rmcp, which tries one request type after another on
//! a buffered copy. Its arguments stay the text they are: whoever serves the tool reads them once,
//! straight into the tool's input, and a payload within comes out again as it went in.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, ClientJsonRpcMessage, ClientRequest, ErrorData, JsonObject, Request,
    RequestId, RequestMetaObject,
};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

/// What a line is.
#[derive(Debug)]
pub(super) enum Line {
    /// A request that wants an answer.
    Request {
        id: RequestId,
        request: Box<ClientRequest>,
        /// The JSON text of a tool call's arguments.
        arguments: Option<Arc<str>>,
    },
    /// A notification, or an answer to a request of ours.
    Other(Box<ClientJsonRpcMessage>),
    /// Nothing that wants an answer.
    Ignored,
    /// Not a message, or not one that can be served.
    Fault(ErrorData, Option<RequestId>),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

/// `null` counts as there: an id of null is wrong, no id is a notification.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct CallParams<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(rename = "_meta")]
    meta: Option<JsonObject>,
}

impl Line {
    /// Reads a line, without its end.
    pub(super) fn parse(line: &[u8]) -> Self {
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii();
        match line.first() {
            None => return Line::Ignored,
            Some(b'[') => {
                return invalid(
                    "batches are not part of this protocol: send one message a line",
                    None,
                );
            }
            Some(_) => {}
        }
        let Ok(line) = std::str::from_utf8(line) else {
            return not_json("it is not UTF-8");
        };
        let envelope: Envelope<'_> = match serde_json::from_str(line) {
            Ok(envelope) => envelope,
            Err(error) => return unreadable(line, &error),
        };
        let id = match envelope.id.map(request_id) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => return invalid("id must be a string or an integer", None),
        };
        if envelope.jsonrpc.is_none_or(|version| version.get() != r#""2.0""#) {
            return invalid(r#"jsonrpc must be "2.0""#, id);
        }
        match (envelope.method, id) {
            (Some(method), Some(id)) if method.get() == r#""tools/call""# => {
                tool_call(id, envelope.params)
            }
            (Some(_), Some(id)) => request(line, id),
            (None, id) if envelope.result.is_none() && envelope.error.is_none() => {
                invalid("a message has a method, a result or an error", id)
            }
            _ => other(line),
        }
    }
}

fn tool_call(id: RequestId, params: Option<&RawValue>) -> Line {
    let params = params.map_or("{}", RawValue::get);
    let call: CallParams<'_> = match serde_json::from_str(params) {
        Ok(call) => call,
        Err(error) => {
            let text = format!("tools/call takes {{name, arguments}}: {error}");
            return Line::Fault(ErrorData::invalid_params(text, None), Some(id));
        }
    };
    let mut request = Request::new(CallToolRequestParams::new(call.name.into_owned()));
    if let Some(meta) = call.meta {
        request.extensions.insert(RequestMetaObject::from(meta));
    }
    Line::Request {
        id,
        request: Box::new(ClientRequest::CallToolRequest(request)),
        arguments: call.arguments.map(|text| text.get().into()),
    }
}

fn request(line: &str, id: RequestId) -> Line {
    match serde_json::from_str(line) {
        Ok(ClientJsonRpcMessage::Request(message)) => {
            Line::Request { id, request: Box::new(message.request), arguments: None }
        }
        Ok(_) => invalid("a request has no result and no error", Some(id)),
        Err(error) => invalid(&format!("not a request: {error}"), Some(id)),
    }
}

/// Notifications and answers are never answered, not even faulty ones: two peers that complain of
/// each other's complaints would not stop.
fn other(line: &str) -> Line {
    match serde_json::from_str(line) {
        Ok(message) => Line::Other(Box::new(message)),
        Err(error) => {
            tracing::debug!(%error, "left out a message that wants no answer");
            Line::Ignored
        }
    }
}

fn unreadable(line: &str, error: &serde_json::Error) -> Line {
    match error.classify() {
        Category::Data => {
            let what = format!("not a JSON-RPC message: {error}");
            invalid(&what, id_near_the_start(line.as_bytes()))
        }
        Category::Syntax | Category::Eof | Category::Io => not_json(&error.to_string()),
    }
}

fn not_json(why: &str) -> Line {
    let text = format!("this line is not JSON: {why}. Send one JSON-RPC 2.0 message a line");
    Line::Fault(ErrorData::parse_error(text, None), None)
}

fn invalid(what: &str, id: Option<RequestId>) -> Line {
    Line::Fault(ErrorData::invalid_request(what.to_owned(), None), id)
}

fn request_id(text: &RawValue) -> Option<RequestId> {
    match text.get().parse() {
        Ok(number) => Some(RequestId::Number(number)),
        Err(_) => serde_json::from_str(text.get()).ok(),
    }
}

/// The id of a message that is cut off or faulty further on.
pub(super) fn id_near_the_start(line: &[u8]) -> Option<RequestId> {
    struct Seeker<'a>(&'a mut Option<RequestId>);

    impl<'de> Visitor<'de> for Seeker<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if key == "id" {
                    *self.0 = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(())
        }
    }

    let mut id = None;
    // The error tells only where the text ends, which is known.
    let _cut_off = serde_json::Deserializer::from_slice(line).deserialize_map(Seeker(&mut id));
    id
}

/// The id of a message of which only the end is left. The clients of both official SDKs write it
/// last.
///
/// An object that starts at `"id"` and ends where the line does holds members of the message
/// itself: anything nested would leave a brace over.
pub(super) fn id_near_the_end(tail: &[u8]) -> Option<RequestId> {
    const KEY: &[u8] = br#""id""#;
    let starts = (1..tail.len()).rev();
    starts
        .filter(|&at| tail[at..].starts_with(KEY) && matches!(tail[at - 1], b',' | b'{' | b' '))
        .find_map(|at| {
            let object = [b"{", &tail[at..]].concat();
            let members: Envelope<'_> = serde_json::from_slice(&object).ok()?;
            request_id(members.id?)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> (i32, String, Option<RequestId>) {
        match Line::parse(line.as_bytes()) {
            Line::Fault(error, id) => (error.code.0, error.message.into_owned(), id),
            other => panic!("expected a fault, got {other:?}"),
        }
    }

    #[test]
    fn a_tool_call_keeps_its_arguments_to_the_letter() {
        let line = br#"{"method":"tools/call","params":{"name":"t","arguments":{"b":1.10,"a":12345678901234567890123},"_meta":{"progressToken":5}},"jsonrpc":"2.0","id":"x"}"#;
        let Line::Request { id, request, arguments } = Line::parse(line) else {
            panic!("not a request");
        };
        assert_eq!(id, RequestId::String("x".into()));
        assert_eq!(arguments.as_deref(), Some(r#"{"b":1.10,"a":12345678901234567890123}"#));
        let ClientRequest::CallToolRequest(call) = *request else { panic!("not a call") };
        assert_eq!(call.params.name, "t");
        let meta = call.extensions.get::<RequestMetaObject>().unwrap();
        assert!(meta.get_progress_token().is_some());
    }

    #[test]
    fn text_that_is_not_json_is_answered_with_what_is_wrong() {
        for line in ["hello", "{\"jsonrpc\":", "{} {}", "{\"a\":\u{1}}"] {
            let (code, text, id) = fault(line);
            assert_eq!((code, id), (-32700, None), "{line}");
            assert!(text.contains("not JSON"), "{text}");
        }
        let Line::Fault(error, None) = Line::parse(b"{\"a\":\"\xff\"}") else { panic!() };
        assert_eq!(error.code.0, -32700);
    }

    #[test]
    fn json_that_is_no_request_is_answered_under_its_id() {
        assert_eq!(fault(r#"{"id":3}"#).2, Some(RequestId::Number(3)));
        assert_eq!(
            fault(r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#).2,
            Some(RequestId::Number(3))
        );
        assert_eq!(fault(r#"{"jsonrpc":"2.0","id":3,"method":7}"#).2, Some(RequestId::Number(3)));
        assert_eq!(fault(r#"{"jsonrpc":"2.0","id":3,"method":"ping","result":{}}"#).0, -32600);
        for line in ["[]", "7", "\"x\"", "null", r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#] {
            let (code, _, id) = fault(line);
            assert_eq!((code, id), (-32600, None), "{line}");
        }
        let (code, _, id) =
            fault(r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":5}}"#);
        assert_eq!((code, id), (-32602, Some(RequestId::Number(4))));
    }

    #[test]
    fn faulty_notifications_and_answers_are_never_answered() {
        for line in
            ["", "  \r", r#"{"jsonrpc":"2.0","method":5}"#, r#"{"jsonrpc":"2.0","error":5}"#]
        {
            assert!(matches!(Line::parse(line.as_bytes()), Line::Ignored), "{line}");
        }
    }

    #[test]
    fn a_nested_value_of_any_depth_is_read() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{{"payload":{deep}}}}}}}"#
        );
        assert!(matches!(Line::parse(line.as_bytes()), Line::Request { .. }));
    }

    #[test]
    fn the_id_of_a_message_cut_short_is_found_at_either_end() {
        let five = Some(RequestId::Number(5));
        assert_eq!(id_near_the_start(br#"{"jsonrpc":"2.0","id":5,"params":{"a":"xxx"#), five);
        assert_eq!(id_near_the_start(br#"{"params":{"id":5,"a":"xxx"#), None);
        assert_eq!(id_near_the_end(br#"xxx"}},"jsonrpc":"2.0","id":5}"#), five);
        assert_eq!(id_near_the_end(br#"xxx"}}, "id": 5, "jsonrpc":"2.0"} "#), five);
        assert_eq!(id_near_the_end(br#"xxx","id":5}}"#), None);
        assert_eq!(id_near_the_end(br#"xxx\"id":5}"#), None);
        assert_eq!(id_near_the_end(br#""id":5"#), None);
    }
}
