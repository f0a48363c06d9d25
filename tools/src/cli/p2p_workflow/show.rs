//! `show`: everything about one task, payload and result included.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::list::take_tasks;
use super::{Failure, Format, OneTask, status};
use crate::cli::render::{Card, history_table};
use crate::client::{Arguments, Client};

/// The request that tells what happened to a task.
const HISTORY: &str = "ipfs-accelerate/history";

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
  ipfs-accelerate p2p-workflow show --task-id build-1 --history
  ipfs-accelerate p2p-workflow show --task-id build-1 --json | jq '.tasks[0].result'

The history is what this machine saw of the task: its last 50 changes, each with the peer, the
worker, the attempt and the reason. With --json it is the field `history` beside `tasks`.")]
pub(crate) struct Show {
    #[command(flatten)]
    task: OneTask,

    /// Also what happened to it, when and where
    #[arg(long)]
    history: bool,

    #[command(flatten)]
    format: Format,
}

impl Show {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let task_id = self.task.id();
        let id = || Arguments::new().with("task_id", task_id);
        let answer = client.call(status::TOOL, id()).await?;
        let tasks = take_tasks(&mut answer.value()?);
        let Some(task) = tasks.first() else { return Err(unknown(task_id)) };
        if !self.history {
            return self.format.print(&answer, |_| for_people(task));
        }
        let told = client.request(HISTORY, id()).await?;
        let history: History<'_> = told.read()?;
        let both = answer.with("history", history.history);
        self.format.print(&both, |both| for_people(task) + "\n" + &history_table(&both["history"]))
    }
}

/// The same with the history, for `watch`.
pub(super) async fn whole(client: &mut Client, task_id: &str) -> Result<String, Failure> {
    let id = || Arguments::new().with("task_id", task_id);
    let tasks = take_tasks(&mut client.call(status::TOOL, id()).await?.value()?);
    let Some(task) = tasks.first() else { return Err(unknown(task_id)) };
    let told = client.request(HISTORY, id()).await?.value()?;
    Ok(for_people(task) + "\n" + &history_table(&told["history"]))
}

fn unknown(task_id: &str) -> Failure {
    Failure::Rejected(format!(
        "task {task_id:?} is not known here. Look for its id with `p2p-workflow list`.\n\
         code: task_not_found"
    ))
}

#[derive(Deserialize)]
struct History<'a> {
    #[serde(borrow)]
    history: &'a RawValue,
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
    async fn the_history_is_a_table_and_in_json_a_field_beside_the_task() {
        let script = || {
            let task = json!({"task_id": "a", "name": "A", "state": "failed"});
            let answer = json!({"tasks": [task], "next_cursor": null});
            let change = json!({"at": 1_760_000_000_000_u64, "what": "attempt_failed", "peer": "p",
                                "worker": "w", "attempt": 2, "reason": "no\ndisk"});
            vec![
                fake::tool(status::TOOL, json!({"task_id": "a"}), answer),
                fake::request(
                    HISTORY,
                    json!({"task_id": "a"}),
                    json!({"task_id": "a", "history": [change]}),
                ),
            ]
        };
        let text = run(&["show", "--task-id", "a", "--history"], script()).await.unwrap();
        let (card, table) = text.split_once("\n\n").unwrap();
        assert_eq!(card, "✓ Task\n  Task ID: a\n  Name: A\n  State: failed");
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].contains("WHAT") && lines[0].ends_with("REASON"), "{table}");
        assert!(lines[1].contains("attempt failed") && lines[1].ends_with("no disk"), "{table}");
        let json = run(&["show", "--task-id", "a", "--history", "--json"], script()).await.unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["history"][0]["reason"], "no\ndisk");
        assert_eq!(json["tasks"][0]["task_id"], "a");
    }

    #[tokio::test]
    async fn an_unknown_task_exits_with_1() {
        let script = vec![fake::tool(status::TOOL, json!({"task_id": "a"}), json!({"tasks": []}))];
        let failure = run(&["show", "--task-id", "a", "--json"], script).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.message().contains("code: task_not_found"));
    }
}
