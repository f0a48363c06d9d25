//! `clock`: the Merkle clock of this node.

use clap::Args;

use super::{Failure, Format};
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

const TOOL: &str = "p2p_get_merkle_clock";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow clock
  ipfs-accelerate p2p-workflow clock --json | jq -r .merkle_root")]
pub(crate) struct Clock {
    #[command(flatten)]
    format: Format,
}

impl Clock {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let answer = client.call(TOOL, Arguments::new()).await?;
        self.format.print(&answer, |clock| {
            Card::new("Merkle clock")
                .fields(clock, &["node_id", "merkle_root", "vector"])
                .into_text()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::run;
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn the_vector_stands_below_the_root() {
        let clock = json!({"node_id": "n", "vector": {"n": 3}, "merkle_root": "ff"});
        let text = run(&["clock"], vec![fake::tool(TOOL, json!({}), clock)]).await.unwrap();
        assert_eq!(
            text,
            "✓ Merkle clock\n  Node ID: n\n  Merkle root: ff\n  Vector:\n    {\n      \"n\": 3\n    }\n"
        );
    }
}
