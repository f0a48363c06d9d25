//! `list`: a table of tasks, as many pages of the status tool as were asked for.

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use super::{Failure, Format, status};
use crate::cli::render::{Card, task_table};
use crate::client::{Answer, Arguments, Client};

/// The largest page that the tool gives.
const PAGE: usize = 100;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow list --state failed
  ipfs-accelerate p2p-workflow list --workflow-id release --all --json | jq -r '.tasks[].task_id'")]
pub(crate) struct List {
    /// Only tasks of this workflow
    #[arg(long, value_name = "ID", alias = "workflow")]
    workflow_id: Option<String>,

    /// Only tasks that stand here
    #[arg(long, value_enum)]
    state: Option<State>,

    /// How many tasks at most
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "all")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,

    /// All tasks, however many
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Ready, or waiting for its time
    Pending,
    /// A dependency is not completed
    Blocked,
    /// Held by a worker
    Assigned,
    /// Done
    Completed,
    /// Out of attempts
    Failed,
    /// Called off
    Cancelled,
}

impl List {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let limit = match self.all {
            true => usize::MAX,
            false => usize::try_from(self.limit).unwrap_or(usize::MAX),
        };
        let first = self.page(client, limit, &Value::Null).await?;
        let mut list = first.value()?;
        if self.format.json && list["next_cursor"].is_null() {
            return Ok(format!("{}\n", first.json()));
        }
        let mut tasks = take_tasks(&mut list);
        while !list["next_cursor"].is_null() && tasks.len() < limit {
            let page = self.page(client, limit - tasks.len(), &list["next_cursor"]).await?;
            let mut page = page.value()?;
            tasks.append(&mut take_tasks(&mut page));
            list["next_cursor"] = page["next_cursor"].take();
        }
        if self.format.json {
            list["tasks"] = Value::Array(tasks);
            return Ok(format!("{list}\n"));
        }
        let this_peer = list["peer_id"].as_str().unwrap_or_default();
        Ok(for_people(&tasks, this_peer, !list["next_cursor"].is_null()))
    }

    async fn page(
        &self,
        client: &mut Client,
        limit: usize,
        cursor: &Value,
    ) -> Result<Answer, Failure> {
        let input = Arguments::new()
            .with("workflow_id", &self.workflow_id)
            .with("state", self.state)
            .with("limit", limit.min(PAGE))
            .with("cursor", cursor);
        Ok(client.call(status::TOOL, input).await?)
    }
}

pub(super) fn take_tasks(page: &mut Value) -> Vec<Value> {
    match page["tasks"].take() {
        Value::Array(tasks) => tasks,
        _ => Vec::new(),
    }
}

fn for_people(tasks: &[Value], this_peer: &str, more: bool) -> String {
    let title = match (tasks.len(), more) {
        (0, false) => "No tasks".into(),
        (1, false) => "1 task".into(),
        (count, false) => format!("{count} tasks"),
        (count, true) => format!("{count} tasks, and more: --all, or a larger --limit"),
    };
    let mut text = Card::new(&title).into_text();
    if !tasks.is_empty() {
        text += &task_table(tasks, this_peer);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{is_wrong_usage, run};
    use super::*;
    use crate::client::fake::{self, Exchange};

    fn page(arguments: Value, ids: &[&str], next: Value) -> Exchange {
        let tasks: Vec<Value> = ids.iter().map(|id| json!({"task_id": id, "name": "N"})).collect();
        fake::tool(
            status::TOOL,
            arguments,
            json!({"peer_id": "p", "tasks": tasks, "next_cursor": next}),
        )
    }

    #[tokio::test]
    async fn the_first_page_says_that_there_is_more() {
        let asked = json!({"limit": 2, "state": "failed", "workflow_id": "w"});
        let flags = ["list", "--limit", "2", "--state", "failed", "--workflow-id", "w"];
        let text = run(&flags, vec![page(asked, &["a", "b"], json!("c2"))]).await.unwrap();
        assert!(text.starts_with("✓ 2 tasks, and more"), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[tokio::test]
    async fn short_pages_are_followed_until_the_limit() {
        let script = vec![
            page(json!({"limit": 3}), &["a"], json!("c1")),
            page(json!({"limit": 2, "cursor": "c1"}), &[], json!("c2")),
            page(json!({"limit": 2, "cursor": "c2"}), &["b", "c"], Value::Null),
        ];
        let text = run(&["list", "--limit", "3"], script).await.unwrap();
        assert!(text.starts_with("✓ 3 tasks\n"), "{text}");
    }

    #[tokio::test]
    async fn all_pages_are_one_json_object() {
        let script = vec![
            page(json!({"limit": 100}), &["a", "b"], json!("c1")),
            page(json!({"limit": 100, "cursor": "c1"}), &["c"], Value::Null),
        ];
        let text = run(&["list", "--all", "--json"], script).await.unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let ids: Vec<&Value> =
            list["tasks"].as_array().unwrap().iter().map(|task| &task["task_id"]).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert_eq!(list["next_cursor"], Value::Null);
        assert_eq!(list["peer_id"], "p");
    }

    #[tokio::test]
    async fn an_empty_list_is_said_to_be_empty() {
        let script = vec![page(json!({"limit": 20}), &[], Value::Null)];
        assert_eq!(run(&["list"], script).await.unwrap(), "✓ No tasks\n");
    }

    #[test]
    fn a_limit_of_nothing_or_beside_all_is_wrong_usage() {
        assert!(is_wrong_usage(&["list", "--limit", "0"]));
        assert!(is_wrong_usage(&["list", "--limit", "5", "--all"]));
        assert!(is_wrong_usage(&["list", "--state", "done"]));
    }
}
