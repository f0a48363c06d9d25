//! `cancel`: calls a task off, whoever holds it.

use clap::Args;

use super::{Failure, Format, OneTask, complete};
use crate::client::{Arguments, Client};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow cancel --task-id build-1 --reason \"not needed any more\"")]
pub(crate) struct Cancel {
    #[command(flatten)]
    task: OneTask,

    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    format: Format,
}

impl Cancel {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let input = Arguments::new()
            .with("task_id", self.task.id())
            .with("outcome", "cancelled")
            .with("error", &self.reason);
        let answer = client.call(complete::TOOL, input).await?;
        self.format.print(&answer, |marked| complete::for_people("Task cancelled", marked))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::run;
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn a_task_is_called_off_with_a_reason() {
        let expected = json!({"task_id": "a", "outcome": "cancelled", "error": "why"});
        let answer = json!({"task_id": "a", "state": "cancelled"});
        let script = vec![fake::tool(complete::TOOL, expected, answer)];
        let text = run(&["cancel", "--task-id", "a", "--reason", "why"], script).await.unwrap();
        assert_eq!(text, "✓ Task cancelled\n  Task ID: a\n  State: cancelled\n");
    }
}
