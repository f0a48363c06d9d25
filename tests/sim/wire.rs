//! What messages weigh on the wire: their bytes as `node::wire` writes them, two of the version and the
//! content in CBOR. Without what carries them: the length before each message and the empty answer to
//! it, the negotiation of its stream, yamux, noise, TCP and IP.

use std::collections::BTreeMap;
use std::fmt;

use p2p_workflow_scheduler::scheduler::{Content, Message};

/// How many messages of each kind were sent, and their bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(BTreeMap<&'static str, Weight>);

/// Of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weight {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Weight {
    fn add(&mut self, other: Weight) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

/// The bytes of a message.
fn encode(message: &Message) -> Vec<u8> {
    let version = message.version.to_be_bytes().to_vec();
    cbor4ii::serde::to_vec(version, &message.content).expect("there is memory for a message")
}

impl Wire {
    pub(crate) fn count(&mut self, message: &Message) {
        let kind = match &message.content {
            Content::Heartbeat(_) => "heartbeats",
            Content::Push { .. } => "pushes",
            Content::PullRequest(_) => "pull requests",
            Content::PullPage(_) => "pull pages",
            Content::Held(_) => "vectors",
        };
        let weight = Weight { messages: 1, bytes: encode(message).len() as u64 };
        self.0.entry(kind).or_default().add(weight);
    }

    pub(crate) fn add(&mut self, other: &Wire) {
        other.0.iter().for_each(|(kind, weight)| self.0.entry(kind).or_default().add(*weight));
    }

    /// A line for each kind that there was, and one for all: what there was of it, divided by
    /// something.
    pub(crate) fn table(&self, f: &mut fmt::Formatter<'_>, by: f64) -> fmt::Result {
        let mut all = Weight::default();
        self.0.values().for_each(|weight| all.add(*weight));
        for (kind, Weight { messages, bytes }) in self.0.iter().chain([(&"all", &all)]) {
            let each = *bytes as f64 / (*messages).max(1) as f64;
            let (messages, bytes) = (*messages as f64 / by, *bytes as f64 / by);
            write!(f, "\n  {kind:<14}{messages:>12.3}{bytes:>14.1}{each:>12.1}")?;
        }
        Ok(())
    }
}
