//! `check-tags`: whether a workflow with these tags runs on peers instead of GitHub.

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, Format};
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

const TOOL: &str = "p2p_check_workflow_tags";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow check-tags --tags p2p-only unit-test")]
pub(crate) struct CheckTags {
    /// The tags of the workflow
    #[arg(long, value_name = "TAG", num_args = 1.., value_delimiter = ',', required = true)]
    tags: Vec<String>,

    #[command(flatten)]
    format: Format,
}

impl CheckTags {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let answer = client.call(TOOL, Arguments::new().with_list("tags", &self.tags)).await?;
        self.format.print(&answer, for_people)
    }
}

fn for_people(checked: &Value) -> String {
    let title = match checked["should_bypass_github"] == json!(true) {
        true => "Runs on peers, not on GitHub",
        false => "Runs on GitHub",
    };
    let order = ["should_bypass_github", "is_p2p_only", "tags", "unknown_tags", "conflict"];
    Card::new(title).fields(checked, &order).into_text()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{is_wrong_usage, run};
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn the_first_line_says_where_the_workflow_runs() {
        let answer = json!({"should_bypass_github": true, "is_p2p_only": false,
                            "tags": ["p2p-eligible"], "unknown_tags": [], "conflict": false});
        let script = vec![fake::tool(TOOL, json!({"tags": ["P2P_ELIGIBLE"]}), answer)];
        let text = run(&["check-tags", "--tags", "P2P_ELIGIBLE"], script).await.unwrap();
        assert_eq!(
            text,
            "✓ Runs on peers, not on GitHub\n  Should bypass GitHub: yes\n  Is P2P only: no\n  \
             Tags: p2p-eligible\n  Conflict: no\n"
        );
    }

    #[test]
    fn no_tags_at_all_are_wrong_usage() {
        assert!(is_wrong_usage(&["check-tags"]));
        assert!(is_wrong_usage(&["check-tags", "--tags"]));
    }
}
