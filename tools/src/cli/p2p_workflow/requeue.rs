//! `requeue`: gives a failed task a new set of attempts. A request of our own: for people, not one
//! of the seven tools that agents pay for.

use clap::Args;

use super::{Failure, Format, OneTask, complete};
use crate::client::{Arguments, Client};

pub(super) const REQUEST: &str = "ipfs-accelerate/requeue";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow list --state failed
  ipfs-accelerate p2p-workflow requeue --task-id build-1")]
pub(crate) struct Requeue {
    #[command(flatten)]
    task: OneTask,

    #[command(flatten)]
    format: Format,
}

impl Requeue {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let input = Arguments::new().with("task_id", self.task.id());
        let answer = client.request(REQUEST, input).await?;
        self.format.print(&answer, |marked| complete::for_people("Task requeued", marked))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::run;
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn a_task_is_requeued_by_a_request_of_our_own() {
        let answer = json!({"task_id": "a", "state": "pending"});
        let script = vec![fake::request(REQUEST, json!({"task_id": "a"}), answer)];
        let text = run(&["requeue", "--task-id", "a"], script).await.unwrap();
        assert_eq!(text, "✓ Task requeued\n  Task ID: a\n  State: pending\n");
    }
}
