//! `p2p_update_peer_state`: another peer's clock, reported by hand.

use std::collections::BTreeMap;

use p2p_workflow_scheduler::node::{CallError, ReportedClock, Session};
use p2p_workflow_scheduler::scheduler::{ClockOrder, PeerUpdated};
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Answer;
use super::fields::parse;
use super::schema::{self, Effect};

pub(super) const NAME: &str = "p2p_update_peer_state";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The reporting peer.
    peer_id: String,
    /// What that peer's p2p_get_merkle_clock returned, unchanged.
    clock_data: Clock,
}

/// Fields that are not known are let through: a newer peer may have more.
#[derive(Deserialize, JsonSchema)]
#[schemars(description = "What that peer's p2p_get_merkle_clock returned, unchanged.")]
struct Clock {
    node_id: String,
    /// peer id: counter
    vector: BTreeMap<String, u64>,
    merkle_root: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    success: bool,
    peer_id: String,
    /// The peer's clock, seen from ours before they were merged
    order: Order,
    /// Ours, after
    merkle_root: String,
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    Before,
    After,
    Equal,
    Concurrent,
}

impl From<ClockOrder> for Order {
    fn from(order: ClockOrder) -> Self {
        match order {
            ClockOrder::Before => Order::Before,
            ClockOrder::After => Order::After,
            ClockOrder::Equal => Order::Equal,
            ClockOrder::Concurrent => Order::Concurrent,
        }
    }
}

pub(super) fn definition() -> Tool {
    schema::definition::<Input, Output>(
        NAME,
        "Report a peer's clock",
        "Tells this peer of another one and merges its clock. Use it only for peers that the \
         swarm does not connect: pass on what their p2p_get_merkle_clock returned. The peer counts \
         as a member for 300 seconds. A clock that cannot be right is refused whole (forged_clock).",
        Effect::ChangesOnce,
    )
}

pub(super) async fn call<'s>(
    session: impl FnOnce() -> &'s Session,
    arguments: &str,
) -> Result<Answer, CallError> {
    let Input { peer_id, clock_data } = parse(arguments)?;
    let Clock { node_id, vector, merkle_root } = clock_data;
    let clock = ReportedClock { node_id, vector, merkle_root };
    let updated = session().update_peer(&peer_id, clock).await?;
    Ok(shape(peer_id, updated))
}

fn shape(peer_id: String, updated: PeerUpdated) -> Answer {
    let meaning = match updated.order {
        ClockOrder::Before => "it knew less than this peer",
        ClockOrder::After => "it knew more than this peer",
        ClockOrder::Equal => "it knows the same as this peer",
        ClockOrder::Concurrent => "each knew something that the other did not",
    };
    let order = updated.order.into();
    let root = &updated.merkle_root;
    let text =
        format!("Peer {peer_id} is known for 300 seconds; {meaning}. Our root is now {root}.");
    Answer::new(&Output { success: true, peer_id, order, merkle_root: updated.merkle_root }, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_how_the_clocks_stood() {
        let updated = PeerUpdated { order: ClockOrder::Concurrent, merkle_root: "ab".into() };
        let answer = shape("you".into(), updated);
        assert_eq!(
            answer.structured,
            r#"{"success":true,"peer_id":"you","order":"concurrent","merkle_root":"ab"}"#
        );
    }

    /// The original took any number as a counter, and a string crashed it half-way.
    #[test]
    fn counters_that_are_no_counters_are_refused_by_name() {
        for counter in ["1e30", "-1", "\"7\"", "1.5", "null", "1000000000000000000000000000000"] {
            let clock = format!(
                r#"{{"peer_id":"p","clock_data":{{"node_id":"p","vector":{{"you":{counter}}},"merkle_root":""}}}}"#
            );
            let error = parse::<Input>(&clock).map(|_| ()).unwrap_err();
            assert!(error.to_string().starts_with("clock_data.vector.you: "), "{error}");
            assert_eq!(error.code(), "invalid_argument");
        }
    }
}
