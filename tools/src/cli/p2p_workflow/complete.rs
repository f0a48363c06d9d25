//! `complete`: reports on a task that was taken.

use clap::{Args, ValueEnum, ValueHint};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Failure, Format, OneTask, input};
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

pub(super) const TOOL: &str = "p2p_mark_task_complete";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow complete --task-id build-1 --result '{\"image\": \"bafy…\"}'
  ipfs-accelerate p2p-workflow complete --task-id build-1 --outcome failed --error \"no disk\"
  ipfs-accelerate p2p-workflow complete --task-id build-1 --outcome in_progress --note \"half way\"

A failed task is tried again, up to its number of attempts. Give the fence that `next` showed,
so that a report on an attempt that was replaced changes nothing.")]
pub(crate) struct Complete {
    #[command(flatten)]
    task: OneTask,

    /// How it went [default: completed]
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,

    /// The task's output
    #[arg(long, value_name = "JSON", value_parser = input::json, conflicts_with = "result_file")]
    result: Option<Box<RawValue>>,

    /// Read the task's output from a file of JSON (- is stdin)
    #[arg(long, value_name = "FILE", value_parser = input::json_file)]
    #[arg(value_hint = ValueHint::FilePath)]
    result_file: Option<Box<RawValue>>,

    /// Why it failed or was cancelled
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,

    /// How far it is, with in_progress
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,

    /// Do not try a failed task again
    #[arg(long)]
    no_retry: bool,

    /// The fence that `next` showed
    #[arg(long, value_name = "N")]
    fence: Option<u64>,

    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It is done
    Completed,
    /// The attempt failed
    Failed,
    /// Hand it back, not run
    Released,
    /// Still at it: renew the lease
    #[value(alias = "in-progress")]
    InProgress,
    /// Call it off
    Cancelled,
}

impl Complete {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let answer = client.call(TOOL, self.input()).await?;
        let title = match self.outcome {
            None | Some(Outcome::Completed) => "Task completed",
            Some(Outcome::Failed) => "Task marked as failed",
            Some(Outcome::Released) => "Task released",
            Some(Outcome::InProgress) => "Lease renewed",
            Some(Outcome::Cancelled) => "Task cancelled",
        };
        self.format.print(&answer, |marked| for_people(title, marked))
    }

    fn input(&self) -> Arguments {
        Arguments::new()
            .with("task_id", self.task.id())
            .with("outcome", self.outcome)
            .with("result", self.result.as_ref().or(self.result_file.as_ref()))
            .with("error", &self.error)
            .with("note", &self.note)
            .with("retry", self.no_retry.then_some(false))
            .with("fence", self.fence)
    }
}

pub(super) fn for_people(title: &str, marked: &Value) -> String {
    let order = ["task_id", "state", "attempt", "unblocked", "next_attempt_at", "expires_at"];
    Card::new(title).fields(marked, &order).into_text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{is_wrong_usage, run};
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn a_bare_report_leaves_the_defaults_to_the_scheduler() {
        let answer = json!({"success": true, "task_id": "a", "state": "completed", "attempt": 1,
                            "unblocked": ["b", "c"], "next_attempt_at": null});
        let script = vec![fake::tool(TOOL, json!({"task_id": "a"}), answer)];
        let text = run(&["complete", "--task-id", "a"], script).await.unwrap();
        assert_eq!(
            text,
            "✓ Task completed\n  Task ID: a\n  State: completed\n  Attempt: 1\n  Unblocked: b, c\n"
        );
    }

    #[tokio::test]
    async fn every_flag_reaches_its_field() {
        let flags = [
            "complete",
            "--task-id",
            "a",
            "--outcome",
            "failed",
            "--result",
            "[1]",
            "--error",
            "no disk",
            "--no-retry",
            "--fence",
            "7",
        ];
        let expected = json!({"task_id": "a", "outcome": "failed", "result": [1],
                              "error": "no disk", "retry": false, "fence": 7});
        let script = vec![fake::tool(TOOL, expected, json!({"state": "failed"}))];
        assert!(run(&flags, script).await.unwrap().starts_with("✓ Task marked as failed\n"));
    }

    #[tokio::test]
    async fn a_renewal_is_written_with_either_dash() {
        for word in ["in_progress", "in-progress"] {
            let expected = json!({"task_id": "a", "outcome": "in_progress", "note": "half"});
            let script = vec![fake::tool(TOOL, expected, json!({"state": "assigned"}))];
            let flags = ["complete", "--task-id", "a", "--outcome", word, "--note", "half"];
            assert!(run(&flags, script).await.unwrap().starts_with("✓ Lease renewed\n"));
        }
    }

    #[test]
    fn an_unknown_outcome_is_wrong_usage() {
        assert!(is_wrong_usage(&["complete", "--task-id", "a", "--outcome", "done"]));
        assert!(is_wrong_usage(&["complete"]));
    }
}
