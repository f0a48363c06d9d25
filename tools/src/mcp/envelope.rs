//! What is read of a message on its way, by those who pass it on as it is: relays, the HTTP door.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON-RPC message, unparsed below its first level.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Envelope<'a> {
    /// As it is written: an id comes back in the same writing.
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) params: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads a text; an error says why it is not one JSON object.
    pub(crate) fn parse(text: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }

    /// The id of the request that this answers.
    pub(crate) fn answers(&self) -> Option<&'a str> {
        self.id.filter(|_| self.method.is_none()).map(RawValue::get)
    }
}

/// An id as the server writes it back, however a client wrote it; `None` if it cannot be one.
pub(crate) fn canonical(id: &RawValue) -> Option<String> {
    match id.get().parse::<i64>() {
        Ok(number) => Some(number.to_string()),
        Err(_) => match serde_json::from_str(id.get()) {
            Ok(Value::String(text)) => Some(Value::String(text).to_string()),
            _ => None,
        },
    }
}
