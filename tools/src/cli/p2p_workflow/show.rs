//! `show`: everything about one task, payload and result included.

use clap::Args;
use serde_json::Value;

use super::list::take_tasks;
use super::{Failure, Format, status};
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

const ORDER: [&str; 22] = [
    "task_id",
    "workflow_id",
    "name",
    "state",
    "reason",
    "priority",
    "tags",
    "requires",
    "depends_on",
    "attempt",
    "max_attempts",
    "created_at",
    "next_attempt_at",
    "ended_at",
    "assigned_peer",
    "worker",
    "fence",
    "expires_at",
    "note",
    "error",
    "payload",
    "result",
];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow show --task-id build-1
  ipfs-accelerate p2p-workflow show --task-id build-1 --json | jq '.tasks[0].result'")]
pub(crate) struct Show {
    /// The task
    #[arg(long, value_name = "ID")]
    task_id: String,

    #[command(flatten)]
    format: Format,
}

impl Show {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let input = Arguments::new().with("task_id", &self.task_id);
        let answer = client.call(status::TOOL, input).await?;
        let tasks = take_tasks(&mut answer.value()?);
        match tasks.first() {
            Some(task) => self.format.print(&answer, |_| for_people(task)),
            None => Err(Failure::Rejected(format!(
                "task {:?} is not known here. Look for its id with `p2p-workflow list`.\n\
                 code: task_not_found",
                self.task_id
            ))),
        }
    }
}

fn for_people(task: &Value) -> String {
    Card::new("Task").fields(task, &ORDER).into_text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::run;
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn payload_and_result_come_last_and_readable() {
        let task = json!({"task_id": "a", "name": "A", "state": "completed", "result": "two\nlines",
                          "payload": {"n": 1}, "tags": ["p2p-only"]});
        let answer = json!({"peer_id": "p", "tasks": [task], "next_cursor": null});
        let script = vec![fake::tool(status::TOOL, json!({"task_id": "a"}), answer)];
        assert_eq!(
            run(&["show", "--task-id", "a"], script).await.unwrap(),
            "✓ Task\n  Task ID: a\n  Name: A\n  State: completed\n  Tags: p2p-only\n  Payload:\n    \
             {\n      \"n\": 1\n    }\n  Result:\n    two\n    lines\n"
        );
    }

    #[tokio::test]
    async fn an_unknown_task_exits_with_1() {
        let script = vec![fake::tool(status::TOOL, json!({"task_id": "a"}), json!({"tasks": []}))];
        let failure = run(&["show", "--task-id", "a", "--json"], script).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.message().contains("code: task_not_found"));
    }
}
