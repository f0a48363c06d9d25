//! `status`: how many tasks stand where.

use clap::Args;

use super::{Failure, Format};
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

pub(super) const TOOL: &str = "p2p_scheduler_status";

const ORDER: [&str; 14] = [
    "peer_id",
    "queue_size",
    "pending_tasks",
    "blocked_tasks",
    "assigned_tasks",
    "completed_tasks",
    "failed_tasks",
    "cancelled_tasks",
    "known_peers",
    "alive_peers",
    "in_sync",
    "conflicts",
    "duplicates",
    "merkle_root",
];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow status
  ipfs-accelerate p2p-workflow status --json | jq .pending_tasks")]
pub(crate) struct Status {
    #[command(flatten)]
    format: Format,
}

impl Status {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let answer = client.call(TOOL, Arguments::new()).await?;
        self.format
            .print(&answer, |status| Card::new("P2P scheduler").fields(status, &ORDER).into_text())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::run;
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn counts_are_shown_in_the_order_a_task_passes_through_them() {
        let status = json!({"assigned_tasks": 1, "peer_id": "12D3", "pending_tasks": 4,
                            "in_sync": true, "version": "0.1.0"});
        let text = run(&["status"], vec![fake::tool(TOOL, json!({}), status)]).await.unwrap();
        assert_eq!(
            text,
            "✓ P2P scheduler\n  Peer ID: 12D3\n  Pending tasks: 4\n  Assigned tasks: 1\n  \
             In sync: yes\n  Version: 0.1.0\n"
        );
    }

    #[tokio::test]
    async fn json_is_the_structured_content_and_nothing_else() {
        let status = json!({"peer_id": "12D3", "pending_tasks": 4});
        let script = vec![fake::tool(TOOL, json!({}), status)];
        let text = run(&["status", "--json"], script).await.unwrap();
        assert_eq!(text, "{\"peer_id\":\"12D3\",\"pending_tasks\":4}\n");
    }
}
