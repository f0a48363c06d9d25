//! `next`: takes a task to run.

use clap::Args;
use serde_json::Value;

use super::{Failure, Format};
use crate::cli::duration::Seconds;
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

pub(super) const TOOL: &str = "p2p_get_next_task";

/// The longest wait of one call: many MCP clients, and the node with them, end a call at 60 s.
const MAX_WAIT: Seconds = Seconds(50);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow next
  ipfs-accelerate p2p-workflow next --wait 50s --capabilities gpu --json

Without --json, the last lines say how to report on the task. Nothing to do is no error:
exit code 0, and with --json \"task\" is null.")]
pub(crate) struct Next {
    /// How long to wait for a task where none is ready, at most 50s [default: 0]
    #[arg(long, value_name = "TIME", value_parser = wait)]
    wait: Option<Seconds>,

    /// What this worker is capable of; tasks that require more are left to others
    #[arg(long, value_name = "CAPABILITY", num_args = 1..)]
    capabilities: Vec<String>,

    /// Only tasks with one of these tags
    #[arg(long, value_name = "TAG", num_args = 1.., value_delimiter = ',')]
    tags: Vec<String>,

    /// Only tasks of this workflow
    #[arg(long, value_name = "ID")]
    workflow_id: Option<String>,

    /// How long the task stays yours without a word [default: the task's, or 1h]
    #[arg(long, value_name = "TIME")]
    lease: Option<Seconds>,

    #[command(flatten)]
    format: Format,
}

fn wait(text: &str) -> Result<Seconds, String> {
    match text.parse()? {
        wait if wait <= MAX_WAIT => Ok(wait),
        _ => Err(format!("at most {} s; ask again for more", MAX_WAIT.0)),
    }
}

impl Next {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let answer = client.call(TOOL, self.input()).await?;
        self.format.print(&answer, for_people)
    }

    fn input(&self) -> Arguments {
        Arguments::new()
            .with("wait_seconds", self.wait)
            .with_list("capabilities", &self.capabilities)
            .with_list("tags", &self.tags)
            .with("workflow_id", &self.workflow_id)
            .with("lease_seconds", self.lease)
    }
}

fn for_people(answer: &Value) -> String {
    let mut task = answer["task"].clone();
    if task.is_null() {
        return Card::new("No task to take")
            .field("reason", &answer["reason"])
            .field("retry_after_seconds", &answer["retry_after_seconds"])
            .into_text();
    }
    let order = [
        "task_id",
        "workflow_id",
        "name",
        "tags",
        "priority",
        "attempt",
        "created_at",
        "assigned_peer",
        "task_hash",
    ];
    // What may be long comes last.
    let [payload, results] = ["payload", "dependency_results"].map(|key| task[key].take());
    Card::new("Task taken")
        .fields(&task, &order)
        .fields(&answer["ownership"], &["owner", "rank", "distance", "reason"])
        .fields(&answer["lease"], &["fence", "expires_at"])
        .field("payload", &payload)
        .field("dependency_results", &results)
        .field("report", &report(&task, &answer["lease"]))
        .into_text()
}

/// The command that completes the task, where its id needs no quoting.
fn report(task: &Value, lease: &Value) -> Value {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    let (Some(id), Some(fence)) = (task["task_id"].as_str(), lease["fence"].as_u64()) else {
        return Value::Null;
    };
    let id = if id.chars().all(plain) { id } else { "ID" };
    format!("ipfs-accelerate p2p-workflow complete --task-id {id} --fence {fence}").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{is_wrong_usage, run};
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn a_task_is_shown_with_its_lease_and_how_to_report() {
        let answer = json!({
            "task": {"task_id": "a", "name": "A", "payload": {"n": 1}, "attempt": 1},
            "lease": {"fence": 1048576, "expires_at": null},
            "ownership": {"owner": "12D3", "rank": 0, "distance": 120, "reason": "owned"},
        });
        let text = run(&["next"], vec![fake::tool(TOOL, json!({}), answer)]).await.unwrap();
        assert_eq!(
            text,
            "✓ Task taken\n  Task ID: a\n  Name: A\n  Attempt: 1\n  Owner: 12D3\n  Rank: 0\n  \
             Distance: 120\n  Reason: owned\n  Fence: 1048576\n  Payload:\n    {\n      \
             \"n\": 1\n    }\n  Report: ipfs-accelerate p2p-workflow complete --task-id a --fence \
             1048576\n"
        );
    }

    #[tokio::test]
    async fn nothing_to_take_is_no_error() {
        let nothing = json!({"task": null, "reason": "the queue is empty",
                             "retry_after_seconds": 5.0});
        let script = || vec![fake::tool(TOOL, json!({}), nothing.clone())];
        let text = run(&["next"], script()).await.unwrap();
        assert_eq!(text, "✓ No task to take\n  Reason: the queue is empty\n  Retry after: 5 s\n");
        let text = run(&["next", "--json"], script()).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), nothing);
    }

    #[tokio::test]
    async fn every_flag_reaches_its_field() {
        let flags = [
            "next",
            "--wait",
            "50",
            "--capabilities",
            "gpu",
            "net",
            "--tags",
            "unit-test,p2p-only",
            "--workflow-id",
            "w",
            "--lease",
            "10m",
        ];
        let expected = json!({"wait_seconds": 50, "capabilities": ["gpu", "net"],
                              "tags": ["unit-test", "p2p-only"], "workflow_id": "w",
                              "lease_seconds": 600});
        run(&flags, vec![fake::tool(TOOL, expected, json!({"task": null}))]).await.unwrap();
    }

    #[test]
    fn a_wait_beyond_what_a_call_may_last_is_wrong_usage() {
        assert!(is_wrong_usage(&["next", "--wait", "1m"]));
    }

    #[test]
    fn an_id_that_a_shell_would_read_otherwise_is_not_offered_for_pasting() {
        let line = report(&json!({"task_id": "a; rm -r ~"}), &json!({"fence": 7}));
        assert_eq!(line, "ipfs-accelerate p2p-workflow complete --task-id ID --fence 7");
    }
}
