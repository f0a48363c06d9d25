//! Messages between peers as bytes: two bytes of version, the big end first, then the content in
//! CBOR (RFC 8949), structures as maps by the names of their fields.
//!
//! The version stands before everything else, so a message of another version is told as that
//! whatever its content is like. Fields that a reader does not know are passed over, and those that
//! may be left out are filled in. The answer to a message is empty, or says in UTF-8 why the message
//! was refused; that holds for every version.

use std::collections::TryReserveError;
use std::convert::Infallible;

use cbor4ii::serde::{DecodeError, EncodeError};

use crate::scheduler::{Message, VERSION};

/// Why bytes are not a message that this version understands.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// Another version wrote it.
    #[error("it speaks version {0} of the protocol, and this node version {VERSION}")]
    OtherVersion(u16),
    /// It ends before its version does.
    #[error("it has no version")]
    TooShort,
    /// The content is none.
    #[error("it has no content that makes sense: {0}")]
    Content(DecodeError<Infallible>),
}

/// The bytes of a message.
///
/// # Errors
/// There is no memory for them.
pub(super) fn encode(message: &Message) -> Result<Vec<u8>, EncodeError<TryReserveError>> {
    cbor4ii::serde::to_vec(message.version.to_be_bytes().to_vec(), &message.content)
}

/// The message that these are the bytes of.
///
/// # Errors
/// See [`Unreadable`].
pub(super) fn decode(bytes: &[u8]) -> Result<Message, Unreadable> {
    let (version, content) = bytes.split_first_chunk().ok_or(Unreadable::TooShort)?;
    match u16::from_be_bytes(*version) {
        VERSION => {
            let content = cbor4ii::serde::from_slice(content).map_err(Unreadable::Content)?;
            Ok(Message { version: VERSION, content })
        }
        other => Err(Unreadable::OtherVersion(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::scheduler::{
        Carried, Config, Content, Now, P2PTask, P2PWorkflowScheduler, TagSet, WorkflowTag,
    };

    fn push() -> Message {
        let jitter = Box::new(|| 0);
        let mut scheduler = P2PWorkflowScheduler::new("me", "me/1", Config::default(), jitter);
        let task = P2PTask {
            payload: Some(r#"{"a": "\u0000", "b": [1.5, null]}"#.into()),
            requires: vec!["gpu".into()],
            depends_on: vec!["other".into()],
            ..P2PTask::new("a", "w", "Ein Ding 🦀", TagSet::from_iter([WorkflowTag::P2pOnly]))
        };
        scheduler.submit(Now { wall: 1_700_000_000_000, monotonic: 0 }, task).unwrap();
        let changes = scheduler.take_changes().tasks.into_iter();
        let records = changes.map(|change| Carried {
            record: change.record,
            payload: change.payload,
            result: change.result,
        });
        let clock = BTreeMap::from([("me".to_owned(), 1 << 53)]);
        let records = Arc::new(records.collect());
        Content::Push { records, clock, told: vec!["other".into()] }.into()
    }

    /// The bytes of this version with another content.
    fn with_content(content: &impl serde::Serialize) -> Vec<u8> {
        cbor4ii::serde::to_vec(VERSION.to_be_bytes().to_vec(), content).unwrap()
    }

    #[test]
    fn a_message_is_read_as_it_was_written_in_fewer_bytes_than_json_takes() {
        let message = push();
        let bytes = encode(&message).unwrap();
        assert_eq!(decode(&bytes).unwrap(), message);
        let json = serde_json::to_vec(&message).unwrap();
        assert!(4 * bytes.len() < 3 * json.len(), "{} and {}", bytes.len(), json.len());
    }

    #[test]
    fn a_message_of_another_version_is_told_as_that_whatever_is_in_it() {
        for content in [&b""[..], b"\xff\xff", &encode(&push()).unwrap()[2..]] {
            let bytes = [&(VERSION + 1).to_be_bytes()[..], content].concat();
            let refused = decode(&bytes).unwrap_err();
            assert!(matches!(refused, Unreadable::OtherVersion(version) if version == VERSION + 1));
            let text = refused.to_string();
            assert!(text.contains(&format!("version {}", VERSION + 1)), "{text}");
        }
    }

    #[test]
    fn fields_that_are_not_known_are_passed_over_and_contents_that_are_not_are_refused() {
        #[derive(serde::Serialize)]
        enum Later {
            Push {
                colour: [u8; 3],
                records: Vec<()>,
                clock: BTreeMap<String, u64>,
                depth: Option<u8>,
            },
            Question,
        }
        let clock = BTreeMap::from([("a".to_owned(), 7)]);
        let later =
            Later::Push { colour: [1; 3], records: vec![], clock: clock.clone(), depth: None };
        let (records, told) = (Arc::default(), Vec::new());
        let known = Content::Push { records, clock, told };
        assert_eq!(decode(&with_content(&later)).unwrap().content, known);
        let unknown = decode(&with_content(&Later::Question)).unwrap_err();
        assert!(matches!(unknown, Unreadable::Content(_)), "{unknown}");
    }

    #[test]
    fn a_message_that_is_cut_short_or_nested_without_end_is_malformed() {
        let bytes = encode(&push()).unwrap();
        for length in 0..bytes.len() {
            let cut = decode(&bytes[..length]).unwrap_err();
            assert!(matches!(cut, Unreadable::TooShort | Unreadable::Content(_)), "{length}");
        }
        // A million lists, each in the other.
        let mut nested = VERSION.to_be_bytes().to_vec();
        nested.extend(std::iter::repeat_n(0x81, 1_000_000));
        assert!(matches!(decode(&nested).unwrap_err(), Unreadable::Content(_)));
        // In a field that is passed over.
        let mut nested = with_content(&());
        nested.pop();
        nested.extend(b"\xa1\x64Push\xa1\x61x");
        nested.extend(std::iter::repeat_n(0x81, 1_000_000));
        assert!(matches!(decode(&nested).unwrap_err(), Unreadable::Content(_)));
    }

    proptest! {
        #[test]
        fn bytes_that_were_spoilt_are_read_or_refused_and_nothing_else(
            at in any::<prop::sample::Index>(),
            spoilt in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut bytes = encode(&push()).unwrap();
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + spoilt.len());
            bytes[at..end].copy_from_slice(&spoilt[..end - at]);
            if let Ok(message) = decode(&bytes) {
                let again = encode(&message).unwrap();
                prop_assert_eq!(decode(&again).unwrap(), message);
            }
        }
    }
}
