//! `p2p_get_merkle_clock`: this peer's clock, for another peer.

use std::collections::BTreeMap;

use p2p_workflow_scheduler::node::{CallError, ClockView, Session};
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Answer;
use super::fields::parse;
use super::schema::{self, Effect};

pub(super) const NAME: &str = "p2p_get_merkle_clock";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {}

#[derive(Serialize, JsonSchema)]
struct Output {
    node_id: String,
    /// peer id: counter
    vector: BTreeMap<String, u64>,
    /// SHA-256 of the sorted vector, hex
    merkle_root: String,
}

pub(super) fn definition() -> Tool {
    schema::definition::<Input, Output>(
        NAME,
        "Show this peer's clock",
        "Returns this peer's Merkle clock: one counter per peer, and a root hash that is equal on \
         peers that know the same. Use it to compare peers, or to report this one to another with \
         its p2p_update_peer_state. It takes no arguments and fails only if the node stops.",
        Effect::Reads,
    )
}

pub(super) async fn call<'s>(
    session: impl FnOnce() -> &'s Session,
    arguments: &str,
) -> Result<Answer, CallError> {
    let Input {} = parse(arguments)?;
    clock(session()).await
}

/// This peer's clock.
pub(super) async fn clock(session: &Session) -> Result<Answer, CallError> {
    Ok(shape(session.clock().await?))
}

fn shape(clock: ClockView) -> Answer {
    let entries: Vec<String> =
        clock.vector.iter().map(|(peer, counter)| format!("{peer}: {counter}")).collect();
    let text = format!(
        "Clock of {}: root {}, {} peers ({}).",
        clock.node_id,
        clock.merkle_root,
        entries.len(),
        entries.join(", ")
    );
    let ClockView { node_id, vector, merkle_root } = clock;
    Answer::new(&Output { node_id, vector, merkle_root }, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_shown_as_another_peer_takes_it() {
        let answer = shape(ClockView {
            node_id: "me".into(),
            vector: BTreeMap::from([("me".into(), 2), ("you".into(), 1)]),
            merkle_root: "ab".into(),
        });
        assert_eq!(
            answer.structured,
            r#"{"node_id":"me","vector":{"me":2,"you":1},"merkle_root":"ab"}"#
        );
        assert_eq!(answer.text, "Clock of me: root ab, 2 peers (me: 2, you: 1).");
    }
}
