//! `why`: why a task goes to the peer that it goes to.

use std::fmt::Write;

use clap::Args;
use serde_json::Value;

use super::{Failure, Format, OneTask};
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

const METHOD: &str = "ipfs-accelerate/why";

const ORDER: [&str; 9] = [
    "task_id",
    "state",
    "reason",
    "assigned_peer",
    "fence",
    "epoch",
    "head",
    "task_hash",
    "combined_hash",
];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow why build-1

The combined hash is SHA-256 of the submitter's clock head and the task's hash. Peers rank by the
Hamming distance of their id's hash to it, then by the XOR. The owner, first in the ranking, may take
the task at once; each peer after it waits one turn more. Every time that the task goes back to the
queue, the turns begin one place further down.")]
pub(crate) struct Why {
    #[command(flatten)]
    task: OneTask,

    #[command(flatten)]
    format: Format,
}

impl Why {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let arguments = Arguments::new().with("task_id", self.task.id());
        let answer = client.request(METHOD, arguments).await?;
        self.format.print(&answer, for_people)
    }
}

fn for_people(answer: &Value) -> String {
    let mut card = Card::new("Why this peer");
    for key in ORDER {
        card = card.field(key, &answer[key]);
    }
    if answer["provisional"] == true {
        card = card.field("provisional", &answer["provisional"]);
    }
    card.field("turns", &Value::String(turns(answer))).into_text()
}

fn turns(answer: &Value) -> String {
    let turns = answer["turns"].as_array().map(Vec::as_slice).unwrap_or_default();
    let turn = answer["turn_seconds"].as_f64().unwrap_or_default();
    let mut text = String::new();
    for (place, candidate) in turns.iter().enumerate() {
        let peer = candidate["peer_id"].as_str().unwrap_or_default();
        let this = if candidate["this_peer"] == true { ", this machine" } else { "" };
        let wait = match place {
            0 => "at once".to_owned(),
            // The longest that the scheduler waits for others.
            place => format!("after {} s", turn * place.min(6) as f64),
        };
        let distance = &candidate["distance"];
        writeln!(text, "{peer}{this}: distance {distance}, {wait}")
            .expect("a String takes any text");
    }
    let more = answer["candidates"].as_u64().unwrap_or_default() - turns.len() as u64;
    if more > 0 {
        writeln!(text, "and {more} more").expect("a String takes any text");
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::run;
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn the_candidates_stand_in_the_order_of_their_turns() {
        let turn = |peer: &str, this: bool, distance: u32| json!({"peer_id": peer, "this_peer": this, "distance": distance});
        let answer = json!({"task_id": "a", "state": "pending", "combined_hash": "ff", "epoch": 1,
                            "turns": [turn("you", false, 110), turn("me", true, 120)],
                            "candidates": 3, "turn_seconds": 10.0, "provisional": false});
        let script = vec![fake::request(METHOD, json!({"task_id": "a"}), answer)];
        assert_eq!(
            run(&["why", "a"], script).await.unwrap(),
            "✓ Why this peer\n  Task ID: a\n  State: pending\n  Epoch: 1\n  \
             Combined hash: ff\n  Turns:\n    you: distance 110, at once\n    \
             me, this machine: distance 120, after 10 s\n    and 1 more\n"
        );
    }
}
